"""The witness's door: HTTP/1.1 by hand over TCP, with bounded memory for hostile clients.

Not here: what is answered (witness.py), the bytes of HTTP (http.py). Invariants: at most
CLIENTS_MAX connections, of one address ADDRESS_CLIENTS_MAX, each with one request of at most
BODY_BYTES_MAX in memory; who says nothing, or too slowly, is dropped; who asks too often is told so
(429).
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from chainlite.witness import BAD_REQUEST, BODY_BYTES_MAX, NOT_FOUND, Answer
from docklock.witness import http

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.witness.witness import Witness

CLIENTS_MAX = 64
ADDRESS_CLIENTS_MAX = 16
ADDRESSES_MAX = 1024
RATE_PER_S = 200.0
BURST = 400.0
"""Requests of one address: so many at once, then so many a second."""
IDLE_MAX_S = 30.0
REQUEST_MAX_S = 10.0
BACKLOG = 64
CHECKPOINTS = "/checkpoints/"


class Rates:
    """How many requests each address has left; the oldest are forgotten beyond ADDRESSES_MAX."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, address: str, now_s: float) -> bool:
        """Whether this address may ask now."""
        left, since_s = self._left.pop(address, (BURST, now_s))
        left = min(BURST, left + (now_s - since_s) * RATE_PER_S)
        is_granted = left >= 1.0
        self._left[address] = (left - 1.0 if is_granted else left, now_s)
        if len(self._left) > ADDRESSES_MAX:
            del self._left[next(iter(self._left))]
        return is_granted


class Server:
    """Serves one witness, and `get_metrics` beside it."""

    def __init__(self, witness: Witness, get_metrics: Callable[[], str]) -> None:
        self._witness, self._get_metrics = witness, get_metrics
        self._rates = Rates()
        self._clients: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, address: str, port: int) -> tuple[str, int]:
        """Listen; the address and port that it got. OSError if it cannot."""
        self._server = await asyncio.start_server(
            self._upon_client, address, port, limit=http.HEAD_BYTES_MAX, backlog=BACKLOG
        )
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def close(self) -> None:
        """Listen no more, and drop who is there."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _upon_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        count = self._clients.get(address, 0)
        if len(self._tasks) >= CLIENTS_MAX or count >= ADDRESS_CLIENTS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        self._clients[address] = count + 1
        try:
            while await self._serve(reader, writer, address):
                pass
        except asyncio.LimitOverrunError:
            writer.write(
                http.encode_answer(Answer(BAD_REQUEST, b"too long a head\n"), is_kept=False)
            )
        except (OSError, EOFError, TimeoutError):
            pass  # it went away, or was too slow: no client of ours
        finally:
            self._tasks.discard(task)
            self._clients[address] -= 1
            if not self._clients[address]:
                del self._clients[address]
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> bool:
        """One request; whether another may follow on this connection."""
        data = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_MAX_S)
        now_s = asyncio.get_running_loop().time()
        is_kept = False
        try:
            head = http.parse_request(data)
        except SpecError as error:
            answer = Answer(BAD_REQUEST, f"{error}\n".encode())
        else:
            if head.length > BODY_BYTES_MAX:
                answer = Answer(http.TOO_LARGE, b"at most %d bytes\n" % BODY_BYTES_MAX)
            elif not self._rates.take(address, now_s):
                answer = Answer(http.TOO_MANY, b"too many requests: wait a second\n")
            else:
                body = await asyncio.wait_for(reader.readexactly(head.length), REQUEST_MAX_S)
                is_kept = head.is_kept
                answer = self.answer(head.method, head.path, body)
        writer.write(http.encode_answer(answer, is_kept=is_kept))
        await asyncio.wait_for(writer.drain(), REQUEST_MAX_S)
        return is_kept

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to a request, whoever asks."""
        posts = {
            "/add-checkpoint": self._witness.add_checkpoint,
            "/add-cosigned": self._witness.add_cosigned,
        }
        if path in posts:
            if method != "POST":
                return Answer(http.NOT_ALLOWED, b"only POST\n")
            return posts[path](body)
        if not path.startswith(CHECKPOINTS) and path != "/metrics":
            return Answer(NOT_FOUND, b"page not found\n")
        if method != "GET":
            return Answer(http.NOT_ALLOWED, b"only GET\n")
        if path == "/metrics":
            return Answer(200, self._get_metrics().encode(), "text/plain; version=0.0.4")
        return self._witness.get_checkpoints(path.removeprefix(CHECKPOINTS))


def describe_error(error: OSError, listen: str) -> str:
    """Why it cannot listen, in a line."""
    if error.errno == errno.EADDRINUSE:
        return f"--listen {listen}: something else listens there"
    return f"--listen {listen}: {error.strerror or error}"
