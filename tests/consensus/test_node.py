"""Nodes over real connections and files: they agree, and go on through what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from chainlite.consensus import messages
from chainlite.consensus.node import GATHER_MS, VERDICTS_MAX
from chainlite.consensus.wire import KNOWN, REFUSED, TAKEN
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.block import make_block
from chainlite.ledger.genesis import Parameters
from chainlite.ledger.header import compute_seal_digest
from chainlite.net.transport import Channel
from tests.consensus.nodes import Host, Net, submit
from tests.consensus.samples import make_child


@asynccontextmanager
async def running(
    work: Path, count: int, followers: int = 0, parameters: Parameters | None = None
) -> AsyncIterator[Net]:
    net = Net(work, count, followers, *([parameters] if parameters else []))
    await net.start()
    try:
        yield net
    finally:
        await net.close()


def run(act: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await act()

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 4, 7])
def test_validators_agree_and_the_chain_grows(tmp_path: Path, count: int) -> None:
    async def act() -> None:
        async with running(tmp_path, count) as net:
            await net.rise(5)
            net.check_one_history()

    run(act)


def test_a_transaction_is_final_everywhere_and_once(tmp_path: Path) -> None:
    async def act() -> None:
        slow = Parameters(block_interval_ms=60_000)
        async with running(tmp_path, 4, followers=1, parameters=slow) as net:
            host = Host(net.nodes[0].ledger.chain_id, 1)
            register, anchor = host.register(), host.anchor()
            assert (await submit(net.nodes[1], register))[0].kind == TAKEN
            key = records.HOST + host.name
            await net.until(lambda: all(node.ledger.find(key) for node in net.nodes))
            assert (await submit(net.nodes[2], anchor))[0].kind == TAKEN
            await net.until(
                lambda: all(node.store.find_tx(anchor.hash) is not None for node in net.nodes)
            )
            for node in net.nodes:
                found = node.ledger.find(key)
                assert isinstance(found, records.Host)
                assert found.size == 1
            assert (await submit(net.nodes[0], anchor))[0].kind == REFUSED
            net.check_one_history()

    run(act)


def test_transactions_that_come_soon_after_a_block_share_the_next_one(tmp_path: Path) -> None:
    async def act() -> None:
        slow = Parameters(block_interval_ms=60_000)
        async with running(tmp_path, 1, parameters=slow) as net:
            (node,) = net.nodes
            hosts = [Host(node.ledger.chain_id, number) for number in range(20)]
            for host in hosts:
                assert (await submit(node, host.register()))[0].kind == TAKEN
                await asyncio.sleep(0.005)
            known = [records.HOST + host.name for host in hosts]
            await net.until(lambda: all(node.ledger.find(key) for key in known))
            heights = range(1, node.height + 1)
            times = [node.read(height).block.header.timestamp_ms for height in heights]
            assert min(after - before for before, after in pairwise(times)) >= GATHER_MS

    run(act)


def test_what_is_not_signed_or_not_whole_is_refused_with_a_reason(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 1) as net:
            tx = Host(net.nodes[0].ledger.chain_id, 1).register()
            forged = tx.encoded[:120] + bytes([tx.encoded[120] ^ 1]) + tx.encoded[121:]
            stranger = Host(b"x" * 32, 1).register()
            verdicts = await net.nodes[0].submit([b"junk", forged, stranger.encoded, tx.encoded])
            assert [verdict.kind for verdict in verdicts] == [REFUSED, REFUSED, REFUSED, TAKEN]
            assert all(verdict.reason for verdict in verdicts[:3])
            again = await net.nodes[0].submit([tx.encoded])
            assert again[0].kind in (KNOWN, REFUSED)

    run(act)


def test_a_killed_validator_is_not_missed_and_catches_up(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4) as net:
            await net.rise()
            await net.stop(2)
            await net.rise(10)
            await net.start(2)
            await net.rise(3)
            net.check_one_history()

    run(act)


def test_without_a_quorum_nothing_is_decided_and_with_one_all_goes_on(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4) as net:
            await net.rise()
            await net.stop(0, 1)
            await asyncio.sleep(0.3)
            height = max(node.height for node in net.nodes)
            await asyncio.sleep(1.0)
            assert max(node.height for node in net.nodes) <= height
            await net.start(0, 1)
            await net.rise(3)
            net.check_one_history()

    run(act)


def test_one_that_is_left_alone_waits_in_its_round_for_a_quorum(tmp_path: Path) -> None:
    """Else it is rounds ahead of those who come back, and a quorum that needs it never meets."""

    async def act() -> None:
        async with running(tmp_path, 4) as net:
            await net.rise(2)
            await net.stop(1, 2, 3)
            (alone,) = net.nodes
            await net.until(lambda: alone.round == 1)
            timeout_s = alone.get_base_timeout_ms() / 1000
            await asyncio.sleep(8 * timeout_s)
            assert alone.round == 1
            await net.start(1, 2)
            await net.rise(2)
            net.check_one_history()

    run(act)


def test_all_killed_at_once_go_on_from_their_disks(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4) as net:
            for _ in range(4):
                height = await net.rise(2)
                await net.stop(0, 1, 2, 3)
                await net.start()
                assert all(node.height >= height for node in net.nodes)
            await net.rise(2)
            net.check_one_history()

    run(act)


def test_a_clock_an_hour_ahead_stops_nobody_else(tmp_path: Path) -> None:
    async def act() -> None:
        net = Net(tmp_path, 4)
        net.places[1].skew_ms = 3_600_000
        await net.start()
        try:
            await net.rise(8)
            net.check_one_history()
            assert net.nodes[0].ledger.head.timestamp_ms < net.nodes[1].ledger.head.timestamp_ms + 1
        finally:
            await net.close()

    run(act)


def test_a_follower_has_every_block_and_never_votes(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4, followers=1) as net:
            await net.rise(5)
            net.check_one_history()
            assert net.places[4].log is None

    run(act)


def test_an_equivocation_removes_its_validator(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4) as net:
            await net.rise()
            liar, node = net.places[3], net.places[0].node
            assert node is not None
            place = node.ledger
            one = make_child_of(node, b"one")
            two = make_child_of(node, b"two")
            for digest in (one, two):
                vote = messages.sign_vote(
                    liar.key, place.chain_id, messages.PREPARE, node.height + 1, 0, digest
                )
                node.receive(messages.Prepare(vote))
            assert node.accused
            await net.until(lambda: liar.key.public not in node.validators)
            assert node.validators.size == 3
            others = [found for found in net.nodes if found is not liar.node]
            await net.until(lambda: all(found.validators.size == 3 for found in others))
            goal = node.height + 3
            await net.until(lambda: all(found.height >= goal for found in others))
            net.check_one_history()

    run(act)


def test_a_leader_that_offers_many_false_blocks_costs_a_round_and_no_more(tmp_path: Path) -> None:
    """Each is judged; none may take the place of the true one, which comes after them."""

    async def act() -> None:
        async with running(tmp_path, 4) as net:
            await net.rise()
            liar = net.places[3]
            await net.stop(3)
            nodes = net.nodes

            def is_the_liars_turn() -> bool:
                return all(
                    node.height == nodes[0].height
                    and node.validators.get_proposer(node.ledger.head.proposer, 0) == liar.peer
                    for node in nodes
                )

            await net.until(is_the_liars_turn)
            ledger, height = nodes[0].ledger, nodes[0].height + 1
            for number in range(2 * VERDICTS_MAX):
                header = ledger.head._replace(
                    height=height,
                    previous=ledger.head_hash,
                    timestamp_ms=ledger.head.timestamp_ms + 1 + number,
                    proposer=liar.peer,
                )
                block = make_block(header, [], [])
                digest = compute_seal_digest(ledger.chain_id, block.hash, 0)
                vote = messages.sign_vote(
                    liar.key, ledger.chain_id, messages.PROPOSAL, height, 0, digest
                )
                for node in nodes:
                    node.receive(messages.Proposal(vote, block, (), ()))
            await net.until(lambda: all(node.height > height for node in nodes), 10)
            net.check_one_history()

    run(act)


def make_child_of(node, text: bytes) -> bytes:  # type: ignore[no-untyped-def]
    block = make_child(node.store.get_block(node.height)[0], b"k" * 32, text)
    return block.hash


def test_a_validator_joins_by_votes_and_votes_itself(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4, followers=1) as net:
            await net.rise()
            joining = net.places[4]
            vote = ops.MemberVote(ops.VALIDATOR, 1, joining.key.public, "op", "h:1", bytes(32))
            await net.stop(4)
            joining.votes = True
            await net.start(4)
            for node in net.nodes[:3]:
                node.submit_own([vote])
            await net.until(
                lambda: all(joining.key.public in node.validators for node in net.nodes)
            )
            assert net.nodes[0].validators.size == 5
            await net.until(lambda: net.nodes[0].ledger.head.proposer == joining.key.public)
            net.check_one_history()

    run(act)


def test_garbage_from_a_registered_peer_is_counted_and_hurts_nobody(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path, 4, followers=1) as net:
            await net.rise(1)
            mesh = net.places[4].mesh
            assert mesh is not None
            for channel in (Channel.CONSENSUS, Channel.SYNC, Channel.TRANSACTIONS):
                mesh.broadcast(channel, b"\x80junk")
            peer = net.places[4].peer
            await net.until(
                lambda: all(
                    place.mesh is not None and place.mesh.figures().peers[peer].misdeeds
                    for place in net.places[:4]
                )
            )
            goal = max(node.height for node in net.nodes[:4]) + 3
            await net.until(lambda: all(node.height >= goal for node in net.nodes[:4]))

    run(act)
