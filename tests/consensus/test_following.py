"""Laggards and liars: what peers say of blocks is a hint, what a quorum sealed counts, or stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chainlite.consensus import messages
from chainlite.consensus.following import is_body_of
from chainlite.consensus.messages import NewBlock
from chainlite.consensus.validators import ValidatorSet
from chainlite.consensus.wire import Status, encode_blocks, encode_status
from chainlite.ledger.block import Block, make_block
from chainlite.ledger.header import Seals, compute_seal_digest, encode_seals
from chainlite.ledger.state import begin
from chainlite.ledger.tx import decode_tx
from chainlite.net.mesh import Mesh
from chainlite.net.transport import Channel, PeerId
from tests.consensus.nodes import Net, Place
from tests.consensus.test_node import run
from tests.ledger.samples import Chain, HostLog


def seal(net: Net, block: Block, round: int = 0) -> NewBlock:
    """All validators together, who may do anything."""
    places = net.places[: net.count]
    ledger = begin(places[0].genesis)
    digest = compute_seal_digest(ledger.chain_id, block.hash, round)
    validators = ValidatorSet(place.key.public for place in places)
    votes = [
        messages.sign_vote(
            place.key, ledger.chain_id, messages.COMMIT, block.header.height, round, digest
        )
        for place in sorted(places, key=lambda place: place.key.public)
    ]
    signers = validators.encode_bitmap(vote.signer for vote in votes)
    return NewBlock(block, Seals(round, signers, tuple(vote.signature for vote in votes)))


def propose_first(place: Place, later_ms: int) -> Block:
    ledger = begin(place.genesis)
    time_ms = ledger.head.timestamp_ms + later_ms
    return ledger.propose(ledger.head, time_ms, place.key.public, [])[0]


class Liar:
    """A registered node that shows blocks of its own."""

    def __init__(self, mesh: Mesh, shown: list[NewBlock]) -> None:
        self.mesh, self.shown = mesh, shown
        self.asked = 0
        mesh.listen(Channel.SYNC, lambda *_: None, self.answer)

    async def answer(self, _: PeerId, __: Channel, ___: bytes) -> bytes:
        self.asked += 1
        return encode_blocks(
            [(shown.block.encoded, encode_seals(shown.seals)) for shown in self.shown]
        )

    def tell(self, block: Block, height: int | None = None) -> None:
        status = Status(block.header.height if height is None else height, block.hash)
        self.mesh.broadcast(Channel.SYNC, encode_status(status))


async def start_with_liar(work: Path) -> tuple[Net, Mesh]:
    """Four validators and a fifth node without a program."""
    net = Net(work, 4, followers=1)
    place = net.places.pop()
    await net.start()
    registration = await place.listen()
    mesh = place.mesh
    assert mesh is not None
    for number, other in enumerate(net.places):
        assert other.mesh is not None
        other.mesh.add_peer(registration)
        mesh.add_peer(net.registrations[number])
    return net, mesh


def test_two_sealed_blocks_of_a_height_halt_whoever_sees_them(tmp_path: Path) -> None:
    async def act() -> None:
        net, mesh = await start_with_liar(tmp_path)
        try:
            await net.rise()
            other = propose_first(net.places[0], 7_777)
            liar = Liar(mesh, [seal(net, other)])
            await net.until(lambda: len(mesh.peers()) == 4)
            liar.tell(other)
            await net.until(lambda: all(node.halted for node in net.nodes))
            for node in net.nodes:
                assert "two blocks of height 1 are sealed by a quorum" in node.halted
                assert other.hash.hex() in node.halted
                height = node.height
            await asyncio.sleep(0.3)
            assert all(node.height >= height for node in net.nodes)
            assert net.nodes[0].height <= height + 1
        finally:
            await net.close()
            await mesh.close()

    run(act)


def test_a_block_that_no_quorum_sealed_stops_nobody(tmp_path: Path) -> None:
    async def act() -> None:
        net, mesh = await start_with_liar(tmp_path)
        try:
            await net.rise()
            other = propose_first(net.places[0], 7_777)
            whole = seal(net, other)
            few = Seals(0, b"\x03", whole.seals.signatures[:2])
            liar = Liar(mesh, [NewBlock(other, few)])
            await net.until(lambda: len(mesh.peers()) == 4)
            liar.tell(other)
            liar.tell(other, height=1_000_000)
            await net.until(lambda: liar.asked >= 8)
            await net.rise(3)
            assert not any(node.halted for node in net.nodes)
        finally:
            await net.close()
            await mesh.close()

    run(act)


def test_a_sealed_block_that_does_not_follow_halts_and_a_spoilt_copy_does_not(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        net = Net(tmp_path, 4, followers=2)
        liar_place = net.places.pop()
        await net.start(4)
        registration = await liar_place.listen()
        mesh, follower = liar_place.mesh, net.places[4]
        assert mesh is not None
        assert follower.mesh is not None
        assert follower.node is not None
        try:
            follower.mesh.add_peer(registration)
            mesh.add_peer(net.registrations[4])
            true = propose_first(net.places[0], 10)
            spoilt = make_block(true.header, [b"never signed"], true.poh)
            shown = seal(net, true)
            liar = Liar(mesh, [NewBlock(spoilt, shown.seals)])
            await net.until(lambda: bool(mesh.peers()))
            liar.tell(true, height=5)
            await net.until(lambda: liar.asked >= 1)
            await asyncio.sleep(0.2)
            assert not follower.node.halted
            assert follower.node.height == 0

            wrong = make_block(true.header._replace(state_root=b"w" * 32), [], true.poh)
            liar.shown = [seal(net, wrong)]
            while not follower.node.halted:  # it is not asked for a while after the spoilt copy
                liar.tell(true, height=5)
                await asyncio.sleep(0.2)
            assert "does not follow from the state here: block: state_root" in follower.node.halted
        finally:
            await net.close()
            await mesh.close()

    run(act)


def test_what_was_decoded_before_makes_no_other_body_a_headers() -> None:
    chain, hosts = Chain(), [HostLog(1), HostLog(2)]
    chain.enrol(*hosts)
    block = chain.take(*[chain.anchor(host) for host in hosts]).block
    known = {data: decode_tx(data) for data in block.transactions[:1]}
    assert is_body_of(block)
    assert is_body_of(block, known.get)
    for number, data in enumerate(block.transactions):
        spoilt = list(block.transactions)
        spoilt[number] = data[:-1] + bytes([data[-1] ^ 1])
        assert not is_body_of(make_block(block.header, spoilt, block.poh), known.get)
