"""A validator between two events, and the one step that leads to the next.

Not here: the rules (qbft). Invariant: a State never changes; a Turn begins with one, and what it
ends with is the next. Source: Consensys qbft-formal-spec-and-verification, types.dfy (NodeState).
"""

from __future__ import annotations

from chainlite.consensus.messages import NO_ROUND
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from chainlite import keys
    from chainlite.consensus.events import Effect
    from chainlite.consensus.justification import IsValid, Place
    from chainlite.consensus.messages import Commit, Prepare, Proposal, RoundChange, Vote
    from chainlite.ledger.block import Block

    Key: TypeAlias = tuple[int, int, bytes]
    """Kind, round, signer."""
    Signed: TypeAlias = Proposal | Prepare | Commit | RoundChange
    Inbox: TypeAlias = Mapping[Key, Signed]

_EMPTY: Inbox = {}


class State(NamedTuple):
    """A validator between two events; without a key it follows and never votes.

    `place` is None before the first Start. `prepared_block` was prepared in `prepared_round`, which
    `prepares` show. `own` is all that this validator has said at this height, in order.
    """

    chain_id: bytes
    key: keys.Signer | None
    place: Place | None = None
    base_timeout_ms: int = 0
    round: int = 0
    timer_runs: bool = False
    decided: bool = False
    accepted: Proposal | None = None
    prepared_round: int = NO_ROUND
    prepared_block: Block | None = None
    prepares: tuple[Vote, ...] = ()
    inbox: Inbox = _EMPTY
    own: tuple[Signed, ...] = ()
    building: int = NO_ROUND
    ahead: tuple[Signed, ...] = ()
    accused: tuple[bytes, ...] = ()


class Turn:
    """One step: the state as it becomes, and the effects so far."""

    __slots__ = ("effects", "is_valid", "now_ms", "place", "state")

    def __init__(self, state: State, place: Place, now_ms: int, is_valid: IsValid) -> None:
        self.state = state
        self.place = place
        self.now_ms = now_ms
        self.is_valid = is_valid
        self.effects: list[Effect] = []

    def set(self, **fields: Any) -> None:
        self.state = self.state._replace(**fields)

    def get(self, kind: int, round: int) -> list[Signed]:
        """The messages of one kind and round, in the order of their signers."""
        keys = self.place.validators.keys
        found = (self.state.inbox.get((kind, round, signer)) for signer in keys)
        return [message for message in found if message is not None]

    def is_mine(self, round: int) -> bool:
        """Whether this validator proposes in the round."""
        key = self.state.key
        return key is not None and self.place.get_proposer(round) == key.public
