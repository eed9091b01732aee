"""What a verifier trusts of a chain: its genesis, or a header of it that witnesses have cosigned.

Not here: what is checked with it (light), reading files (light_program). A header's checkpoint is a
C2SP signed note over the log of block hashes, with the header of its last block and the validators
that this header names: from there on they decide. Pure. Invariant: whoever was away for longer than
the trust period trusts nothing older; validators that left since may do anything, unpunished.
Layout: README.md of this room, "Header checkpoint".
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, codec, cosignature, merkle
from chainlite.codec import Reader
from chainlite.consensus.validators import ValidatorSet, read_validators
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.genesis import Genesis, compute_chain_id, encode_genesis
from chainlite.ledger.header import (
    HEADER_BYTES,
    Header,
    compute_header_hash,
    decode_header,
    encode_header,
)
from chainlite.note import NOTE_LIMIT_BYTES
from chainlite.quorum import judge_quorum

if TYPE_CHECKING:
    from chainlite.cosignature import Witness
    from chainlite.quorum import Quorum

MAGIC = b"DOCKLOCK-HEADER\x00\x00\x01"
"""The name, and the version in the last two bytes."""
CHECKPOINT_LIMIT_BYTES = NOTE_LIMIT_BYTES + 8192
AHEAD_MAX_MS = 3_600_000
"""A block so much later than now: the verifier's clock is behind, and its trust period too long."""


NO_BLOCK = bytes(32)


class Trusted(NamedTuple):
    """The newest block that the verifier believes, and who decides after it.

    `history_root` is over the blocks before it. Of the genesis, in which no anchor can be, the hash
    is left out (NO_BLOCK). `period_ms` is how long it may be believed (genesis.Parameters).
    """

    chain_id: bytes
    height: int
    timestamp_ms: int
    block_hash: bytes
    history_root: bytes
    validators: ValidatorSet
    period_ms: int


class HeaderCheckpoint(NamedTuple):
    """`note` is over all blocks to `header`'s; `path` leads from that, the last, to its root."""

    note: bytes
    header: Header
    path: tuple[bytes, ...]
    validators: ValidatorSet


def trust_genesis(genesis: Genesis) -> Trusted:
    """What the genesis itself says: the first validators, at its time."""
    validators = ValidatorSet(member.public for member in genesis.members)
    return Trusted(
        compute_chain_id(encode_genesis(genesis)), 0, genesis.time_ms, NO_BLOCK, merkle.EMPTY_ROOT,
        validators, genesis.parameters.trust_period_ms,
    )  # fmt: skip


def trust_header(start: Trusted, header: Header, validators: ValidatorSet) -> Trusted:
    """What a header of the same chain says that is believed, with the validators it names."""
    return start._replace(
        height=header.height,
        timestamp_ms=header.timestamp_ms,
        block_hash=compute_header_hash(encode_header(header)),
        history_root=header.history_root,
        validators=validators,
    )


def encode_header_checkpoint(made: HeaderCheckpoint) -> bytes:
    """The bytes of its file."""
    return b"".join(
        (
            MAGIC,
            codec.encode_bytes(made.note),
            encode_header(made.header),
            bundle.encode_proof(made.path),
            made.validators.encode(),
        )
    )


def decode_header_checkpoint(data: bytes) -> HeaderCheckpoint:
    """The checkpoint of these bytes; SpecError for any other bytes. Checks no signature."""
    if not data.startswith(MAGIC):
        raise SpecError("not a header checkpoint: it does not start with DOCKLOCK-HEADER")
    if len(data) > CHECKPOINT_LIMIT_BYTES:
        raise SpecError(f"header checkpoint: {len(data)} bytes, above {CHECKPOINT_LIMIT_BYTES}")
    r = Reader(data[len(MAGIC) :], "header checkpoint")
    note = r.read_bytes(NOTE_LIMIT_BYTES)
    header = decode_header(r.read_fixed(HEADER_BYTES))
    made = HeaderCheckpoint(note, header, bundle.read_proof(r), read_validators(r))
    r.finish()
    return made


def trust_checkpoint(
    data: bytes, start: Trusted, witnesses: tuple[Witness, ...], policy: Quorum | None
) -> Trusted:
    """What a header checkpoint says, if the witnesses named here have cosigned it.

    Without a policy one of them is enough. SpecError: it is no checkpoint, of another chain, or
    cosigned by too few; TamperError where it contradicts itself.
    """
    made = decode_header_checkpoint(data)
    state = checkpoint.parse_claim(made.note)
    if state.origin != checkpoint.get_chain_origin(start.chain_id):
        raise SpecError("the header checkpoint is of another chain")
    by = cosignature.get_cosignatures(made.note, witnesses)
    if not by or (policy is not None and not judge_quorum(policy, by).is_met):
        raise SpecError(
            "the header checkpoint is not cosigned by enough witnesses that you named: "
            "name them with --witness-key or --witness-policy"
        )
    found = trust_header(start, made.header, made.validators)
    place = (merkle.compute_leaf_hash(found.block_hash), found.height, state.size)
    if state.size != found.height + 1:
        raise TamperError("the checkpoint's last block is not the header's")
    if not merkle.is_included(*place, made.path, state.root):
        raise TamperError("the header is not in the log that was cosigned")
    if made.validators.digest != made.header.next_validators:
        raise TamperError("the validators are not those that the header names")
    return found


def check_fresh(trusted: Trusted, now_ms: int) -> None:
    """SpecError, with the remedy, if what is trusted is too old to be."""
    age_ms = now_ms - trusted.timestamp_ms
    if age_ms > trusted.period_ms:
        days = trusted.period_ms // 86_400_000
        raise SpecError(
            f"stale trust: what you trust of this chain is {age_ms // 86_400_000} days old, and "
            f"after {days} days its validators answer for nothing; get a header checkpoint that "
            "your witnesses have cosigned lately, and name it with --header-checkpoint"
        )
