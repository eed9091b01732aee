"""A registry's own certificates, laid down by an administrator as for Docker.

In a folder named HOST:PORT: `*.crt`, who may have certified the registry; `*.cert` with `*.key`,
who this host is to it. Not here: which folders, and the connection (registry_http).
Source: docs.docker.com, "Verify repository client with certificates".
"""

from __future__ import annotations

import os
import ssl

from chainlite.errors import StateError


def load_certificates(context: ssl.SSLContext, folder: str) -> None:
    """A registry's `*.crt`, whom it may be certified by, and `*.cert` with `*.key`, who we are.

    StateError: one of them is no certificate, or is alone.
    """
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        path = f"{folder}/{name}"
        stem, _, kind = path.rpartition(".")
        try:
            if kind == "crt":
                context.load_verify_locations(path)
            elif kind == "cert":
                if f"{stem}.key" not in (f"{folder}/{other}" for other in names):
                    raise StateError(
                        f"{path}: its key {stem}.key is missing (who certifies the registry"
                        " ends in .crt)"
                    )
                context.load_cert_chain(path, f"{stem}.key", password=_refuse_password)
            elif kind == "key" and f"{stem}.cert" not in (f"{folder}/{other}" for other in names):
                raise StateError(f"{path}: its certificate {stem}.cert is missing")
        except ssl.SSLError as error:
            raise StateError(f"{path}: {error.reason or 'no certificate in PEM'}") from None
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from None


def _refuse_password() -> str:
    return ""  # OpenSSL would ask on the terminal
