"""A node's door to bodies: take what hosts offer and peers send, say what is held, read it back.

Verification and syncs are a child's (body_keeper), so that nothing here takes longer than a copy.
Not here: what is signed about it: an `Available` operation, which `make_available` makes of the
anchors that the chain has and this node holds. One event loop.
Invariants: `take` returns only what is durable; what waits is bounded; a child that ended ends what
it was asked with StateError, and is started again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections import deque
from typing import TYPE_CHECKING

from chainlite import checkpoint
from chainlite.errors import PeerError, SpecError, StateError, TamperError
from chainlite.ledger import body_keeper as keeper
from chainlite.ledger.body_reader import BodyReader
from chainlite.ledger.body_store import NOTHING, Held
from chainlite.ledger.offer import OFFER_LIMIT_BYTES, Ack
from chainlite.ledger.operations import Available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chainlite.ledger.offer import Item

WAITING_BYTES_MAX = 32 << 20
"""Offers and items that the child has not yet answered."""
PIECE_BYTES = 1 << 18
PIPE_BYTES = 1 << 20
READY_S = 60.0
AGAIN_S = 1.0
STOP_S = 10.0


class Availability:
    """The bodies under one directory."""

    def __init__(
        self, directory: str, tell: Callable[[str], None] = lambda _: None,
        upon_held: Callable[[Ack], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`tell` gets lines about damage; `upon_held` a host that is held further than before."""
        self.reader = BodyReader(directory)
        self._directory, self._tell, self._upon_held = directory, tell, upon_held
        self._held: dict[bytes, Held] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: deque[asyncio.Future[Ack]] = deque()
        self._waiting_bytes = 0
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.receipts = 0
        """Receipts that were verified and kept since the start."""

    async def start(self) -> None:
        """Start the child and learn what is held; StateError if it cannot be opened."""
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run())
        await asyncio.wait_for(asyncio.shield(self._ready), READY_S)

    async def close(self) -> None:
        """End the child; what it has not answered ends as StateError."""
        task, self._task = self._task, None
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if task is not None:
            try:
                await asyncio.wait_for(task, STOP_S)
            except TimeoutError:
                if process is not None and process.returncode is None:
                    process.kill()

    async def take(self, offer: bytes) -> Ack:
        """Verify and keep an offer; durable when it returns.

        Where it does not begin at what is held, the answer says so by its size, and nothing is
        taken. SpecError: it does not read. PeerError: it does not hold; the text names the leaf.
        StateError: too much waits, or there is no room.
        """
        if len(offer) > OFFER_LIMIT_BYTES:
            raise SpecError(f"offer: {len(offer)} bytes, above {OFFER_LIMIT_BYTES}")
        return await self._ask(keeper.encode_offer_request(offer))

    async def append(self, host: bytes, start: int, items: Sequence[Item], note: bytes) -> Ack:
        """Verify and keep items that are the host's, as the caller knows. Errors as in `take`."""
        return await self._ask(keeper.encode_items_request(host, start, items, note))

    async def forget(self, host: bytes, before: int) -> None:
        """Remove files of which every leaf is before this one."""
        await self._ask(keeper.encode_forget_request(host, before))

    def get_hosts(self) -> tuple[bytes, ...]:
        """The hosts of which anything is held."""
        return tuple(self._held)

    def get_held(self, host: bytes) -> Held:
        """How far a host is held, durably."""
        return self._held.get(host, NOTHING)

    def find_root(self, host: bytes, size: int) -> bytes | None:
        """The root of a host's log at a size that is held; None beyond."""
        held = self.get_held(host)
        if size > held.size:
            return None
        if size == held.size:
            return held.root
        return self.reader.compute_root(host, size)

    def make_available(self, anchors: Iterable[tuple[bytes, int, bytes]]) -> list[Available]:
        """Of anchors (host, size, root) of the chain, those that this node holds, as operations.

        An anchor with another root than is held is not among them: the host has forked.
        """
        return [Available(*one) for one in anchors if self.find_root(one[0], one[1]) == one[2]]

    async def _ask(self, request: bytes) -> Ack:
        size = len(request)
        if self._waiting_bytes + size > WAITING_BYTES_MAX and self._waiting_bytes:
            raise StateError("too many bodies wait to be verified; try again")
        self._waiting_bytes += size
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._forget_bytes(size))
        # Who asks may be cancelled at any time; what is half written never is.
        task = asyncio.get_running_loop().create_task(self._write(request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await answer

    def _forget_bytes(self, size: int) -> None:
        self._waiting_bytes -= size

    async def _write(self, request: bytes, answer: asyncio.Future[Ack]) -> None:
        """Hand a request to the child, in pieces: a long buffer is moved as often as it is cut."""
        async with self._writing:
            process = self._process
            if answer.done():
                return  # who asked is gone
            if process is None or process.stdin is None or self._task is None:
                answer.set_exception(StateError("the keeper of bodies is not running; try again"))
                return
            self._waiting.append(answer)
            data = memoryview(keeper.frame(request))
            try:
                for at in range(0, len(data), PIECE_BYTES):
                    process.stdin.write(data[at : at + PIECE_BYTES])
                    await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # the end of the child answers

    async def _run(self) -> None:
        """The child, and the next one after it."""
        while True:
            argv = [sys.executable, "-S", "-c", _make_program(), self._directory]
            self._process = process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdin is not None and process.stdout is not None, "they are pipes"
            _widen(process.stdin)
            try:
                while True:
                    size = int.from_bytes(await process.stdout.readexactly(4), "big")
                    data = await process.stdout.readexactly(size)
                    self._upon_answer(keeper.decode_answer(data))
            except asyncio.IncompleteReadError:
                pass
            code = await process.wait()
            await _close(process)
            self._fail(f"the keeper of bodies ended with code {code}")
            if self._task is None:
                return
            self._tell(f"the keeper of bodies ended with code {code}; again in {AGAIN_S:g} s")
            await asyncio.sleep(AGAIN_S)

    def _fail(self, why: str) -> None:
        """What was asked has no answer: it may be kept or not, and is asked again."""
        self._process = None
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(StateError(why))
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(StateError(why))

    def _upon_answer(self, answer: keeper.Answer) -> None:
        if answer.kind == keeper.READY:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif answer.kind == keeper.LOST:
            self._tell(answer.text)
        elif answer.kind == keeper.HOST:
            assert answer.ack is not None and answer.held is not None, "it says what is held"
            self._held[answer.ack.host] = answer.held
        else:
            self._settle(self._waiting.popleft(), answer)

    def _settle(self, waiting: asyncio.Future[Ack], answer: keeper.Answer) -> None:
        if answer.ack is None or answer.held is None:
            kind = keeper.ERRORS[answer.kind]
            error = PeerError(answer.text) if kind is TamperError else kind(answer.text)
            if not waiting.done():
                waiting.set_exception(error)
            return
        ack, before = answer.ack, self.get_held(answer.ack.host)
        if answer.held.size:
            self._held[ack.host] = answer.held
        self.receipts += ack.receipts
        if not waiting.done():
            waiting.set_result(ack)
        if answer.held.size > before.size:
            self._upon_held(ack)


def _make_program() -> str:
    """The keeper, with modules found where this process found them."""
    where = [os.path.abspath(entry) for entry in sys.path if entry]
    main = "from chainlite.ledger.body_keeper import main; sys.exit(main())"
    return f"import sys; sys.path[:] = {where!r}; {main}"


def _widen(writer: asyncio.StreamWriter) -> None:
    """Let a pipe hold more than 64 KiB, where this user may: fewer turns for one offer."""
    try:
        fcntl.fcntl(writer.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass


async def _close(process: asyncio.subprocess.Process) -> None:
    """Close the input of a process that ended, and hear how that went."""
    assert process.stdin is not None, "it is a pipe"
    process.stdin.close()
    try:
        await process.stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        pass  # what was written is asked again


def parse_origin(origin: str) -> bytes | None:
    """The host whose log has this origin; None if it is no host's."""
    name = origin.removeprefix("docklock/host/")
    try:
        host = bytes.fromhex(name)
    except ValueError:
        return None
    return host if len(host) == 32 and checkpoint.get_origin(host) == origin else None
