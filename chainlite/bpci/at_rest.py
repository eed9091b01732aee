"""Boxes of what is kept, and the server's key file that they all hang on.

A tenant's bodies are sealed with the tenant's key (XChaCha20-Poly1305), which is sealed with a key
that follows from the server's seed. What is authentic with a box says what and whose it is and
where it lies, so that a box that was moved, or is another row's, does not open.
Not here: where boxes lie (store). Invariants: no nonce is used twice (24 random bytes); a key file
is whole under its name or absent, and is for its owner alone. The seed is in the memory of the
process while the server runs. Source: libsodium, crypto_aead_xchacha20poly1305_ietf(3).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chainlite import domains, keys, mldsa, note, sodium
from chainlite.bpci.acknowledgement import get_server_origin
from chainlite.bpci.grant import check_tenant
from chainlite.codec import encode_bytes, encode_text, encode_u64
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.body_file import sync_directory
from chainlite.sha2 import sha256

MAGIC = b"DOCKLOCK-BPCI-KEY\0\0\x01"
TENANT_KEY, SEGMENT, ALERT, ENROLMENT, ACT, ACTS, ERASED = 0, 1, 2, 3, 4, 5, 6
"""What is in a box; ERASED: what retention has left of a segment's or of an alert's."""
NO_PLACE = 0
TENANTS_OPEN_MAX = 4096


class Label(NamedTuple):
    """What a box is: one of the kinds above, of which tenant, of whom and where."""

    kind: int
    tenant: str
    name: bytes
    place: int


def encode_label(label: Label) -> bytes:
    """What is authentic with a box."""
    head = domains.BPCI_AT_REST + label.kind.to_bytes(1, "big") + encode_text(label.tenant)
    return head + encode_bytes(label.name) + encode_u64(label.place)


def seal(data: bytes, key: bytes, label: Label) -> bytes:
    """A new nonce, and the box."""
    nonce = os.urandom(sodium.NONCE_BYTES)
    return nonce + sodium.seal(data, key, nonce, encode_label(label))


def unseal(box: bytes, key: bytes, label: Label) -> bytes:
    """What was sealed; TamperError if box, label or key are not those."""
    size = sodium.NONCE_BYTES
    data = None
    if len(box) >= size:
        data = sodium.unseal(box[size:], key, box[:size], encode_label(label))
    if data is None:
        raise TamperError("the box does not open: it was changed, or is another row's")
    return data


class ServerKey:
    """What a server signs and seals with, all from one 32-byte seed."""

    __slots__ = ("log_keys", "mldsa", "origin", "pair", "rest_key")

    def __init__(self, seed: bytes) -> None:
        """ValueError for a seed of another length."""
        self.pair = keys.make_key_pair(seed)
        self.mldsa = mldsa.Signer(sha256(domains.MLDSA_SEED + seed).digest())
        self.rest_key = sha256(domains.BPCI_AT_REST + seed).digest()
        self.origin = get_server_origin(self.pair.public)
        self.log_keys = (
            note.VerifierKey(self.origin, self.pair.public, note.ED25519),
            note.VerifierKey(self.origin, self.mldsa.public, note.COSIGNED_MLDSA44),
        )


class Vault:
    """The keys of tenants, opened when first asked for."""

    def __init__(self, key: ServerKey) -> None:
        self._key = key
        self._open: dict[str, tuple[bytes, bytes]] = {}

    def make_tenant_key(self, tenant: str) -> bytes:
        """A new tenant's sealed key; SpecError for a name that none can have."""
        check_tenant(tenant)
        return self.seal_tenant_key(tenant, os.urandom(sodium.KEY_BYTES))

    def seal_tenant_key(self, tenant: str, opened: bytes) -> bytes:
        """A tenant's key under this server's."""
        return seal(opened, self._key.rest_key, _label_tenant(tenant))

    def open_tenant_key(self, tenant: str, sealed: bytes) -> bytes:
        """A tenant's key; TamperError if it is not this tenant's, or another server's."""
        found = self._open.get(tenant)
        if found is not None and found[0] == sealed:
            return found[1]
        opened = unseal(sealed, self._key.rest_key, _label_tenant(tenant))
        if len(self._open) >= TENANTS_OPEN_MAX:
            self._open.clear()
        self._open[tenant] = (sealed, opened)
        return opened


def label_alert(
    tenant: str, host: bytes, kind: str, leaf_index: int, time_ms: int, erased: int = 0
) -> Label:
    """Of an alert's box: all that its row says is authentic with it."""
    name = host + encode_u64(time_ms) + kind.encode()
    return Label(ERASED if erased else ALERT, tenant, name, leaf_index)


def label_segment(tenant: str, host: bytes, leaf_index: int, erased: int = 0) -> Label:
    """Of the box of what came with a segment, or of what is left of it."""
    return Label(ERASED if erased else SEGMENT, tenant, host, leaf_index)


def open_enrolment(box: bytes, key: bytes, tenant: str, host: bytes) -> bytes:
    """The first public key of a host of this tenant; TamperError where it is not one's."""
    public = unseal(box, key, label_enrolment(tenant, host))
    if keys.compute_host_id(public) != host:
        raise TamperError("its enrolled key is another host's")
    return public


def label_act(number: int) -> Label:
    """Of an act's box."""
    return Label(ACT, "", b"", number)


def label_enrolment(tenant: str, host: bytes) -> Label:
    """Of the box that says that a host is this tenant's, and what its first key is."""
    return Label(ENROLMENT, tenant, host, NO_PLACE)


def _label_tenant(tenant: str) -> Label:
    return Label(TENANT_KEY, tenant, b"", NO_PLACE)


def make_key_file(path: str) -> ServerKey:
    """A new server's key, durable in a file that is not there yet; StateError if one is."""
    seed = os.urandom(keys.SEED_BYTES)
    part = f"{path}.{os.getpid()}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(fd, MAGIC + seed)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.link(part, path)
    except FileExistsError:
        raise StateError(f"{path}: there is a key already") from None
    finally:
        os.unlink(part)
    sync_directory(os.path.dirname(path) or ".")
    return ServerKey(seed)


def load_key_file(path: str) -> ServerKey:
    """The key of a file. StateError if it is not there or open to others, SpecError if none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StateError(f"{path}: there is no server key") from None
    try:
        if os.fstat(fd).st_mode & 0o077:
            raise StateError(f"{path}: others can read this key: chmod 600")
        data = os.read(fd, len(MAGIC) + keys.SEED_BYTES + 1)
    finally:
        os.close(fd)
    if not data.startswith(MAGIC) or len(data) != len(MAGIC) + keys.SEED_BYTES:
        raise SpecError(f"{path}: not a server's key")
    return ServerKey(data[len(MAGIC) :])
