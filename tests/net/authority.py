"""A certificate that may sign others, and one that it signed."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chainlite.net.tls import NodeCertificate

PEM = serialization.Encoding.PEM


def make_authority(directory: Path) -> tuple[NodeCertificate, NodeCertificate]:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    made = []
    for name, key in (
        ("authority", authority_key),
        ("leaf", ec.generate_private_key(ec.SECP256R1())),
    ):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), True)
            .sign(authority_key, hashes.SHA256())
        )
        secret = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = directory / f"{name}.pem"
        path.write_bytes(secret + certificate.public_bytes(PEM))
        made.append(NodeCertificate(path, certificate.public_bytes(serialization.Encoding.DER)))
    return made[0], made[1]
