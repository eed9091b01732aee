"""A node's registration: its key, certificate, addresses and operator, signed by that key. Pure.

Not here: who may take part (the chain's state), certificates as such (tls). Invariants: bytes have
one form; of two registrations of a node the one with the larger serial stands, of one serial the
first; a registration is of one network.
Layout: README.md of this room.
"""

from __future__ import annotations

from typing import NamedTuple

from chainlite import codec, domains, keys, note
from chainlite.errors import SpecError
from chainlite.net.transport import PeerId
from chainlite.sha2 import sha256

VERSION = 1
NETWORK_BYTES = 32
CERTIFICATE_BYTES_MAX = 2048
ADDRESSES_MAX = 8
HOST_CHARS_MAX = 253
REGISTRATION_BYTES_MAX = 8192


class Address(NamedTuple):
    """Where a node listens: a name or a numeric address, and a TCP port."""

    host: str
    port: int


class Registration(NamedTuple):
    """What a node says of itself. `serial` rises (Unix milliseconds will do)."""

    network: bytes
    node: PeerId
    serial: int
    certificate: bytes
    addresses: tuple[Address, ...]
    operator: str
    signature: bytes = b""


def sign_registration(unsigned: Registration, key: keys.Signer) -> Registration:
    """The registration with its node's signature; SpecError if it is not one that may be."""
    assert key.public == unsigned.node
    _check(unsigned)
    signature = keys.sign(key, domains.SIGN_REGISTRATION, _encode_signed(unsigned))
    return unsigned._replace(signature=signature)


def encode_registration(registration: Registration) -> bytes:
    """The bytes of it, signature and all."""
    return _encode_signed(registration) + registration.signature


def decode_registration(data: bytes, network: bytes) -> Registration:
    """The registration of these bytes, checked; SpecError if it is none of this network."""
    if len(data) > REGISTRATION_BYTES_MAX:
        raise SpecError(f"registration: {len(data)} bytes, at most {REGISTRATION_BYTES_MAX}")
    r = codec.Reader(data, "registration")
    r.read_head(domains.REGISTRATION, VERSION)
    head = (r.read_fixed(NETWORK_BYTES), PeerId(r.read_fixed(keys.PUBLIC_BYTES)), r.read_u64())
    certificate = r.read_bytes(CERTIFICATE_BYTES_MAX)
    count = r.read_u8(limit=ADDRESSES_MAX)
    addresses = tuple(Address(r.read_text(HOST_CHARS_MAX), r.read_u16()) for _ in range(count))
    operator = r.read_text(note.NAME_LIMIT)
    found = Registration(
        *head, certificate, addresses, operator, r.read_fixed(keys.SIGNATURE_BYTES)
    )
    r.finish()
    _check(found)
    if found.network != network:
        raise SpecError(f"registration: is of network {found.network.hex()[:12]}, not of ours")
    signed = data[: -keys.SIGNATURE_BYTES]
    if not keys.is_signed(found.node, domains.SIGN_REGISTRATION, signed, found.signature):
        raise SpecError("registration: not signed by the node's key")
    return found


def compute_certificate_hash(certificate: bytes) -> bytes:
    """What names a certificate: SHA-256 of its DER."""
    return sha256(certificate).digest()


def is_newer(new: Registration, old: Registration | None) -> bool:
    """Whether `new` replaces `old`."""
    return old is None or new.serial > old.serial


def _encode_signed(registration: Registration) -> bytes:
    return b"".join(
        (
            codec.encode_head(domains.REGISTRATION, VERSION),
            registration.network,
            registration.node,
            codec.encode_u64(registration.serial),
            codec.encode_bytes(registration.certificate),
            codec.encode_u8(len(registration.addresses)),
            *[
                codec.encode_text(host) + port.to_bytes(2, "big")
                for host, port in registration.addresses
            ],
            codec.encode_text(registration.operator),
        )
    )


def _check(registration: Registration) -> None:
    if len(registration.network) != NETWORK_BYTES or len(registration.node) != keys.PUBLIC_BYTES:
        raise SpecError("registration: network and node are 32 bytes each")
    if not 0 < len(registration.certificate) <= CERTIFICATE_BYTES_MAX:
        raise SpecError(f"registration: want a certificate of 1 to {CERTIFICATE_BYTES_MAX} bytes")
    if len(registration.addresses) > ADDRESSES_MAX:
        raise SpecError(f"registration: at most {ADDRESSES_MAX} addresses")
    for host, port in registration.addresses:
        if not is_host(host) or not 0 < port < 65536:
            raise SpecError(f"registration: address {host!r} port {port} is none")
    if not note.is_name(registration.operator):
        raise SpecError(f"registration: want an operator of 1 to {note.NAME_LIMIT} characters")


def is_host(host: str) -> bool:
    """Whether it can be a name or numeric address: letters, digits, and `.:-_%`."""
    return (
        0 < len(host) <= HOST_CHARS_MAX
        and host.isascii()
        and all(char.isalnum() or char in ".:-_%" for char in host)
    )
