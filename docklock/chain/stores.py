"""A node's store on disk: opened, made anew from the genesis, or cut back to what is whole.

Not here: its tables and checks (chainlite.ledger), where cut blocks come from again (the node asks
its peers). Invariants: nothing is ever cut unless it was asked for; a file that cannot even be
cut is kept beside the new one; votes are never touched, so a key does not vote twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import StateError, TamperError
from chainlite.ledger.store import create, open_store
from chainlite.ledger.store_check import check_store, truncate_to
from chainlite.ledger.store_tables import StoreDamage

if TYPE_CHECKING:
    from chainlite.ledger.store import Store
    from docklock.chain.directory import Chain, ChainDirectory

DAMAGED = ".damaged"
_SUFFIXES = ("", "-wal", "-shm")
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
    if not path.exists():
        return create(path, chain.encoded)
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
    create(path, chain.encoded).close()
    return aside
