"""A condition and a thread to wait for, as threading has them (3 ms to import, with functools).

Only what the recorder needs: one lock, waits with a limit, wake-ups of all, one daemon thread.
Invariants: whoever waits is woken by any later notify_all; the lock is held when `wait` returns.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable


class Condition:
    """A lock (`with`) under which threads wait for each other."""

    __slots__ = ("_waiting", "lock")

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self._waiting: list[LockType] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def wait(self, limit_s: float | None = None) -> None:
        """Free the lock until the next notify_all, at most `limit_s`; take it again."""
        own = allocate_lock()
        own.acquire()
        self._waiting.append(own)
        self.lock.release()
        try:
            own.acquire(True, -1 if limit_s is None else max(0.0, limit_s))
        finally:
            self.lock.acquire()
            if own in self._waiting:
                self._waiting.remove(own)

    def notify_all(self) -> None:
        """Wake all who wait; the caller holds the lock."""
        for one in self._waiting:
            one.release()
        self._waiting.clear()


class Thread:
    """A thread that runs at once, and that others may wait for."""

    __slots__ = ("_running",)

    def __init__(self, run: Callable[[], None]) -> None:
        self._running = allocate_lock()
        self._running.acquire()
        start_new_thread(self._run, (run,))

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            self._running.release()

    def join(self) -> None:
        """Wait until it has ended."""
        with self._running:
            pass
