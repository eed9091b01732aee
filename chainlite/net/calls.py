"""Requests in flight to one peer, and the answers that end them.

Not here: who carries them. Invariants: a number is used once in a connection's life; at most
REQUESTS_IN_FLIGHT_MAX wait; every one ends: by its answer, a refusal, its time, or `end_all`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import PeerError
from chainlite.net.frames import Kind
from chainlite.net.transport import REQUESTS_IN_FLIGHT_MAX, Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.net.frames import Frame

NUMBER_MAX = 0xFFFFFFFF
LATE_MAX = 1024
"""So many requests that ran out of time may still be answered without being a misdeed."""


class Calls:
    """Requests to one peer."""

    __slots__ = ("_late", "_loop", "_next", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next = 1
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._late: dict[int, None] = {}

    async def ask(self, put: Callable[[int], bool], timeout_s: float) -> bytes:
        """The answer to what `put(number)` queued; Unanswered if there is none."""
        if len(self._waiting) >= REQUESTS_IN_FLIGHT_MAX:
            raise Unanswered(f"{REQUESTS_IN_FLIGHT_MAX} requests to the peer are in flight")
        number, self._next = self._next, self._next % NUMBER_MAX + 1
        if not put(number):
            raise Unanswered("the peer is away, or takes no more")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = future
        timer = self._loop.call_later(timeout_s, self._upon_time, number, timeout_s)
        try:
            return await future
        finally:
            timer.cancel()
            if self._waiting.pop(number, None) is not None:  # whoever asked was cancelled
                self._note_late(number)

    def _upon_time(self, number: int, timeout_s: float) -> None:
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            self._note_late(number)
            future.set_exception(Unanswered(f"no answer within {timeout_s} s"))

    def _note_late(self, number: int) -> None:
        self._late[number] = None
        while len(self._late) > LATE_MAX:
            del self._late[next(iter(self._late))]

    def upon_answer(self, frame: Frame) -> None:
        """Give an ANSWER or a REFUSAL to who waits for it; PeerError if nobody ever asked."""
        future = self._waiting.pop(frame.number, None)
        if future is None:
            if frame.number not in self._late:
                raise PeerError(f"answer to request {frame.number}, which was not asked")
            del self._late[frame.number]
        elif not future.done():
            if frame.kind == Kind.ANSWER:
                future.set_result(frame.payload)
            else:
                reason = frame.payload.decode(errors="replace")
                future.set_exception(Unanswered(f"the peer refuses: {reason}"))

    def end_all(self, why: str) -> None:
        """End all that wait as Unanswered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unanswered(why))
