"""When a server is tried again that was tried for nothing, and what is noted of it.

Not here: who waits (following). Invariants: never before a server said; hosts that lost a server
together do not come back together; what cannot be true, and a fork, is not tried again by itself.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from chainlite.errors import PeerError, TamperError
from docklock.outbox.checking import Contradicted
from docklock.outbox.door import Alerted, Busy
from docklock.outbox.sent import ALERTED, AWAY, BUSY, CONTRADICTED, REFUSED, TAMPERED

if TYPE_CHECKING:
    from chainlite.errors import DocklockError
    from docklock.outbox.sent import Standing

BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 300.0
DOUBLINGS_MAX = 10
REFUSED_AGAIN_S = 900.0
"""A refusal is for good until somebody changes something there."""
ALERTS_FOR_GOOD = ("fork", "rollback")
"""Two histories: no leaf that this host can send is taken any more."""
RETRY_AFTER_MAX_S = 86_400.0
JITTER = 0.25
"""Of a wait: hosts that lost a server together do not come back together."""


def note_failure(before: Standing, error: DocklockError, now_ms: int) -> Standing:
    """Where a server stands after a try for nothing, and when it is tried again."""
    failures = before.failures + 1
    wait_s = min(BACKOFF_MIN_S * 2 ** min(before.failures, DOUBLINGS_MAX), BACKOFF_MAX_S)
    state = AWAY
    if isinstance(error, Busy):
        state = BUSY
        wait_s = min(error.retry_after_s, RETRY_AFTER_MAX_S) or wait_s
    elif isinstance(error, PeerError):
        state, wait_s = REFUSED, REFUSED_AGAIN_S
    elif isinstance(error, Contradicted):
        state, wait_s = CONTRADICTED, 0.0
    elif isinstance(error, Alerted):
        state = ALERTED
        wait_s = 0.0 if error.kind in ALERTS_FOR_GOOD else REFUSED_AGAIN_S
    elif isinstance(error, TamperError):
        state, wait_s = TAMPERED, BACKOFF_MAX_S
    wait_ms = int(1000 * wait_s * (1 + random.uniform(0, JITTER)))
    return before._replace(
        tried_ms=now_ms, next_ms=now_ms + wait_ms if wait_ms else 0, failures=failures,
        trouble=str(error), state=state,
    )  # fmt: skip
