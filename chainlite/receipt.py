"""A receipt: the canonical bytes of one event, and the event's frame in a segment's body.

Not here: chains and signatures over receipts (segment), who writes them (docklock.evidence).
Invariants: one decoder; what it accepts, `encode_receipt` gives back byte for byte; sensitive
values enter only as SHA-256(salt || value). Layout: README.md of this room, "Receipt".
Fixed fields come first, so that one struct reads them all; what is constant in a run comes first
of these, so that a writer packs it once.
"""

from __future__ import annotations

import struct

from blake3 import blake3

from chainlite import domains
from chainlite.codec import Reader
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

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
USAGE_PARTS = 1_000_000  # of a unit: all five count 10^-6 of theirs

APP_LIMIT = 256
OP_LIMIT = 64
NAME_LIMIT = 64
LABEL_LIMIT = 1024
LABELS_MAX = 16
VALUES_MAX = 16
VALUE_LIMIT_BYTES = 65536
RECEIPT_LIMIT_BYTES = 32768
SECRET_BYTES = 32
SALT_BYTES = 32
ABSENT = 0xFFFFFFFF
"""A value's length in a frame whose value was redacted."""

CONSTANT = struct.Struct(">cHI32s32s32s16s")
"""tag, version, run, host, container, policy, boot."""
VARYING = struct.Struct(">QQQIIIIiqBBB6Q5QB")
"""index, mono, time, pid, tid, arch, nr, errno, ret, decision, plane, seen, args, usage,
number of values."""
FIXED = struct.Struct(CONSTANT.format + VARYING.format[1:])
CHECKED = struct.Struct(">Q8xQ28xBBB88xB")
"""Of VARYING what a verifier looks at: index, time, decision, plane, seen, number of values."""
assert CHECKED.size == VARYING.size
FRAME = struct.Struct(">II")
"""Before each event in a body: size of the receipt, size of its values."""
_SALT = struct.Struct(">cQH")
_U32 = struct.Struct(">I")
_SHAPES_MAX = 4096


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


class Shape(NamedTuple):
    """The fields of variable size between the fixed ones and the commitments; they repeat."""

    app: str
    op: str
    labels: tuple[tuple[str, str], ...]
    value_names: tuple[str, ...]


def encode_constant(run: int, host: bytes, container: bytes, policy: bytes, boot: bytes) -> bytes:
    """The first bytes of every receipt of a run."""
    return CONSTANT.pack(domains.RECEIPT, VERSION, run, host, container, policy, boot)


def encode_shape(shape: Shape) -> bytes:
    """app, op, labels and names of values; SpecError above a limit."""
    names = [encode_name(name) for name in shape.value_names]
    return b"".join((encode_names(shape.app, shape.op), encode_labels(shape.labels), *names))


def encode_names(app: str, op: str) -> bytes:
    """The start of a shape; SpecError above a limit."""
    return _text(app, APP_LIMIT) + _text(op, OP_LIMIT)


def encode_labels(labels: tuple[tuple[str, str], ...]) -> bytes:
    """The labels of a shape: a count, then name and text of each."""
    if len(labels) > LABELS_MAX:
        raise SpecError(f"receipt: more than {LABELS_MAX} labels")
    parts = [_text(name, NAME_LIMIT) + _text(text, LABEL_LIMIT) for name, text in labels]
    return len(labels).to_bytes(1, "big") + b"".join(parts)


def encode_name(name: str) -> bytes:
    """The name of a value."""
    return _text(name, NAME_LIMIT)


def _text(value: str, limit: int) -> bytes:
    raw = value.encode()
    if len(raw) > limit:
        raise SpecError(f"receipt: {value[:32]!r}... is longer than {limit} bytes")
    return _U32.pack(len(raw)) + raw


def encode_receipt(receipt: Receipt) -> bytes:
    """The canonical bytes of a receipt; SpecError above a limit."""
    r = receipt
    if len(r.commitments) > VALUES_MAX:
        raise SpecError(f"receipt {r.op}: more than {VALUES_MAX} values")
    names = tuple(name for name, _ in r.commitments)
    return b"".join(
        (
            encode_constant(*r[:5]),
            VARYING.pack(*r[5:17], *r.args, *r.usage, len(names)),
            encode_shape(Shape(r.app, r.op, r.labels, names)),
            *[digest for _, digest in r.commitments],
        )
    )


def decode_receipt(data: bytes) -> Receipt:
    """The receipt of these bytes; SpecError if they are not its canonical form."""
    if len(data) < FIXED.size or len(data) > RECEIPT_LIMIT_BYTES:
        raise SpecError(f"receipt: {len(data)} bytes, not {FIXED.size} to {RECEIPT_LIMIT_BYTES}")
    tag, version, *constant = CONSTANT.unpack_from(data)
    if tag != domains.RECEIPT or version != VERSION:
        raise SpecError(f"receipt: tag {tag.hex()} version {version} is not known")
    fields = VARYING.unpack_from(data, CONSTANT.size)
    shape, digests = decode_rest(data, fields)
    commitments = tuple(zip(shape.value_names, digests, strict=True))
    args, usage = fields[12:18], fields[18:23]
    return Receipt._make((*constant, *fields[:12], args, usage, *shape[:3], commitments))


def decode_rest(data: bytes, fields: tuple[int, ...]) -> tuple[Shape, tuple[bytes, ...]]:
    """Shape and commitments of a receipt whose VARYING fields are these, which are checked."""
    shape = find_shape(data, fields[0], fields[9], fields[10], fields[11], fields[23])
    return shape, split_digests(data, fields[23])


def find_shape(data: bytes, index: int, decision: int, plane: int, seen: int, count: int) -> Shape:
    """The shape of a receipt with these fields, which are checked."""
    if decision > ABORTED or plane > RUNTIME or seen > OBSERVED:
        raise SpecError(f"receipt {index}: decision, plane or seen has no name")
    end = len(data) - 32 * count
    if end < FIXED.size:
        raise SpecError(f"receipt {index}: too short for {count} values")
    key = data[_COUNT_AT:end]
    shape = _shapes.get(key)
    if shape is None:
        shape = _parse_shape(data[FIXED.size : end], count)
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        _shapes[key] = shape
    return shape


def split_digests(data: bytes, count: int) -> tuple[bytes, ...]:
    """The commitments of a receipt with so many values."""
    if not count:
        return ()
    return tuple([data[at : at + 32] for at in range(len(data) - 32 * count, len(data), 32)])


_COUNT_AT = FIXED.size - 1
"""The number of values is the last of the fixed fields."""
_shapes: dict[bytes, Shape] = {}


def _parse_shape(data: bytes, value_count: int) -> Shape:
    reader = Reader(data, "receipt")
    app, op = reader.read_text(APP_LIMIT), reader.read_text(OP_LIMIT)
    labels = tuple(
        (reader.read_text(NAME_LIMIT), reader.read_text(LABEL_LIMIT))
        for _ in range(reader.read_u8(limit=LABELS_MAX))
    )
    if value_count > VALUES_MAX:
        reader.refuse(f"{value_count} values are above {VALUES_MAX}")
    names = tuple(reader.read_text(NAME_LIMIT) for _ in range(value_count))
    reader.finish()
    return Shape(app, op, labels, names)


def encode_values(values: tuple[bytes | None, ...]) -> bytes:
    """The values beside a receipt, in the order of its commitments; None is a redacted one."""
    return b"".join(
        _U32.pack(ABSENT) if value is None else _U32.pack(len(value)) + value for value in values
    )


def decode_values(data: bytes, count: int, where: str) -> tuple[bytes | None, ...]:
    """`count` values; SpecError if the bytes hold more, fewer or too long ones."""
    values: list[bytes | None] = []
    position = 0
    for _ in range(count):
        start = position + 4
        size = int.from_bytes(data[position:start], "big")
        position = start if size == ABSENT else start + size
        if position > len(data) or (size > VALUE_LIMIT_BYTES and size != ABSENT):
            raise SpecError(f"{where}: a value of {size} bytes does not fit")
        values.append(None if size == ABSENT else data[start:position])
    if position != len(data):
        raise SpecError(f"{where}: {len(data) - position} bytes too many")
    return tuple(values)


def iterate_frames(body: bytes, count: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Receipt, values and end of each event in an unpacked body; SpecError if it is too short."""
    position, head = 0, FRAME.size
    for _ in range(count):
        if position + head > len(body):
            raise SpecError("body: ends before its last receipt")
        size, values_size = FRAME.unpack_from(body, position)
        start = position + head
        middle, position = start + size, start + size + values_size
        if position > len(body):
            raise SpecError("body: ends inside a receipt")
        yield body[start:middle], body[middle:position], position


def compute_salt(secret: bytes, index: int, field: int) -> bytes:
    """The salt of value number `field` of receipt `index`: 32 bytes."""
    return blake3(_SALT.pack(domains.SALT, index, field), key=secret).digest()


def compute_commitment(secret: bytes, index: int, field: int, value: bytes) -> bytes:
    """SHA-256(salt || value)."""
    return sha256(compute_salt(secret, index, field) + value).digest()


def compute_chain_hash(previous: bytes, receipt: bytes) -> bytes:
    """BLAKE3(0x13 || previous || receipt)."""
    return blake3(domains.RECEIPT + previous + receipt).digest()


def describe(event: Receipt) -> dict[str, Any]:
    """The fields as JSON shows them: u64 as decimal strings, bytes as hex."""
    return {
        "index": str(event.event_index),
        "run": event.run,
        "host": event.host.hex(),
        "container": event.container.hex(),
        "app": event.app,
        "op": event.op,
        "pid": event.pid,
        "tid": event.tid,
        "nr": event.nr,
        "arch": event.arch,
        "args": [str(value) for value in event.args],
        "decision": DECISIONS[event.decision],
        "errno": event.errno,
        "ret": str(event.ret),
        "plane": PLANES[event.plane],
        "seen": SEENS[event.seen],
        "policy": event.policy.hex(),
        "mono": str(event.mono),
        "time": str(event.time),
        "boot": event.boot.hex(),
        "usage": [str(value) for value in event.usage],
        "labels": dict(event.labels),
        "commitments": {name: digest.hex() for name, digest in event.commitments},
    }
