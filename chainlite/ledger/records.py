"""The rows of the state: what is kept under which key, as records and as bytes.

Not here: what changes them (rules, votes, notarised_rules), the tree over them (tree). A row's key
begins with a byte that names its kind; its value is a u16 version and the record's fields.
Invariant: what `decode_record` accepts is what `encode_record` writes.
Layout: README.md of this room, "State".
"""

from __future__ import annotations

import struct
from hashlib import sha256
from itertools import pairwise

from chainlite import merkle
from chainlite.codec import Reader, encode_bytes, encode_text, encode_u64
from chainlite.consensus.validators import VALIDATORS_MAX, ValidatorSet, read_validators
from chainlite.economy.poe_bundle import encode_number, read_number
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.genesis import (
    Member,
    Parameters,
    encode_member,
    read_member,
    read_parameters,
)
from chainlite.ledger.operations import OPERATOR_LIMIT
from chainlite.logblock import encode_totals, read_totals

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

VERSION = 1
HOST, KEY, ACCOUNT, REMOVED = b"h", b"k", b"a", b"s"
HEAD, WINDOWS = b"n", b"w"
VALIDATORS_KEY, PARAMETERS_KEY, PROPOSALS_KEY = b"V", b"P", b"v"
HISTORY_KEY, ARCHIVES_KEY, COUNTS_KEY = b"H", b"A", b"c"
ACTIVE, FORKED = 0, 1
STATUSES = ("active", "forked")
POINT_BYTES = 40
"""A size, u64, and a root."""
POINTS_MAX = 32
"""Recent anchors of one host that can still become available; when full, every second one goes."""
ARCHIVES_MAX = 64
ACK_BYTES = 40
"""A signer's key, and the size that it has, u64."""
ACKS_MAX = VALIDATORS_MAX + ARCHIVES_MAX
PROPOSALS_MAX = 2 * VALIDATORS_MAX
"""In progress: votes.PROPOSALS_EACH_MAX of each validator."""
CHANGES_MAX = 2 * VALIDATORS_MAX
WINDOWS_KEPT = 4
"""Of each notarised chain: what its last windows began and ended with."""
BUNDLES_KEPT = 32
"""Of each app of a notary: its last windows with what they came to."""
CLAIM_LIMIT_BYTES = 1024
NOT_REVOKED = 2**64 - 1
_HOST = struct.Struct(">H32sIB32sQQQ32sQQ32s")
_KEY = struct.Struct(">32sQQ")


class Host(NamedTuple):
    """A registered host. `number` is that of its present `key`; `nonce` is its next.

    `size`, `root` and `anchored` (a height) are of its last anchor, `available` and
    `available_root` of the last one that f + 1 hold; `points` are recent anchors (size, root),
    ascending, `acks` who holds more than is available.
    """

    key: bytes
    number: int
    status: int
    certificate: bytes
    registered: int
    nonce: int
    size: int
    root: bytes
    anchored: int
    available: int
    available_root: bytes
    points: bytes
    acks: bytes
    operator: str


class HostKey(NamedTuple):
    """A host's key by number: from which height on; void from which leaf of its log on."""

    public: bytes
    height: int
    revoked_from: int


class Account(NamedTuple):
    """The next nonce of a validator or archive that is not a host."""

    nonce: int


class Validators(NamedTuple):
    """After block h: V(h), V(h + 1), who they are, and `changes`: (height, present, key)."""

    current: ValidatorSet
    next: ValidatorSet
    members: tuple[Member, ...]
    changes: tuple[tuple[int, int, bytes], ...]


class Proposal(NamedTuple):
    """A vote's claim, from which height, and who voted for it, ascending."""

    claim: bytes
    height: int
    voters: tuple[bytes, ...]


class Removed(NamedTuple):
    """A validator that evidence removed, at this height; it does not come back."""

    height: int
    evidence_hash: bytes


class History(NamedTuple):
    """How many blocks, and the complete subtrees over their hashes, the largest first."""

    size: int
    frontier: tuple[bytes, ...]


class Counts(NamedTuple):
    """How many hosts are registered."""

    hosts: int


class Span(NamedTuple):
    """What one window of a notarised chain begins after and ends with: heights, hashes, totals."""

    start: int
    before_height: int
    before_hash: bytes
    before_totals: tuple[int, ...]
    last_height: int
    last_hash: bytes
    last_totals: tuple[int, ...]


class NotaryHead(NamedTuple):
    """The end of one (notary, host, app)'s LogBlocks; `height` is that of the next one."""

    height: int
    hash: bytes
    time: int
    log_size: int
    totals: tuple[int, ...]
    spans: tuple[Span, ...]


class PoeWindow(NamedTuple):
    """A window of an app: hosts with LogBlocks in it; the hash of its bundle, or zeros; its Phi."""

    start: int
    hosts: int
    bundle_hash: bytes
    numerator: int
    denominator: int


if TYPE_CHECKING:
    Record: TypeAlias = (
        Host | HostKey | Account | Validators | Parameters | Removed | History | Counts | NotaryHead
        | tuple[Proposal, ...] | tuple[Member, ...] | tuple[PoeWindow, ...]
    )  # fmt: skip


def get_head_key(notary: bytes, host: bytes, app: str) -> bytes:
    """The key of a notarised chain's row."""
    return HEAD + sha256(notary + host + app.encode()).digest()


def get_windows_key(notary: bytes, app: str) -> bytes:
    """The key of the row of an app's windows."""
    return WINDOWS + sha256(notary + app.encode()).digest()


def get_key_key(host: bytes, number: int) -> bytes:
    """The key of the row of a host's key by its number."""
    return KEY + host + number.to_bytes(4, "big")


def find_point(points: bytes, size: int) -> bytes | None:
    """The root of a host's recent anchor of this size; the newest is found first."""
    for at in range(len(points) - POINT_BYTES, -1, -POINT_BYTES):
        found = int.from_bytes(points[at : at + 8], "big")
        if found <= size:
            return points[at + 8 : at + POINT_BYTES] if found == size else None
    return None


def append_history(history: History, block_hash: bytes) -> History:
    """The history with one more block."""
    number, frontier = history.size, list(history.frontier)
    digest = merkle.compute_leaf_hash(block_hash)
    while number & 1:
        digest = merkle.compute_node_hash(frontier.pop(), digest)
        number >>= 1
    return History(history.size + 1, (*frontier, digest))


def compute_history_root(history: History) -> bytes:
    """RFC 6962 root over the hashes of these blocks."""
    if not history.frontier:
        return merkle.EMPTY_ROOT
    digest = history.frontier[-1]
    for left in history.frontier[-2::-1]:
        digest = merkle.compute_node_hash(left, digest)
    return digest


def encode_record(key: bytes, record: Record) -> bytes:
    """The value of a row."""
    return _CODECS[key[:1]][0](record)


def decode_record(key: bytes, value: bytes) -> Record:
    """The record of a row; SpecError unless its value is canonical."""
    codec = _CODECS.get(key[:1])
    if codec is None:
        raise SpecError(f"state: no row begins with {key[:1].hex() or 'nothing'}")
    reader = Reader(value, f"state row {key[:5].hex()}")
    if reader.read_u16() != VERSION:
        reader.refuse("a version that is not known")
    record = codec[1](reader)
    reader.finish()
    return record


_HEAD = VERSION.to_bytes(2, "big")


def _encode_host(host: Host) -> bytes:
    tail = encode_bytes(host.points) + encode_bytes(host.acks) + encode_text(host.operator)
    return _HOST.pack(VERSION, *host[:11]) + tail


def _read_host(r: Reader) -> Host:
    fixed = _HOST.unpack(_HEAD + r.read_fixed(_HOST.size - 2))[1:]
    points, acks = r.read_bytes(POINTS_MAX * POINT_BYTES), r.read_bytes(ACKS_MAX * ACK_BYTES)
    if len(points) % POINT_BYTES or len(acks) % ACK_BYTES or fixed[2] >= len(STATUSES):
        r.refuse("not a host")
    return Host._make((*fixed, points, acks, r.read_text(OPERATOR_LIMIT)))


def _encode_key(key: HostKey) -> bytes:
    return _HEAD + _KEY.pack(*key)


def _encode_validators(v: Validators) -> bytes:
    changes = [struct.pack(">QB32s", *change) for change in v.changes]
    count = len(changes).to_bytes(2, "big")
    sets = v.current.encode() + v.next.encode()
    return b"".join([_HEAD, sets, _encode_members(v.members), count, *changes])


def _read_validators(r: Reader) -> Validators:
    current, following, members = read_validators(r), read_validators(r), _read_members(r)
    changes = [
        (r.read_u64(), r.read_u8(limit=1), r.read_fixed(32))
        for _ in range(r.read_u16(limit=CHANGES_MAX))
    ]
    return Validators(current, following, members, tuple(changes))


def _encode_members(members: tuple[Member, ...]) -> bytes:
    return b"".join([len(members).to_bytes(2, "big"), *map(encode_member, members)])


def _read_members(r: Reader) -> tuple[Member, ...]:
    members = [read_member(r) for _ in range(r.read_u16(limit=4 * VALIDATORS_MAX))]
    if any(not one.public < other.public for one, other in pairwise(members)):
        r.refuse("members do not ascend")
    return tuple(members)


def _encode_proposals(proposals: tuple[Proposal, ...]) -> bytes:
    parts = [_HEAD, len(proposals).to_bytes(2, "big")]
    for one in proposals:
        parts += (encode_bytes(one.claim), encode_u64(one.height), bytes((len(one.voters),)))
        parts += one.voters
    return b"".join(parts)


def _read_proposals(r: Reader) -> tuple[Proposal, ...]:
    return tuple([
        Proposal(
            r.read_bytes(CLAIM_LIMIT_BYTES),
            r.read_u64(),
            tuple([r.read_fixed(32) for _ in range(r.read_u8(limit=VALIDATORS_MAX))]),
        )
        for _ in range(r.read_u16(limit=PROPOSALS_MAX))
    ])  # fmt: skip


def _encode_history(history: History) -> bytes:
    return b"".join((_HEAD, encode_u64(history.size), *history.frontier))


def _read_history(r: Reader) -> History:
    count = r.read_u64()
    return History(count, tuple([r.read_fixed(32) for _ in range(count.bit_count())]))


def _encode_notary_head(head: NotaryHead) -> bytes:
    parts = [_HEAD, struct.pack(">Q32sQQ", *head[:4]), encode_totals(head.totals)]
    parts.append(bytes((len(head.spans),)))
    for span in head.spans:
        parts += (struct.pack(">QQ32s", *span[:3]), encode_totals(span.before_totals))
        parts += (struct.pack(">Q32s", *span[4:6]), encode_totals(span.last_totals))
    return b"".join(parts)


def _read_notary_head(r: Reader) -> NotaryHead:
    fixed = r.read_u64(), r.read_fixed(32), r.read_u64(), r.read_u64()
    totals = read_totals(r)
    count = r.read_u8(limit=WINDOWS_KEPT)
    return NotaryHead(*fixed, totals, tuple([_read_span(r) for _ in range(count)]))


def _read_span(r: Reader) -> Span:
    before = r.read_u64(), r.read_u64(), r.read_fixed(32), read_totals(r)
    return Span(*before, r.read_u64(), r.read_fixed(32), read_totals(r))


def _encode_windows(windows: tuple[PoeWindow, ...]) -> bytes:
    parts = [_HEAD, bytes((len(windows),))]
    for window in windows:
        parts.append(struct.pack(">QI32s", *window[:3]))
        for number in window[3:]:
            parts.append(encode_number(number))
    return b"".join(parts)


def _read_windows(r: Reader) -> tuple[PoeWindow, ...]:
    return tuple([
        PoeWindow(r.read_u64(), r.read_u32(), r.read_fixed(32), read_number(r), read_number(r))
        for _ in range(r.read_u8(limit=BUNDLES_KEPT))
    ])  # fmt: skip


_CODECS: dict[bytes, tuple[Callable[..., bytes], Callable[[Reader], Record]]] = {
    HOST: (_encode_host, _read_host),
    KEY: (_encode_key, lambda r: HostKey._make(_KEY.unpack(r.read_fixed(_KEY.size)))),
    ACCOUNT: (lambda a: _HEAD + encode_u64(a.nonce), lambda r: Account(r.read_u64())),
    REMOVED: (
        lambda one: _HEAD + encode_u64(one.height) + one.evidence_hash,
        lambda r: Removed(r.read_u64(), r.read_fixed(32)),
    ),
    HEAD: (_encode_notary_head, _read_notary_head),
    WINDOWS: (_encode_windows, _read_windows),
    VALIDATORS_KEY: (_encode_validators, _read_validators),
    PARAMETERS_KEY: (lambda p: _HEAD + b"".join(map(encode_u64, p)), read_parameters),
    PROPOSALS_KEY: (_encode_proposals, _read_proposals),
    COUNTS_KEY: (lambda c: _HEAD + encode_u64(c.hosts), lambda r: Counts(r.read_u64())),
    HISTORY_KEY: (_encode_history, _read_history),
    ARCHIVES_KEY: (lambda members: _HEAD + _encode_members(members), _read_members),
}
