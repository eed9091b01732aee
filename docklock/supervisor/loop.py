"""The supervisor's event loop: descriptors and what to call when they are ready, or later.

One loop per process, no threads call into it. Times are monotonic.
"""

from __future__ import annotations

import select
import time

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
EVENTS_MAX = 64


class Loop:
    """Level-triggered epoll; a callback takes the event mask."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, not before `delay_s` have passed; what it had to wait for ends."""
        self.cancel(callback)
        self._timers.append((time.monotonic() + delay_s, callback))

    def cancel(self, callback: Callable[[], None]) -> None:
        """Do not call `callback` later, if it was to be called."""
        self._timers[:] = [timer for timer in self._timers if timer[1] != callback]

    def watch(self, fd: int, callback: Callable[[int], None], mask: int = READ) -> None:
        """Call `callback` whenever `fd` is ready; watching again changes the mask."""
        if fd in self._callbacks:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching; nothing happens if it was not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watch_also(self, fd: int, mask: int) -> None:
        """Wait for `mask` besides READ on a watched `fd`."""
        self._epoll.modify(fd, READ | mask)

    def watch_only(self, fd: int, mask: int) -> None:
        """Wait for `mask` alone on a watched `fd`."""
        if fd in self._callbacks:
            self._epoll.modify(fd, mask)

    def is_watched(self, fd: int) -> bool:
        return fd in self._callbacks

    def run_once(self, timeout_s: float = -1) -> bool:
        """Wait for events and serve them; False when the time ran out with none."""
        ready = self._epoll.poll(self._limit(timeout_s), EVENTS_MAX)
        for fd, mask in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:  # an earlier callback of this round may have unwatched it
                callback(mask)
        self._call_due()
        return bool(ready)

    def run_until(self, deadline_s: float, is_wanted: Callable[[], bool]) -> None:
        """Serve events for as long as `is_wanted()`, at most until the monotonic clock's time."""
        while is_wanted():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return
            self.run_once(left_s)

    def run_while(self, is_wanted: Callable[[], bool]) -> None:
        """Serve events for as long as `is_wanted()`: run_once, with nothing between two calls."""
        poll, callbacks, timers = self._epoll.poll, self._callbacks, self._timers
        while is_wanted():
            for fd, mask in poll(self._limit(-1) if timers else -1, EVENTS_MAX):
                callback = callbacks.get(fd)
                if callback is not None:
                    callback(mask)
            if timers:
                self._call_due()

    def _limit(self, timeout_s: float) -> float:
        """`timeout_s` (below 0: none), or less where a timer is due before."""
        if not self._timers:
            return timeout_s
        due_s = max(0.0, min(at for at, _ in self._timers) - time.monotonic())
        return due_s if timeout_s < 0 else min(due_s, timeout_s)

    def _call_due(self) -> None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer[0] <= now]
        for timer in due:
            self._timers.remove(timer)
            timer[1]()

    def close(self) -> None:
        self._epoll.close()
