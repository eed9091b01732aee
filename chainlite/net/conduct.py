"""How a peer behaves: misdeeds are counted, and who repeats them is left alone for a while. Pure.

Not here: what is a misdeed (whoever raises PeerError). Invariants: MISDEEDS_MAX of them within
WINDOW_MS end the connection; each time after that within FORGIVEN_MS the peer is left alone twice
as long, up to BAN_MAX_MS; nothing is held against a peer for ever.
"""

from __future__ import annotations

from collections import deque

MISDEEDS_MAX = 8
WINDOW_MS = 60_000
BAN_MIN_MS = 10_000
BAN_MAX_MS = 600_000
FORGIVEN_MS = 3_600_000


class Conduct:
    """One peer's."""

    __slots__ = ("_ban_ms", "_banned_until_ms", "_last_ms", "_recent")

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=MISDEEDS_MAX)
        self._banned_until_ms = self._last_ms = 0
        self._ban_ms = BAN_MIN_MS

    def upon_misdeed(self, now_ms: int) -> bool:
        """Count one; whether to hang up and to leave the peer alone from now on."""
        if now_ms - self._last_ms > FORGIVEN_MS:
            self._ban_ms = BAN_MIN_MS
        self._last_ms = now_ms
        self._recent.append(now_ms)
        if len(self._recent) < MISDEEDS_MAX or now_ms - self._recent[0] > WINDOW_MS:
            return False
        self._recent.clear()
        self._banned_until_ms = now_ms + self._ban_ms
        self._ban_ms = min(self._ban_ms * 2, BAN_MAX_MS)
        return True

    def get_ban_ms(self, now_ms: int) -> int:
        """How much longer the peer is left alone; 0 if it is not."""
        return max(self._banned_until_ms - now_ms, 0)
