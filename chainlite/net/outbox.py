"""What waits to be sent to one peer: a queue for each priority, bounded in bytes. Pure.

Not here: when it is sent (connection). Invariants: of what waits, the lowest priority number goes
first; a queue keeps its order; no queue holds more than its limit, and what does not fit is not
taken.
"""

from __future__ import annotations

from collections import deque

from chainlite.net.transport import QUEUE_BYTES_MAX


class Outbox:
    """Frames by priority."""

    __slots__ = ("_queues", "_sizes")

    def __init__(self) -> None:
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in QUEUE_BYTES_MAX)
        self._sizes = [0] * len(QUEUE_BYTES_MAX)

    def put(self, priority: int, frame: bytes) -> bool:
        """Take a frame; False if there is no room for it."""
        size = self._sizes[priority] + len(frame)
        if size > QUEUE_BYTES_MAX[priority]:
            return False
        self._sizes[priority] = size
        self._queues[priority].append(frame)
        return True

    def take(self, limit: int) -> list[bytes]:
        """The next frames, one or more while they have less than `limit` bytes together."""
        taken, total = list[bytes](), 0
        for priority, queue in enumerate(self._queues):
            while queue:
                size = len(queue[0])
                if taken and total + size > limit:
                    return taken
                taken.append(queue.popleft())
                self._sizes[priority] -= size
                total += size
        return taken

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self._queues)
