"""Ask the node that runs on a directory, by its control socket: one request, one answer.

Not here: what it answers (control, process). What the node refuses is raised as it was there: a
SpecError, StateError or TamperError with its words.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError, TamperError
from docklock.chain.control import BODY_BYTES_MAX
from docklock.json_text import parse_json
from docklock.witness import http

if TYPE_CHECKING:
    from typing import Any

    from docklock.chain.directory import ChainDirectory

ANSWER_BYTES_MAX = 4 << 20
ASK_MAX_S = 30.0
_ERRORS = {SpecError.exit_code: SpecError, TamperError.exit_code: TamperError}


class NotRunning(StateError):
    """No node answers on the directory."""


def ask(directory: ChainDirectory, method: str, target: str, body: bytes = b"") -> Any:
    """The answer to one request; NotRunning where nobody is there."""
    return asyncio.run(ask_node(directory, method, target, body))


async def ask_node(
    directory: ChainDirectory, method: str, target: str, body: bytes = b"",
    timeout_s: float = ASK_MAX_S,
) -> Any:  # fmt: skip
    """As `ask`, in an event loop that runs already."""
    if len(body) > BODY_BYTES_MAX:
        raise SpecError(f"{len(body)} bytes for the node, which takes at most {BODY_BYTES_MAX}")
    try:
        async with asyncio.timeout(timeout_s):
            status, data = await _exchange(directory, method, target, body)
    except TimeoutError:
        raise NotRunning(
            f"the node on {directory.path} does not answer within {timeout_s:g} s"
        ) from None
    except (OSError, EOFError):
        raise NotRunning(
            f"no node runs on {directory.path}: `docklock chain start --dir {directory.path}`"
        ) from None
    value = parse_json(data) if data.startswith((b"{", b"[")) else {}
    if status == 200:
        return value
    if "error" not in value:
        raise StateError(f"the node on {directory.path}: {data.decode(errors='replace').strip()}")
    raise _ERRORS.get(value["exit_code"], StateError)(value["error"])


async def _exchange(
    directory: ChainDirectory, method: str, target: str, body: bytes
) -> tuple[int, bytes]:
    where, name = os.path.split(directory.socket)
    fd = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # socket paths hold 107 bytes
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
    try:
        writer.write(http.encode_request(method, "node", target, body))
        await writer.drain()
        head = http.parse_answer(await reader.readuntil(b"\r\n\r\n"))
        if head.length > ANSWER_BYTES_MAX:
            raise StateError(f"an answer of {head.length} bytes, above {ANSWER_BYTES_MAX}")
        return int(head.method), await reader.readexactly(head.length)
    finally:
        writer.close()
