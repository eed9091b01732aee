"""What is asked of the intake, and what it answers. Pure.

Not here: what it makes of it (intake), what callers are told (ingest, handing, refill_app).
"""

from __future__ import annotations

from chainlite.bpci.verification import LOGBLOCK
from chainlite.lean import NamedTuple

TAKEN, KNOWN, REFUSED, BROKEN = "taken", "known", "refused", "broken"
STRANGER, REVOKED, EXCEEDED, NOT_YET = "stranger", "revoked", "exceeded", "not yet"
BEHIND = "behind"


class Request(NamedTuple):
    """A batch, the host that its sender says it is, and the key that signed the call.

    That key must be one that the host's log, with this batch, names as its newest; empty where the
    caller has checked that by other means. `seen` is the largest size of this server's log that the
    host has a checkpoint of.
    """

    host: bytes
    data: bytes
    is_packed: bool = False
    public: bytes = b""
    seen: int = 0


class Answer(NamedTuple):
    """TAKEN, KNOWN (it does not begin where the host stands), REFUSED, STRANGER where the key is
    not the host's, REVOKED where the host is, EXCEEDED where a quota of its tenant does not allow
    it (`which` of quota.NAMES), BROKEN where the store is damaged, or BEHIND where this server's
    log is restored, or is smaller than the host has seen it; and why.

    `acknowledgement` says what is held now; empty where the host is not enrolled. `alert` is the
    kind of one that was raised: also beside TAKEN.
    """

    kind: str
    acknowledgement: bytes = b""
    receipts: int = 0
    why: str = ""
    alert: str = ""
    which: int = -1


class HandedIn(NamedTuple):
    """LogBlocks or PoE bundles (handed.encode_handed) that a host hands in, which has shown its
    newest key. `kind` is that of the alert which they may raise: LOGBLOCK or POE."""

    host: bytes
    data: bytes
    kind: str = LOGBLOCK
