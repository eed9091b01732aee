"""The queue before the intake: many callers, one writer's thread, one commit for what waits.

The event loop copies bytes and waits; a thread verifies and writes. Not here: HTTP (ingest).
Invariants: what waits is bounded, and who comes beyond is told to come again; an answer is given
only for what its commit has made durable; a caller that is gone loses nothing: its batch may be
kept, and is asked for again by range. The process may not fork while this runs.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from chainlite.bpci.intake import Answer, Request
from chainlite.cage.refusal import Refusal
from chainlite.errors import DocklockError, StateError

if TYPE_CHECKING:
    from chainlite.bpci.intake import Intake

Made = TypeVar("Made")

WAITING_MAX = 2048
WAITING_BYTES_MAX = 64 << 20
GROUP_MAX = 64
"""Requests that share one commit: fewer where they are large, since all wait for the last."""
GROUP_BYTES_MAX = 128 << 10
"""Some 3,000 receipts, 25 ms: who comes just too late waits for one such group and its own."""
STOP_S = 30.0


class Busy(StateError):
    """Too much waits: come again."""


class _Waiting(NamedTuple):
    """A batch, or other work that is the writer's, and who waits for it."""

    request: Request | Callable[[], object]
    size: int
    answer: asyncio.Future[Any]


class Desk:
    """An intake that callers of one event loop share."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = asyncio.Event()
        self._unanswered: set[asyncio.Future[Any]] = set()
        self.waiting = self.waiting_bytes = 0
        self.receipts = self.batches = self.commits = 0
        """Since the start: receipts that were kept, batches answered, commits."""

    def start(self) -> None:
        """Begin to take; from the event loop whose callers will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="bpci-intake", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether batches are taken.

        Not once all who wait were told that the thread ends, though it lives on for a moment: who
        came after that would wait for ever.
        """
        if self._thread is None or self._stopped.is_set():
            return False
        return self._thread.is_alive()

    async def close(self) -> None:
        """Answer what waits, then end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            async with asyncio.timeout(STOP_S):
                await self._stopped.wait()
            thread.join()

    async def take(self, request: Request) -> Answer:
        """As Intake.take for one. Busy: too much waits. StateError: it could not be written."""
        answer: Answer = await self._wait(request, len(request.data))
        return answer

    async def run(self, work: Callable[[], Made], size: int = 0) -> Made:
        """What this makes in the writer's thread, in its turn; `size` is what it holds meanwhile.
        Busy; what it raises."""
        made: Made = await self._wait(work, size)
        return made

    async def _wait(self, request: Request | Callable[[], object], size: int) -> Any:
        if not self.is_running or self._loop is None:
            raise StateError("the server is stopping")
        if self.waiting >= WAITING_MAX or self.waiting_bytes + size > WAITING_BYTES_MAX:
            raise Busy("too many batches wait")
        self.waiting += 1
        self.waiting_bytes += size
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered.add(answer)
        self._queue.put(_Waiting(request, size, answer))
        return await answer

    def _run(self) -> None:
        assert self._loop is not None
        is_last = False
        try:
            while not is_last:
                group, is_last = self._collect()
                if group:
                    self._take(group)
        finally:
            self._loop.call_soon_threadsafe(self._upon_end)

    def _upon_end(self) -> None:
        """The thread has ended: because it was told to, or because it met a fault of ours."""
        self._stopped.set()
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(StateError("the server's writer has ended"))
        self._unanswered.clear()

    def _collect(self) -> tuple[list[_Waiting], bool]:
        """The next group, waited for; and whether it is the last one."""
        group, size = list[_Waiting](), 0
        while len(group) < GROUP_MAX and size < GROUP_BYTES_MAX:
            try:
                one = self._queue.get(block=not group)
            except queue.Empty:
                break
            if one is None:
                return group, True
            group.append(one)
            size += one.size
        return group, False

    def _take(self, group: list[_Waiting]) -> None:
        """Do other work, then take the batches together."""
        batches, requests = list[_Waiting](), list[Request]()
        for one in group:
            if isinstance(one.request, Request):
                batches.append(one)
                requests.append(one.request)
            else:
                self._do([one], partial(_list_made, one.request))
        if batches:
            self._do(batches, partial(self.intake.take, requests))

    def _do(self, group: list[_Waiting], do: Callable[[], Sequence[object]]) -> None:
        assert self._loop is not None
        try:
            answers = do()
        except DocklockError as error:
            self._loop.call_soon_threadsafe(self._settle, group, [], error)
            return
        self._loop.call_soon_threadsafe(self._settle, group, answers, None)

    def _settle(
        self, group: list[_Waiting], answers: Sequence[object], error: DocklockError | None
    ) -> None:
        """In the event loop: hand out what became of a group."""
        self.commits += 1
        self.waiting -= len(group)
        for number, one in enumerate(group):
            self.waiting_bytes -= one.size
            self._unanswered.discard(one.answer)
            made = answers[number] if error is None else None
            if isinstance(made, Answer):
                self.receipts += made.receipts
                self.batches += 1
            if one.answer.done():
                continue  # who asked is gone
            if isinstance(error, Refusal):
                one.answer.set_exception(error)
            elif error is not None:
                one.answer.set_exception(StateError(str(error)))
            else:
                one.answer.set_result(made)


def _list_made(work: Callable[[], object]) -> list[object]:
    return [work()]
