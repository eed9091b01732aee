"""The node's door for its own host: a unix socket in its directory, HTTP/1.1, JSON answers.

Not here: what is asked (doors of process), the bytes of HTTP (docklock.witness.http), who asks
(client). The socket is its owner's alone. Invariants: at most CLIENTS_MAX at once, each with one
request of at most BODY_BYTES_MAX; an error of the chain is told with its exit code.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError
from chainlite.ledger.offer import OFFER_LIMIT_BYTES
from chainlite.witness import BAD_REQUEST, CONFLICT, NOT_FOUND, Answer
from docklock.json_text import encode_json
from docklock.witness import http

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeAlias

    Route: TypeAlias = Callable[[str, bytes], Awaitable[Any]]

CLIENTS_MAX = 16
BODY_BYTES_MAX = OFFER_LIMIT_BYTES
REQUEST_MAX_S = 70.0
BACKLOG = 64
JSON_KIND = "application/json"


class Control:
    """Serves `routes`: method and first part of a path, to what is told the rest and the body."""

    def __init__(self, routes: dict[tuple[str, str], Route]) -> None:
        self._routes = routes
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, listening: socket.socket) -> None:
        """Serve clients of a bound unix socket."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=http.HEAD_BYTES_MAX, backlog=BACKLOG
        )

    async def close(self) -> None:
        """Take no more clients, and drop who is there."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= CLIENTS_MAX:
                async with asyncio.timeout(REQUEST_MAX_S):
                    answer = await self._read_and_answer(reader)
                    writer.write(http.encode_answer(answer, is_kept=False))
                    await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):  # TimeoutError is an OSError
            pass  # it went away, said too much, or nothing: no client of ours
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _read_and_answer(self, reader: asyncio.StreamReader) -> Answer:
        try:
            head = http.parse_request(await reader.readuntil(b"\r\n\r\n"))
            if head.length > BODY_BYTES_MAX:
                return Answer(http.TOO_LARGE, b"at most %d bytes\n" % BODY_BYTES_MAX)
            body = await reader.readexactly(head.length)
        except SpecError as error:
            return Answer(BAD_REQUEST, f"{error}\n".encode())
        first, _, rest = head.path.removeprefix("/").partition("/")
        route = self._routes.get((head.method, first))
        if route is None:
            return Answer(NOT_FOUND, b"page not found\n")
        try:
            found = await route(rest, body)
        except DocklockError as error:
            told = {"error": str(error), "exit_code": error.exit_code}
            status = BAD_REQUEST if isinstance(error, SpecError) else CONFLICT
            return Answer(status, encode_json(told).encode(), JSON_KIND)
        return Answer(200, encode_json(found).encode(), JSON_KIND)
