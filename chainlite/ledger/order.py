"""The order of a block's transactions, and how its bytes are shared.

Not here: who waits for a place (mempool), what applies (rules). Invariants: classes ascend in a
block; all but anchors have at most half of its bytes together, so that half is kept for anchors;
who fills a block leaves each class its share, so none starves; senders' nonces are the rules'.
Source: CHAIN.md, "Transactions, mempool, state". Availability goes with the bundles: only members
send it, and it must not wait behind registrations, which anybody can send.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import operations as ops
from chainlite.ledger.block import BLOCK_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chainlite.ledger.tx import Tx

EVIDENCE, REVOCATION, ANCHOR, BUNDLE, SETTLEMENT, REST = range(6)
CLASSES = ("evidence", "revocations", "anchors", "bundles", "settlements", "the rest")
OVERHEAD_BYTES = 65_536
"""Of a block: header, ends of tick segments, counts."""
TXS_LIMIT_BYTES = BLOCK_LIMIT_BYTES - OVERHEAD_BYTES
OTHERS_LIMIT_BYTES = TXS_LIMIT_BYTES // 2
SHARES = (
    TXS_LIMIT_BYTES // 8,
    TXS_LIMIT_BYTES // 8,
    TXS_LIMIT_BYTES // 2,
    TXS_LIMIT_BYTES // 8,
    0,
    TXS_LIMIT_BYTES // 8,
)
"""What each class has for sure when all wait; what one leaves goes to the next in order."""
LENGTH_BYTES = 4
_CLASSES: dict[type, int] = {
    ops.VotesEvidence: EVIDENCE,
    ops.ForkEvidence: EVIDENCE,
    ops.Revoke: REVOCATION,
    ops.Anchor: ANCHOR,
    ops.NotaryBlock: BUNDLE,
    ops.NotaryBundle: BUNDLE,
    ops.Available: BUNDLE,
    ops.Register: REST,
    ops.Rotate: REST,
    ops.MemberVote: REST,
    ops.ParameterVote: REST,
    ops.Statement: REST,
}


def get_class(tx: Tx) -> int:
    """Where a transaction stands: with the last of what its operations are."""
    operations = tx.operations
    if len(operations) == 1:
        return _CLASSES[type(operations[0])]
    return max([_CLASSES[type(operation)] for operation in operations])


def get_size(tx: Tx) -> int:
    """What a transaction takes of a block."""
    return LENGTH_BYTES + len(tx.encoded)


def check_order(txs: Sequence[Tx]) -> None:
    """SpecError unless a block's transactions stand in order and keep to its bytes."""
    last, total, others = 0, 0, 0
    for tx in txs:
        number, size = get_class(tx), get_size(tx)
        if number < last:
            raise SpecError(f"block: {CLASSES[number]} stand after {CLASSES[last]}")
        last = number
        total += size
        others += size if number != ANCHOR else 0
    if total > TXS_LIMIT_BYTES:
        raise SpecError(f"block: {total} bytes of transactions, above {TXS_LIMIT_BYTES}")
    if others > OTHERS_LIMIT_BYTES:
        raise SpecError(f"block: {others} bytes beside anchors, above {OTHERS_LIMIT_BYTES}")


def arrange(txs: Iterable[Tx]) -> list[Tx]:
    """Candidates in a block's order, each class in the order given, as far as they fit."""
    queues: list[list[Tx]] = [[] for _ in CLASSES]
    for tx in txs:
        queues[get_class(tx)].append(tx)
    return [tx for queue in fill_shares(queues) for tx in queue]


def fill_shares(queues: Sequence[Sequence[Tx]]) -> list[list[Tx]]:
    """Of each class's queue as many from its front as fit.

    First each takes its share; then, in order, each takes of what is left.
    """
    taken: list[list[Tx]] = [[] for _ in queues]
    used, total = [0] * len(queues), 0
    for limits in (SHARES, (TXS_LIMIT_BYTES,) * len(SHARES)):
        for number, queue in enumerate(queues):
            for tx in queue[len(taken[number]) :]:
                size = get_size(tx)
                if used[number] + size > limits[number] or total + size > TXS_LIMIT_BYTES:
                    break
                if number != ANCHOR and total - used[ANCHOR] + size > OTHERS_LIMIT_BYTES:
                    break
                taken[number].append(tx)
                used[number] += size
                total += size
    return taken
