"""The operator's orders to the process that serves, over a socket in the server's directory.

Who may open the socket may read the key file beside it: it is for the directory's owner alone.
One line of JSON each way (orders); one order for each connection.
Not here: what an order does (office). Invariants: what is read is bounded, and so is the time for
it; the address is never longer than a socket's may be, wherever the directory is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING

from chainlite.bpci.orders import ORDER_LIMIT_BYTES, decode_order, encode_order
from chainlite.errors import DocklockError, SpecError, StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from chainlite.bpci.orders import Order

    CarryOut = Callable[[Order], Awaitable[dict[str, object]]]

FILE = "orders.sock"
READ_S = 10.0
ANSWER_S = 3600.0
"""Erasing what is due takes its time."""
ANSWER_LIMIT_BYTES = 1 << 20


@contextlib.contextmanager
def _find_address(directory: str) -> Iterator[str]:
    """The socket's address by a descriptor of its directory: a path may be too long."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{FILE}"
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def take_orders(directory: str, carry_out: CarryOut) -> AsyncIterator[None]:
    """Take orders while this is open; the caller is the store's one writer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(READ_S):
                    line = await reader.readline()
                said: dict[str, object] = {"done": await carry_out(decode_order(line))}
            except (TimeoutError, ValueError):
                said = {"why": "no order came", "is_wrong": True}
            except DocklockError as error:
                said = {"why": str(error), "is_wrong": isinstance(error, SpecError)}
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{FILE}")  # of a process that was killed: this one has the lock
    with _find_address(directory) as address:
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(answer, address, limit=ORDER_LIMIT_BYTES)
        finally:
            os.umask(before)
    try:
        yield
    finally:
        server.close()
        os.unlink(f"{directory}/{FILE}")


def _connect(directory: str) -> socket.socket | None:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _find_address(directory) as address:
            channel.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise StateError(f"{directory}/{FILE}: {error.strerror}") from None
    channel.settimeout(ANSWER_S)
    return channel


def ask(directory: str, order: Order) -> dict[str, object] | None:
    """What came of an order; None where no process takes any. Errors are those of the order."""
    channel = _connect(directory)
    if channel is None:
        return None
    try:
        with channel, channel.makefile("rb") as answers:
            channel.sendall(encode_order(order))
            said = json.loads(answers.readline(ANSWER_LIMIT_BYTES))
    except (OSError, ValueError):
        raise StateError(f"{directory}/{FILE}: the server did not answer") from None
    if "done" in said:
        done: dict[str, object] = said["done"]
        return done
    if said.get("is_wrong"):
        raise SpecError(str(said.get("why")))
    raise StateError(str(said.get("why")))
