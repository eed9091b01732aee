"""A validator that is not as it should be: `odd_validator DIRECTORY MODE`, made of the real parts.

ahead, behind: its clock is an hour off. withhold: it shows its proposals and votes to one other
alone. flood: votes for heights and rounds to come, validly signed, then garbage on every channel.
equivocate: it proposes two blocks and votes for two, differently to each, and both to one.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys

from chainlite.consensus.messages import (
    COMMIT,
    PREPARE,
    PROPOSAL,
    ROUND_CHANGE,
    Commit,
    Message,
    Prepare,
    Proposal,
    RoundChange,
    encode_message,
    sign_vote,
)
from chainlite.consensus.node import Node
from chainlite.errors import StateError
from chainlite.ledger.header import ROUND_MAX, compute_seal_digest
from chainlite.net.transport import Channel, PeerId, Unanswered
from docklock.chain.directory import ChainDirectory
from docklock.chain.presence import get_now_ms
from tests.e2e.own_node import OwnNode

HOUR_MS = 3_600_000
FLOOD_EVERY_S = 0.02
FLOOD_MESSAGES = 40
AHEAD_HEIGHTS = 1_000
VALID_S = 3.0


class Withholding(Node):
    """One other hears of it; the rest must go on without."""

    def _broadcast(self, message: Message) -> None:
        for peer in sorted(self.transport.peers())[:1]:
            self.transport.send(peer, Channel.CONSENSUS, encode_message(message))


class Equivocating(Node):
    """Of three others the first hears one word, the second another, the third both."""

    def _broadcast(self, message: Message) -> None:
        other = self._contradict(message)
        for number, peer in enumerate(sorted(self.transport.peers())):
            for word in ((message,), (other,), (message, other))[number % 3]:
                self.transport.send(peer, Channel.CONSENSUS, encode_message(word))

    def _contradict(self, message: Message) -> Message:
        assert self._key is not None
        chain_id = self.ledger.chain_id
        if isinstance(message, Prepare | Commit):
            vote = message.vote
            digest = hashlib.sha256(vote.digest).digest()
            place = (vote.kind, vote.height, vote.round)
            return type(message)(sign_vote(self._key, chain_id, *place, digest))
        if isinstance(message, Proposal) and not message.vote.round:
            time_ms = message.block.header.timestamp_ms + 1
            block, _ = self.ledger.propose(self.ledger.head, time_ms, self._key.public, ())
            digest = compute_seal_digest(chain_id, block.hash, 0)
            vote = sign_vote(self._key, chain_id, PROPOSAL, block.header.height, 0, digest)
            return message._replace(vote=vote, block=block)
        return message


async def flood(own: OwnNode) -> None:
    """Valid-looking votes of heights to come for a while, then bytes that mean nothing."""
    rng, loop = random.Random(1), asyncio.get_running_loop()
    end = loop.time() + VALID_S
    while True:
        for _ in range(FLOOD_MESSAGES):
            payload = make_future_vote(own, rng) if loop.time() < end else rng.randbytes(200)
            channel = Channel.CONSENSUS if loop.time() < end else rng.choice(list(Channel))
            for peer in own.mesh.peers():
                own.mesh.send(peer, channel, payload)
        if loop.time() > end:
            await asyncio.gather(*[ask_nonsense(own, peer, rng) for peer in own.mesh.peers()])
        await asyncio.sleep(FLOOD_EVERY_S)


async def ask_nonsense(own: OwnNode, peer: PeerId, rng: random.Random) -> None:
    try:
        await own.mesh.request(peer, rng.choice(list(Channel)), rng.randbytes(100), 1.0)
    except (StateError, Unanswered):
        pass


def make_future_vote(own: OwnNode, rng: random.Random) -> bytes:
    height = own.node.height + 1 + rng.choice((0, 1, rng.randrange(AHEAD_HEIGHTS)))
    kind = rng.choice((PREPARE, COMMIT, ROUND_CHANGE))
    place = (kind, height, rng.randint(1, ROUND_MAX))
    if kind == ROUND_CHANGE:
        vote = sign_vote(own.key, own.chain_id, *place, bytes(32))
        return encode_message(RoundChange(vote, None, ()))
    vote = sign_vote(own.key, own.chain_id, *place, rng.randbytes(32))
    return encode_message(Prepare(vote) if kind == PREPARE else Commit(vote))


NODES = {"withhold": Withholding, "equivocate": Equivocating}
SKEWS_MS = {"ahead": HOUR_MS, "behind": -HOUR_MS}


async def run(directory: ChainDirectory, mode: str) -> None:
    skew_ms = SKEWS_MS.get(mode, 0)
    own = OwnNode(
        directory, node_class=NODES.get(mode, Node), get_now_ms=lambda: get_now_ms() + skew_ms
    )
    async with own:
        if mode == "flood":
            await flood(own)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(ChainDirectory(sys.argv[1]), sys.argv[2]))
