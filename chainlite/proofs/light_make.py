"""Light proofs out of what a host and a chain node have.

Not here: who finds the parts (docklock, chain store), what they are worth (light). Pure.
Invariant: what `make_light_proof` gives is as small as it can be: a quorum of seals and no more.
"""

from __future__ import annotations

from chainlite import hostlog, merkle, segment
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger import operations, tx
from chainlite.ledger.header import Header, Seals
from chainlite.proofs.light_format import SIDES_MAX, Anchoring, Event, LightProof, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite import proof
    from chainlite.consensus.validators import ValidatorSet
    from chainlite.ledger.tx import Tx
    from chainlite.proof import Opened

PROVABLE = (operations.Anchor, operations.VotesEvidence, operations.ForkEvidence)


class Finality(NamedTuple):
    """What makes a block final to a verifier: its own seals, or those of a newer header.

    With neither, the header that the verifier trusts. `links` lead from that to the validators who
    sealed; `history_path` from the block to the newer or trusted header's history_root.
    """

    links: tuple[Link, ...] = ()
    history_path: tuple[bytes, ...] = ()
    newer: Header | None = None
    seals: Seals | None = None


def make_anchoring(txs: Sequence[Tx], index: int, place: int) -> Anchoring:
    """The operation at `place` of the transaction at `index` of a block's, to its receipts_root."""
    made = txs[index]
    if not isinstance(made.operations[place], PROVABLE):
        raise SpecError(f"operation {place} of the transaction is not an anchor, and no evidence")
    proof = tx.prove_operation(made, place)
    path = tx.prove_tx(txs, index)
    assert len(path) <= SIDES_MAX
    return Anchoring(
        made.key, made.nonce, len(made.operations), place, proof.supplement_hash, made.signature,
        proof.path, get_sides(index, len(txs)), path,
    )  # fmt: skip


def get_sides(index: int, size: int) -> int:
    """For each hash of an inclusion proof a bit, the lowest first: set where it is the left one."""
    sides, level, last = 0, 0, size - 1
    while last:
        if index & 1 or index == last:
            sides |= 1 << level
            while index & 1 == 0 and index:
                index, last = index >> 1, last >> 1
        index, last, level = index >> 1, last >> 1, level + 1
    return sides


def trim_seals(seals: Seals, validators: ValidatorSet) -> Seals:
    """The seals of a quorum: the first in order."""
    signers = validators.decode_bitmap(seals.bitmap)[: validators.quorum]
    bitmap = validators.encode_bitmap(signers)
    return Seals(seals.round, bitmap, seals.signatures[: validators.quorum])


def make_link(header: Header, seals: Seals, validators: ValidatorSet, after: ValidatorSet) -> Link:
    """A header at which the validators changed, sealed by those before."""
    removed = [place for place, key in enumerate(validators.keys) if key not in after]
    added = [key for key in after.keys if key not in validators]
    return Link(header, trim_seals(seals, validators), tuple(removed), tuple(added))


def make_event(
    receipt: bytes,
    values: tuple[Opened | None, ...],
    stored: tuple[bytes, bytes],
    segment_path: tuple[bytes, ...],
    place: tuple[int, tuple[bytes, ...]],
) -> Event:
    """An event's part: `stored` is its segment's (header, signature), `place` leaf index and path
    in the host's log of the size that was anchored."""
    header, signature = stored
    return Event(
        receipt, values, segment.decode_header(header), signature, place[0], segment_path, place[1]
    )


def make_light_proof(
    chain_id: bytes,
    txs: Sequence[Tx],
    where: tuple[int, int],
    header: Header,
    finality: Finality,
    event: Event | None = None,
) -> LightProof:
    """The proof that the anchor or evidence at `where` (transaction, operation) is final.

    With an event: that it is final, too; it must lead to the root that was anchored.
    """
    index, place = where
    anchor = txs[index].operations[place]
    anchoring = make_anchoring(txs, index, place)
    log, claim = (0, bytes(32)), b""
    if isinstance(anchor, operations.Anchor):
        log = anchor.size, anchor.root
    else:
        claim, _ = operations.encode_operation(anchor)
    return LightProof(
        chain_id, event, txs[index].sender, *log, anchoring, finality.links,
        header, finality.history_path, finality.newer, finality.seals, claim,
    )  # fmt: skip


def make_event_of_proof(proven: proof.Proof, log_path: tuple[bytes, ...]) -> Event:
    """The event of a DOCKLOCK-PROOF, with its leaf's path in the log of the size anchored."""
    return make_event(
        proven.receipt, proven.values, (proven.header, proven.signature), proven.segment_proof,
        (proven.leaf_index, log_path),
    )  # fmt: skip


def add_event(made: LightProof, event: Event) -> LightProof:
    """The proof of a log with an event in it; SpecError unless the event leads to its root."""
    about = event.header
    leaf = hostlog.encode_segment(hostlog.Segment(segment.encode_header(about), event.signature))
    place = (merkle.compute_leaf_hash(leaf), event.leaf_index, made.log_size)
    if not merkle.is_included(*place, event.log_path, made.log_root):
        raise SpecError("the event is not in the host's log that is final")
    return made._replace(event=event)
