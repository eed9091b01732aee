"""An authority of one's own, and certificates that it signed, as files in PEM."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates into `directory`; its own is `ca.crt` there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = directory / "ca.crt"
        self.certificate.write_bytes(self._build("authority", self._key, ()).public_bytes(PEM))

    def sign(self, name: str, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """(certificate, key) of a server at an address, or of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = (self._directory / f"{name}.cert", self._directory / f"{name}.key")
        names = (x509.IPAddress(ipaddress.ip_address(address)),)
        found[0].write_bytes(self._build(name, key, names).public_bytes(PEM))
        secret = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        found[1].write_bytes(key.private_bytes(*secret))
        return found

    def _build(
        self, name: str, key: ec.EllipticCurvePrivateKey, names: tuple[x509.GeneralName, ...]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(self._key, hashes.SHA256())


def make_server_context(pair: tuple[Path, Path], clients: Path | None = None) -> ssl.SSLContext:
    """TLS of a server; with `clients`, an authority, only for those whom it has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
