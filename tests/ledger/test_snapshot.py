"""A state in chunks: whole, in any order, and nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from chainlite.errors import SpecError
from chainlite.ledger import records, snapshot, tree
from chainlite.ledger.header import encode_seals
from chainlite.ledger.snapshot import Snapshot, SnapshotImport
from chainlite.ledger.store import create_from_state
from tests.ledger.samples import Chain, HostLog, seal
from tests.ledger.test_state import make_random_chain


def make_chain(hosts: int) -> Chain:
    chain = Chain(registrations_per_block=4096)
    if hosts:
        chain.enrol(*[HostLog(number) for number in range(hosts)])
    chain.step()
    return chain


@pytest.mark.parametrize("rows", [1, 4, 128])
def test_a_snapshot_gives_the_state_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, rows: int
) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", rows)
    chain = make_chain(60)
    taken = Snapshot(chain.ledger)
    head = chain.blocks[-1].block
    values = {k: records.encode_record(k, row) for k, row in chain.ledger.get_items()}
    chain.step()  # the snapshot stays as it was
    taking = SnapshotImport(taken.head, taken.manifest)
    numbers = list(range(taken.count))
    Random(seed).shuffle(numbers)
    for number in numbers:
        assert taking.take(taken.encode_chunk(number)) == number
    assert taking.missing == () and dict(taking.rows) == values
    seals = encode_seals(seal(chain.chain_id, head))
    made = create_from_state(tmp_path / "c.db", chain.genesis, (head, seals), taking.rows)
    assert made.ledger.state_root == head.header.state_root
    made.close()


def test_nothing_but_the_snapshot_is_taken(
    monkeypatch: pytest.MonkeyPatch, full: bool, seed: int
) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 4)
    taken = Snapshot(make_random_chain(Random(seed), 30).ledger)
    rng = Random(seed)
    for _ in range(2000 if full else 150):
        spoilt = bytearray(taken.manifest)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        with pytest.raises(SpecError):
            SnapshotImport(taken.head, bytes(spoilt))
    taking = SnapshotImport(taken.head, taken.manifest)
    for number in taking.missing:
        chunk = taken.encode_chunk(number)
        for _ in range(200 if full else 10):
            spoilt = bytearray(chunk)
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            with pytest.raises(SpecError):
                taking.take(bytes(spoilt))
        with pytest.raises(SpecError):
            taking.take(chunk + b"\0")
        assert number in taking.missing
        taking.take(chunk)
    other = SnapshotImport(taken.head, taken.manifest)
    with pytest.raises(SpecError, match="not of the state"):
        SnapshotImport(taken.head._replace(state_root=bytes(32)), taken.manifest)
    assert other.missing


def test_every_depth_has_the_trees_root() -> None:
    """Leaves that stand above the depth of the chunks included."""
    for count in range(12):
        rows = [(b"h%d" % number, b"value") for number in range(count)]
        node = tree.build(rows)
        for depth in range(7):
            entries: list[snapshot._Entry] = []
            snapshot._list_entries(node, depth, 0, entries)
            assert len(entries) == 1 << depth
            assert snapshot._combine(tuple(entries)) == tree.get_root(node)
            for number, entry in enumerate(entries):
                leaves = sorted(
                    (path, tree.make_leaf(path, value))
                    for path, value in ((tree.compute_path(key), value) for key, value in rows)
                    if path >> tree.PATH_BITS - depth == number
                )
                assert snapshot._describe(tree.build_at(leaves, depth)) == entry
