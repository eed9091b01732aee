"""A node that joins: a state from peers of whom none is believed, some lie, and some go away."""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chainlite import keys
from chainlite.consensus import joining, serving, snapshot_wire
from chainlite.consensus.joining import Joining, NoSnapshot, Taken
from chainlite.consensus.messages import (
    PREPARE,
    NewBlock,
    Prepare,
    encode_message,
    sign_vote,
)
from chainlite.consensus.serving import Serving
from chainlite.consensus.snapshot_wire import (
    CHUNK,
    HEAD,
    LINKS,
    MANIFEST,
    WantSnapshot,
    decode_links,
    decode_want_snapshot,
    encode_links,
    encode_want_snapshot,
)
from chainlite.consensus.wire import (
    Status,
    WantBlocks,
    decode_blocks,
    encode_blocks,
    encode_status,
    encode_want,
)
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.ledger import snapshot
from chainlite.ledger.block import make_block
from chainlite.ledger.genesis import decode_genesis
from chainlite.ledger.header import Seals, encode_seals
from chainlite.ledger.records import HOST as HOST_ROW
from chainlite.ledger.store import Store, create, create_from_state
from chainlite.ledger.store_check import check_store
from chainlite.net import tls
from chainlite.net.mesh import Mesh
from chainlite.net.registration import Address, Registration, sign_registration
from chainlite.net.transport import Channel, PeerId, Unanswered
from chainlite.proofs.light_source import get_links, get_trusted, prove_anchor
from chainlite.proofs.trusted import Trusted, trust_genesis
from tests.consensus.nodes import HOST, NETWORK, Host, Net, Place, get_now_ms, submit
from tests.consensus.samples import ZERO
from tests.consensus.test_messages import CASES, spoil
from tests.consensus.test_node import run
from tests.ledger.samples import HostLog
from tests.proofs.test_light_source import NOW_MS, Made

Twist = Callable[[WantSnapshot, bytes], bytes | Awaitable[bytes]]
HOSTS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A chain whose validators changed five times, with a state of some rows."""
    done = Made(tmp_path_factory.mktemp("chain") / "chain.db")
    done.chain.enrol(*[HostLog(number) for number in range(2, HOSTS)])
    done.store_last()
    done.chain.step()
    done.store_last()
    yield done
    done.store.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of few rows, and no long waits."""
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 4)
    monkeypatch.setattr(joining, "GATHER_S", 0.1)
    monkeypatch.setattr(joining, "PAUSE_S", 0.02)
    monkeypatch.setattr(joining, "SEARCH_S", 10.0)


class Peer:
    """A registered node that answers as a node with this store, twisted or not."""

    def __init__(
        self,
        work: Path,
        number: int,
        store: Store | None,
        twist: Twist | None = None,
        leaves_after: int = -1,
    ) -> None:
        """`leaves_after` so many chunks it is gone, with one more asked of it."""
        self.key = keys.make_key_pair(bytes([200 + number]) * 32)
        self.peer = PeerId(self.key.public)
        directory = tempfile.mkdtemp(dir=work)
        self.certificate = tls.make_certificate(Path(directory, "node.pem"), self.peer)
        self.mesh = Mesh(self.peer, NETWORK, self.certificate, (HOST, 0), random.Random(number))
        self.serving = Serving(store) if store is not None else None
        self.twist, self.leaves_after, self.asked = twist, leaves_after, list[WantSnapshot]()
        self.leaving: asyncio.Task[None] | None = None

    async def start(self) -> Registration:
        await self.mesh.start()
        if self.serving is not None:
            self.mesh.listen(Channel.SYNC, lambda *_: None, self.answer)
        address = Address(HOST, self.mesh.port)
        unsigned = Registration(NETWORK, self.peer, 1, self.certificate.der, (address,), "test")
        return sign_registration(unsigned, self.key)

    async def answer(self, peer: PeerId, _: Channel, payload: bytes) -> bytes:
        assert self.serving is not None
        want = decode_want_snapshot(payload)
        self.asked.append(want)
        if sum(want.kind == CHUNK for want in self.asked) == self.leaves_after + 1 > 0:
            self.leaving = asyncio.ensure_future(self.mesh.close())
            await asyncio.sleep(3600)
        found = await self.serving.answer(peer, payload)
        if self.twist is None:
            return found
        twisted = self.twist(want, found)
        return twisted if isinstance(twisted, bytes) else await twisted

    async def close(self) -> None:
        if self.serving is not None:
            self.serving.close()
        await (self.leaving or self.mesh.close())


class Joined:
    """What came of it: the peers, and what was told."""

    def __init__(self, taken: Taken, peers: list[Peer], misdeeds: list[int], told: str) -> None:
        self.taken, self.peers, self.misdeeds, self.told = taken, peers, misdeeds, told


def join(
    work: Path,
    stores: list[Store],
    twists: dict[int, Twist] | None = None,
    trusted: Trusted | None = None,
    now_ms: int = NOW_MS,
    leaving: dict[int, int] | None = None,
) -> Joined:
    """A newcomer, connected with one peer for each store, takes a state."""

    async def act() -> Joined:
        me = Peer(work, 50, None)
        peers = [
            Peer(work, number, store, (twists or {}).get(number), (leaving or {}).get(number, -1))
            for number, store in enumerate(stores)
        ]
        mine, told = await me.start(), list[str]()
        try:
            for peer in peers:
                me.mesh.add_peer(await peer.start())
                peer.mesh.add_peer(mine)
            while stores and len(me.mesh.peers()) < len(peers):
                await asyncio.sleep(0.01)
            start = trusted or trust_genesis(decode_genesis(stores[0].genesis))
            taken = await Joining(me.mesh, start, lambda: now_ms, told.append).run()
            figures = me.mesh.figures().peers
            misdeeds = [figures[peer.peer].misdeeds for peer in peers]
            return Joined(taken, peers, misdeeds, "\n".join(told))
        finally:
            for peer in (*peers, me):
                await peer.close()

    found = list[Joined]()

    async def keep() -> None:
        found.append(await act())

    run(keep)
    return found[0]


def check_state(joined: Joined, store: Store, path: Path) -> Store:
    """What was taken makes a store with the state of the very block that the chain has there."""
    block, seals, rows = joined.taken
    made = create_from_state(path, store.genesis, (block, seals), rows)
    assert block == store.get_block(made.height)[0]
    assert made.ledger.state_root == block.header.state_root
    assert check_store(path) == made.height
    return made


def test_who_trusts_the_genesis_takes_the_state_through_all_changes_of_validators(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (joining, serving):  # two answers with changes, and a rest
        monkeypatch.setattr(module, "LINKS_IN_ANSWER_MAX", 2)
    joined = join(tmp_path, [made.store, made.store])
    assert joined.misdeeds == [0, 0], joined.told
    store = check_state(joined, made.store, tmp_path / "chain.db")
    assert store.height == made.store.height
    assert dict(store.ledger.get_items()) == dict(made.store.ledger.get_items())
    assert sum(want.kind == LINKS for peer in joined.peers for want in peer.asked) == 6
    chunks = [{w.number for w in peer.asked if w.kind == CHUNK} for peer in joined.peers]
    assert all(chunks) and chunks[0] != chunks[1], "both are asked, each for its own"
    store.close()


def test_a_header_that_is_trusted_leads_on_and_stale_trust_does_not(
    made: Made, tmp_path: Path
) -> None:
    """The genesis is a moment too old, the header is not."""
    start = get_trusted(made.store, made.store.height - 3)
    now_ms = start.timestamp_ms + start.period_ms
    with pytest.raises(SpecError, match="stale trust: .* --header-checkpoint"):
        join(tmp_path, [made.store], now_ms=now_ms)
    joined = join(tmp_path, [made.store], trusted=start, now_ms=now_ms)
    check_state(joined, made.store, tmp_path / "chain.db").close()
    with pytest.raises(SpecError, match="stale trust"):
        join(tmp_path, [made.store], trusted=start, now_ms=now_ms + 1)


def test_changes_of_validators_after_its_block_are_no_matter(made: Made, tmp_path: Path) -> None:
    """The chain goes on while somebody joins, and its validators change."""
    heights = [change.height for change in made.store.read_sets()]
    growing = make_part(made, tmp_path / "growing.db", heights[2] - 1)

    def twist(want: WantSnapshot, found: bytes) -> bytes:
        if want.kind == HEAD and growing.height < made.store.height:
            append_rest(made, growing, made.store.height)
        return found

    joined = join(tmp_path, [growing], {0: twist})
    assert joined.misdeeds == [0], joined.told
    assert joined.taken.block.header.height == heights[2] - 1
    check_state(joined, made.store, tmp_path / "chain.db").close()
    growing.close()


def test_who_is_behind_what_is_trusted_is_no_liar(made: Made, tmp_path: Path) -> None:
    older = make_older(made, tmp_path / "older.db")
    joined = join(
        tmp_path, [older, made.store], trusted=get_trusted(made.store, made.store.height - 1)
    )
    assert joined.misdeeds == [0, 0]
    check_state(joined, made.store, tmp_path / "chain.db").close()
    older.close()


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def change_block(data: bytes, change: Callable[[NewBlock], NewBlock]) -> bytes:
    (message,) = decode_blocks(data)
    made = change(message)
    return encode_blocks([(made.block.encoded, encode_seals(made.seals))])


def drop_seal(message: NewBlock) -> NewBlock:
    seals = message.seals
    bits = int.from_bytes(seals.bitmap, "little")
    bitmap = (bits & bits - 1).to_bytes(len(seals.bitmap), "little")
    return message._replace(seals=Seals(seals.round, bitmap, seals.signatures[1:]))


def forge_header(message: NewBlock) -> NewBlock:
    block = message.block
    header = block.header._replace(state_root=b"f" * 32)
    return message._replace(block=make_block(header, block.transactions, block.poh))


def spoil_body(message: NewBlock) -> NewBlock:
    block = message.block
    return message._replace(block=make_block(block.header, [b"never signed"], block.poh))


LIES: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "a header of one's own": (HEAD, lambda data: change_block(data, forge_header)),
    "a quorum less one": (HEAD, lambda data: change_block(data, drop_seal)),
    "another body": (HEAD, lambda data: change_block(data, spoil_body)),
    "no block": (HEAD, lambda _: encode_blocks([])),
    "no message": (HEAD, lambda _: b"hello"),
    "changes that nobody sealed": (LINKS, flip),
    "no changes": (LINKS, lambda _: encode_links([])),
    "changes out of order": (
        LINKS,
        lambda data: encode_links(decode_links(data)[::-1]),
    ),
    "another manifest": (MANIFEST, flip),
    "no manifest": (MANIFEST, lambda _: b""),
    "another chunk": (CHUNK, flip),
    "an empty chunk": (CHUNK, lambda data: data[:7] + bytes(4)),
}


@pytest.mark.parametrize("name", LIES)
def test_who_lies_is_blamed_once_and_another_is_asked(
    made: Made, tmp_path: Path, name: str
) -> None:
    kind, lie = LIES[name]

    def twist(want: WantSnapshot, found: bytes) -> bytes:
        return lie(found) if want.kind == kind else found

    # Peer 1 alone has the newest block, if it lies where that decides; so it is asked first.
    older = make_older(made, tmp_path / "older.db")
    joined = join(tmp_path, [older, made.store], {1: twist})
    assert joined.misdeeds == [0, 1], joined.told
    assert "shows what does not hold" in joined.told
    check_state(joined, made.store, tmp_path / "chain.db").close()
    liar = joined.peers[1]
    assert sum(want.kind == kind for want in liar.asked) >= 1
    assert sum(want.kind == HEAD for want in liar.asked) == 1, "and not asked again"
    older.close()


def make_older(made: Made, path: Path) -> Store:
    """The same chain but for its last block."""
    return make_part(made, path, made.store.height - 1)


def make_part(made: Made, path: Path, height: int) -> Store:
    """The same chain up to a height."""
    store = create(path, made.store.genesis)
    append_rest(made, store, height)
    return store


def append_rest(made: Made, store: Store, height: int) -> None:
    for executed in made.chain.blocks[store.height : height]:
        seals = made.store.get_block(executed.block.header.height)[1]
        assert seals is not None
        store.append(executed, seals)


def test_a_chunk_in_place_of_another_is_a_lie(made: Made, tmp_path: Path) -> None:
    chunks: dict[int, bytes] = {}

    def twist(want: WantSnapshot, found: bytes) -> bytes:
        if want.kind != CHUNK:
            return found
        chunks[want.number] = found
        return chunks[min(chunks)]

    joined = join(tmp_path, [made.store, made.store], {0: twist})
    assert joined.misdeeds == [1, 0], joined.told
    check_state(joined, made.store, tmp_path / "chain.db").close()


def test_a_manifest_of_other_chunks_does_not_make_liars_of_the_honest(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any depth has the state's root: who offers another has chunks that nobody else has."""
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 1)
    taken = snapshot.Snapshot(made.store.ledger)
    monkeypatch.setattr(snapshot, "CHUNK_ROWS", 4)
    older = make_older(made, tmp_path / "older.db")

    def twist(want: WantSnapshot, found: bytes) -> bytes:
        if want.kind == MANIFEST:
            return taken.manifest
        if want.kind == CHUNK:
            raise StateError("no more")
        return found

    joined = join(tmp_path, [older, made.store], {1: twist})
    assert joined.misdeeds == [0, 0]
    assert joined.taken.block.header.height == older.height
    check_state(joined, made.store, tmp_path / "chain.db").close()
    older.close()


def test_who_goes_away_in_between_is_gone_on_without_and_nothing_alike_is_fetched_twice(
    made: Made, tmp_path: Path
) -> None:
    older = make_older(made, tmp_path / "older.db")
    joined = join(tmp_path, [older, made.store], leaving={1: 5})
    assert joined.misdeeds == [0, 0]
    assert joined.taken.block.header.height == older.height
    again = re.search(r"takes the state of block \d+ in (\d+) chunks, (\d) are here", joined.told)
    assert again is not None, joined.told
    assert 1 <= int(again[2]) <= 5
    assert sum(want.kind == CHUNK for want in joined.peers[0].asked) < int(again[1]) + 10
    check_state(joined, made.store, tmp_path / "chain.db").close()
    older.close()


def test_who_is_silent_costs_a_bounded_time(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ANSWER_S", 0.3)

    async def wait() -> bytes:
        await asyncio.sleep(3600)
        raise AssertionError

    def twist(want: WantSnapshot, found: bytes) -> bytes | Awaitable[bytes]:
        return wait() if want.kind == CHUNK else found

    joined = join(tmp_path, [made.store, made.store], {0: twist})
    assert joined.misdeeds == [0, 0]
    check_state(joined, made.store, tmp_path / "chain.db").close()


def test_where_nobody_has_a_snapshot_it_says_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "SEARCH_S", 0.5)
    empty = create(tmp_path / "empty.db", made.store.genesis)
    with pytest.raises(NoSnapshot, match="no peer has shown"):
        join(tmp_path, [empty])
    empty.close()


# Who answers


def ask(serving: Serving, want: WantSnapshot, peer: bytes = b"p" * 32) -> Awaitable[bytes]:
    return serving.answer(PeerId(peer), encode_want_snapshot(want))


def test_what_is_being_fetched_stays_while_the_chain_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path / "chain.db")
    monkeypatch.setattr(serving, "FRESH_S", 0.0)

    def rise() -> int:
        made.chain.step()
        made.store_last()
        return made.store.height

    async def act() -> None:
        one = Serving(made.store)
        first = made.store.height
        manifest = await ask(one, WantSnapshot(MANIFEST, first))
        rise()
        await ask(one, WantSnapshot(HEAD))
        assert one.heights == (first, first + 1)
        third = rise()
        await ask(one, WantSnapshot(HEAD))
        assert one.heights == (first, first + 1), "both may be in use"
        with pytest.raises(StateError, match="no snapshot of block"):
            await ask(one, WantSnapshot(MANIFEST, third))
        assert await ask(one, WantSnapshot(MANIFEST, first)) == manifest
        monkeypatch.setattr(serving, "IDLE_S", 0.0)
        await ask(one, WantSnapshot(HEAD))
        assert one.heights == (first + 1, third)
        with pytest.raises(StateError, match=f"no snapshot of block {first} "):
            await ask(one, WantSnapshot(MANIFEST, first))
        with pytest.raises(StateError, match="no snapshot of block"):
            await ask(one, WantSnapshot(MANIFEST, 10**9))
        monkeypatch.setattr(serving, "LIFE_S", 0.0)
        one._look()
        assert one.heights == (), "and goes when nobody asks"
        one.close()

    run(act)
    made.store.close()


def test_questions_that_wait_are_bounded_for_each_and_for_all(made: Made) -> None:
    async def act() -> None:
        one = Serving(made.store)
        height = made.store.height
        depth = snapshot.Snapshot(made.store.ledger).depth
        want = WantSnapshot(CHUNK, height, depth, 0)
        many = [ask(one, want) for _ in range(serving.PEER_ASKS_MAX + 3)]
        found = await asyncio.gather(*many, return_exceptions=True)
        assert sum(isinstance(one, StateError) for one in found) == 3
        many = [ask(one, want, bytes([n]) * 32) for n in range(serving.ASKS_MAX + 5)]
        found = await asyncio.gather(*many, return_exceptions=True)
        assert sum(isinstance(one, StateError) for one in found) == 5
        assert await ask(one, want), "nothing is left of them"
        with pytest.raises(StateError, match="other chunks"):
            await ask(one, WantSnapshot(CHUNK, height, depth + 1, 0))
        one.close()

    run(act)


# Bytes

WANTS = {
    "head": WantSnapshot(HEAD),
    "links": WantSnapshot(LINKS, 17),
    "manifest": WantSnapshot(MANIFEST, 2**40),
    "chunk": WantSnapshot(CHUNK, 9, 5, 31),
}


def test_every_message_still_has_its_bytes() -> None:
    assert {name: encode_want_snapshot(want).hex() for name, want in WANTS.items()} == {
        "head": "aa0001" + "00" + "00" * 8 + "00" + "00" * 4,
        "links": "aa0001" + "01" + "0000000000000011" + "00" + "00" * 4,
        "manifest": "aa0001" + "02" + "0000010000000000" + "00" + "00" * 4,
        "chunk": "aa0001" + "03" + "0000000000000009" + "05" + "0000001f",
    }
    assert encode_links([]).hex() == "a90001" + "0000"


@pytest.mark.fuzz
def test_hostile_bytes_are_refused_or_canonical_and_are_answered_or_refused(made: Made) -> None:
    links = encode_links(get_links(made.store, 0, made.store.height))
    chance = random.Random(7)

    async def act() -> None:
        one = Serving(made.store)
        for name, want in WANTS.items():
            encoded, accepted = encode_want_snapshot(want), 0
            for _ in range(CASES):
                data = spoil(chance, encoded)
                try:
                    assert encode_want_snapshot(decode_want_snapshot(data)) == data
                except SpecError:
                    with pytest.raises(PeerError):
                        await one.answer(PeerId(b"p" * 32), data)
                    continue
                accepted += 1
                if accepted < 50:  # whatever it asks for
                    try:
                        await one.answer(PeerId(b"p" * 32), data)
                    except StateError:
                        continue
            assert accepted, name
        one.close()

    run(act)
    accepted = 0
    for _ in range(CASES):
        data = spoil(chance, links)
        try:
            assert encode_links(decode_links(data)) == data
        except SpecError:
            continue
        accepted += 1
    assert accepted
    assert decode_links(links) == get_links(made.store, 0, made.store.height)
    assert snapshot_wire.LINKS_IN_ANSWER_MAX * 10_240 < 1 << 20


# Nodes


def test_a_node_that_began_with_a_snapshot_follows_and_leads_and_says_what_it_lacks(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        net = Net(tmp_path, 4, followers=2)
        await net.start(0, 1, 2, 3)
        joiner, laggard = net.places[4:]
        broken = list[dict[str, Any]]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        try:
            hosts = [Host(net.nodes[0].ledger.chain_id, number) for number in range(9)]
            await submit(net.nodes[0], *[host.register() for host in hosts])
            known = [HOST_ROW + host.name for host in hosts]
            await net.until(lambda: all(map(net.nodes[0].ledger.find, known)))
            await submit(net.nodes[0], *[host.anchor() for host in hosts])
            await net.until(lambda: len(net.nodes[0].mempool) == 0)
            await net.rise()
            await connect(net, 4, 0, 1, 2, 3)
            base = await begin_with_snapshot(joiner)
            assert joiner.node is not None
            await net.rise()
            net.check_state_roots()
            assert joiner.store.base == base > 0

            # One that has nothing can get nothing of it, and neither is blamed for that.
            await connect(net, 5, 4)
            laggard.run()
            assert laggard.mesh is not None and laggard.node is not None
            await net.until(lambda: bool(laggard.node and laggard.node.following.get_heights()))
            await asyncio.sleep(0.3)
            assert laggard.node.height == 0 and not laggard.node.halted
            with pytest.raises(StateError, match=f"begins with a snapshot, at block {base}"):
                joiner.store.get_block(base - 1)
            with pytest.raises(StateError, match="is not known here: this store begins with"):
                prove_anchor(joiner.store, hosts[0].name, 0)
            await submit(net.nodes[0], hosts[0].anchor())
            await net.until(lambda: joiner.store.find_anchor(hosts[0].name, 1) is not None)
            assert prove_anchor(joiner.store, hosts[0].name, 0)

            # What comes of heights that it never had, breaks nothing.
            early = sign_vote(net.places[0].key, joiner.store.ledger.chain_id, PREPARE, 1, 0, ZERO)
            for channel, data in (
                (Channel.SYNC, encode_status(Status(1, ZERO))),
                (Channel.CONSENSUS, encode_message(Prepare(early))),
            ):
                laggard.mesh.send(joiner.peer, channel, data)
            with pytest.raises(Unanswered, match="block 1 is not here: .* begins with a snapshot"):
                await laggard.mesh.request(
                    joiner.peer, Channel.SYNC, encode_want(WantBlocks(1)), 5.0
                )
            second = Serving(joiner.store)
            assert await ask(second, WantSnapshot(LINKS, base)) == encode_links([])
            with pytest.raises(StateError, match="begins with a snapshot"):
                await ask(second, WantSnapshot(LINKS, base - 1))
            second.close()
            trusted = trust_genesis(decode_genesis(laggard.genesis))
            told = Joining(laggard.mesh, trusted, get_now_ms, lambda _: None)
            assert (await told.run()).block.header.height > base, "of one who began so himself"
            await connect_more(net, 5, 0)
            await net.until(lambda: bool(laggard.node and laggard.node.height > base))
            for place in (joiner, laggard):
                assert place.mesh is not None
                figures = place.mesh.figures().peers.values()
                assert [one.last_misdeed for one in figures if one.misdeeds] == []
            assert not broken
        finally:
            await net.close()

    run(act)


async def connect(net: Net, number: int, *others: int) -> None:
    """A node that has only its mesh yet, and these."""
    net.registrations[number] = await net.places[number].listen()
    await connect_more(net, number, *others)


async def connect_more(net: Net, number: int, *others: int) -> None:
    mesh = net.places[number].mesh
    assert mesh is not None
    for other in others:
        beside = net.places[other].mesh
        assert beside is not None
        beside.add_peer(net.registrations[number])
        mesh.add_peer(net.registrations[other])


async def begin_with_snapshot(place: Place) -> int:
    """Take a state, make a store of it, run a node on that; its first height."""
    assert place.mesh is not None
    trusted = trust_genesis(decode_genesis(place.genesis))
    taken = await Joining(place.mesh, trusted, get_now_ms, lambda _: None).run()
    path = place.directory / "chain.db"
    create_from_state(path, place.genesis, (taken.block, taken.seals), taken.rows).close()
    place.run()
    return taken.block.header.height
