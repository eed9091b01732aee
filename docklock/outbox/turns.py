"""One process at a time sends to a server: the agent's child, and `sync now` beside it.

A lock that its process holds and that ends with it. Not here: what is sent (sending).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chainlite.errors import StateError
from chainlite.sha2 import sha256
from docklock.outbox.record_file import get_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docklock.paths import Paths

WAIT_MAX_S = 300.0
"""A batch may take minutes on a slow line; then it is the other's turn."""
LOOK_S = 0.05
_HASH_CHARS = 16


@asynccontextmanager
async def take_turn(paths: Paths, server: str) -> AsyncIterator[None]:
    """Hold the server's turn within; StateError where another process does not end its own."""
    directory = get_directory(paths)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    name = sha256(server.encode()).hexdigest()[:_HASH_CHARS]
    fd = os.open(f"{directory}/{name}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + WAIT_MAX_S
    try:
        while not _try(fd):
            if time.monotonic() > deadline:
                raise StateError(f"another process has been sending for {WAIT_MAX_S:g} s")
            await asyncio.sleep(LOOK_S)
        yield
    finally:
        os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
