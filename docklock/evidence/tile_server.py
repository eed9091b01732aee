"""Serve the log's files over HTTP: checkpoint, tiles, entry bundles, and nothing else.

Read-only; holds no key and opens no database: a child process publishes (`docklock log checkpoint`)
whenever host.db has changed. Not here: what the files are (tiles). Whoever reads them checks them,
so there is no TLS: a proxy may add it. Invariants: no path leads out of the log's directory, since
only a tile's one spelling is a path; connections, heads and times are bounded, and a file is sent
from the kernel, not from memory. Source: C2SP tlog-tiles, "APIs"; RFC 9112.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from chainlite import tile
from chainlite.errors import SpecError
from docklock.evidence.published import PUBLISHED

if TYPE_CHECKING:
    from typing import BinaryIO

    from docklock.paths import Paths

CONNECTIONS_MAX = 64
HEAD_LIMIT_BYTES = 8192
REQUESTS_MAX = 1000
"""Requests of one connection."""
IDLE_S = 15.0
SEND_S = 60.0
PUBLISH_S = 60.0
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
FRESH = "no-cache"
FOREVER = "public, max-age=31536000, immutable"
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


class Request(NamedTuple):
    """What is asked for; `is_last` where the connection ends after it."""

    method: str
    path: str
    is_last: bool


class TileServer:
    """One listening socket; `serve` until cancelled."""

    def __init__(self, paths: Paths, interval_s: float) -> None:
        """Nothing is published from here if the interval is 0."""
        self._paths, self._interval_s = paths, interval_s
        self._count = 0

    async def serve(self, host: str, port: int) -> None:
        """Listen, say where on standard output, and answer until cancelled."""
        server = await asyncio.start_server(
            self._answer_connection, host, port, limit=HEAD_LIMIT_BYTES
        )
        async with server:
            if self._interval_s:
                await self._publish()
            bound = server.sockets[0].getsockname()
            name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
            print(f"serving the host log on http://{name}:{bound[1]}", flush=True)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve_forever())
                if self._interval_s:
                    group.create_task(self._publish_on())

    async def _publish_on(self) -> None:
        seen = get_change(self._paths)
        while True:
            await asyncio.sleep(self._interval_s)
            now = get_change(self._paths)
            if now != seen and await self._publish():
                seen = now

    async def _publish(self) -> bool:
        """Have another process publish: it holds keys for a moment, this one never."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "docklock.cli.main",
            "--root", self._paths.state, "--runroot", self._paths.run, "log", "checkpoint",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return await asyncio.wait_for(child.wait(), PUBLISH_S) == 0
        except BaseException as error:
            child.kill()
            await child.wait()
            if isinstance(error, TimeoutError):
                return False
            raise

    async def _answer_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._count += 1
        try:
            if self._count > CONNECTIONS_MAX:
                await _send(writer, 503, "", is_last=True)
                return
            for _ in range(REQUESTS_MAX):
                request = await _read_request(reader)
                if request is None:
                    return
                if isinstance(request, int):
                    await _send(writer, request, "", is_last=True)
                    return
                await self._answer(writer, request)
                if request.is_last:
                    return
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._count -= 1
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            await _send(writer, 405, "Allow: GET, HEAD\r\n", is_last=request.is_last)
            return
        found = open_served(self._paths, request.path)
        if found is None:
            await _send(writer, 404, "", is_last=request.is_last)
            return
        file, kind, cache = found
        with file:
            size = os.fstat(file.fileno()).st_size
            head = f"Content-Type: {kind}\r\nCache-Control: {cache}\r\n"
            await _send(writer, 200, head, size=size, is_last=request.is_last)
            if request.method == "GET" and size:
                sending = asyncio.get_running_loop().sendfile(writer.transport, file)
                await asyncio.wait_for(sending, SEND_S)


def get_change(paths: Paths) -> tuple[tuple[int, int], ...]:
    """Something that differs once the log has grown: time and size of SQLite's files."""
    found = []
    for path in (paths.host_db, f"{paths.host_db}-wal"):
        try:
            status = os.stat(path)
            found.append((status.st_mtime_ns, status.st_size))
        except FileNotFoundError:
            found.append((0, 0))
    return tuple(found)


def open_served(paths: Paths, path: str) -> tuple[BinaryIO, str, str] | None:
    """The file of a request's path, its type and how long it may be kept; None if there is none."""
    name = path.removeprefix("/")
    kind, cache = BYTES, FOREVER
    if name == PUBLISHED:
        kind, cache = TEXT, FRESH
    else:
        try:
            name = tile.encode_path(tile.parse_path(name))
        except SpecError:
            return None
    try:
        return open(f"{paths.log}/{name}", "rb"), kind, cache
    except OSError:
        return None


async def _read_request(reader: asyncio.StreamReader) -> Request | int | None:
    """The next request; a status for one that is none; None at the connection's end."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
    except asyncio.LimitOverrunError:
        return 431
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    line, _, fields = head.decode("latin-1").partition("\r\n")
    words = line.split(" ")
    lower = fields.lower()
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        return 400
    if "\r\ntransfer-encoding:" in f"\r\n{lower}" or _has_body(lower):
        return 400
    is_last = words[2] == "HTTP/1.0" or "connection: close" in lower
    return Request(words[0], words[1].partition("?")[0], is_last)


def _has_body(fields: str) -> bool:
    lines = [line for line in fields.split("\r\n") if line.startswith("content-length:")]
    return any(line.partition(":")[2].strip() != "0" for line in lines)


async def _send(
    writer: asyncio.StreamWriter, status: int, fields: str, *, size: int = 0, is_last: bool
) -> None:
    last = "Connection: close\r\n" if is_last else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{fields}Content-Length: {size}\r\n{last}\r\n"
    writer.write(head.encode())
    await asyncio.wait_for(writer.drain(), SEND_S)
