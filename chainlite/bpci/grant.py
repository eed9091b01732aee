"""A grant: the server's word that somebody may enrol for a tenant, until a time. Pure.

An operator who has the server's key file signs it, or the server does for a tenant's admin, for one
first public key and one role; whoever brings it to the server enrols that key and no other, so that
a stolen one is worth nothing, and it may be brought twice. A member's next key is signed by both
keys: by the old one, and by the new one, so that nobody names another's.
Not here: who signs it (docklock bpci grant, office), what enrolling does (intake, access).
Invariant: what `decode_grant` accepts is what `sign_grant` writes. Layout: README.md of this room.
"""

from __future__ import annotations

from chainlite import domains, keys
from chainlite.bpci.actor import Role
from chainlite.codec import Reader, encode_bytes, encode_head, encode_text, encode_u8, encode_u64
from chainlite.errors import PeerError, SpecError, TamperError
from chainlite.lean import NamedTuple

VERSION = 2
NEXT_KEY, NEXT_KEY_VERSION = 1, 1
"""What follows the head of 0xfd in a member's next key."""
TENANT_LIMIT = 64
GRANT_LIMIT_BYTES = 256
ROLES = tuple(Role)


class Grant(NamedTuple):
    """Somebody by the first public key, the tenant, until when (Unix ms) it may enrol, and as what.

    `by` is the admin who asked for it; empty: who has the server's key file.
    """

    tenant: str
    public: bytes
    expires_ms: int
    role: Role = Role.HOST
    by: bytes = b""


class NextKey(NamedTuple):
    """A member's next key in place of `old`."""

    member: bytes
    old: bytes
    public: bytes


def sign_grant(grant: Grant, key: keys.Signer) -> bytes:
    """The grant with the server's signature."""
    data = _encode(grant)
    return data + keys.sign(key, domains.SIGN_GRANT, data)


def check_grant(data: bytes, public: bytes, now_ms: int) -> Grant:
    """The grant of these bytes, signed by this server's key.

    SpecError: they are none. PeerError: it is another server's, or its time is over.
    """
    grant, signature = _read(data)
    if not keys.is_signed(public, domains.SIGN_GRANT, _encode(grant), signature):
        raise PeerError("grant: not signed by this server's key")
    if now_ms > grant.expires_ms:
        raise PeerError("grant: its time is over")
    return grant


def decode_grant(data: bytes) -> Grant:
    """What a grant says, of which the caller knows by other means who has signed it."""
    return _read(data)[0]


def _read(data: bytes) -> tuple[Grant, bytes]:
    reader = Reader(data, "grant")
    reader.read_head(domains.BPCI_GRANT, VERSION)
    tenant, role = reader.read_text(TENANT_LIMIT), ROLES[reader.read_u8(limit=len(ROLES) - 1)]
    named, by = reader.read_fixed(keys.PUBLIC_BYTES), reader.read_bytes(32)
    grant = Grant(tenant, named, reader.read_u64(), role, by)
    signature = reader.read_fixed(keys.SIGNATURE_BYTES)
    reader.finish()
    return grant, signature


def _encode(grant: Grant) -> bytes:
    check_tenant(grant.tenant)
    head = encode_head(domains.BPCI_GRANT, VERSION) + encode_text(grant.tenant)
    role = encode_u8(ROLES.index(grant.role))
    return head + role + grant.public + encode_bytes(grant.by) + encode_u64(grant.expires_ms)


def check_tenant(name: str) -> None:
    """SpecError for a name that no tenant can have."""
    if not 0 < len(name.encode()) <= TENANT_LIMIT:
        raise SpecError(f"tenant: a name has 1 to {TENANT_LIMIT} bytes")


def sign_next_key(member: bytes, old: keys.Signer, new: keys.Signer) -> bytes:
    """The record that makes `new` the member's key."""
    data = _encode_next_key(NextKey(member, old.public, new.public))
    return data + b"".join([keys.sign(one, domains.SIGN_GRANT, data) for one in (old, new)])


def read_next_key(data: bytes) -> NextKey:
    """The next key that both keys have signed. SpecError: these bytes are none; TamperError."""
    reader = Reader(data, "next key")
    reader.read_head(domains.BPCI_ACT, NEXT_KEY_VERSION)
    if reader.read_u8() != NEXT_KEY:
        reader.refuse("is another record")
    found = NextKey(reader.read_fixed(32), reader.read_fixed(32), reader.read_fixed(32))
    signatures = [reader.read_fixed(keys.SIGNATURE_BYTES) for _ in range(2)]
    reader.finish()
    message = _encode_next_key(found)
    for public, signature in zip(found[1:], signatures, strict=True):
        if not keys.is_signed(public, domains.SIGN_GRANT, message, signature):
            raise TamperError("next key: not signed by both keys")
    return found


def _encode_next_key(one: NextKey) -> bytes:
    head = encode_head(domains.BPCI_ACT, NEXT_KEY_VERSION) + encode_u8(NEXT_KEY)
    return head + one.member + one.old + one.public
