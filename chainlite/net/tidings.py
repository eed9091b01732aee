"""The messages of gossip: what is held, what is wanted, and a range of a log. Pure.

Not here: what is done with them (gossip). Invariant: bytes have one form, and PeerError refuses all
others. Layout: README.md of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import bundle, codec, domains, merkle
from chainlite.codec import Reader
from chainlite.errors import PeerError, SpecError
from chainlite.net.origins import Item

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Read = TypeVar("Read")

VERSION = 1
ENTRIES_MAX = 256
ENTRY_NOTE_BYTES_MAX = 8192
VECTOR_BYTES_MAX = 1024 * 1024
ORIGIN_BYTES_MAX = 256
ITEMS_MAX = 256
"""A tile's width: a range does not cross a tile's end."""
LEAF_BYTES_MAX = 65_535
BODY_BYTES_MAX = 9 * 1024 * 1024
PART_BYTES_MAX = 2 * 1024 * 1024
"""Of one body in one range; the rest of a longer one is asked for by its offset."""
RANGE_BYTES_MAX = PART_BYTES_MAX + 1024 * 1024

SEEN, HELD = 0, 1


class Entry(NamedTuple):
    """A checkpoint: of what the sender has (HELD), or of what it only saw or cosigned (SEEN)."""

    state: int
    note: bytes


class Want(NamedTuple):
    """Leaves of a log from `start` on, under its checkpoint of `size`.

    `base`, where not 0, is the size of the checkpoint up to which the asker has it: the answer
    proves that one history leads from there to `size`. `offset` is where to go on in a body.
    """

    origin: str
    size: int
    start: int
    base: int
    offset: int


class Range(NamedTuple):
    """Items from the wanted start on; proofs from `base` to `size`, and from their end to `size`.

    `total` is the length of the last item's body, which is whole unless the items are one.
    `base_root` is the sender's root at `base`: where it is another than the asker's, the log has
    two histories.
    """

    items: tuple[Item, ...]
    total: int
    base_root: bytes
    base_proof: tuple[bytes, ...]
    end_proof: tuple[bytes, ...]


def encode_vector(entries: list[Entry]) -> bytes:
    """The message that tells these checkpoints; at most ENTRIES_MAX."""
    assert len(entries) <= ENTRIES_MAX
    parts = [codec.encode_head(domains.GOSSIP_VECTOR, VERSION), len(entries).to_bytes(2, "big")]
    for entry in entries:
        parts += (codec.encode_u8(entry.state), codec.encode_bytes(entry.note))
    return b"".join(parts)


def decode_vector(data: bytes) -> tuple[Entry, ...]:
    """The checkpoints of a message."""
    return _decode(data, "vector", domains.GOSSIP_VECTOR, _read_vector)


def _read_vector(r: Reader) -> tuple[Entry, ...]:
    count = r.read_u16(limit=ENTRIES_MAX)
    return tuple(
        Entry(r.read_u8(limit=HELD), r.read_bytes(ENTRY_NOTE_BYTES_MAX)) for _ in range(count)
    )


def encode_want(want: Want) -> bytes:
    """The request of it."""
    return b"".join(
        (
            codec.encode_head(domains.GOSSIP_WANT, VERSION),
            codec.encode_text(want.origin),
            *[codec.encode_u64(number) for number in want[1:4]],
            codec.encode_u32(want.offset),
        )
    )


def decode_want(data: bytes) -> Want:
    """The request of these bytes: 0 <= base, start < size."""
    found = _decode(data, "want", domains.GOSSIP_WANT, _read_want)
    if not found.start < found.size or not found.base < found.size:
        raise PeerError("want: start and base come before size")
    return found


def _read_want(r: Reader) -> Want:
    origin = r.read_text(ORIGIN_BYTES_MAX)
    return Want(origin, r.read_u64(), r.read_u64(), r.read_u64(), r.read_u32())


def encode_range(found: Range) -> bytes:
    """The answer of it."""
    parts = [codec.encode_head(domains.GOSSIP_RANGE, VERSION)]
    parts.append(len(found.items).to_bytes(2, "big"))
    for item in found.items:
        parts += (codec.encode_bytes(item.leaf), codec.encode_bytes(item.body))
    parts += (codec.encode_u32(found.total), found.base_root)
    parts += (bundle.encode_proof(found.base_proof), bundle.encode_proof(found.end_proof))
    return b"".join(parts)


def decode_range(data: bytes) -> Range:
    """The answer of these bytes, with one item at least."""
    found = _decode(data, "range", domains.GOSSIP_RANGE, _read_range)
    if not found.items:
        raise PeerError("range: without items")
    return found


def _read_range(r: Reader) -> Range:
    count = r.read_u16(limit=ITEMS_MAX)
    items = tuple(Item(r.read_bytes(LEAF_BYTES_MAX), r.read_bytes(BODY_BYTES_MAX))
                  for _ in range(count))  # fmt: skip
    total = r.read_u32(limit=BODY_BYTES_MAX)
    base_root = r.read_fixed(merkle.HASH_BYTES)
    return Range(items, total, base_root, bundle.read_proof(r), bundle.read_proof(r))


def _decode(data: bytes, what: str, tag: bytes, read: Callable[[Reader], Read]) -> Read:
    try:
        r = Reader(data, what)
        r.read_head(tag, VERSION)
        found = read(r)
        r.finish()
    except SpecError as error:
        raise PeerError(str(error)) from None
    return found
