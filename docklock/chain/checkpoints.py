"""Checkpoints over a chain's block hashes, which more of its validators sign than may lie.

Each signs what is final in its own store, for whoever asks it on the CHECKPOINTS channel. A witness
that asks for f + 1 signatures cosigns no history that only liars have signed. Not here: the bytes
of a header checkpoint (chainlite.proofs.trusted), having it cosigned (witnessing).
Invariants: a node signs no block that is not final here; of what others answer only their own lines
over this node's text are kept, if they hold.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, note, witness
from chainlite.consensus.wire import decode_want_checkpoint, encode_want_checkpoint
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net.transport import Channel, PeerId, Unanswered
from chainlite.proofs.light_source import get_validators, make_header_checkpoint

if TYPE_CHECKING:
    from chainlite.consensus.node import Node
    from chainlite.keys import Signer
    from chainlite.ledger.store import Store
    from chainlite.proofs.trusted import HeaderCheckpoint

GATHER_MAX_S = 5.0
"""So long are validators asked again who have not the block yet, or were away;"""
ASK_MAX_S = 2.0
"""so long may one answer take;"""
AGAIN_S = 0.05
SIGNERS_MAX = 43
"""f + 1 of the largest set; a note of note.LINES_MAX has room for witnesses beside them."""


class Signed(NamedTuple):
    """The note that one node has signed, for who asks again."""

    height: int
    note: bytes


class Checkpoints:
    """The CHECKPOINTS channel of one node; belongs to its event loop."""

    def __init__(self, node: Node, key: Signer) -> None:
        self._node, self._key = node, key
        self._last = Signed(-1, b"")

    def start(self) -> None:
        """Sign for whoever asks."""
        self._node.transport.listen(Channel.CHECKPOINTS, None, self._upon_request)

    async def gather(self) -> HeaderCheckpoint:
        """A header checkpoint of the last block, signed by f + 1 validators or more.

        StateError where fewer answer in time, or the node has halted.
        """
        store, height = self._node.store, self._node.height
        validators = get_validators(store, height + 1)
        own = self._sign(height)
        notes = {self._key.public: own} if self._key.public in validators else {}
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + GATHER_MAX_S
        while True:
            missing = [key for key in validators.keys if key not in notes]
            answers = await asyncio.gather(*[self._ask(key, height, own) for key in missing])
            notes |= {key: got for key, got in zip(missing, answers, strict=True) if got}
            if len(notes) >= validators.weak_quorum:
                break
            if loop.time() >= deadline_s:
                raise StateError(
                    f"{len(notes)} of {validators.size} validators have signed block {height}, and "
                    f"{validators.weak_quorum} must: `docklock chain status` shows who is up"
                )
            await asyncio.sleep(AGAIN_S)
        first, *others = list(notes.values())[:SIGNERS_MAX]
        return make_header_checkpoint(store, witness.merge_lines(first, others), height)

    async def _ask(self, key: bytes, height: int, own: bytes) -> bytes:
        """The same note by another validator, or nothing."""
        question, transport = encode_want_checkpoint(height), self._node.transport
        try:
            got = await transport.request(PeerId(key), Channel.CHECKPOINTS, question, ASK_MAX_S)
        except Unanswered:
            return b""
        signed = take_signed(got, own, key)
        if not signed:
            transport.blame(PeerId(key), "what it signed is not this chain's history")
        return signed

    async def _upon_request(self, _: PeerId, __: Channel, payload: bytes) -> bytes:
        try:
            height = decode_want_checkpoint(payload)
        except SpecError as error:
            raise PeerError(str(error)) from None
        return self._sign(height)

    def _sign(self, height: int) -> bytes:
        if self._node.halted:
            raise StateError(f"the node has halted: {self._node.halted}")
        if self._last.height != height:
            self._last = Signed(height, sign_history(self._node.store, self._key, height))
        return self._last.note


def sign_history(store: Store, key: Signer, height: int) -> bytes:
    """The note of one key over the blocks up to a height; StateError where that is not final."""
    root = store.compute_history_root(height + 1)
    origin = checkpoint.get_chain_origin(store.ledger.chain_id)
    return checkpoint.sign_checkpoint(checkpoint.Checkpoint(origin, height + 1, root), key)


def take_signed(answer: bytes, own: bytes, key: bytes) -> bytes:
    """Of a validator's answer its line over the text of our own note; empty if it has none."""
    text = note.parse_note(own).text
    try:
        is_same = note.parse_note(answer).text == text
    except SpecError:
        return b""
    vkey = get_vkey(checkpoint.parse_body(text).origin, key)
    if not is_same or not witness.is_signed_by_log(note.parse_note(answer), (vkey,)):
        return b""
    return witness.keep_lines(answer, (vkey,))


def get_vkey(origin: str, key: bytes) -> note.VerifierKey:
    """A validator's key as one of the chain's log."""
    return note.VerifierKey(origin, key, note.ED25519)
