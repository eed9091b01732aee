"""What a server exports: the frames of a sealed part, what each says. Pure.

A part is an evidence file's frames, of many containers and hosts, and around them what the server
says: which range this is, up to where it holds each host's log, what is not here, and a seal over
all. Parts that continue each other lie one after the other in one file.
Not here: whether they hold (exported), what they are worth (export_report), who makes them
(bpci.exporting). Invariant: what is decoded encodes to the same bytes.
Layout: README.md of this room, "Export".
"""

from __future__ import annotations

from chainlite import bundle, domains, hostlog, keys, mldsa, note, segment
from chainlite.bpci.acknowledgement import get_server_origin
from chainlite.codec import (
    U64_MAX,
    Reader,
    encode_bytes,
    encode_text,
    encode_u8,
    encode_u32,
    encode_u64,
)
from chainlite.lean import NamedTuple
from chainlite.receipt import APP_LIMIT
from chainlite.tlogproof import PROOF_LIMIT_BYTES

SCOPE, HELD, LEAF, NAMED, GAP, SEAL = 16, 17, 18, 19, 20, 21
TENANT_LIMIT = 64
RUN_ANY = 0xFFFFFFFF
SEAL_LIMIT_BYTES = 256
BEFORE, ERASED, AFTER = 0, 1, 2
"""Of a segment without its body: the one before the range, one in it, the one after it."""
ROLES = ("before", "erased", "after")
NOTHING_LATER, NO_NOTE, NO_LEAF = 0, 1, 2
"""Of a run no later receipt is held; of leaves that are held no checkpoint is; no leaf is held."""
GAPS = ("not held", "without a checkpoint", "nothing held")
SIZE_LIMITS = bundle.SIZE_LIMITS | {
    SCOPE: 8192,
    HELD: PROOF_LIMIT_BYTES + 16_384,
    LEAF: hostlog.LEAF_LIMIT_BYTES + 4096,
    NAMED: segment.CERTIFICATE_BYTES,
    GAP: 17,
    SEAL: SEAL_LIMIT_BYTES + keys.SIGNATURE_BYTES,
}
del SIZE_LIMITS[bundle.SEAL], SIZE_LIMITS[bundle.ANCHOR]
LAYOUT = bundle.Layout("export of a server", bundle.EXPORT_MAGIC, SIZE_LIMITS, SEAL)


class Position(NamedTuple):
    """Where a part begins or goes on: a receipt of a run, in the order of hosts, containers, runs.

    `log_size` is that of the host's checkpoint in the part that ended here.
    """

    host: bytes
    container: bytes
    run: int
    event_index: int
    log_size: int


class Scope(NamedTuple):
    """What a part is of; empty names, RUN_ANY and 0 to U64_MAX leave nothing out.

    Of each run the segments from the first to the last that touch both ranges, whole: receipts
    `first` to `last`, times `time_from` to `time_to` (Unix ns). `public` and `mldsa_public` are the
    server's keys; `start` is empty in the first part.
    """

    public: bytes
    mldsa_public: bytes
    tenant: str
    host: bytes = b""
    container: bytes = b""
    app: str = ""
    run: int = RUN_ANY
    first: int = 0
    last: int = U64_MAX
    time_from: int = 0
    time_to: int = U64_MAX
    start: Position | None = None

    @property
    def log_keys(self) -> tuple[note.VerifierKey, ...]:
        """Both keys of the server's log, under the name that follows from the first."""
        origin = get_server_origin(self.public)
        return (
            note.VerifierKey(origin, self.public, note.ED25519),
            note.VerifierKey(origin, self.mldsa_public, note.COSIGNED_MLDSA44),
        )

    @property
    def is_all(self) -> bool:
        """Whether it takes every receipt of the containers that it takes."""
        whole = (RUN_ANY, 0, U64_MAX, 0, U64_MAX)
        return whole == (self.run, self.first, self.last, self.time_from, self.time_to)


class HeldFrame(NamedTuple):
    """The server's acknowledgement of a host's log, and what ties the part's checkpoint to it.

    `proof` shows that the log that is held continues the checkpoint, `continuation` that the
    checkpoint continues the one of the part before, if this part goes on within this host.
    """

    acknowledgement: bytes
    proof: tuple[bytes, ...]
    continuation: tuple[bytes, ...]


class LeafFrame(NamedTuple):
    """A segment's leaf without its body, and why it stands there."""

    role: int
    logged: bundle.LoggedLeaf


class Gap(NamedTuple):
    """What is not here: of a run receipts from `first` on, of a host the leaves up to `end`."""

    kind: int
    first: int
    end: int


class Seal(NamedTuple):
    """When the server sealed the part, and where the next one begins; None where all is told."""

    time_ms: int
    after: Position | None


def encode_position(position: Position | None) -> bytes:
    """Host 32, container 32, run u32, receipt u64, size u64; nothing for None."""
    if position is None:
        return b""
    names = position.host + position.container + encode_u32(position.run)
    return names + encode_u64(position.event_index) + encode_u64(position.log_size)


def decode_position(data: bytes) -> Position | None:
    """The position of these bytes; SpecError if they are none."""
    if not data:
        return None
    r = Reader(data, "position")
    names = (r.read_fixed(32), r.read_fixed(32))
    found = Position(*names, r.read_u32(), r.read_u64(), r.read_u64())
    r.finish()
    return found


def encode_scope(scope: Scope) -> bytes:
    """The payload of a part's first frame."""
    return b"".join(
        (
            scope.public,
            encode_bytes(scope.mldsa_public),
            encode_text(scope.tenant),
            encode_bytes(scope.host),
            encode_bytes(scope.container),
            encode_text(scope.app),
            encode_u32(scope.run),
            encode_u64(scope.first),
            encode_u64(scope.last),
            encode_u64(scope.time_from),
            encode_u64(scope.time_to),
            encode_bytes(encode_position(scope.start)),
        )
    )


def decode_scope(data: bytes) -> Scope:
    """The scope of a payload; SpecError if it is not canonical."""
    r = Reader(data, "scope")
    server = (r.read_fixed(keys.PUBLIC_BYTES), r.read_bytes(mldsa.PUBLIC_BYTES))
    tenant, host, container = r.read_text(TENANT_LIMIT), r.read_bytes(32), r.read_bytes(32)
    app, run = r.read_text(APP_LIMIT), r.read_u32()
    ranges = (r.read_u64(), r.read_u64(), r.read_u64(), r.read_u64())
    start = decode_position(r.read_bytes(SEAL_LIMIT_BYTES))
    r.finish()
    if {len(host), len(container)} - {0, 32} or len(server[1]) != mldsa.PUBLIC_BYTES:
        r.refuse("a name or key has another size")
    return Scope(*server, tenant, host, container, app, run, *ranges, start)


def encode_held_frame(held: HeldFrame) -> bytes:
    """The payload of what the server says of a host."""
    proofs = bundle.encode_proof(held.proof) + bundle.encode_proof(held.continuation)
    return encode_bytes(held.acknowledgement) + proofs


def decode_held_frame(data: bytes) -> HeldFrame:
    """What a payload says; SpecError if it is not canonical."""
    r = Reader(data, "held")
    held = HeldFrame(
        r.read_bytes(PROOF_LIMIT_BYTES + 4096), bundle.read_proof(r), bundle.read_proof(r)
    )
    r.finish()
    return held


def encode_leaf_frame(leaf: LeafFrame) -> bytes:
    """The payload of a segment's leaf without its body."""
    return encode_u8(leaf.role) + bundle.encode_logged_leaf(leaf.logged)


def decode_leaf_frame(data: bytes) -> LeafFrame:
    """The leaf of a payload; SpecError if it is not canonical."""
    role = Reader(data[:1], "leaf").read_u8(limit=AFTER)
    return LeafFrame(role, bundle.decode_logged_leaf(data[1:]))


def encode_gap(gap: Gap) -> bytes:
    """The payload of what is not here."""
    return encode_u8(gap.kind) + encode_u64(gap.first) + encode_u64(gap.end)


def decode_gap(data: bytes) -> Gap:
    """The gap of a payload; SpecError if it is not canonical."""
    r = Reader(data, "gap")
    gap = Gap(r.read_u8(limit=NO_LEAF), r.read_u64(), r.read_u64())
    r.finish()
    return gap


def encode_seal(seal: Seal) -> bytes:
    """What the server signs after the digest of all before it."""
    return encode_u64(seal.time_ms) + encode_bytes(encode_position(seal.after))


def decode_seal(data: bytes) -> tuple[Seal, bytes]:
    """The seal of a payload, and its signature; SpecError if it is not canonical."""
    r = Reader(data, "seal")
    seal = Seal(r.read_u64(), decode_position(r.read_bytes(SEAL_LIMIT_BYTES)))
    signature = r.read_fixed(keys.SIGNATURE_BYTES)
    r.finish()
    return seal, signature


def sign_seal(key: keys.Signer, digest: bytes, seal: Seal) -> bytes:
    """The payload of a seal over what the running `digest` covers."""
    data = encode_seal(seal)
    return data + keys.sign(key, domains.SIGN_EXPORT, digest + data)
