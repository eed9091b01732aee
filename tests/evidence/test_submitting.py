"""What a host submits to a chain: nothing it keeps to itself, everything else, where it stood."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import hostlog, receipt, segment
from chainlite.errors import StateError, TamperError
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.bodies import HostBodies, verify_offer
from chainlite.ledger.offer import decode_body, decode_offer
from docklock.evidence import container_store, erasing, keyring, offering, rotation
from docklock.evidence.host_log import HostLog
from docklock.evidence.submitted import Submitted
from docklock.paths import Paths
from docklock.submitter import Passed, Submitter
from tests.evidence.chain_doors import Nodes
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record
from tests.ledger.offered import decode, get_size, offer_range, take

SECRETS = (b"/home/alice/secret-path", b"--password=hunter2", b"DB_TOKEN=abcdef", b"10.9.8.7:443")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(tmp_path / "nodes")
    yield found
    found.close()


def do_pass(submitter: Submitter) -> Passed:
    done = asyncio.run(submitter.run_pass())
    assert done is not None
    return done


def settle(submitter: Submitter, nodes: Nodes) -> Passed:
    """Passes and blocks until nothing is due."""
    for _ in range(12):
        done = do_pass(submitter)
        if not done.due:
            return done
        nodes.step()
    raise AssertionError(f"it does not settle: {done}")


def record_secrets(paths: Paths) -> None:
    recorder = begin(paths)
    names = ("path", "argv", "env", "sockaddr")
    for number in range(50):
        recorder.append(
            "syscall.openat",
            decision=receipt.ALLOWED, plane=receipt.GATE, seen=receipt.CLAIMED,
            pid=1, tid=1, nr=42, args=(number,) * 6,
            values=tuple(zip(names, SECRETS, strict=True)),
        )  # fmt: skip
    recorder.close(0)


def test_no_value_and_no_salt_leaves_the_host(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_secrets(paths)
    made = offer_range(paths)
    offer = decode(made)
    unpacked, commitments = [made.data], 0
    for item in offer.items:
        if item.leaf[0] != hostlog.SEGMENT_KIND:
            continue
        leaf = hostlog.decode_leaf(item.leaf)
        assert isinstance(leaf, hostlog.Segment)
        header = segment.decode_header(leaf.header)
        body = segment.unpack_body(decode_body(item.body).packed)
        unpacked.append(body)
        for raw, values, _ in receipt.iterate_frames(body, header.event_count):
            count = len(receipt.decode_receipt(raw).commitments)
            commitments += count
            assert values == receipt.encode_values((None,) * count)
    assert commitments == 200
    text = b"".join(unpacked)
    for secret in SECRETS:
        assert secret not in text
    rows = read_rows(paths)
    kept = b"".join([segment.unpack_body(row.body) for row in rows])
    assert all(secret in kept for secret in SECRETS)
    assert all(row.secret and row.secret not in text for row in rows)
    assert take(HostBodies(offer.host), made) == 50


def read_rows(paths: Paths) -> list[container_store.SegmentRow]:
    db = container_store.open_store(paths, make_id())
    found = list(container_store.iterate_segments(db, 0))
    db.close()
    return found


def test_erased_values_change_nothing_of_what_is_offered(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_secrets(paths)
    before = offer_range(paths).data
    erasing.erase_values(paths, make_id(), frozenset(("argv", "paths")))
    size = decode_offer(before).end
    offer = decode(offer_range(paths, 0, size))
    assert offer.items == decode_offer(before).items


def test_a_host_registers_anchors_and_becomes_available(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    submitter = Submitter(paths, nodes.all, "somebody")
    assert asyncio.run(submitter.run_pass()) is None  # nothing has run here
    record(paths, make_id(1), count=9)
    first = do_pass(submitter)
    assert first.due and first.anchored == 0 and not nodes.all[0].offers
    nodes.step()
    done = settle(submitter, nodes)
    size = get_size(paths)
    assert (done.size, done.anchored, done.available) == (size, size, size)
    leaves = [n for n, _ in enumerate(range(size)) if is_register(paths, n)]
    assert len(leaves) == 1
    record(paths, make_id(2), count=4)
    settle(submitter, nodes)
    assert len([n for n in range(get_size(paths)) if is_register(paths, n)]) == 1
    with Submitted(paths) as submitted:
        rows = submitted.get_anchors(nodes.chain.chain_id, 10)
    assert [row.size for row in rows] == [get_size(paths), size]
    for row in rows:
        assert row.ordered is not None and row.available is not None
        assert 0 < row.ordered <= row.available <= nodes.chain.ledger.height
        block = nodes.chain.blocks[row.ordered - 1]
        assert row.tx in [tx.hash for tx in block.txs]
    submitter.close()


def is_register(paths: Paths, index: int) -> bool:
    with HostLog(paths, None) as log:
        leaf = hostlog.decode_leaf(log.get_leaf(index))
    return isinstance(leaf, hostlog.Operation) and leaf.name == "register"


def test_each_node_is_offered_what_it_has_not(tmp_path: Path, nodes: Nodes) -> None:
    """One was away for days; one has lost what it had; each leaf goes to each node once."""
    paths = make_paths(tmp_path)
    submitter = Submitter(paths, nodes.all, "somebody")
    record(paths, make_id(1), count=5)
    do_pass(submitter)
    nodes.step()
    away = nodes.all[3]
    away.is_away = True
    for number in range(2, 6):
        record(paths, make_id(number), count=5)
        done = do_pass(submitter)
        assert done.troubles
        nodes.step()
    assert not away.offers
    away.is_away = False
    settle(submitter, nodes)
    size = get_size(paths)
    assert all(node.store.get_size_root(submitter.host)[0] == size for node in nodes.all)
    for node in nodes.all:
        starts = [decode_offer(data).start for data in node.offers]
        ends = [decode_offer(data).end for data in node.offers]
        assert starts == [0, *ends[:-1]]
    submitter.close()
    again = Submitter(paths, nodes.all, "somebody")  # the next process
    counts = [len(node.offers) for node in nodes.all]
    settle(again, nodes)
    assert [len(node.offers) for node in nodes.all] == counts
    lost = nodes.all[1]
    lost.store.close()
    shutil.rmtree(tmp_path / "nodes" / "1")
    lost.__init__(nodes.chain, 1, tmp_path / "nodes" / "1")  # type: ignore[misc]
    record(paths, make_id(9), count=1)
    settle(again, nodes)
    assert lost.store.get_size_root(again.host)[0] == get_size(paths)
    again.close()


def test_a_lost_record_of_what_was_submitted_has_nothing_taken_twice(
    tmp_path: Path, nodes: Nodes
) -> None:
    paths = make_paths(tmp_path)
    submitter = Submitter(paths, nodes.all, "somebody")
    record(paths, make_id(1), count=5)
    do_pass(submitter)
    nodes.step()
    settle(submitter, nodes)
    shutil.rmtree(f"{paths.state}/chain")
    record(paths, make_id(2), count=3)
    done = settle(submitter, nodes)
    assert done.available == get_size(paths)
    assert [sum(ack.receipts for ack in node.acks) for node in nodes.all] == [8] * 4
    submitter.close()


def test_a_long_log_goes_in_many_ranges(
    tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    for number in range(1, 30):
        record(paths, make_id(number), count=20)
    monkeypatch.setattr(offering.make_offer, "__defaults__", (None, 12_000))  # the limit of a range
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    done = settle(submitter, nodes)
    assert done.available == get_size(paths)
    assert len(nodes.all[0].offers) > 8
    assert max(len(data) for data in nodes.all[0].offers) <= 12_000
    submitter.close()


def test_an_open_run_is_available_while_it_goes_on(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    submitter = Submitter(paths, nodes.all, "somebody")
    recorder = begin(paths)
    append_durably(recorder, 0)
    do_pass(submitter)
    nodes.step()
    for number in range(1, 6):
        append_durably(recorder, number)
        done = settle(submitter, nodes)
        assert done.available == done.size
    recorder.close(0)
    submitter.close()


def test_a_restored_or_forked_host_signs_nothing(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=5)
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    shutil.copytree(paths.state, tmp_path / "old")
    record(paths, make_id(2), count=5)
    settle(submitter, nodes)
    submitter.close()
    old = paths._replace(state=str(tmp_path / "old"))
    restored = Submitter(old, nodes.all, "somebody")
    with pytest.raises(TamperError, match="cut or restored"):
        do_pass(restored)
    for number in range(3, 9):
        record(old, make_id(number), count=2)
    with pytest.raises(TamperError, match="another root"):
        do_pass(restored)
    assert not any(node.pool for node in nodes.all)
    restored.close()


def test_a_node_that_holds_another_history_is_named(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=2)
    shutil.copytree(paths.state, tmp_path / "fork")
    fork = paths._replace(state=str(tmp_path / "fork"))
    record(fork, make_id(2), count=2)
    record(paths, make_id(2), count=3)
    nodes.all[2].store.take(offer_range(fork).data)
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    with pytest.raises(TamperError, match="another history"):
        do_pass(submitter)
    submitter.close()


def test_no_node_no_pass(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    for node in nodes.all:
        node.is_away = True
    submitter = Submitter(paths, nodes.all, "somebody")
    with pytest.raises(StateError, match="no node answers"):
        do_pass(submitter)
    submitter.close()


@pytest.mark.parametrize("is_anchored_meanwhile", [False, True])
def test_rotations_go_on_the_chain_by_the_keys_that_went(
    tmp_path: Path, nodes: Nodes, is_anchored_meanwhile: bool
) -> None:
    """Also where an anchor of the old key was under way, and two rotations come at once."""
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    settle(submitter, nodes)
    if is_anchored_meanwhile:
        record(paths, make_id(2))
        do_pass(submitter)
    for _ in range(2):
        rotation.rotate_host_key(paths)
    nodes.step()
    record(paths, make_id(3))
    rotation.rotate_host_key(paths)
    done = settle(submitter, nodes)
    assert done.available == get_size(paths)
    status = asyncio.run(nodes.all[0].get_status(submitter.host))
    with HostLog(paths, None) as log:
        assert status.key == log.read_keys(keyring.get_public_key(paths)).public
    submitter.close()


def test_revocations_go_on_the_chain_once(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    settle(submitter, nodes)
    size = get_size(paths)
    for number, first in ((None, None), (0, 3)):
        rotation.revoke_host_key(paths, number, first)
        done = settle(submitter, nodes)
        assert done.available == get_size(paths)
    row = nodes.chain.ledger.find(records.get_key_key(submitter.host, 0))
    assert isinstance(row, records.HostKey) and row.revoked_from == 3 < size
    revokes = [
        operation
        for block in nodes.chain.blocks
        for tx in block.txs
        for operation in tx.operations
        if isinstance(operation, ops.Revoke)
    ]
    assert [one.first_index for one in revokes] == [size + 1, 3]
    submitter.close()


def test_a_rotation_of_which_nothing_is_left_is_said(tmp_path: Path, nodes: Nodes) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    submitter = Submitter(paths, nodes.all, "somebody")
    do_pass(submitter)
    nodes.step()
    settle(submitter, nodes)
    shutil.rmtree(f"{paths.state}/chain")
    rotation.rotate_host_key(paths)
    with pytest.raises(StateError, match="nothing is here that the one has signed"):
        do_pass(submitter)
    submitter.close()


def test_a_host_whose_enrolled_key_is_gone_says_that_it_cannot_register(
    tmp_path: Path, nodes: Nodes
) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    rotation.rotate_host_key(paths)
    submitter = Submitter(paths, nodes.all, "somebody")
    with pytest.raises(StateError, match="the enrolled one alone can register it"):
        do_pass(submitter)
    submitter.close()


def test_evidence_that_is_gone_is_not_offered(tmp_path: Path, seed: int) -> None:
    paths = make_paths(tmp_path)
    for number in range(1, 6):
        record(paths, make_id(number), count=4)
    gone = random.Random(seed).randint(1, 5)
    for path in Path(paths.evidence).glob(f"{make_id(gone)}.db*"):
        path.unlink()
    with pytest.raises(TamperError, match=f"container {make_id(gone)[:12]} has no such segment"):
        offer_range(paths)


def test_more_containers_than_files_that_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering, "STORES_MAX", 2)
    paths = make_paths(tmp_path)
    recorders = [begin(paths, make_id(number)) for number in range(1, 6)]
    for number in range(3):
        for recorder in recorders:
            append_durably(recorder, number)
    for recorder in recorders:
        recorder.close(0)
    offer = decode(offer_range(paths))
    assert verify_offer(HostBodies(offer.host), offer).receipts == 15
