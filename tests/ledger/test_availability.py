"""A node's door to bodies: what it has answered is durable, and it answers while others work."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chainlite import checkpoint, merkle
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.ledger import availability
from chainlite.ledger.availability import Availability, parse_origin
from chainlite.ledger.offer import Ack, decode_offer
from chainlite.ledger.operations import Available
from docklock.paths import Paths
from tests.evidence.recording import append, begin, make_id, make_paths, record
from tests.ledger.offered import get_size, make_host, offer_range


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def run(directory: Path, do: Callable[[Availability], Awaitable[None]], **changes: object) -> None:
    async def main() -> None:
        bodies = Availability(str(directory), **changes)  # type: ignore[arg-type]
        await bodies.start()
        try:
            await do(bodies)
        finally:
            await bodies.close()

    asyncio.run(asyncio.wait_for(main(), 120))


def test_what_was_taken_is_held_by_the_next_node(paths: Paths, tmp_path: Path) -> None:
    made, acks, told = offer_range(paths), list[Ack](), list[Ack]()

    async def take(bodies: Availability) -> None:
        assert bodies.get_hosts() == ()
        acks.append(await bodies.take(made.data))
        acks.append(await bodies.take(made.data))

    run(tmp_path / "bodies", take, upon_held=told.append)
    host = decode_offer(made.data).host
    assert acks == [Ack(host, made.end, made.root, 16), Ack(host, made.end, made.root, 0)]
    assert told == acks[:1]

    async def look(bodies: Availability) -> None:
        held = bodies.get_held(host)
        assert held[:2] == (made.end, made.root) and held.note == decode_offer(made.data).note
        items = bodies.reader.read(host, 0, made.end, 1 << 30)
        assert tuple(items) == decode_offer(made.data).items

    run(tmp_path / "bodies", look)


def test_anchors_that_are_held_become_operations(paths: Paths, tmp_path: Path) -> None:
    made = offer_range(paths)
    host, items = decode_offer(made.data).host, decode_offer(made.data).items
    hashes = [merkle.compute_leaf_hash(item.leaf) for item in items]
    anchors = [(host, size, merkle.compute_root(hashes[:size])) for size in range(1, made.end + 1)]

    async def do(bodies: Availability) -> None:
        assert not bodies.make_available(anchors)
        await bodies.take(offer_range(paths, 0, 7).data)
        assert bodies.make_available(anchors) == [Available(*one) for one in anchors[:7]]
        forked = [(host, 5, bytes(32)), (b"\1" * 32, 5, anchors[4][2])]
        assert not bodies.make_available(forked)
        await bodies.append(host, 7, items[7:], b"")
        assert bodies.make_available(anchors) == [Available(*one) for one in anchors]

    run(tmp_path / "bodies", do)


def test_what_does_not_hold_is_the_senders_misdeed(paths: Paths, tmp_path: Path) -> None:
    made = offer_range(paths)

    async def do(bodies: Availability) -> None:
        with pytest.raises(SpecError):
            await bodies.take(b"\0")
        with pytest.raises(SpecError):
            await bodies.take(bytes(availability.OFFER_LIMIT_BYTES + 1))
        with pytest.raises(PeerError, match="the host has signed does not continue"):
            await bodies.take(made.data.replace(b"create", b"cremte", 1))
        offer = decode_offer(made.data)
        items = [offer.items[0], offer.items[0]]
        with pytest.raises(PeerError, match="leaf 1 of host"):
            await bodies.append(offer.host, 0, items, b"")
        assert bodies.get_hosts() == ()
        assert (await bodies.take(made.data)).size == made.end

    run(tmp_path / "bodies", do)


def test_many_hosts_at_once_each_get_their_answer(tmp_path: Path) -> None:
    made = []
    for number in range(12):
        paths = make_paths(tmp_path / str(number))
        record(paths, make_id(1), count=20)
        made.append(offer_range(paths))

    async def do(bodies: Availability) -> None:
        acks = await asyncio.gather(*[bodies.take(one.data) for one in made])
        assert [(ack.size, ack.root) for ack in acks] == [(one.end, one.root) for one in made]
        assert bodies.receipts == 240

    run(tmp_path / "bodies", do)


def test_a_keeper_that_was_killed_is_started_again_and_forgets_nothing(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "AGAIN_S", 0.01)
    lines: list[str] = []

    async def do(bodies: Availability) -> None:
        size = 0
        for _ in range(get_size(paths) // 2):
            ack = await take_again(bodies, offer_range(paths, size, size + 2).data)
            size = ack.size
            assert bodies._process is not None
            os.kill(bodies._process.pid, signal.SIGKILL)
        assert size > 8 and bodies.get_held(ack.host).size == size

    async def take_again(bodies: Availability, data: bytes) -> Ack:
        while True:
            try:
                return await bodies.take(data)
            except StateError:
                await asyncio.sleep(0.01)

    run(tmp_path / "bodies", do, tell=lines.append)
    assert any("ended with code -9" in line for line in lines)


def test_the_loop_turns_while_receipts_are_verified(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    recorder = begin(paths)
    for number in range(20_000):
        append(recorder, number)
    recorder.close(0)
    made = offer_range(paths)

    async def do(bodies: Availability) -> None:
        taking, turns = asyncio.ensure_future(bodies.take(made.data)), 0
        while not taking.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await taking).receipts == made.receipts > 10_000
        assert turns > 100

    run(tmp_path / "bodies", do)


def test_what_waits_is_bounded(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = offer_range(paths)
    monkeypatch.setattr(availability, "WAITING_BYTES_MAX", 2 * len(made.data))

    async def do(bodies: Availability) -> None:
        found = await asyncio.gather(
            *[bodies.take(made.data) for _ in range(5)], return_exceptions=True
        )
        assert sum(isinstance(one, StateError) for one in found) >= 2
        assert sum(isinstance(one, Ack) for one in found) >= 1
        assert (await bodies.take(made.data)).size == made.end

    run(tmp_path / "bodies", do)


def test_who_stops_waiting_spoils_nothing_for_others(tmp_path: Path, seed: int) -> None:
    """Cancelled anywhere: before, while and after its offer goes through the pipe."""
    paths, chance = make_paths(tmp_path), random.Random(seed)
    recorder = begin(paths)
    for number in range(15_000):
        append(recorder, number)
    recorder.close(0)
    made = offer_range(paths)

    async def do(bodies: Availability) -> None:
        for _ in range(20):
            tasks = [asyncio.ensure_future(bodies.take(made.data)) for _ in range(3)]
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[1].cancel()
            assert (await tasks[2]).size == made.end
        assert not bodies._waiting and bodies.receipts == made.receipts

    run(tmp_path / "bodies", do)


def test_two_nodes_do_not_share_a_directory(tmp_path: Path) -> None:
    async def do(_: Availability) -> None:
        other = Availability(str(tmp_path))
        with pytest.raises(StateError):
            await other.start()
        await other.close()

    run(tmp_path, do)


def test_only_a_hosts_origin_names_a_host() -> None:
    assert parse_origin(checkpoint.get_origin(b"\xab" * 32)) == b"\xab" * 32
    for bad in ("docklock/host/ab", "docklock/host/" + "AB" * 32, "x", "docklock/host/" + "g" * 64):
        assert parse_origin(bad) is None
