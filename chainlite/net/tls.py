"""Mutual TLS 1.3 between registered nodes: certificates, contexts, and a session without a socket.

Not here: sockets (connection), who is registered (registration). stdlib ssl calls nobody to judge a
certificate, so each registered one is loaded as a trust anchor, and a session ends with the peer's
DER bytes, by which it is known. Invariants: nothing below TLS 1.3 is spoken; nobody without a
certificate gets through; no session is resumed, so that who was removed stays out; nothing is
believed because it came over TLS. A certificate's dates say nothing: a registration ends, not it.
Source: RFC 8446; OpenSSL SSL_CTX_new(3).
"""

from __future__ import annotations

import datetime
import os
import ssl
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import PeerError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

READ_BYTES = 256 * 1024
KEY_FILE_MODE = 0o600


class NodeCertificate(NamedTuple):
    """A node's own: where key and certificate lie (PEM), and the certificate's DER."""

    path: Path
    der: bytes


def make_certificate(path: Path, node: bytes) -> NodeCertificate:
    """Make a P-256 key and its certificate for a node, in one file that only the owner reads.

    An existing file stays as it is: StateError.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: OpenSSL finds trust anchors by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node.hex())])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    utc = datetime.UTC
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=utc))
        # RFC 5280, 4.1.2.5: no date of expiry.
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, KEY_FILE_MODE)
    except FileExistsError:
        raise StateError(f"{path}: is there already; remove it to make another") from None
    with os.fdopen(file, "wb") as out:
        out.write(secret + certificate.public_bytes(pem))
        out.flush()
        os.fsync(out.fileno())
    return NodeCertificate(path, certificate.public_bytes(serialization.Encoding.DER))


def load_certificate(path: Path) -> NodeCertificate:
    """The certificate in a file of make_certificate; StateError if others may read the key."""
    try:
        if os.stat(path).st_mode & 0o077:
            raise StateError(f"{path}: others may read this key: chmod 600 it, or make a new one")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: cannot be read: {error}") from None
    start = text.find("-----BEGIN CERTIFICATE-----")
    try:
        return NodeCertificate(path, ssl.PEM_cert_to_DER_cert(text[start:] if start >= 0 else ""))
    except ValueError as error:
        raise StateError(f"{path}: holds no certificate: {error}") from None


def make_context(
    own: NodeCertificate, anchors: Iterable[bytes], *, server_side: bool
) -> ssl.SSLContext:
    """What speaks with the holders of these certificates (DER), and with nobody else."""
    kind = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node is its certificate, wherever it listens
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if server_side:
        context.num_tickets = 0
    try:
        context.load_cert_chain(own.path)
        for anchor in anchors:
            context.load_verify_locations(cadata=anchor)
    except (OSError, ssl.SSLError) as error:
        raise StateError(f"{own.path}: not usable for TLS: {error}") from None
    return context


class Contexts:
    """The two contexts of a node, as wide as who is registered; made anew when somebody is not."""

    def __init__(self, own: NodeCertificate) -> None:
        self._own = own
        self._anchors: set[bytes] = set()
        self._made: dict[bool, ssl.SSLContext] = {}

    def add(self, anchor: bytes) -> None:
        """Speak with the holder of this certificate too."""
        self._anchors.add(anchor)
        for context in self._made.values():
            context.load_verify_locations(cadata=anchor)

    def remove(self, anchor: bytes) -> None:
        """No longer speak with it. OpenSSL gives no trust anchor back."""
        self._anchors.discard(anchor)
        if self._made:
            self.prepare()

    def prepare(self) -> None:
        """Make both; StateError if the node's own key cannot be used."""
        anchors = sorted(self._anchors)
        made = {side: make_context(self._own, anchors, server_side=side) for side in (True, False)}
        self._made = made

    def get(self, *, server_side: bool) -> ssl.SSLContext:
        """The present one."""
        return self._made[server_side]


def is_certificate(data: bytes) -> bool:
    """Whether OpenSSL reads these bytes, all of them, as one X.509 certificate."""
    if data[:2] != b"\x30\x82" or int.from_bytes(data[2:4], "big") != len(data) - 4:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=data)
    except (ssl.SSLError, ValueError):
        return False
    return context.cert_store_stats()["x509"] == 1


class TlsSession:
    """One end of a connection: bytes of the wire in and out, plain bytes out and in."""

    __slots__ = ("_in", "_object", "_out", "is_ready")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=server_side)
        self.is_ready = False

    def feed(self, data: bytes | memoryview) -> None:
        """Bytes that arrived."""
        self._in.write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done. PeerError if it fails."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise PeerError(f"TLS: {error.reason or error}") from None
        self.is_ready = True
        return True

    def read(self) -> bytes:
        """The next plain bytes; empty if more must arrive first. PeerError at the end of it all."""
        try:
            return self._object.read(READ_BYTES)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise PeerError(f"TLS: {error.reason or error}") from None

    def write(self, data: bytes) -> None:
        """Plain bytes to send; `take_output` has them then."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._object.write(view) :]
        except ssl.SSLError as error:
            raise PeerError(f"TLS: {error.reason or error}") from None

    def take_output(self) -> bytes:
        """What is to be put on the wire now."""
        return self._out.read()

    def get_peer_certificate(self) -> bytes:
        """The DER bytes that the peer showed, and whose key it has."""
        found = self._object.getpeercert(binary_form=True)
        assert found is not None
        return found
