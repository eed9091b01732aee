"""What is honest in a batch is kept, what is not is named, and a host's two stories are proven."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chainlite import checkpoint, hostlog, keys, merkle, segment
from chainlite.bpci import batch as batches
from chainlite.bpci import verification
from chainlite.bpci.verification import find_contradiction, judge_batch
from chainlite.errors import SpecError
from chainlite.fork import check_fork
from chainlite.ledger.bodies import HostBodies
from chainlite.ledger.offer import Item, Offer
from docklock.evidence import keyring, rotation
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.bpci.batches import make_batch
from tests.chainlite.samples import make_key
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def find_kind(batch: Offer, kind: type) -> list[int]:
    return [
        number
        for number, item in enumerate(batch.items)
        if isinstance(hostlog.decode_leaf(item.leaf), kind)
    ]


def resign(paths: Paths, batch: Offer, items: list[Item]) -> Offer:
    """What a host sends that signs whatever it likes: these leaves, from its first one on."""
    assert not batch.start
    root = merkle.compute_root([merkle.compute_leaf_hash(item.leaf) for item in items])
    state = checkpoint.Checkpoint(checkpoint.get_origin(batch.host), len(items), root)
    note = checkpoint.sign_checkpoint(state, keyring.ensure_host_key(paths))
    return batch._replace(note=note, proof=(), later_keys=(), items=tuple(items))


def spoil_body(item: Item) -> Item:
    body = batches.decode_body(item.body)
    frames = bytearray(segment.unpack_body(body.packed))
    frames[60] ^= 1
    return item._replace(body=batches.encode_body(body._replace(packed=segment.pack_body(frames))))


def test_a_whole_batch_is_kept_whole(paths: Paths) -> None:
    batch = make_batch(paths)
    verdict = judge_batch(HostBodies(batch.host), batch)
    assert verdict.taken is not None and verdict.trouble is None
    assert (verdict.leaves, verdict.note) == (len(batch.items), batch.note)
    assert verdict.taken.receipts == 16
    part = make_batch(paths, 0, 5)
    assert judge_batch(HostBodies(part.host), part)[1:] == (5, b"", None)


def test_what_comes_before_a_bad_receipt_is_kept(paths: Paths) -> None:
    batch = make_batch(paths)
    for number in find_kind(batch, hostlog.Segment):
        items = list(batch.items)
        items[number] = spoil_body(items[number])
        verdict = judge_batch(HostBodies(batch.host), batch._replace(items=tuple(items)))
        trouble, taken = verdict.trouble, verdict.taken
        assert trouble is not None and taken is not None
        leaf = hostlog.decode_leaf(batch.items[number].leaf)
        assert isinstance(leaf, hostlog.Segment)
        header = segment.decode_header(leaf.header)
        assert trouble[:4] == (verification.RECEIPT, number, header.first_index, header.first_index)
        assert (verdict.leaves, verdict.note) == (number, b"")
        with HostLog(paths, None) as log:
            assert taken.root == log.compute_root(number)


def test_a_gap_is_named_with_what_is_missing(paths: Paths) -> None:
    batch = make_batch(paths)
    first = find_kind(batch, hostlog.Segment)[1]
    leaf = hostlog.decode_leaf(batch.items[first].leaf)
    assert isinstance(leaf, hostlog.Segment)
    header = segment.decode_header(leaf.header)
    span = (header.first_index, header.first_index + header.event_count - 1)
    items = [item for number, item in enumerate(batch.items) if number != first]
    verdict = judge_batch(HostBodies(batch.host), resign(paths, batch, items))
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, *verdict.trouble[2:4]) == (verification.GAP, *span)
    assert verdict.leaves == verdict.trouble.leaf_index >= first
    # nothing is missing but the last segment of a run, and its exit says so
    end = find_kind(batch, hostlog.Exit)[0]
    last = max(number for number in find_kind(batch, hostlog.Segment) if number < end)
    items = [item for number, item in enumerate(batch.items) if number != last]
    verdict = judge_batch(HostBodies(batch.host), resign(paths, batch, items))
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.leaf_index) == (verification.GAP, end - 1)


def test_a_forged_leaf_is_named_and_ends_what_is_kept(paths: Paths) -> None:
    batch = make_batch(paths)
    number = find_kind(batch, hostlog.Segment)[2]
    items = list(batch.items)
    forged = bytearray(items[number].leaf)
    forged[-1] ^= 1
    items[number] = items[number]._replace(leaf=bytes(forged))
    verdict = judge_batch(HostBodies(batch.host), resign(paths, batch, items))
    assert verdict.trouble is not None and verdict.leaves == number
    assert (verdict.trouble.kind, verdict.trouble.leaf_index) == (verification.RECEIPT, number)
    assert "not signed" in verdict.trouble.why
    # leaves that the host has not signed are not its honest part, whatever they say
    verdict = judge_batch(HostBodies(batch.host), batch._replace(items=tuple(items)))
    assert verdict.trouble is not None and verdict.trouble.kind == verification.FORK
    assert verdict.taken is None and verdict.leaves == 0


def test_a_note_of_another_key_is_refused(paths: Paths) -> None:
    batch = make_batch(paths)
    state = checkpoint.parse_claim(batch.note)
    note = checkpoint.sign_checkpoint(state, make_key(9))
    with pytest.raises(SpecError, match="not signed by the host's key"):
        judge_batch(HostBodies(batch.host), batch._replace(note=note))


class Story:
    """A host that went on from one state in two ways, and what a server holds of the first."""

    def __init__(self, paths: Paths, tmp_path: Path, *, first: int, second: int) -> None:
        self.size = get_size(paths)
        shutil.copytree(paths.state, tmp_path / "fork")
        self.forked = paths._replace(state=str(tmp_path / "fork"))
        record(paths, make_id(5), count=first)
        for number in range(second):
            record(self.forked, make_id(6 + number), count=2)
        self.paths = paths
        batch = make_batch(paths)
        self.known = HostBodies(batch.host)
        verdict = judge_batch(self.known, batch)
        assert verdict.taken is not None
        self.known.apply(verdict.taken)
        self.note = verdict.note

    def find(self, batch: Offer) -> verification.Trouble | None:
        with HostLog(self.paths, None) as log:
            hashes = [merkle.compute_leaf_hash(leaf) for _, leaf in log.iterate_leaves()]

        def read(level: int, number: int) -> bytes:
            return merkle.compute_root(hashes[number << level : (number + 1) << level])

        return find_contradiction(self.known, self.note, read, batch)


def test_an_older_batch_of_the_same_history_is_no_contradiction(
    paths: Paths, tmp_path: Path
) -> None:
    old = make_batch(paths)
    story = Story(paths, tmp_path, first=1, second=0)
    for batch in (old, make_batch(paths), make_batch(paths, 3, 7), make_batch(story.forked, 2)):
        assert story.find(batch) is None


def test_a_log_that_was_set_back_and_went_on_is_proven(paths: Paths, tmp_path: Path) -> None:
    rotation.rotate_host_key(paths)
    story = Story(paths, tmp_path, first=4, second=1)
    record(paths, make_id(9), count=1)
    batch = make_batch(paths, story.known.progress.size)
    verdict = judge_batch(story.known, batch)
    assert verdict.taken is not None
    story.known.apply(verdict.taken)
    story.note = verdict.note
    for start in (0, story.size):
        trouble = story.find(make_batch(story.forked, start))
        assert trouble is not None and trouble.kind == verification.ROLLBACK
        forked = check_fork(trouble.proof)
        assert forked.host == story.known.progress.host.hex()
        assert forked.second.size == story.known.progress.size


def test_a_fork_that_is_ahead_is_proven_where_it_overlaps(paths: Paths, tmp_path: Path) -> None:
    story = Story(paths, tmp_path, first=1, second=3)
    assert get_size(story.forked) > story.known.progress.size
    for start in (0, 3, story.size):
        trouble = story.find(make_batch(story.forked, start))
        assert trouble is not None and trouble.kind == verification.FORK
        assert trouble.leaf_index == story.size
        assert check_fork(trouble.proof).first.size == story.known.progress.size
    # nothing overlaps: it can be seen, and not be proven from this batch alone
    batch = make_batch(story.forked, story.known.progress.size)
    verdict = judge_batch(story.known, batch)
    assert verdict.trouble is not None and verdict.taken is None


def test_a_contradiction_needs_the_hosts_signature(paths: Paths, tmp_path: Path) -> None:
    story = Story(paths, tmp_path, first=1, second=3)
    batch = make_batch(story.forked)
    state = checkpoint.parse_claim(batch.note)
    mine = keys.make_key_pair(b"\x09" * 32)
    for note in (
        checkpoint.sign_checkpoint(state, mine),
        checkpoint.sign_checkpoint(state._replace(origin="docklock/host/x"), mine),
    ):
        with pytest.raises(SpecError):
            story.find(batch._replace(note=note))
