"""Before a store has begun: whom to trust, and what is left where no peer has a state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chainlite.consensus import joining
from chainlite.cosignature import encode_witness
from chainlite.errors import SpecError
from chainlite.ledger.genesis import Member, Parameters, encode_genesis
from chainlite.proofs.light_source import get_trusted
from chainlite.proofs.trusted import trust_genesis
from docklock.agent.journal import Log
from docklock.agent.systemd import Notifier
from docklock.chain.arriving import read_trusted
from docklock.chain.directory import ChainDirectory, make_chain, write_whole
from docklock.chain.node_key import load_node_key
from docklock.chain.process import Choices, _begin_anew, _is_to_begin_anew, _Parts
from docklock.chain.setup import init_node, make_genesis
from docklock.chain.stores import open_or_create
from tests.chainlite.samples import WITNESS
from tests.proofs.test_light_source import Made, cosign_header

DAY_MS = 86_400_000


def begin(top: Path, *, days: int, snapshot: bool) -> tuple[bool, int, bool]:
    """Whether a new node with nobody around it is to take a state, its height, whether it goes on.

    Of a chain that began so many days ago.
    """
    directory = ChainDirectory(str(top))
    member = Member(b"m" * 32, "one", "127.0.0.1:1", bytes(32))
    began_ms = time.time_ns() // 1_000_000 - days * DAY_MS
    genesis = encode_genesis(make_genesis("test", began_ms, [member], Parameters()))
    chain = make_chain(genesis)
    init_node(directory, {"begin": "snapshot"} if snapshot else {}, chain)
    store, key, log = open_or_create(directory, chain), load_node_key(directory), Log("info")
    try:
        is_wanted = _is_to_begin_anew(directory, Choices(), store, log)
        if not is_wanted:
            named = Choices(trusted=trust_genesis(chain.genesis))
            with pytest.raises(SpecError, match="begins with a --snapshot"):
                _is_to_begin_anew(directory, named, store, log)
        store.close()
        parts = _Parts(store, key, Notifier(""))
        goes_on = _begin_anew(directory, chain, Choices(), parts, log)
        again = open_or_create(directory, chain)
        again.close()
        return is_wanted, again.height, goes_on
    finally:
        key.erase()


def test_where_nobody_has_a_state_it_begins_with_the_genesis_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(joining, "SEARCH_S", 0.3)
    assert begin(tmp_path / "one", days=1, snapshot=True) == (True, 0, True)
    said = capsys.readouterr().err
    assert "no peer has shown within 0.3 s a snapshot that can be believed" in said
    assert "it begins with the genesis, and takes all blocks" in said
    assert begin(tmp_path / "two", days=1, snapshot=False) == (False, 0, True)


def test_where_the_genesis_is_too_old_to_be_trusted_it_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="stale trust: .* 22 days old.* --header-checkpoint"):
        begin(tmp_path / "one", days=22, snapshot=True)


def test_a_header_checkpoint_is_trusted_by_the_witnesses_that_are_named(tmp_path: Path) -> None:
    made = Made(tmp_path / "chain.db")
    height = made.store.height - 2
    (tmp_path / "header").write_bytes(cosign_header(made, height))
    directory = ChainDirectory(str(tmp_path))
    write_whole(directory.genesis, made.store.genesis)
    words = (directory, str(tmp_path / "header"))
    assert read_trusted(*words, [encode_witness(WITNESS)], None) == get_trusted(made.store, height)
    with pytest.raises(SpecError, match="of which --header-checkpoint"):
        read_trusted(directory, None, ["witness"], None)
    assert read_trusted(directory, None, [], None) is None
    with pytest.raises(SpecError, match="not cosigned by enough witnesses"):
        read_trusted(*words, [], None)
    made.store.close()
