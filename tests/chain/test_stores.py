"""A store is whole under its name at any moment, of the genesis or of a state; nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from chainlite.errors import StateError
from chainlite.ledger.store import open_store
from chainlite.ledger.store_check import check_store
from docklock.chain.directory import ChainDirectory, make_chain
from docklock.chain.stores import begin_with_state, open_or_create, repair_store
from tests.chain import killed_arrival
from tests.chain.killed_arrival import make_taken
from tests.e2e.conftest import CHECKOUT


def test_a_state_takes_the_place_of_a_genesis_alone(tmp_path: Path) -> None:
    made, taken = make_taken()
    directory, chain = ChainDirectory(str(tmp_path)), make_chain(made.genesis)
    open_or_create(directory, chain).close()
    begin_with_state(directory, chain, taken)
    store = open_or_create(directory, chain)
    assert (store.base, store.height) == (2, 2)
    assert store.ledger.state_root == taken.block.header.state_root
    store.close()
    assert check_store(Path(directory.database)) == 2
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{directory.database}.part{suffix}").write_bytes(b"what a killed process left")
    open_or_create(directory, chain).close()
    assert os.listdir(tmp_path) == ["chain.db"]


def test_what_a_killed_process_left_is_in_no_repairs_way(tmp_path: Path) -> None:
    made, _ = make_taken()
    directory, chain = ChainDirectory(str(tmp_path)), make_chain(made.genesis)
    path = Path(directory.database)
    path.write_bytes(b"no database at all")
    Path(f"{path}.part").write_bytes(b"what a killed process left")
    assert repair_store(directory, chain).aside == f"{path}.damaged"
    assert sorted(os.listdir(tmp_path)) == ["chain.db", "chain.db.damaged"]
    open_or_create(directory, chain).close()


def test_a_store_that_is_being_read_is_not_replaced(tmp_path: Path) -> None:
    """Its log would be taken for the new one's."""
    made, taken = make_taken()
    directory, chain = ChainDirectory(str(tmp_path)), make_chain(made.genesis)
    open_or_create(directory, chain).close()
    reader = open_store(Path(directory.database))
    with pytest.raises(StateError, match="is being read"):
        begin_with_state(directory, chain, taken)
    reader.tables.db.close()
    begin_with_state(directory, chain, taken)


def test_a_kill_at_any_moment_leaves_one_store_or_the_other_whole(
    tmp_path: Path, full: bool, seed: int
) -> None:
    rng, found, took_s = Random(seed), list[int](), 0.05
    made, _ = make_taken()
    for number in range(60 if full else 8):
        top = tmp_path / str(number)
        top.mkdir()
        process = subprocess.Popen(
            [sys.executable, killed_arrival.__file__, str(top)],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        began = time.monotonic()
        if number:
            time.sleep(rng.random() * took_s)
            process.kill()
        else:  # how long it takes on this host
            assert process.stdout.readline() == b"done\n"
            took_s = 1.2 * (time.monotonic() - began)
        process.wait()
        process.stdout.close()
        store = open_or_create(ChainDirectory(str(top)), make_chain(made.genesis))
        found.append(store.height)
        took_s *= 0.7 if store.height else 1.1  # the first may have been slower than all others
        store.close()
        assert os.listdir(top) == ["chain.db"]
        check_store(top / "chain.db")
    assert set(found) == {0, 2}, found
