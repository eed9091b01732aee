"""The evidence file: a magic, checked frames, a seal. Encode, and read without trusting it.

Not here: whether the frames hold (verify) and who collects them (docklock.evidence.export).
Every frame is u8 kind, u32 size, payload, and the first 8 bytes of a running BLAKE3 over
everything so far: that names where a file was spoilt, it proves nothing. What proves is signed.
Order: host key, its later keys and revocations, checkpoint, anchors, then for each run its start,
certificates and segments (whole or redacted, each perhaps with its place in the host's log), and
its exit unless it is open; last the seal. Invariant: sizes are checked against limits before memory
is taken. Layouts: README.md of this room.
"""

from __future__ import annotations

from blake3 import blake3

from chainlite import codec, domains, segment
from chainlite.codec import Reader
from chainlite.errors import SpecError, TamperError
from chainlite.hostlog import LEAF_LIMIT_BYTES
from chainlite.keys import SIGNATURE_BYTES
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.note import NOTE_LIMIT_BYTES
from chainlite.receipt import SALT_BYTES, SECRET_BYTES, VALUES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGIC = b"DOCKLOCK-EVIDENCE\x00\x00\x01"
NOTARY_MAGIC = b"DOCKLOCK-LOGBLOCKS\x00\x00\x01"
EXPORT_MAGIC = b"DOCKLOCK-EXPORT\x00\x00\x01"
"""The name, and the version in the last two bytes; of the notary's file (notarised) and of a
server's export (export_frames) the same."""
VERSION = 1
HOST_KEY, CHECKPOINT, START, CERTIFICATE, SEGMENT, EXIT, SEAL = 1, 2, 3, 4, 5, 6, 7
ANCHOR, PLACE, REDACTED, KEY = 8, 9, 10, 11
OPENING = frozenset((HOST_KEY, KEY, CHECKPOINT))
CHECK_BYTES = 8
PROOF_MAX = 64
ANCHORS_MAX = 16
SALTS_MAX = segment.EVENTS_MAX * VALUES_MAX
SALTED = b"\x01"
"""Before the salts that stand in a segment's `secret` where values were redacted or erased."""
RUNS_MAX = 100_000
OPEN, CLOSED, CUT = 0, 1, 2
STATES = ("open", "closed", "cut")
_HEAD_BYTES = 5
SIZE_LIMITS = {
    HOST_KEY: 32,
    CHECKPOINT: NOTE_LIMIT_BYTES,
    START: LEAF_LIMIT_BYTES + 4096,
    CERTIFICATE: segment.CERTIFICATE_BYTES + SIGNATURE_BYTES,
    SEGMENT: segment.PACKED_LIMIT_BYTES + 8192,
    EXIT: LEAF_LIMIT_BYTES + 4096,
    SEAL: RUNS_MAX * 64,
    ANCHOR: NOTE_LIMIT_BYTES + 4096,
    PLACE: 4096,
    KEY: 8192,
    REDACTED: segment.PACKED_LIMIT_BYTES + 8192 + SALTS_MAX * SALT_BYTES,
}


class Layout(NamedTuple):
    """A kind of file made of frames: what to call it, its magic, its frames, the last one."""

    name: str
    magic: bytes
    size_limits: dict[int, int]
    last: int


EVIDENCE = Layout("evidence file", MAGIC, SIZE_LIMITS, SEAL)


class Frame(NamedTuple):
    """A frame; `digest` is the running hash before it, `is_intact` whether its check holds."""

    kind: int
    payload: bytes
    digest: bytes
    is_intact: bool


class LoggedLeaf(NamedTuple):
    """A leaf of the host's log and its inclusion proof under the file's checkpoint."""

    leaf_index: int
    leaf: bytes
    proof: tuple[bytes, ...]


class Anchor(NamedTuple):
    """A checkpoint of the host's log, and the proof that the file's log begins with its leaves."""

    note: bytes
    proof: tuple[bytes, ...]


class Place(NamedTuple):
    """Where the segment before it lies in the host's log, and its inclusion proof there."""

    leaf_index: int
    proof: tuple[bytes, ...]


class StoredSegment(NamedTuple):
    """A segment as it lies in a store.

    `secret` is empty where no receipt has a value, else 32 bytes; where values were redacted it
    is SALTED and the salt of each value that is left, in order: from a secret all salts follow.
    """

    header: bytes
    signature: bytes
    secret: bytes
    leaf_tags: bytes
    body: bytes

    @property
    def is_redacted(self) -> bool:
        """Whether the salts of the values that are left stand in place of the secret."""
        return len(self.secret) % SALT_BYTES == len(SALTED)

    @property
    def kind(self) -> int:
        """The kind of its frame."""
        return REDACTED if self.is_redacted else SEGMENT

    def get_salts(self) -> tuple[bytes, ...]:
        """The salts of the values that are left in a redacted segment."""
        assert self.is_redacted
        starts = range(len(SALTED), len(self.secret), SALT_BYTES)
        return tuple([self.secret[at : at + SALT_BYTES] for at in starts])


class RunState(NamedTuple):
    """How far a run's receipts go; `state` indexes STATES."""

    run: int
    state: int
    event_count: int
    head: bytes


class Seal(NamedTuple):
    """What the host's key says about the whole file; `digest` covers all bytes before it."""

    host: bytes
    container: bytes
    log_size: int
    log_root: bytes
    time: int
    digest: bytes
    runs: tuple[RunState, ...]


def compute_first_digest(layout: Layout = EVIDENCE) -> bytes:
    """The running hash after the magic."""
    return blake3(domains.FILE_FRAME + layout.magic).digest()


def encode_frame(kind: int, payload: bytes, digest: bytes) -> tuple[bytes, bytes]:
    """The frame's bytes after a running hash, and the running hash after it."""
    head = codec.encode_u8(kind) + codec.encode_u32(len(payload))
    after = blake3(domains.FILE_FRAME + digest + head + payload).digest()
    return head + payload + after[:CHECK_BYTES], after


def iterate_frames(read: Callable[[int], bytes], layout: Layout = EVIDENCE) -> Iterator[Frame]:
    """The frames that `read(size)` gives; SpecError if it is no such file.

    TamperError where a frame cannot be told apart: an unknown kind, a size above its limit, an
    end inside a frame, bytes after the seal.
    """
    magic, limits = read(len(layout.magic)), layout.size_limits
    if magic[:-2] != layout.magic[:-2]:
        name = layout.magic[:-3].decode()
        raise SpecError(f"not an {layout.name}: it does not start with {name}")
    if magic != layout.magic:
        raise SpecError(f"{layout.name} version {magic[-2:].hex()}; this program reads {VERSION}")
    digest, kind = compute_first_digest(layout), 0
    while kind != layout.last:
        head = read(_HEAD_BYTES)
        if not head:
            raise TamperError("the file ends without its seal")
        kind, size = head[0], int.from_bytes(head[1:], "big")
        if kind not in limits or size > limits[kind]:
            raise TamperError(f"a frame of kind {kind} and {size} bytes is not evidence")
        payload, check = read(size), read(CHECK_BYTES)
        if len(head) != _HEAD_BYTES or len(payload) != size or len(check) != CHECK_BYTES:
            raise TamperError("the file ends inside a frame")
        after = blake3(domains.FILE_FRAME + digest + head + payload).digest()
        yield Frame(kind, payload, digest, after[:CHECK_BYTES] == check)
        digest = after
    if read(1):
        raise TamperError("bytes follow the seal")


def encode_proof(proof: tuple[bytes, ...]) -> bytes:
    """A count and the hashes of a path."""
    return codec.encode_u8(len(proof)) + b"".join(proof)


def read_proof(reader: Reader) -> tuple[bytes, ...]:
    """The path at the reader; SpecError if it is too long or cut."""
    return tuple([reader.read_fixed(32) for _ in range(reader.read_u8(limit=PROOF_MAX))])


def encode_logged_leaf(leaf: LoggedLeaf) -> bytes:
    """The payload of a start, an exit or a key record."""
    head = codec.encode_u64(leaf.leaf_index)
    return head + codec.encode_bytes(leaf.leaf) + encode_proof(leaf.proof)


def decode_logged_leaf(data: bytes) -> LoggedLeaf:
    """The leaf and proof of a payload; SpecError if it is not canonical."""
    r = Reader(data, "logged leaf")
    leaf = LoggedLeaf(r.read_u64(), r.read_bytes(LEAF_LIMIT_BYTES), read_proof(r))
    r.finish()
    return leaf


def encode_anchor(anchor: Anchor) -> bytes:
    """The payload of an anchor."""
    return codec.encode_bytes(anchor.note) + encode_proof(anchor.proof)


def decode_anchor(data: bytes) -> Anchor:
    """The anchor of a payload; SpecError if it is not canonical."""
    r = Reader(data, "anchor")
    anchor = Anchor(r.read_bytes(NOTE_LIMIT_BYTES), read_proof(r))
    r.finish()
    return anchor


def encode_place(place: Place) -> bytes:
    """The payload of a segment's place."""
    return codec.encode_u64(place.leaf_index) + encode_proof(place.proof)


def decode_place(data: bytes) -> Place:
    """The place of a payload; SpecError if it is not canonical."""
    r = Reader(data, "place")
    place = Place(r.read_u64(), read_proof(r))
    r.finish()
    return place


def encode_segment(stored: StoredSegment) -> bytes:
    """The payload of a segment, whose frame has the segment's `kind`."""
    secret = stored.secret
    if stored.is_redacted:
        secret = codec.encode_u32(len(secret) // SALT_BYTES) + secret[len(SALTED) :]
    parts = (stored.header, stored.signature, secret, stored.leaf_tags)
    return b"".join((*parts, codec.encode_bytes(stored.body)))


def decode_segment(data: bytes, kind: int = SEGMENT) -> tuple[segment.Header, StoredSegment]:
    """The decoded header, and the parts of a segment's payload; SpecError if not canonical."""
    r = Reader(data, "segment")
    raw, signature = r.read_fixed(segment.HEADER_BYTES), r.read_fixed(SIGNATURE_BYTES)
    header = segment.decode_header(raw)
    if kind == REDACTED:
        secret = SALTED + r.read_fixed(r.read_u32(limit=SALTS_MAX) * SALT_BYTES)
    else:
        secret = r.read_fixed(SECRET_BYTES if header.has_secret else 0)
    leaf_tags = r.read_fixed(header.event_count * segment.LEAF_TAG_BYTES)
    body = r.read_bytes(segment.PACKED_LIMIT_BYTES)
    r.finish()
    return header, StoredSegment(raw, signature, secret, leaf_tags, body)


def encode_seal(seal: Seal) -> bytes:
    """The canonical bytes of a seal, which the host's key signs."""
    parts = [
        codec.encode_head(domains.SEAL, VERSION),
        seal.host,
        seal.container,
        codec.encode_u64(seal.log_size),
        seal.log_root,
        codec.encode_u64(seal.time),
        seal.digest,
        codec.encode_u32(len(seal.runs)),
    ]
    for state in seal.runs:
        parts += (
            codec.encode_u32(state.run),
            codec.encode_u8(state.state),
            codec.encode_u64(state.event_count),
            state.head,
        )
    return b"".join(parts)


def decode_seal(data: bytes) -> tuple[Seal, bytes]:
    """The seal of a payload, and its signature; SpecError if it is not canonical."""
    r = Reader(data, "seal")
    r.read_head(domains.SEAL, VERSION)
    names = (r.read_fixed(32), r.read_fixed(32))
    state = (r.read_u64(), r.read_fixed(32), r.read_u64(), r.read_fixed(32))
    runs = tuple(
        RunState(r.read_u32(), r.read_u8(limit=CUT), r.read_u64(), r.read_fixed(32))
        for _ in range(r.read_u32(limit=RUNS_MAX))
    )
    signature = r.read_fixed(SIGNATURE_BYTES)
    r.finish()
    return Seal(*names, *state, runs), signature


class Rewound:
    """A reader whose first bytes were read already."""

    def __init__(self, start: bytes, rest: Callable[[int], bytes]) -> None:
        self._start, self._rest = start, rest

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        data, self._start = self._start[:size], self._start[size:]
        return data + self._rest(size - len(data)) if len(data) < size else data
