"""How events, messages and digests are named in a difference, and a state is looked at.

Not here: what is right (model, permitted, lockstep).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chainlite.consensus import events as e
from chainlite.consensus import messages as m


class View(NamedTuple):
    """What of an implementation's state the specification speaks of."""

    height: int
    round: int
    accepted: bytes | None
    prepared: tuple[int, bytes] | None
    decided: bool


def read_view(state: Any) -> View | None:
    """The view of a chainlite.consensus.qbft.State; None before its first Start."""
    if state.place is None:
        return None
    block = state.prepared_block
    return View(
        state.place.parent.height + 1,
        state.round,
        state.accepted.block.hash if state.accepted else None,
        (state.prepared_round, block.hash) if block else None,
        state.decided,
    )


def get_height(message: m.Message) -> int:
    if isinstance(message, m.NewBlock):
        return message.block.header.height
    return message.vote.height


def is_own_proposal(said: m.Message, round: int) -> bool:
    return isinstance(said, m.Proposal) and said.vote.round == round


def short(digest: bytes | None) -> str:
    return digest.hex()[:8] if digest else "nothing"


def tell(message: m.Message | None) -> str:
    if message is None:
        return "nothing"
    if isinstance(message, m.NewBlock):
        return f"NEW-BLOCK {message.block.header.height} {short(message.block.hash)}"
    vote = message.vote
    name = f"{m.KINDS[vote.kind].upper()} {vote.height}/{vote.round} of {short(vote.signer)}"
    return f"{name} for {short(vote.digest if vote.digest != m.NO_DIGEST else None)}"


def describe(event: e.Event) -> str:
    if isinstance(event, e.Received):
        return f"Received({tell(event.message)})"
    if isinstance(event, e.Start):
        return f"Start(after {event.parent.height}, {len(event.recorded.messages)} recorded)"
    if isinstance(event, e.Built):
        return f"Built({event.round}, {short(event.block.hash)})"
    return repr(event)
