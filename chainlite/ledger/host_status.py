"""What the chain says of one host, as the host asks for it before it submits anything.

Not here: the state itself (state, records), who answers (docklock.chain.bodies). Pure.
Invariant: what a decoder accepts is what its encoder writes. Layout: README.md of this room,
"Bodies".
"""

from __future__ import annotations

import struct

from chainlite import domains, merkle
from chainlite.codec import Reader, encode_head
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.records import HOST, Host

if TYPE_CHECKING:
    from chainlite.ledger.state import Ledger

VERSION = 1
HOST_BYTES = 32
_STATUS = struct.Struct(">32sQB32sQQ32sQQQ")


class HostStatus(NamedTuple):
    """The chain at `height`; all else is empty of a host that is not registered.

    `key` is the host's present one, `nonce` its next; `size`, `root` and `anchored` (a height) are
    of its last anchor, the next of which is due in block `due`; the bodies are `available` up to
    there.
    """

    chain_id: bytes
    height: int
    is_registered: bool
    key: bytes = b""
    nonce: int = 0
    size: int = 0
    root: bytes = merkle.EMPTY_ROOT
    anchored: int = 0
    due: int = 0
    available: int = 0


def find_host_status(ledger: Ledger, host: bytes) -> HostStatus:
    """What the state after the last block says."""
    found = ledger.find(HOST + host)
    if not isinstance(found, Host):
        return HostStatus(ledger.chain_id, ledger.height, is_registered=False)
    due = found.anchored + ledger.parameters.anchor_interval_blocks if found.size else 0
    return HostStatus(
        ledger.chain_id, ledger.height, True, found.key, found.nonce, found.size, found.root,
        found.anchored, due, found.available,
    )  # fmt: skip


def encode_want_host(host: bytes) -> bytes:
    """Host id 32."""
    return encode_head(domains.WANT_HOST, VERSION) + host


def decode_want_host(data: bytes) -> bytes:
    """The host that is asked for; SpecError for any other bytes."""
    reader = Reader(data, "want host")
    reader.read_head(domains.WANT_HOST, VERSION)
    host = reader.read_fixed(HOST_BYTES)
    reader.finish()
    return host


def encode_host_status(status: HostStatus) -> bytes:
    """Chain id 32, height u64, registered u8, key 32, nonce u64, size u64, root 32, anchored u64,
    due u64, available u64; the key of a host that is not registered is zeros."""
    key = status.key or bytes(HOST_BYTES)
    fields = _STATUS.pack(*status._replace(key=key))
    return encode_head(domains.HOST_STATUS, VERSION) + fields


def decode_host_status(data: bytes) -> HostStatus:
    """The answer that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "host status")
    reader.read_head(domains.HOST_STATUS, VERSION)
    fields = _STATUS.unpack(reader.read_fixed(_STATUS.size))
    reader.finish()
    status = HostStatus._make((*fields[:2], bool(fields[2]), *fields[3:]))
    unknown = HostStatus(status.chain_id, status.height, is_registered=False)
    shown = status if fields[2] else unknown
    if fields[2] > 1 or encode_host_status(shown) != data:
        reader.refuse("a host that is not registered has nothing")
    return shown
