"""Validators sign each other's checkpoints of a chain: what is final with them, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, keys, note
from chainlite.consensus.wire import decode_want_checkpoint, encode_want_checkpoint
from chainlite.errors import SpecError, StateError
from chainlite.ledger.genesis import decode_genesis
from chainlite.net.transport import Channel, OnRequest, PeerId, Unanswered
from chainlite.proofs import trusted
from docklock.chain.checkpoints import Checkpoints, take_signed
from tests.chainlite.samples import WITNESS, WITNESS_KEY, make_key
from tests.consensus.nodes import Net

TIME_S = 1_800_000_000


@asynccontextmanager
async def running(work: Path, liars: int = 0, followers: int = 0) -> AsyncIterator[Net]:
    """Four validators, of which the last ones answer what is not so."""
    work.mkdir()
    net = Net(work, 4, followers)
    await net.start()
    try:
        await net.rise()
        for place in net.places[4 - liars : 4]:
            assert place.node is not None
            place.node.transport.listen(Channel.CHECKPOINTS, None, make_lie(place.key))
        for number in (*range(4 - liars), *range(4, 4 + followers)):
            open_checkpoints(net, number).start()
        yield net
    finally:
        await net.close()


def open_checkpoints(net: Net, number: int) -> Checkpoints:
    place = net.places[number]
    assert place.node is not None
    return Checkpoints(place.node, place.key)


def make_lie(key: keys.KeyPair) -> OnRequest:
    async def lie(_: PeerId, __: Channel, payload: bytes) -> bytes:
        size = decode_want_checkpoint(payload) + 1
        state = checkpoint.Checkpoint(checkpoint.get_chain_origin(bytes(32)), size, bytes(32))
        return checkpoint.sign_checkpoint(state, key)

    return lie


def get_signers(net: Net, made: trusted.HeaderCheckpoint) -> set[int]:
    """Whose lines hold, by number; no line is anybody else's."""
    publics = [place.key.public for place in net.places]
    found = checkpoint.get_signers(made.note, *publics)
    assert len(note.parse_note(made.note).lines) == len(found)
    return {publics.index(public) for public in found}


def test_validators_sign_what_is_final_and_a_stranger_trusts_it_once_it_is_cosigned(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        async with running(tmp_path / "net", followers=1) as net:
            for number in (0, 4):
                made = await open_checkpoints(net, number).gather()
                assert len(get_signers(net, made)) >= 2
                assert 4 not in get_signers(net, made), "a follower decides nothing"
                signed = cosignature.cosign(made.note, WITNESS.name, WITNESS_KEY, TIME_S)
                data = trusted.encode_header_checkpoint(made._replace(note=signed))
                start = trusted.trust_genesis(decode_genesis(net.nodes[0].store.genesis))
                known = trusted.trust_checkpoint(data, start, (WITNESS,), None)
                assert known.height >= 3
                assert known.block_hash == net.nodes[0].get_hash(known.height)

    asyncio.run(asyncio.wait_for(act(), 60))


def test_what_a_liar_signs_is_not_taken_and_counts_against_it(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path / "net", liars=1) as net:
            made = await open_checkpoints(net, 0).gather()
            assert 3 not in get_signers(net, made)
            figures = net.nodes[0].transport.figures().peers[net.places[3].peer]
            assert figures.last_misdeed == "what it signed is not this chain's history"

    asyncio.run(asyncio.wait_for(act(), 60))


def test_two_of_four_are_enough_and_one_is_not(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path / "net") as net:
            await net.stop(2, 3)
            first = open_checkpoints(net, 0)
            await net.until(lambda: len(net.nodes[0].transport.peers()) == 1)
            assert get_signers(net, await first.gather()) == {0, 1}
            await net.stop(1)
            with pytest.raises(StateError, match="1 of 4 validators have signed .* and 2 must"):
                await first.gather()

    asyncio.run(asyncio.wait_for(act(), 60))


def test_nobody_signs_what_is_not_final_or_answers_other_questions(tmp_path: Path) -> None:
    async def act() -> None:
        async with running(tmp_path / "net") as net:
            transport, peer = net.nodes[0].transport, net.places[1].peer
            far = encode_want_checkpoint(net.nodes[1].height + 1_000)
            with pytest.raises(Unanswered, match="blocks are not here"):
                await transport.request(peer, Channel.CHECKPOINTS, far, 5.0)
            with pytest.raises(Unanswered):
                await transport.request(peer, Channel.CHECKPOINTS, far[:-1], 5.0)
            figures = net.nodes[1].transport.figures().peers[net.places[0].peer]
            assert "want checkpoint" in figures.last_misdeed

    asyncio.run(asyncio.wait_for(act(), 60))


def test_of_an_answer_the_one_line_is_taken_that_is_its_validators() -> None:
    state = checkpoint.Checkpoint(checkpoint.get_chain_origin(bytes(32)), 7, bytes(32))
    own = checkpoint.sign_checkpoint(state, make_key(1))
    two, three = (checkpoint.sign_checkpoint(state, make_key(number)) for number in (2, 3))
    text, public = note.parse_note(own).text, make_key(2).public
    both = note.encode_note(text, (*note.parse_note(three).lines, *note.parse_note(two).lines))
    assert take_signed(two, own, public) == two
    assert take_signed(both, own, public) == two
    other = checkpoint.sign_checkpoint(state._replace(size=8), make_key(2))
    spoilt = two.replace(b"AAAA", b"AAAB", 1)
    for answer in (three, other, spoilt, b"", b"hello\n", two[:-2]):
        assert take_signed(answer, own, public) == b"", answer
    with pytest.raises(SpecError):
        decode_want_checkpoint(encode_want_checkpoint(7) + b"\0")
    assert decode_want_checkpoint(encode_want_checkpoint(7)) == 7
