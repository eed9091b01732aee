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
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.intake import KNOWN, Answer, HandedIn, Request
from chainlite.errors import DocklockError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.bpci.intake import Intake

WAITING_MAX = 2048
WAITING_BYTES_MAX = 64 << 20
GROUP_MAX = 64
"""Requests that share one commit: fewer where they are large, since all wait for the last."""
GROUP_BYTES_MAX = 128 << 10
"""Some 3,000 receipts, 25 ms: who comes just too late waits for one such group and its own."""
STOP_S = 30.0


class Busy(StateError):
    """Too much waits: come again."""


class Enrolment(NamedTuple):
    """A host to be enrolled by its first public key; a tenant that is not there is made."""

    tenant: str
    public: bytes


class _Waiting(NamedTuple):
    request: Request | Enrolment | HandedIn
    size: int
    answer: asyncio.Future[Answer]


class Desk:
    """An intake that callers of one event loop share."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = asyncio.Event()
        self._unanswered: set[asyncio.Future[Answer]] = set()
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
        """Whether batches are taken."""
        return self._thread is not None and self._thread.is_alive()

    async def close(self) -> None:
        """Answer what waits, then end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            async with asyncio.timeout(STOP_S):
                await self._stopped.wait()
            thread.join()

    async def take(self, request: Request | HandedIn) -> Answer:
        """As Intake.take for one, or hand_in. Busy: too much waits. StateError: it could not be
        written."""
        size = len(request.data)
        if not self.is_running or self._loop is None:
            raise StateError("the server is stopping")
        if self.waiting >= WAITING_MAX or self.waiting_bytes + size > WAITING_BYTES_MAX:
            raise Busy("too many batches wait")
        self.waiting += 1
        self.waiting_bytes += size
        answer: asyncio.Future[Answer] = self._loop.create_future()
        return await self._wait(_Waiting(request, size, answer))

    async def enrol(self, enrolment: Enrolment) -> Answer:
        """As Intake.enrol, in the writer's turn. StateError: the host is another tenant's."""
        if not self.is_running or self._loop is None:
            raise StateError("the server is stopping")
        if self.waiting >= WAITING_MAX:
            raise Busy("too many batches wait")
        self.waiting += 1
        answer: asyncio.Future[Answer] = self._loop.create_future()
        return await self._wait(_Waiting(enrolment, 0, answer))

    async def _wait(self, one: _Waiting) -> Answer:
        self._unanswered.add(one.answer)
        self._queue.put(one)
        return await one.answer

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
        """Do what is no batch, then take the batches together."""
        batches, requests = list[_Waiting](), list[Request]()
        for one in group:
            if isinstance(one.request, Enrolment):
                self._do([one], partial(self._enrol, one.request))
            elif isinstance(one.request, HandedIn):
                self._do([one], partial(self._hand_in, one.request))
            else:
                batches.append(one)
                requests.append(one.request)
        if batches:
            self._do(batches, partial(self._intake.take, requests))

    def _enrol(self, enrolment: Enrolment) -> list[Answer]:
        self._intake.ensure_tenant(enrolment.tenant)
        return [Answer(KNOWN, self._intake.enrol(*enrolment))]

    def _hand_in(self, handed: HandedIn) -> list[Answer]:
        return [self._intake.hand_in(handed)]

    def _do(self, group: list[_Waiting], do: Callable[[], list[Answer]]) -> None:
        assert self._loop is not None
        try:
            answers = do()
        except DocklockError as error:
            self._loop.call_soon_threadsafe(self._settle, group, [], error)
            return
        self._loop.call_soon_threadsafe(self._settle, group, answers, None)

    def _settle(
        self, group: list[_Waiting], answers: list[Answer], error: DocklockError | None
    ) -> None:
        """In the event loop: hand out what became of a group."""
        self.commits += 1
        self.waiting -= len(group)
        for number, one in enumerate(group):
            self.waiting_bytes -= one.size
            self._unanswered.discard(one.answer)
            if error is None:
                self.receipts += answers[number].receipts
                self.batches += 1
            if one.answer.done():
                continue  # who asked is gone
            if error is not None:
                one.answer.set_exception(StateError(str(error)))
            else:
                one.answer.set_result(answers[number])
