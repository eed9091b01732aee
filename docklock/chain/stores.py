"""A node's store on disk: opened, made of the genesis or a state, or cut back to what is whole.

Not here: its tables and checks (chainlite.ledger), where cut blocks come from again (the node asks
its peers), where a state comes from (arriving). Invariants: nothing is ever cut unless it was asked
for; a file that cannot even be cut is kept beside the new one; a store is whole under its name, and
what a killed process left of another goes with the next start; votes are never touched, so a key
does not vote twice.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import StateError, TamperError
from chainlite.ledger.store import create, create_from_state, open_store
from chainlite.ledger.store_check import check_store, truncate_to
from chainlite.ledger.store_tables import StoreDamage
from docklock.evidence.key_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.joining import Taken
    from chainlite.ledger.store import Store
    from docklock.chain.directory import Chain, ChainDirectory

DAMAGED = ".damaged"
PART = ".part"
_SUFFIXES = ("", "-wal", "-shm", "-journal")
CUTS_MAX = 64
"""Damages that are cut away one after another before the file is given up."""


class Repaired(NamedTuple):
    """What a repair found wrong first, and the last block that it kept (-1: nothing was wrong)."""

    damage: str
    kept_height: int
    aside: str


def open_or_create(directory: ChainDirectory, chain: Chain) -> Store:
    """The directory's store, made if there is none yet; TamperError says what to do."""
    path = Path(directory.database)
    _remove(f"{path}{PART}")
    if not path.exists():
        _install(path, lambda part: create(part, chain.encoded))
    try:
        store = open_store(path)
    except TamperError as error:
        raise TamperError(
            f"{error}; `docklock chain start --repair` keeps the blocks before it and asks the "
            "peers for the rest"
        ) from None
    if store.genesis != chain.encoded:
        store.tables.db.close()
        raise TamperError(
            f"{path} is of another genesis than {directory.genesis}: one of the two was replaced; "
            "put back the one that is missing"
        )
    return store


def begin_with_state(directory: ChainDirectory, chain: Chain, taken: Taken) -> None:
    """Put a store of this state in the place of one that has nothing above the genesis.

    That one was closed; StateError while somebody reads it, or the disk is full.
    """
    head = (taken.block, taken.seals)
    path = Path(directory.database)
    if os.path.exists(f"{path}-wal"):  # it would be taken for the new file's
        raise StateError(f"{path} is being read: try again when that process has ended")
    _install(path, lambda part: create_from_state(part, chain.encoded, head, taken.rows))


def _install(path: Path, make: Callable[[Path], Store]) -> None:
    """Make a store beside `path`, whole and durable, and give it that name."""
    part = Path(f"{path}{PART}")
    _remove(str(part))
    try:
        make(part).close()
        assert not os.path.exists(f"{part}-wal"), "SQLite takes it away with the last connection"
        os.replace(part, path)
        sync_directory(str(path.parent))
    finally:
        _remove(str(part))


def _remove(path: str) -> None:
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def repair_store(directory: ChainDirectory, chain: Chain) -> Repaired:
    """Check every block, and keep what is whole before the first damage. The lock is held."""
    path = Path(directory.database)
    if not path.exists():
        return Repaired("", -1, "")
    try:
        check_store(path)
        return Repaired("", -1, "")
    except StoreDamage as error:
        damage, height = str(error), error.height
    for _ in range(CUTS_MAX):
        try:
            truncate_to(path, height - 1 if height > 0 else 0)
            check_store(path)
            return Repaired(damage, max(height - 1, 0), "")
        except StoreDamage as error:
            if not 0 < error.height < height:
                break
            height = error.height
        except StateError:
            break  # it began with a snapshot
    return Repaired(damage, 0, _put_aside(path, chain))


def _put_aside(path: Path, chain: Chain) -> str:
    aside = f"{path}{DAMAGED}"
    if os.path.exists(aside):
        raise StateError(f"{aside} is there from a repair before: move it away first")
    for suffix in _SUFFIXES:
        if os.path.exists(f"{path}{suffix}"):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    _install(path, lambda part: create(part, chain.encoded))
    return aside
