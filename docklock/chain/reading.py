"""Ask a directory's chain: the node, if one runs on it, else the store itself.

Not here: the answers (views). Invariant: reading never writes a block, cuts or repairs; while a
node runs only that node reads its store.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainlite.errors import StateError, TamperError
from docklock.chain.client import NotRunning, ask_node
from docklock.chain.directory import find_process, read_chain
from docklock.chain.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.ledger.store import Store
    from docklock.chain.directory import ChainDirectory

HALTED_BYTES_MAX = 65_536


def query(directory: ChainDirectory, target: str) -> Any:
    """The answer to a path of views; StateError where neither node nor store is here."""
    return asyncio.run(query_node(directory, target))


async def query_node(directory: ChainDirectory, target: str) -> Any:
    """As `query`, in an event loop that runs already."""
    read_chain(directory)
    if find_process(directory):
        return await _ask(directory, target)
    try:
        return _read(directory, target)
    except TamperError:
        if find_process(directory):  # it began meanwhile, and wrote while this read
            return await _ask(directory, target)
        raise


async def _ask(directory: ChainDirectory, target: str) -> Any:
    """The running node's answer; StateError, with its process, while it is not yet to be asked."""
    try:
        return await ask_node(directory, "GET", target)
    except NotRunning as error:
        pid = find_process(directory)
        if not pid:
            raise
        raise StateError(
            f"the node on {directory.path} (process {pid}) begins or ends, and does not answer: "
            "try again"
        ) from error


def _read(directory: ChainDirectory, target: str) -> Any:
    with open_to_read(directory) as store:
        return Views(store).answer(target)


@contextmanager
def open_to_read(directory: ChainDirectory) -> Iterator[Store]:
    """The store of a directory on which no node runs; StateError before it has a block."""
    from chainlite.ledger.store import open_store

    if not os.path.exists(directory.database):
        raise StateError(
            f"{directory.path} has no block yet: `docklock chain start --dir {directory.path}`"
        )
    store = open_store(Path(directory.database))
    try:
        yield store
    finally:
        store.tables.db.close()  # not close(): that would write


def read_status(directory: ChainDirectory) -> dict[str, Any]:
    """The running node's status; where none runs, what its store tells and `running` false."""
    chain = read_chain(directory)
    if find_process(directory):
        try:
            return dict(asyncio.run(_ask(directory, "/status")))
        except NotRunning:
            pass  # it has just ended
    blocks = query(directory, "/blocks/last/1") if os.path.exists(directory.database) else []
    newest = blocks[0] if blocks else None
    return {
        "running": False,
        "chain": chain.genesis.name,
        "chain_id": chain.id.hex(),
        "height": newest["height"] if newest else 0,
        "head_hash": newest["hash"] if newest else "",
        "head_time_ms": newest["time_ms"] if newest else chain.genesis.time_ms,
        "halted": _read_halted(directory),
    }


def _read_halted(directory: ChainDirectory) -> str:
    """Why the node's last process halted; empty if it did not."""
    try:
        with open(directory.halted, encoding="utf-8", errors="replace") as file:
            return file.read(HALTED_BYTES_MAX).strip()
    except FileNotFoundError:
        return ""
