"""What a transaction can ask for: the operations, their claims and their supplements.

An operation is a claim, which anyone can be shown later, and a supplement, which is needed to
apply it and never again: proofs and evidence. Its leaf is the claim and the supplement's hash.
Not here: envelopes and signatures (tx), what an operation does (rules, notarised_rules, votes).
Invariant: what `decode_operation` accepts is what `encode_operation` writes.
Layout: README.md of this room, "Operations".
"""

from __future__ import annotations

import struct

from chainlite import domains
from chainlite.codec import Reader, encode_bytes, encode_head, encode_text
from chainlite.economy.poe_bundle import BUNDLE_LIMIT_BYTES
from chainlite.errors import SpecError
from chainlite.keys import SIGNATURE_BYTES
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.logblock import BLOCK_LIMIT_BYTES as LOGBLOCK_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

VERSION = 1
HASH_BYTES = 32
OPERATOR_LIMIT = 64
ADDRESS_LIMIT = 256
PROOF_HASHES_MAX = 128
"""Hashes of one consistency proof: two for each level of a tree of 2^64 leaves."""
LOG_SIZE_MAX = 1 << 62
"""Leaves of a host's log: databases count in 63 bits."""
VALIDATOR, ARCHIVE = 0, 1
ROLES = ("validator", "archive")
_ANCHOR = struct.Struct(">cHQ32s")
_AVAILABLE = struct.Struct(">cH32sQ32s")


class Anchor(NamedTuple):
    """The sender's host log has so many leaves and this root.

    `proof` leads from the state's (size, root) to it: the hashes of a consistency proof, joined.
    """

    size: int
    root: bytes
    proof: bytes = b""


class Register(NamedTuple):
    """The sender's key becomes that of a host; operator and certificate are its own word."""

    operator: str
    certificate: bytes


class Rotate(NamedTuple):
    """From now on `public` speaks for the host. `possession` is that key's signature."""

    public: bytes
    possession: bytes = b""


class Revoke(NamedTuple):
    """What the host's key `number` signed from leaf `first_index` of its log on is void."""

    number: int
    first_index: int


class VotesEvidence(NamedTuple):
    """A validator voted twice: `evidence` is a consensus.equivocation."""

    accused: bytes
    evidence: bytes = b""


class ForkEvidence(NamedTuple):
    """A host signed two histories: `evidence` is a chainlite.fork file."""

    host: bytes
    evidence: bytes = b""


class Available(NamedTuple):
    """The sender holds and has verified the bodies of this host's log up to an anchor."""

    host: bytes
    size: int
    root: bytes


class NotaryBlock(NamedTuple):
    """A LogBlock, signed by the notary with this key.

    `point` is the size of an available anchor, and `proof` leads to it from the block's log root.
    """

    notary: bytes
    block: bytes
    signature: bytes
    point: int = 0
    proof: bytes = b""


class NotaryBundle(NamedTuple):
    """A PoE bundle, signed by the notary with this key."""

    notary: bytes
    bundle: bytes
    signature: bytes


class MemberVote(NamedTuple):
    """A validator's vote that a key shall be, or shall no longer be, a validator or an archive.

    Who leaves is named by role and key; the rest is then empty.
    """

    role: int
    present: int
    public: bytes
    operator: str
    address: str
    certificate: bytes


class ParameterVote(NamedTuple):
    """A validator's vote that a parameter (its place in genesis.Parameters) be so much."""

    parameter: int
    value: int


class Statement(NamedTuple):
    """The sender states this digest at this height; what it is of is the sender's to show."""

    digest: bytes


if TYPE_CHECKING:
    Operation: TypeAlias = (
        Anchor | Register | Rotate | Revoke | VotesEvidence | ForkEvidence | Available
        | NotaryBlock | NotaryBundle | MemberVote | ParameterVote | Statement
    )  # fmt: skip
    Encoded: TypeAlias = tuple[bytes, bytes]


def encode_operation(operation: Operation) -> Encoded:
    """Claim and supplement."""
    return _ENCODERS[type(operation)](operation)


def decode_operation(claim: bytes, supplement: bytes) -> Operation:
    """The operation of a claim and a supplement; SpecError unless both are canonical."""
    decode = _DECODERS.get(claim[:1])
    if decode is None:
        raise SpecError(f"operation: tag {claim[:1].hex() or 'missing'} is not known")
    return decode(claim, supplement)


def is_operator(text: str) -> bool:
    """Whether it can name an operator or a chain: short and plain, so that any file can hold it."""
    plain = text.isascii() and text.isprintable() and not set(text) & set("\"'\\ +")
    return plain and 0 < len(text) <= OPERATOR_LIMIT


def split_proof(proof: bytes) -> tuple[bytes, ...]:
    """The hashes of a proof that stands in a supplement."""
    return tuple([proof[at : at + HASH_BYTES] for at in range(0, len(proof), HASH_BYTES)])


def _open(claim: bytes, what: str) -> Reader:
    reader = Reader(claim, what)
    reader.read_head(claim[:1], VERSION)
    return reader


def _check_none(supplement: bytes, what: str) -> None:
    if supplement:
        raise SpecError(f"{what}: {len(supplement)} bytes of a supplement that it does not have")


def _check_proof(proof: bytes, what: str) -> None:
    if len(proof) % HASH_BYTES or len(proof) > PROOF_HASHES_MAX * HASH_BYTES:
        raise SpecError(f"{what}: a proof is at most {PROOF_HASHES_MAX} hashes")


def _encode_anchor(operation: Anchor) -> Encoded:
    claim = _ANCHOR.pack(domains.OPERATION_ANCHOR, VERSION, operation.size, operation.root)
    return claim, operation.proof


def _decode_anchor(claim: bytes, supplement: bytes) -> Anchor:
    if len(claim) != _ANCHOR.size:
        raise SpecError(f"anchor: {len(claim)} bytes, not {_ANCHOR.size}")
    _, version, size, root = _ANCHOR.unpack(claim)
    _check_version("anchor", version)
    if size > LOG_SIZE_MAX:
        raise SpecError(f"anchor: {size} leaves are above {LOG_SIZE_MAX}")
    _check_proof(supplement, "anchor")
    return Anchor(size, root, supplement)


def _check_version(what: str, version: int) -> None:
    if version != VERSION:
        raise SpecError(f"{what}: version {version} is not known; this program reads {VERSION}")


def _encode_register(operation: Register) -> Encoded:
    head = encode_head(domains.OPERATION_REGISTER, VERSION)
    return head + encode_text(operation.operator) + operation.certificate, b""


def _decode_register(claim: bytes, supplement: bytes) -> Register:
    r = _open(claim, "register")
    operation = Register(r.read_text(OPERATOR_LIMIT), r.read_fixed(HASH_BYTES))
    r.finish()
    _check_none(supplement, "register")
    return operation


def _encode_rotate(operation: Rotate) -> Encoded:
    head = encode_head(domains.OPERATION_ROTATE, VERSION)
    return head + operation.public, operation.possession


def _decode_rotate(claim: bytes, supplement: bytes) -> Rotate:
    r = _open(claim, "rotate")
    public = r.read_fixed(32)
    r.finish()
    if len(supplement) != SIGNATURE_BYTES:
        raise SpecError("rotate: the supplement is not a signature")
    return Rotate(public, supplement)


def _encode_revoke(operation: Revoke) -> Encoded:
    head = encode_head(domains.OPERATION_REVOKE, VERSION)
    return head + struct.pack(">IQ", *operation), b""


def _decode_revoke(claim: bytes, supplement: bytes) -> Revoke:
    r = _open(claim, "revoke")
    operation = Revoke(r.read_u32(), r.read_u64())
    r.finish()
    _check_none(supplement, "revoke")
    return operation


def _encode_votes(operation: VotesEvidence) -> Encoded:
    head = encode_head(domains.OPERATION_VOTES, VERSION)
    return head + operation.accused, operation.evidence


def _encode_fork(operation: ForkEvidence) -> Encoded:
    head = encode_head(domains.OPERATION_FORK, VERSION)
    return head + operation.host, operation.evidence


def _decode_votes(claim: bytes, supplement: bytes) -> VotesEvidence:
    r = _open(claim, "evidence of votes")
    accused = r.read_fixed(32)
    r.finish()
    return VotesEvidence(accused, supplement)


def _decode_fork(claim: bytes, supplement: bytes) -> ForkEvidence:
    r = _open(claim, "evidence of a fork")
    host = r.read_fixed(32)
    r.finish()
    return ForkEvidence(host, supplement)


def _encode_available(operation: Available) -> Encoded:
    return _AVAILABLE.pack(domains.OPERATION_AVAILABLE, VERSION, *operation), b""


def _decode_available(claim: bytes, supplement: bytes) -> Available:
    if len(claim) != _AVAILABLE.size:
        raise SpecError(f"available: {len(claim)} bytes, not {_AVAILABLE.size}")
    _, version, host, size, root = _AVAILABLE.unpack(claim)
    _check_version("available", version)
    _check_none(supplement, "available")
    return Available(host, size, root)


def _encode_notary_block(operation: NotaryBlock) -> Encoded:
    o = operation
    head = encode_head(domains.OPERATION_LOGBLOCK, VERSION)
    return head + o.notary + encode_bytes(o.block) + o.signature, (
        o.point.to_bytes(8, "big") + o.proof
    )


def _decode_notary_block(claim: bytes, supplement: bytes) -> NotaryBlock:
    r = _open(claim, "LogBlock operation")
    notary, block = r.read_fixed(32), r.read_bytes(LOGBLOCK_LIMIT_BYTES)
    signature = r.read_fixed(SIGNATURE_BYTES)
    r.finish()
    if len(supplement) < 8:
        raise SpecError("LogBlock operation: the supplement names no anchor")
    _check_proof(supplement[8:], "LogBlock operation")
    point = int.from_bytes(supplement[:8], "big")
    return NotaryBlock(notary, block, signature, point, supplement[8:])


def _encode_notary_bundle(operation: NotaryBundle) -> Encoded:
    o = operation
    head = encode_head(domains.OPERATION_POE, VERSION)
    return head + o.notary + encode_bytes(o.bundle) + o.signature, b""


def _decode_notary_bundle(claim: bytes, supplement: bytes) -> NotaryBundle:
    r = _open(claim, "PoE operation")
    fields = r.read_fixed(32), r.read_bytes(BUNDLE_LIMIT_BYTES), r.read_fixed(SIGNATURE_BYTES)
    r.finish()
    _check_none(supplement, "PoE operation")
    return NotaryBundle(*fields)


def _encode_member(operation: MemberVote) -> Encoded:
    o = operation
    head = encode_head(domains.OPERATION_MEMBER, VERSION) + bytes((o.role, o.present))
    texts = encode_text(o.operator) + encode_text(o.address)
    return head + o.public + texts + o.certificate, b""


def _decode_member(claim: bytes, supplement: bytes) -> MemberVote:
    r = _open(claim, "vote on a member")
    what = r.read_u8(limit=len(ROLES) - 1), r.read_u8(limit=1), r.read_fixed(32)
    texts = r.read_text(OPERATOR_LIMIT), r.read_text(ADDRESS_LIMIT)
    vote = MemberVote(*what, *texts, r.read_fixed(HASH_BYTES))
    r.finish()
    _check_none(supplement, "vote on a member")
    if not vote.present and (vote.operator or vote.address or any(vote.certificate)):
        r.refuse("who leaves has no operator, address or certificate")
    return vote


def _encode_parameter(operation: ParameterVote) -> Encoded:
    head = encode_head(domains.OPERATION_PARAMETER, VERSION)
    return head + struct.pack(">BQ", *operation), b""


def _decode_parameter(claim: bytes, supplement: bytes) -> ParameterVote:
    r = _open(claim, "vote on a parameter")
    vote = ParameterVote(r.read_u8(), r.read_u64())
    r.finish()
    _check_none(supplement, "vote on a parameter")
    return vote


def _encode_statement(operation: Statement) -> Encoded:
    return encode_head(domains.OPERATION_STATEMENT, VERSION) + operation.digest, b""


def _decode_statement(claim: bytes, supplement: bytes) -> Statement:
    if len(claim) != 3 + HASH_BYTES:
        raise SpecError(f"statement: {len(claim)} bytes, not {3 + HASH_BYTES}")
    _check_version("statement", int.from_bytes(claim[1:3], "big"))
    _check_none(supplement, "statement")
    return Statement(claim[3:])


_ENCODERS: dict[type, Callable[..., Encoded]] = {
    Anchor: _encode_anchor,
    Register: _encode_register,
    Rotate: _encode_rotate,
    Revoke: _encode_revoke,
    VotesEvidence: _encode_votes,
    ForkEvidence: _encode_fork,
    Available: _encode_available,
    NotaryBlock: _encode_notary_block,
    NotaryBundle: _encode_notary_bundle,
    MemberVote: _encode_member,
    ParameterVote: _encode_parameter,
    Statement: _encode_statement,
}
_DECODERS: dict[bytes, Callable[[bytes, bytes], Operation]] = {
    domains.OPERATION_ANCHOR: _decode_anchor,
    domains.OPERATION_REGISTER: _decode_register,
    domains.OPERATION_ROTATE: _decode_rotate,
    domains.OPERATION_REVOKE: _decode_revoke,
    domains.OPERATION_VOTES: _decode_votes,
    domains.OPERATION_FORK: _decode_fork,
    domains.OPERATION_AVAILABLE: _decode_available,
    domains.OPERATION_LOGBLOCK: _decode_notary_block,
    domains.OPERATION_POE: _decode_notary_bundle,
    domains.OPERATION_MEMBER: _decode_member,
    domains.OPERATION_PARAMETER: _decode_parameter,
    domains.OPERATION_STATEMENT: _decode_statement,
}
