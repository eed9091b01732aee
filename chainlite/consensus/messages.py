"""What validators say to each other: PROPOSAL, PREPARE, COMMIT, ROUND-CHANGE, NEW-BLOCK.

Not here: when one is sent and what it does (qbft), who is a validator (validators). Signers are
named by their public keys, so signatures are checked before anything else is known. A COMMIT's
signature is the seal. Invariants: a signature binds chain, kind, height and round; a message that
`check_signatures` passed says what its signers said, embedded votes included; what a decoder
accepts is canonical. Source: EEA QBFT v1, "Messages"; Consensys qbft-formal-spec-and-verification,
types.dfy (SignedProposal ... NewBlock). Layout: README.md of this room, "Messages".
"""

from __future__ import annotations

import struct

from chainlite import domains, keys
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u32
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.block import BLOCK_LIMIT_BYTES, Block, decode_block
from chainlite.ledger.header import ROUND_MAX, Seals, encode_commit, encode_seals, read_seals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Check: TypeAlias = Callable[[bytes, bytes, bytes, bytes], bool]

VERSION = 1
PROPOSAL, PREPARE, COMMIT, ROUND_CHANGE = 0, 1, 2, 3
KINDS = ("proposal", "prepare", "commit", "round change")
NO_ROUND = 0xFFFFFFFF
"""The prepared round of a validator that has prepared nothing at this height."""
NO_DIGEST = bytes(32)
_VOTE = struct.Struct(">BQI32sI32s64s")
_EMBEDDED_MAX = 2 * VALIDATORS_MAX
MESSAGE_LIMIT_BYTES = BLOCK_LIMIT_BYTES + _EMBEDDED_MAX * _VOTE.size + 4096
_SIGN_TAGS = (
    domains.SIGN_PROPOSAL,
    domains.SIGN_PREPARE,
    domains.SIGN_COMMIT,
    domains.SIGN_ROUND_CHANGE,
)


class Vote(NamedTuple):
    """The signed part of every message but NEW-BLOCK.

    `digest` is the seal digest of (chain, block, round). In a ROUND-CHANGE it is that of the block
    prepared last, in its `prepared_round`; NO_DIGEST and NO_ROUND if there is none. In the other
    kinds `prepared_round` is NO_ROUND.
    """

    kind: int
    height: int
    round: int
    digest: bytes
    prepared_round: int
    signer: bytes
    signature: bytes


class Proposal(NamedTuple):
    """The block of a round; after round 0 with the quorums that justify it."""

    vote: Vote
    block: Block
    round_changes: tuple[Vote, ...]
    prepares: tuple[Vote, ...]


class Prepare(NamedTuple):
    """The signer takes the round's proposal."""

    vote: Vote


class Commit(NamedTuple):
    """The signer has seen a quorum of prepares; the vote's signature is its seal."""

    vote: Vote


class RoundChange(NamedTuple):
    """The signer goes to a round; with the block that it prepared last, and the proof of that."""

    vote: Vote
    block: Block | None
    prepares: tuple[Vote, ...]


class NewBlock(NamedTuple):
    """A block and the quorum that sealed it; nobody signs it, the seals do."""

    block: Block
    seals: Seals


Message: TypeAlias = Proposal | Prepare | Commit | RoundChange | NewBlock


def sign_vote(
    key: keys.Signer,
    chain_id: bytes,
    kind: int,
    height: int,
    round: int,
    digest: bytes,
    prepared_round: int = NO_ROUND,
) -> Vote:
    """The vote, signed."""
    vote = Vote(kind, height, round, digest, prepared_round, key.public, b"")
    signature = keys.sign(key, _SIGN_TAGS[kind], _encode_signed(vote, chain_id))
    return vote._replace(signature=signature)


def is_vote_signed(vote: Vote, chain_id: bytes, check: Check = keys.is_signed) -> bool:
    """Whether the signer's key signed this vote for this chain."""
    return check(vote.signer, _SIGN_TAGS[vote.kind], _encode_signed(vote, chain_id), vote.signature)


def _encode_signed(vote: Vote, chain_id: bytes) -> bytes:
    signed = encode_commit(chain_id, vote.height, vote.round, vote.digest)
    return signed + encode_u32(vote.prepared_round) if vote.kind == ROUND_CHANGE else signed


def get_votes(message: Message) -> Iterator[Vote]:
    """Every vote in a message, its own first."""
    if isinstance(message, NewBlock):
        return
    yield message.vote
    if isinstance(message, Proposal):
        yield from message.round_changes
    if isinstance(message, Proposal | RoundChange):
        yield from message.prepares


def check_signatures(message: Message, chain_id: bytes, check: Check = keys.is_signed) -> None:
    """SpecError unless every vote in the message is signed by whom it names.

    Seals of a NEW-BLOCK are checked with that height's validators (ledger.header.is_sealed).
    """
    for vote in get_votes(message):
        if not is_vote_signed(vote, chain_id, check):
            raise SpecError(f"{KINDS[vote.kind]}: not signed by {vote.signer.hex()[:16]}")


def encode_vote(vote: Vote) -> bytes:
    """Kind u8, height u64, round u32, digest 32, prepared round u32, signer 32, signature 64."""
    return _VOTE.pack(*vote)


def encode_message(message: Message) -> bytes:
    """The canonical bytes of any message."""
    if isinstance(message, NewBlock):
        head = encode_head(domains.MESSAGE_NEW_BLOCK, VERSION)
        return head + encode_bytes(message.block.encoded) + encode_seals(message.seals)
    vote = encode_vote(message.vote)
    if isinstance(message, Prepare):
        return encode_head(domains.MESSAGE_PREPARE, VERSION) + vote
    if isinstance(message, Commit):
        return encode_head(domains.MESSAGE_COMMIT, VERSION) + vote
    if isinstance(message, Proposal):
        head = encode_head(domains.MESSAGE_PROPOSAL, VERSION) + vote
        votes = _encode_votes(message.round_changes) + _encode_votes(message.prepares)
        return head + encode_bytes(message.block.encoded) + votes
    head = encode_head(domains.MESSAGE_ROUND_CHANGE, VERSION) + vote
    block = message.block.encoded if message.block else b""
    return head + encode_bytes(block) + _encode_votes(message.prepares)


def _encode_votes(votes: tuple[Vote, ...]) -> bytes:
    return encode_u32(len(votes)) + b"".join(map(encode_vote, votes))


def decode_message(data: bytes) -> Message:
    """The message that these bytes are; SpecError for any other bytes. Checks no signature."""
    reader = Reader(data, "consensus message")
    if len(data) > MESSAGE_LIMIT_BYTES:
        reader.refuse(f"{len(data)} bytes, above the limit of {MESSAGE_LIMIT_BYTES}")
    read = _READERS.get(data[:1])
    if read is None:
        reader.refuse(f"no message starts with {data[:1].hex() or 'nothing'}")
    reader.read_head(data[:1], VERSION)
    message = read(reader)
    reader.finish()
    return message


def read_vote(reader: Reader, kind: int) -> Vote:
    """The vote that comes next, which must be of this kind."""
    vote = Vote._make(_VOTE.unpack(reader.read_fixed(_VOTE.size)))
    if vote.kind != kind:
        reader.refuse(f"a vote of kind {vote.kind}, not {kind}")
    if vote.round > ROUND_MAX:
        reader.refuse(f"round {vote.round} is above {ROUND_MAX}")
    if kind != ROUND_CHANGE and vote.prepared_round != NO_ROUND:
        reader.refuse("a prepared round in a vote that is no round change")
    if kind == ROUND_CHANGE and (vote.prepared_round == NO_ROUND) != (vote.digest == NO_DIGEST):
        reader.refuse("a prepared round without a digest, or a digest without a round")
    return vote


def _read_votes(reader: Reader, kind: int) -> tuple[Vote, ...]:
    return tuple(read_vote(reader, kind) for _ in range(reader.read_u32(limit=VALIDATORS_MAX)))


def _read_proposal(reader: Reader) -> Proposal:
    vote = read_vote(reader, PROPOSAL)
    block = decode_block(reader.read_bytes(BLOCK_LIMIT_BYTES))
    return Proposal(vote, block, _read_votes(reader, ROUND_CHANGE), _read_votes(reader, PREPARE))


def _read_round_change(reader: Reader) -> RoundChange:
    vote = read_vote(reader, ROUND_CHANGE)
    encoded = reader.read_bytes(BLOCK_LIMIT_BYTES)
    block = decode_block(encoded) if encoded else None
    return RoundChange(vote, block, _read_votes(reader, PREPARE))


def _read_new_block(reader: Reader) -> NewBlock:
    return NewBlock(decode_block(reader.read_bytes(BLOCK_LIMIT_BYTES)), read_seals(reader))


_READERS: dict[bytes, Callable[[Reader], Message]] = {
    domains.MESSAGE_PROPOSAL: _read_proposal,
    domains.MESSAGE_PREPARE: lambda reader: Prepare(read_vote(reader, PREPARE)),
    domains.MESSAGE_COMMIT: lambda reader: Commit(read_vote(reader, COMMIT)),
    domains.MESSAGE_ROUND_CHANGE: _read_round_change,
    domains.MESSAGE_NEW_BLOCK: _read_new_block,
}
