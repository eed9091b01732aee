"""The supervisor's event loop: descriptors and what to call when they are ready. No timers.

One loop per process, no threads call into it.
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
        ready = self._epoll.poll(timeout_s, EVENTS_MAX)
        for fd, mask in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:  # an earlier callback of this round may have unwatched it
                callback(mask)
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
        poll, callbacks = self._epoll.poll, self._callbacks
        while is_wanted():
            for fd, mask in poll(-1, EVENTS_MAX):
                callback = callbacks.get(fd)
                if callback is not None:
                    callback(mask)

    def close(self) -> None:
        self._epoll.close()
