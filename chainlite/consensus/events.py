"""What may happen to a validator, and what it then wants done: the two sides of `qbft.step`.

Not here: the rules between the two (qbft), who does the wanting (node; tests/sim). Invariants:
effects are done in their order, and a Persist is on disk before anything after it is begun, so no
vote leaves that a restart would not know; whoever feeds Received has checked all signatures
(messages.check_signatures), whoever feeds Start has the block before in its ledger.
Source: Consensys qbft-formal-spec-and-verification, node.dfy (NodeNext: upon_* and their outputs).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    from chainlite.consensus.equivocation import Equivocation
    from chainlite.consensus.messages import Message, Vote
    from chainlite.consensus.validators import ValidatorSet
    from chainlite.ledger.block import Block
    from chainlite.ledger.header import Header, Seals


class Recorded(NamedTuple):
    """What of a height was on disk when a validator started again; empty at a new height.

    `messages` are its own, in the order in which they were persisted; `prepares` the quorum that
    made it prepare `block` last.
    """

    messages: tuple[Message, ...] = ()
    block: Block | None = None
    prepares: tuple[Vote, ...] = ()


# Events


class Start(NamedTuple):
    """The ledger has the block `parent`; the height after it begins, with these validators.

    `base_timeout_ms` is round 0's; round r has that times 2^r, at most qbft.TIMEOUT_MAX_MS.
    """

    parent: Header
    parent_hash: bytes
    validators: ValidatorSet
    base_timeout_ms: int
    recorded: Recorded = Recorded()


class Received(NamedTuple):
    """A message from outside; every vote in it is signed by whom it names."""

    message: Message


class BlockTimeout(NamedTuple):
    """A block is due at this height: a transaction waits, or a second has passed."""

    height: int


class Built(NamedTuple):
    """The block that a Build asked for: by this validator, for this height."""

    round: int
    block: Block


class RoundTimeout(NamedTuple):
    """The timer that a SetTimer asked for has run out."""

    height: int
    round: int


class Resend(NamedTuple):
    """Say again what was said in this round: the network may have lost it."""


# Effects


class Persist(NamedTuple):
    """Write before anything after it: these messages are this validator's word.

    `block` and `prepares` go with a COMMIT: what was prepared, which a restart must know.
    """

    messages: tuple[Message, ...]
    block: Block | None = None
    prepares: tuple[Vote, ...] = ()


class Broadcast(NamedTuple):
    """To every other validator. The step has taken the message in already."""

    message: Message


class Build(NamedTuple):
    """Make a block for this height and feed it as Built: this validator proposes in this round."""

    height: int
    round: int


class SetTimer(NamedTuple):
    """Feed RoundTimeout(height, round) after so long; the one timer, a new one replaces it."""

    height: int
    round: int
    delay_ms: int


class Append(NamedTuple):
    """Final: put it into the ledger, then feed Start for the height after it."""

    block: Block
    seals: Seals


class Lagging(NamedTuple):
    """The signer still votes at a height that is final here: it may be sent that block."""

    signer: bytes
    height: int


class Accuse(NamedTuple):
    """Two votes that convict their signer: into the mempool as evidence."""

    evidence: Equivocation


if TYPE_CHECKING:
    Event: TypeAlias = Start | Received | BlockTimeout | Built | RoundTimeout | Resend
    Effect: TypeAlias = Persist | Broadcast | Build | SetTimer | Append | Lagging | Accuse
