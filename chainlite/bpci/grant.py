"""A grant: the server's word that a host may enrol for a tenant, until a time. Pure.

An operator who has the server's key file signs it for one host's first public key; whoever brings
it to the server enrols that host and no other, so that a stolen one is worth nothing, and it may be
brought twice. Not here: who signs it (docklock bpci grant), what enrolling does (intake).
Invariant: what `decode_grant` accepts is what `sign_grant` writes. Layout: README.md of this room.
"""

from __future__ import annotations

from chainlite import domains, keys
from chainlite.codec import Reader, encode_head, encode_text, encode_u64
from chainlite.errors import PeerError, SpecError
from chainlite.lean import NamedTuple

VERSION = 1
TENANT_LIMIT = 64
GRANT_LIMIT_BYTES = 256


class Grant(NamedTuple):
    """A host by its first public key, its tenant, and until when (Unix ms) it may enrol."""

    tenant: str
    public: bytes
    expires_ms: int


def sign_grant(grant: Grant, key: keys.Signer) -> bytes:
    """The grant with the server's signature."""
    data = _encode(grant)
    return data + keys.sign(key, domains.SIGN_GRANT, data)


def check_grant(data: bytes, public: bytes, now_ms: int) -> Grant:
    """The grant of these bytes, signed by this server's key.

    SpecError: they are none. PeerError: it is another server's, or its time is over.
    """
    reader = Reader(data, "grant")
    reader.read_head(domains.BPCI_GRANT, VERSION)
    grant = Grant(reader.read_text(TENANT_LIMIT), reader.read_fixed(32), reader.read_u64())
    signature = reader.read_fixed(keys.SIGNATURE_BYTES)
    reader.finish()
    if not keys.is_signed(public, domains.SIGN_GRANT, _encode(grant), signature):
        raise PeerError("grant: not signed by this server's key")
    if now_ms > grant.expires_ms:
        raise PeerError("grant: its time is over")
    return grant


def _encode(grant: Grant) -> bytes:
    if not 0 < len(grant.tenant.encode()) <= TENANT_LIMIT:
        raise SpecError(f"grant: a tenant's name has 1 to {TENANT_LIMIT} bytes")
    head = encode_head(domains.BPCI_GRANT, VERSION) + encode_text(grant.tenant)
    return head + grant.public + encode_u64(grant.expires_ms)
