"""A receipt: the canonical bytes of one event, and the event's frame in a segment's body.

Not here: chains and signatures over receipts (segment), who writes them (docklock.evidence).
Invariants: one decoder; what it accepts, `encode_receipt` gives back byte for byte; sensitive
values enter only as SHA-256(salt || value). Layout: README.md of this room, "Receipt".
Fixed fields come first, so that one struct reads them all; what is constant in a run comes first
of these, so that a writer packs it once.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import NamedTuple

from blake3 import blake3

from chainlite import domains
from chainlite.codec import Reader
from chainlite.errors import SpecError

VERSION = 1
ALLOWED, DENIED, KILLED, ABORTED = 0, 1, 2, 3
DECISIONS = ("allowed", "denied", "killed", "aborted")
GATE, TRACE, RUNTIME = 0, 1, 2
PLANES = ("gate", "trace", "runtime")
CLAIMED, OBSERVED = 0, 1
SEENS = ("claimed", "observed")
NR_NONE = 0xFFFFFFFF
ZERO_ARGS = bytes(48)
ZERO_USAGE = (0, 0, 0, 0, 0)

APP_LIMIT = 256
OP_LIMIT = 64
NAME_LIMIT = 64
LABEL_LIMIT = 1024
LABELS_MAX = 16
VALUES_MAX = 16
VALUE_LIMIT_BYTES = 65536
RECEIPT_LIMIT_BYTES = 32768
SECRET_BYTES = 32
ABSENT = 0xFFFFFFFF
"""A value's length in a frame whose value was redacted."""

CONSTANT = struct.Struct(">cHI32s32s32s16s")
"""tag, version, run, host, container, policy, boot."""
VARYING = struct.Struct(">QQQIIIIiqBBB6Q5Q")
"""index, mono, time, pid, tid, arch, nr, errno, ret, decision, plane, seen, args, usage."""
FIXED = struct.Struct(CONSTANT.format + VARYING.format[1:])
FRAME = struct.Struct(">II")
"""Before each event in a body: size of the receipt, size of its values."""
_SALT = struct.Struct(">cQH")
_U32 = struct.Struct(">I")
_TAILS_MAX = 4096


class Receipt(NamedTuple):
    """One event. Sizes and units as in README.md; `commitments` are (name, SHA-256)."""

    run: int
    host: bytes
    container: bytes
    policy: bytes
    boot: bytes
    event_index: int
    mono: int
    time: int
    pid: int
    tid: int
    arch: int
    nr: int
    errno: int
    ret: int
    decision: int
    plane: int
    seen: int
    args: tuple[int, ...]
    usage: tuple[int, ...]
    app: str
    op: str
    labels: tuple[tuple[str, str], ...]
    commitments: tuple[tuple[str, bytes], ...]


class Tail(NamedTuple):
    """The fields of variable size, which follow the fixed ones."""

    app: str
    op: str
    labels: tuple[tuple[str, str], ...]
    commitments: tuple[tuple[str, bytes], ...]


def encode_constant(run: int, host: bytes, container: bytes, policy: bytes, boot: bytes) -> bytes:
    """The first bytes of every receipt of a run."""
    return CONSTANT.pack(domains.RECEIPT, VERSION, run, host, container, policy, boot)


def encode_tail(
    app: str,
    op: str,
    labels: tuple[tuple[str, str], ...] = (),
    commitments: tuple[tuple[str, bytes], ...] = (),
) -> bytes:
    """app, op, labels and commitments; SpecError above a limit."""
    if len(labels) > LABELS_MAX or len(commitments) > VALUES_MAX:
        raise SpecError(f"receipt {op}: more than {LABELS_MAX} labels or {VALUES_MAX} values")
    parts = [encode_names(app, op), encode_labels(labels), len(commitments).to_bytes(1, "big")]
    for name, digest in commitments:
        parts += (encode_name(name), digest)
    return b"".join(parts)


def encode_names(app: str, op: str) -> bytes:
    """The start of a tail."""
    return _text(app, APP_LIMIT) + _text(op, OP_LIMIT)


def encode_labels(labels: tuple[tuple[str, str], ...]) -> bytes:
    """The labels of a tail: a count, then name and text of each."""
    parts = [_text(name, NAME_LIMIT) + _text(text, LABEL_LIMIT) for name, text in labels]
    return len(labels).to_bytes(1, "big") + b"".join(parts)


def encode_name(name: str) -> bytes:
    """The name of a value, before its commitment."""
    return _text(name, NAME_LIMIT)


def _text(value: str, limit: int) -> bytes:
    raw = value.encode()
    if len(raw) > limit:
        raise SpecError(f"receipt: {value[:32]!r}... is longer than {limit} bytes")
    return _U32.pack(len(raw)) + raw


def encode_receipt(receipt: Receipt) -> bytes:
    """The canonical bytes of a receipt."""
    return (
        encode_constant(*receipt[:5])
        + VARYING.pack(*receipt[5:17], *receipt.args, *receipt.usage)
        + encode_tail(*receipt[19:])
    )


def decode_receipt(data: bytes) -> Receipt:
    """The receipt of these bytes; SpecError if they are not its canonical form."""
    if len(data) < FIXED.size or len(data) > RECEIPT_LIMIT_BYTES:
        raise SpecError(f"receipt: {len(data)} bytes, not {FIXED.size} to {RECEIPT_LIMIT_BYTES}")
    fields = FIXED.unpack_from(data)
    tag, version = fields[:2]
    if tag != domains.RECEIPT or version != VERSION:
        raise SpecError(f"receipt: tag {tag.hex()} version {version} is not known")
    check_varying(fields[7:])
    tail = decode_tail(data[FIXED.size :])
    return Receipt._make((*fields[2:19], fields[19:25], fields[25:30], *tail))


def check_varying(fields: tuple[int, ...]) -> None:
    """Refuse a decision, plane or seen that has no name (fields as VARYING gives them)."""
    if fields[9] > ABORTED or fields[10] > RUNTIME or fields[11] > OBSERVED:
        raise SpecError(
            f"receipt {fields[0]}: decision {fields[9]}, plane {fields[10]} or seen {fields[11]} "
            "has no name"
        )


_tails: dict[bytes, Tail] = {}


def decode_tail(data: bytes) -> Tail:
    """The fields of variable size; those without commitments are remembered, they repeat."""
    tail = _tails.get(data)
    if tail is None:
        tail = _parse_tail(data)
        if not tail.commitments:
            if len(_tails) >= _TAILS_MAX:
                _tails.clear()
            _tails[data] = tail
    return tail


def _parse_tail(data: bytes) -> Tail:
    reader = Reader(data, "receipt")
    app, op = reader.read_text(APP_LIMIT), reader.read_text(OP_LIMIT)
    labels = tuple(
        (reader.read_text(NAME_LIMIT), reader.read_text(LABEL_LIMIT))
        for _ in range(reader.read_u8(limit=LABELS_MAX))
    )
    commitments = tuple(
        (reader.read_text(NAME_LIMIT), reader.read_fixed(32))
        for _ in range(reader.read_u8(limit=VALUES_MAX))
    )
    reader.finish()
    return Tail(app, op, labels, commitments)


def compute_salt(secret: bytes, index: int, field: int) -> bytes:
    """The salt of value number `field` of receipt `index`: 32 bytes."""
    return blake3(_SALT.pack(domains.SALT, index, field), key=secret).digest()


def compute_commitment(secret: bytes, index: int, field: int, value: bytes) -> bytes:
    """SHA-256(salt || value)."""
    return sha256(compute_salt(secret, index, field) + value).digest()


def encode_values(values: tuple[bytes | None, ...]) -> bytes:
    """The values beside a receipt, in the order of its commitments; None is a redacted one."""
    return b"".join(
        _U32.pack(ABSENT) if value is None else _U32.pack(len(value)) + value for value in values
    )


def decode_values(data: bytes, count: int, where: str) -> tuple[bytes | None, ...]:
    """`count` values; SpecError if the bytes hold more, fewer or too long ones."""
    values: list[bytes | None] = []
    reader = Reader(data, where)
    for _ in range(count):
        size = reader.read_u32()
        if size != ABSENT and size > VALUE_LIMIT_BYTES:
            reader.refuse(f"a value of {size} bytes is above {VALUE_LIMIT_BYTES}")
        values.append(None if size == ABSENT else reader.read_fixed(size))
    reader.finish()
    return tuple(values)


def compute_chain_hash(previous: bytes, receipt: bytes) -> bytes:
    """BLAKE3(0x13 || previous || receipt)."""
    return blake3(domains.RECEIPT + previous + receipt).digest()
