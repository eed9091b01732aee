"""What a host hands a server that has lost its disk: what the server signed, and where. Pure.

`Shown`: an acknowledgement, the newest checkpoint of the server's log that the host has, and the
grant it was enrolled by. `Places`: which leaves of that log speak of this host, and of how much of
it; the sizes it had sent when no answer came; further checkpoints.
Not here: what a server makes of it (restoring), where a host has it from (docklock.outbox.places).
Invariant: what a decoder accepts is what its encoder writes. Layout: README.md of this room.
"""

from __future__ import annotations

from itertools import pairwise

from chainlite import domains, note, tlogproof
from chainlite.bpci.grant import GRANT_LIMIT_BYTES
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u8, encode_u32, encode_u64
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple

VERSION = 1
SHOWN, PLACES = 0, 1
PLACES_MAX = 1 << 16
"""Of one message; a host sends as many messages as it needs."""
NOTES_MAX = 32
UNSURE_MAX = 1024
ACKNOWLEDGEMENT_LIMIT_BYTES = tlogproof.PROOF_LIMIT_BYTES + 4096
SHOWN_LIMIT_BYTES = ACKNOWLEDGEMENT_LIMIT_BYTES + note.NOTE_LIMIT_BYTES + GRANT_LIMIT_BYTES + 64
EVERYTHING = 2**64 - 1
PLACES_LIMIT_BYTES = 2 << 20
"""Some 1 MiB of places; 32 checkpoints have some 120 KB."""


class Shown(NamedTuple):
    """What the server itself has signed, each empty where the host has none."""

    acknowledgement: bytes
    note: bytes
    grant: bytes


class Place(NamedTuple):
    """The leaf of the server's log that says that `size` leaves of the host's log are held."""

    leaf_index: int
    size: int


class Places(NamedTuple):
    """Places in order; sizes up to which a batch was sent that was never answered, in order;
    checkpoints of the server's log. With the messages before it, all places below `until` that the
    server has not are here: EVERYTHING where the host has no more."""

    places: tuple[Place, ...]
    unsure: tuple[int, ...]
    notes: tuple[bytes, ...]
    until: int


def encode_shown(shown: Shown) -> bytes:
    """The canonical bytes."""
    head = encode_head(domains.BPCI_HANDOVER, VERSION) + encode_u8(SHOWN)
    return head + b"".join([encode_bytes(one) for one in shown])


def decode_shown(data: bytes) -> Shown:
    """What these bytes say; SpecError for any other bytes. Nothing is verified."""
    reader = _read_head(data, SHOWN)
    acknowledgement = reader.read_bytes(ACKNOWLEDGEMENT_LIMIT_BYTES)
    newest = reader.read_bytes(note.NOTE_LIMIT_BYTES)
    shown = Shown(acknowledgement, newest, reader.read_bytes(GRANT_LIMIT_BYTES))
    reader.finish()
    return shown


def encode_places(places: Places) -> bytes:
    """The canonical bytes."""
    parts = [
        encode_head(domains.BPCI_HANDOVER, VERSION),
        encode_u8(PLACES),
        encode_u64(places.until),
        encode_u32(len(places.places)),
        *[encode_u64(one.leaf_index) + encode_u64(one.size) for one in places.places],
        encode_u32(len(places.unsure)),
        *[encode_u64(size) for size in places.unsure],
        encode_u32(len(places.notes)),
        *[encode_bytes(one) for one in places.notes],
    ]
    return b"".join(parts)


def decode_places(data: bytes) -> Places:
    """What these bytes say; SpecError for any other bytes. Nothing is verified."""
    reader = _read_head(data, PLACES)
    until = reader.read_u64()
    count = reader.read_u32(limit=PLACES_MAX)
    places = tuple([Place(reader.read_u64(), reader.read_u64()) for _ in range(count)])
    unsure = tuple([reader.read_u64() for _ in range(reader.read_u32(limit=UNSURE_MAX))])
    count = reader.read_u32(limit=NOTES_MAX)
    notes = tuple([reader.read_bytes(note.NOTE_LIMIT_BYTES) for _ in range(count)])
    reader.finish()
    for before, after in pairwise(places):
        if not (before.leaf_index < after.leaf_index and before.size < after.size):
            raise SpecError("places: not in order")
    if any(before >= after for before, after in pairwise(unsure)):
        raise SpecError("places: not in order")
    return Places(places, unsure, notes, until)


def _read_head(data: bytes, kind: int) -> Reader:
    reader = Reader(data, "handover")
    reader.read_head(domains.BPCI_HANDOVER, VERSION)
    if reader.read_fixed(1) != encode_u8(kind):
        reader.refuse("is of another kind")
    return reader
