"""Calls to a server as this host: each is signed by the key that the host has now.

Not here: what is signed and how (chainlite.cage), who may call (chainlite.bpci.actor). Invariants:
key id and signature are of one key, also while a rotation goes on; the private key is in memory for
one signature; what a server answers counts if it signed it for this very call.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.actor import make_keyid
from chainlite.cage.client import Caller
from docklock.evidence.keyring import ensure_host_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.cage.client import Prepared
    from docklock.outbox.settings import Server
    from docklock.paths import Paths
    from docklock.witness.client import Got

NONCE_BYTES = 24


class SignedCall(NamedTuple):
    """A call that is signed, and who may answer it."""

    caller: Caller
    prepared: Prepared

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers to send, `host` among them."""
        return self.prepared.fields

    def read(self, got: Got) -> bytes:
        """The body of the answer; PeerError where the server has not signed it for this call."""
        fields = [(name.decode("latin-1"), value.decode("latin-1"))
                  for name, value in got.headers.items()]  # fmt: skip
        return self.caller.check(self.prepared, got.status, fields, got.body).body


class HostCalls:
    """Signs calls with the host's key."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def post(self, server: Server, url: str, fields: Mapping[str, str], body: bytes) -> SignedCall:
        """A POST to a server; `fields` by lower-case name, all of them are signed."""
        key = ensure_host_key(self._paths)
        key.hold(None)
        try:
            keyid = make_keyid(key.host, key.public)
            caller = Caller(key, keyid, server.keys[0].public, server.origin)
            nonce = os.urandom(NONCE_BYTES).hex()
            prepared = caller.prepare(
                "POST", url, body, fields, created_s=int(time.time()), nonce=nonce
            )
        finally:
            key.drop()
        return SignedCall(caller, prepared)
