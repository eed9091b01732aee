"""Bodies through gossip: a node that was away has them from its peers, verified and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chainlite import checkpoint, merkle
from chainlite.errors import PeerError
from chainlite.ledger import body_origins
from chainlite.ledger.availability import Availability
from chainlite.ledger.body_origins import BodyOrigins
from chainlite.ledger.offer import decode_offer
from chainlite.net import tidings
from chainlite.net.gossip import Append, Ask, Effect, Gossip, Tell
from chainlite.net.origins import NO_KEYS, NOTHING, get_reader
from chainlite.net.transport import PeerId
from docklock.evidence import rotation
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key
from docklock.paths import Paths
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host, offer_range

ONE, TWO = PeerId(b"\1" * 32), PeerId(b"\2" * 32)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def get_publics(paths: Paths, host: bytes) -> Callable[[bytes], tuple[bytes, ...]]:
    with HostLog(paths, None) as log:
        publics = log.read_keys(get_public_key(paths)).publics
    return lambda asked: publics if asked == host else ()


Do = Callable[[list[BodyOrigins], list[Availability]], Awaitable[None]]


def run(tmp_path: Path, paths: Paths, do: Do) -> None:
    host = decode_offer(offer_range(paths).data).host

    async def main() -> None:
        nodes = [Availability(str(tmp_path / f"node-{n}")) for n in range(2)]
        stores = [
            BodyOrigins(one, get_publics(paths, host), str(tmp_path / "forks")) for one in nodes
        ]
        for one in nodes:
            await one.start()
        try:
            await do(stores, nodes)
        finally:
            for one in nodes:
                await one.close()

    asyncio.run(asyncio.wait_for(main(), 60))


async def exchange(stores: list[BodyOrigins]) -> int:
    """Gossip of two nodes until nothing more is said; how many items were appended."""
    cores, peers, appended = [Gossip(one) for one in stores], (ONE, TWO), 0
    waiting: list[tuple[int, Effect]] = []
    for me in range(2):
        waiting += [(me, one) for one in cores[me].upon_peer(peers[1 - me])]
    while waiting:
        me, effect = waiting.pop(0)
        made: list[Effect] = []
        if isinstance(effect, Tell):
            waiting += [
                (1 - me, one) for one in cores[1 - me].upon_vector(peers[me], effect.payload)
            ]
        elif isinstance(effect, Ask):
            answer = cores[1 - me].upon_want(tidings.encode_want(effect.want))
            made = cores[me].upon_range(effect, answer)
        elif isinstance(effect, Append):
            await stores[me].append(effect.origin, effect.start, effect.items, effect.note)
            appended += len(effect.items)
            made = cores[me].upon_appended(effect)
        else:
            raise AssertionError(effect)
        waiting += [(me, one) for one in made]
    return appended


def test_a_node_that_was_away_has_it_all_from_its_peer(paths: Paths, tmp_path: Path) -> None:
    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        made = offer_range(paths)
        host = (await nodes[0].take(made.data)).host
        assert await exchange(stores) == made.end
        assert nodes[1].get_held(host) == nodes[0].get_held(host)
        assert nodes[1].receipts == nodes[0].receipts == 16
        assert await exchange(stores) == 0
        record(paths, make_id(7), count=5)
        more = offer_range(paths, made.end)
        await nodes[1].take(more.data)  # now the other one is behind
        assert await exchange(stores) == more.end - more.start
        assert nodes[0].receipts == nodes[1].receipts == 21

    run(tmp_path, paths, do)


def test_what_is_held_is_told_as_gossip_asks(paths: Paths, tmp_path: Path) -> None:
    made = offer_range(paths)
    offer = decode_offer(made.data)
    origin = checkpoint.get_origin(offer.host)

    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        store = stores[0]
        assert store.get_origins() == [] and store.get_held(origin) == NOTHING
        assert len(store.get_keys(origin).publics) == 2 and not store.get_keys(origin).records
        assert store.get_keys(checkpoint.get_origin(b"\5" * 32)) == NO_KEYS
        assert store.get_keys("elsewhere") == NO_KEYS and store.get_held("elsewhere") == NOTHING
        await nodes[0].take(made.data)
        assert store.get_origins() == [origin]
        assert store.get_held(origin) == (made.end, offer.note)
        assert len(store.get_keys(origin).publics) == 2
        assert len(store.get_keys(origin).records) == 1
        root = merkle.compute_tree_root(made.end, get_reader(store, origin))
        assert root == made.root
        assert tuple(store.read(origin, 2, 5, 1 << 30)) == offer.items[2:5]
        store.keep_fork(b"evidence")
        store.keep_fork(b"evidence")
        assert len(list((tmp_path / "forks").iterdir())) == 1

    run(tmp_path, paths, do)


def test_what_two_bring_at_once_is_kept_once(paths: Paths, tmp_path: Path) -> None:
    offer = decode_offer(offer_range(paths).data)
    origin, items = checkpoint.get_origin(offer.host), offer.items

    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        await asyncio.gather(
            nodes[0].take(offer_range(paths, 0, 6).data),
            stores[0].append(origin, 0, items[:4], b""),
            stores[0].append(origin, 2, items[2:9], b""),
            stores[0].append(origin, 9, items[9:], offer.note),
        )
        await stores[0].append(origin, 0, items, offer.note)
        assert nodes[0].receipts == 16
        assert stores[0].get_held(origin) == (len(items), offer.note)
        assert tuple(stores[0].read(origin, 0, len(items), 1 << 30)) == items

    run(tmp_path, paths, do)


def test_a_bad_body_or_another_checkpoint_is_the_peers_misdeed(
    paths: Paths, tmp_path: Path
) -> None:
    offer = decode_offer(offer_range(paths).data)
    origin, items = checkpoint.get_origin(offer.host), list(offer.items)
    number = next(n for n, item in enumerate(items) if item.body)
    short = decode_offer(offer_range(paths, 0, 5).data)

    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        bad = items[number]._replace(body=items[number].body[:-1])
        with pytest.raises(PeerError, match=f"leaf {number} of host"):
            await stores[0].append(origin, 0, [*items[:number], bad], b"")
        with pytest.raises(PeerError, match="do not reach the checkpoint"):
            await stores[0].append(origin, 0, short.items, offer.note)
        assert stores[0].get_held(origin) == NOTHING

    run(tmp_path, paths, do)


def test_a_busy_keeper_is_waited_for(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainlite.ledger import availability

    offer = decode_offer(offer_range(paths).data)
    origin = checkpoint.get_origin(offer.host)
    monkeypatch.setattr(body_origins, "AGAIN_S", 0.01)
    monkeypatch.setattr(availability, "WAITING_BYTES_MAX", 10)

    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        first = nodes[0].append(offer.host, 0, offer.items[:3], b"")
        await asyncio.gather(first, stores[0].append(origin, 0, offer.items, offer.note))
        assert stores[0].get_held(origin).size == len(offer.items)

    run(tmp_path, paths, do)


def test_keys_of_a_rotation_that_the_log_has_not_brought_yet_count(
    paths: Paths, tmp_path: Path
) -> None:
    size = get_size(paths)
    made = offer_range(paths, 0, size)
    origin = checkpoint.get_origin(decode_offer(made.data).host)
    rotation.rotate_host_key(paths)

    async def do(stores: list[BodyOrigins], nodes: list[Availability]) -> None:
        await nodes[0].take(made.data)
        assert len(stores[0].get_keys(origin).publics) == 3
        assert len(stores[0].get_keys(origin).records) == 1
        await nodes[0].take(offer_range(paths, size).data)
        assert len(stores[0].get_keys(origin).records) == 2

    run(tmp_path, paths, do)
