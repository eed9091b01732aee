"""Whether a light proof shows that a block, which a quorum of validators sealed, holds an anchor.

Checks, in the order of trust: the genesis or header that the verifier trusts is fresh; each change
of the validators is sealed by those before it; the newest header by those then; the anchor's block
is that, or under its history; the signed anchor, under the block's receipts_root, is of this host,
log size and root; a receipt, if there is one, is in that log. Then all of that is final.
Not here: the bytes (light_format), whom to trust (trusted), files and words (light_program,
light_report). Pure: times are passed in. Invariants: nothing is final but by a quorum of the set of
that height; a validator that a change removed counts for nothing after it; no bit can be changed.
Source: CHAIN.md, "From one event to finality"; README.md of this room.
"""

from __future__ import annotations

from chainlite import domains, keys, merkle, receipt
from chainlite.consensus.validators import ValidatorSet
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger import operations
from chainlite.ledger.header import (
    Header,
    Seals,
    compute_header_hash,
    encode_header,
    is_sealed,
)
from chainlite.proof import check_values
from chainlite.proofs.light_format import (
    MAGIC,
    UNDER_TRUSTED,
    LightProof,
    Link,
    decode_evidence,
    decode_light,
    encode_anchor,
    encode_envelope,
)
from chainlite.proofs.trusted import AHEAD_MAX_MS, Trusted, check_fresh, trust_header

if TYPE_CHECKING:
    from collections.abc import Iterable


class Final(NamedTuple):
    """A host's log had `log_size` leaves and `log_root` in a block that is final.

    `signers` are the validators whose seals show it: over that block, or over one later, or none
    where the header that the verifier trusts shows it. `timestamp_ms` is the anchor's block's.
    """

    host: bytes
    log_size: int
    log_root: bytes
    height: int
    timestamp_ms: int
    block_hash: bytes
    signers: tuple[bytes, ...]


class Shown(NamedTuple):
    """What is final, and the receipt of the host's log that the proof is of, if it is of one.

    `values` are the names of the receipt's values, and what is told of each. With `evidence` the
    proof is of that: validators have checked what convicts whom it names, and `final.host`, who
    submitted it, has no log in it.
    """

    final: Final
    event: receipt.Receipt | None
    values: tuple[tuple[str, bytes | None], ...]
    leaf_index: int
    evidence: operations.VotesEvidence | operations.ForkEvidence | None = None


def check_finality(data: bytes, trusted: Trusted, now_ms: int) -> Final:
    """The state of a host's log that the proof shows final; errors as those of check_light."""
    shown = check_light(data, trusted, now_ms)
    if shown.evidence is not None:
        raise SpecError("it proves that evidence is final, and nothing of a log")
    return shown.final


def check_light(data: bytes, trusted: Trusted, now_ms: int) -> Shown:
    """What the proof shows.

    SpecError: it is no proof, or of another chain, or what the verifier trusts is stale;
    TamperError where it does not show what it claims.
    """
    check_fresh(trusted, now_ms)
    try:
        proof = decode_light(data, trusted.chain_id)
    except SpecError as error:
        if not data.startswith(MAGIC) or "another chain" in str(error):
            raise
        raise TamperError(str(error)) from None
    signers = _check_block(proof, trusted, now_ms)
    _check_signature(proof)
    values: tuple[tuple[str, bytes | None], ...] = ()
    event = None
    if proof.event is not None:
        event = receipt.decode_receipt(proof.event.receipt)
        values = check_values(proof.event.values, event)
    header = proof.header
    final = Final(
        proof.host, proof.log_size, proof.log_root, header.height, header.timestamp_ms,
        _hash(header), signers,
    )  # fmt: skip
    evidence = decode_evidence(proof.claim) if proof.claim else None
    return Shown(final, event, values, proof.event.leaf_index if proof.event else -1, evidence)


def _hash(header: Header) -> bytes:
    return compute_header_hash(encode_header(header))


def _check_block(proof: LightProof, trusted: Trusted, now_ms: int) -> tuple[bytes, ...]:
    """Who sealed what makes the anchor's block final."""
    if proof.kind == UNDER_TRUSTED:
        if proof.links:
            raise TamperError("changes of validators that nothing depends on")
        _check_history(proof, trusted)
        return ()
    assert proof.seals is not None, "a proof of any other kind has seals"
    known = follow_links(proof.links, trusted, now_ms)
    return check_sealed(proof.newer or proof.header, proof.seals, known, now_ms)


def follow_links(links: Iterable[Link], trusted: Trusted, now_ms: int) -> Trusted:
    """What is trusted after these changes of the validators, each sealed by those before it.

    TamperError unless they are; SpecError where one is ahead of now.
    """
    for link in links:
        check_sealed(link.header, link.seals, trusted, now_ms)
        trusted = trust_header(trusted, link.header, _change(trusted.validators, link))
    return trusted


def check_sealed(header: Header, seals: Seals, trusted: Trusted, now_ms: int) -> tuple[bytes, ...]:
    """Who of the trusted validators sealed a later header; errors as those of follow_links."""
    _check_after(header, trusted.height, trusted.timestamp_ms, now_ms)
    return _check_seals(seals, trusted.validators, trusted.chain_id, header)


def _check_history(proof: LightProof, trusted: Trusted) -> None:
    """The block is the trusted one, or under its history_root."""
    block_hash = _hash(proof.header)
    if proof.header.height == trusted.height:
        if proof.history_path or block_hash != trusted.block_hash:
            raise TamperError("the block is not the one that you trust at its height")
        return
    place = (merkle.compute_leaf_hash(block_hash), proof.header.height, trusted.height)
    if not merkle.is_included(*place, proof.history_path, trusted.history_root):
        raise TamperError("the block is not under the header that you trust")


def _check_after(header: Header, height: int, time_ms: int, now_ms: int) -> None:
    if header.height <= height or header.timestamp_ms <= time_ms:
        raise TamperError(
            f"the block of height {header.height} does not come after that of {height}, "
            f"from where on its validators are known: prove it with --trusted-height {height}"
        )
    if header.timestamp_ms > now_ms + AHEAD_MAX_MS:
        raise SpecError(
            f"the block of height {header.height} is {(header.timestamp_ms - now_ms) // 1000} s "
            "ahead of now: set the clock, or name the time with --now"
        )


def _check_seals(
    seals: Seals, validators: ValidatorSet, chain_id: bytes, header: Header
) -> tuple[bytes, ...]:
    """The validators who sealed it: a quorum, and not one more, so that a proof has one form."""
    if len(seals.signatures) != validators.quorum:
        raise TamperError(
            f"{len(seals.signatures)} seals at height {header.height}, where a quorum is "
            f"{validators.quorum} of {validators.size} validators"
        )
    if not is_sealed(seals, validators, chain_id, header.height, _hash(header)):
        raise TamperError(
            f"the block of height {header.height} is not sealed by a quorum of the validators that "
            "are known for it"
        )
    return validators.decode_bitmap(seals.bitmap)


def _change(validators: ValidatorSet, link: Link) -> ValidatorSet:
    """The validators after a link; TamperError unless its header names them."""
    old = validators.keys
    if any(place >= len(old) for place in link.removed) or set(old) & set(link.added):
        raise TamperError("a change removes who is not there, or adds who is")
    left = [key for place, key in enumerate(old) if place not in link.removed]
    if left == list(old) and not link.added:
        raise TamperError("a change that changes nothing")
    try:
        changed = ValidatorSet([*left, *link.added])
    except SpecError as error:
        raise TamperError(str(error)) from None
    if changed.digest != link.header.next_validators:
        raise TamperError(f"the header of {link.header.height} names other validators")
    return changed


def main(argv: list[str] | None = None) -> int:
    """Check one light proof on its own: `python -m chainlite.proofs.light FILE --genesis FILE`."""
    from chainlite.proofs.light_program import run

    return run(argv)


def _check_signature(proof: LightProof) -> None:
    """The sender's own word, which the validators checked against its key too."""
    a, claim = proof.anchoring, proof.claim or encode_anchor(proof.log_size, proof.log_root)
    envelope = encode_envelope(a, proof.chain_id, proof.host, claim)
    if not keys.is_signed(a.key, domains.SIGN_TRANSACTION, envelope, a.signature):
        raise TamperError("the operation is not signed by its key")


if __name__ == "__main__":
    raise SystemExit(main())
