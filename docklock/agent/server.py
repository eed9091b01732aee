"""The agent's socket: just enough HTTP/1.1 for `_ping` and `/metrics`.

The Docker API will be served here. Not here: what the numbers mean (metrics.py).
Source: RFC 9112, sections 2 to 4; one request a connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import TYPE_CHECKING

from chainlite.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS_MAX = 64
HEAD_BYTES_MAX = 8192
REQUEST_MAX_S = 10.0
BACKLOG = 64
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

Answer = tuple[int, str, str]


class Server:
    """Serves `pages`: a path to what makes its (content type, text)."""

    def __init__(self, pages: dict[str, Callable[[], Awaitable[tuple[str, str]]]]) -> None:
        self._pages = pages
        self._count = 0
        self._server: asyncio.Server | None = None

    async def open(self, listening: socket.socket) -> None:
        """Serve clients of a bound unix socket."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=HEAD_BYTES_MAX, backlog=BACKLOG
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        try:
            if self._count <= CLIENTS_MAX:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_MAX_S)
                writer.write(encode_answer(*await self.answer(head)))
                await asyncio.wait_for(writer.drain(), REQUEST_MAX_S)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # it went away, said too much, or nothing: no client of ours
        finally:
            self._count -= 1
            writer.close()

    async def answer(self, head: bytes) -> Answer:
        """(status, content type, text) for a request's head."""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, "text/plain", "bad request\n"
        page = self._pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            return 404, "text/plain", "page not found\n"
        if words[0] not in (b"GET", b"HEAD"):
            return 405, "text/plain", "only GET\n"
        kind, text = await page()
        return 200, kind, "" if words[0] == b"HEAD" else text


def encode_answer(status: int, kind: str, text: str) -> bytes:
    """The whole answer."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def bind(path: str) -> socket.socket:
    """A listening socket at `path`, for root alone; the caller has the root's lock.

    A socket that is there was left by an agent that was killed. StateError if it is another file.
    """
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StateError(f"{path} is there, and it is no socket")
        os.unlink(path)
    except FileNotFoundError:
        pass
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        listening.bind(f"/proc/self/fd/{fd}/{name}")  # socket paths hold 107 bytes
    finally:
        os.umask(before)
        os.close(fd)
    return listening
