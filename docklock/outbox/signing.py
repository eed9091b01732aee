"""Calls to a server as this host: each is signed by the key that the host has now.

Not here: what is signed and how (chainlite.cage), who may call (chainlite.bpci.actor), what is kept
of a call (calls). Invariants: key id and signature are of one key, also while a rotation goes on;
the private key is in memory for one signature; what a server answers counts if it signed it for
this very call, and then it is kept before anything rests on it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.actor import make_keyid
from chainlite.cage.call_record import encode_call_record, make_caller_record
from chainlite.cage.client import Caller
from docklock.evidence.keyring import ensure_host_key
from docklock.outbox.calls import CallFile, KeptCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.cage.client import Answer, Prepared
    from docklock.outbox.settings import Server
    from docklock.paths import Paths
    from docklock.witness.client import Got

NONCE_BYTES = 24
NS_PER_MS = 1_000_000


class SignedCall(NamedTuple):
    """A call that is signed, and who may answer it."""

    caller: Caller
    prepared: Prepared

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers to send, `host` among them."""
        return self.prepared.fields

    def check(self, got: Got) -> Answer:
        """The answer; PeerError where the server has not signed it for this call."""
        fields = [(name.decode("latin-1"), value.decode("latin-1"))
                  for name, value in got.headers.items()]  # fmt: skip
        return self.caller.check(self.prepared, got.status, fields, got.body)

    def make_record(self, answer: Answer) -> bytes:
        """What shows who asked and who answered, with their public keys alone."""
        return encode_call_record(make_caller_record(self.prepared.request, answer.signed_receipt))


class HostCalls:
    """Signs calls with the host's key."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._kept: CallFile | None = None

    def close(self) -> None:
        """Close the file of calls."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def keep(self, server: Server, call: SignedCall, answer: Answer) -> bytes:
        """Keep a call that was answered, durably; its record."""
        if self._kept is None:
            self._kept = CallFile(self._paths)
        record, receipt = call.make_record(answer), answer.receipt
        now_ms = time.time_ns() // NS_PER_MS
        self._kept.add(KeptCall(server.origin, now_ms, receipt.audit_id, receipt.status, record))
        return record

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
