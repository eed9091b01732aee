"""Copies of a server's store: made while it is served, and put back.

A copy has all but the server's key, which is kept apart: the bodies in it are sealed by keys that
open with that one alone. A directory that gets one back, or begins with its key alone, is marked
before anything could be signed there.
Not here: how a marked server gets its log back (restoring), a log that nobody can bring back
(abandoning), hosts (docklock.outbox).
Invariants: a copy is of one moment, whole under its name or absent; nothing is written over.
Source: SQLite, Online Backup API.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chainlite import cosignature
from chainlite.bpci import act_log, own_log, restoring
from chainlite.bpci.at_rest import load_key_file
from chainlite.bpci.own_log import OwnLog
from chainlite.bpci.sqlite_store import FILE, SqliteStore, quote_path
from chainlite.errors import SpecError, StateError
from chainlite.ledger.body_file import sync_directory, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.restoring import Mark
    from chainlite.checkpoint import Checkpoint

BUSY_S = 10.0
KEY_FILE = "server.key"


def back_up(directory: str, path: str) -> Checkpoint:
    """Copy the store of a directory to a file that is not there yet, also while it is served.

    The state of the server's log in it. StateError: there is such a file, or no store, or no room.
    TamperError: what is there is not what this server has signed.
    """
    key = load_key_file(f"{directory}/{KEY_FILE}")
    with SqliteStore(directory, is_writer=False):
        pass  # it is a store of this program's
    return _copy(f"{directory}/{FILE}", path, key)


def put_back(path: str, directory: str, mark: Mark, checkpoints: tuple[bytes, ...]) -> Checkpoint:
    """A copy becomes the store of a directory that has a server's key and no store.

    `checkpoints`: those of its log that others have. It is in restore from the first moment. The
    state of the log in the copy. StateError: there is a store, or no key, or no copy. TamperError:
    it is another server's copy.
    """
    key = load_key_file(f"{directory}/{KEY_FILE}")
    check_empty(directory)
    if not os.path.exists(path):
        raise StateError(f"{path}: there is no copy here")
    begin(directory, mark, checkpoints)
    _forget_acts(directory)
    return _copy(path, f"{directory}/{FILE}", key)


def begin_with_key(directory: str, mark: Mark, checkpoints: tuple[bytes, ...]) -> None:
    """As put_back where there is no copy: the store is empty, hosts bring all of it."""
    check_empty(directory)
    begin(directory, mark, checkpoints)
    _forget_acts(directory)
    with SqliteStore(directory, is_writer=True):
        pass


def begin(directory: str, mark: Mark, checkpoints: tuple[bytes, ...]) -> None:
    """Mark a directory, and remember the largest checkpoint of its log that anyone has.

    SpecError: one is not signed by the server of this directory.
    """
    key = load_key_file(f"{directory}/{KEY_FILE}")
    path = f"{directory}/{own_log.PUBLISHED}"
    found = [one for one in (*checkpoints, own_log.read_published(path)) if one]
    sizes = [cosignature.check_checkpoint(one, key.log_keys).size for one in found]
    restoring.write_mark(directory, mark)
    if sizes:
        largest = found[sizes.index(max(sizes))]
        own_log.write_published(path, largest, is_durable=True)


def _forget_acts(directory: str) -> None:
    """How many there were: the operator puts back fewer, and knows it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{act_log.FILE}")


def check_empty(directory: str) -> None:
    """StateError where there is a store."""
    if os.path.exists(f"{directory}/{FILE}"):
        raise StateError(f"{directory}/{FILE}: there is a store already; nothing is written over")


def _copy(source: str, path: str, key: ServerKey) -> Checkpoint:
    with _make_room(path) as room:
        part = f"{room}/{FILE}"
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _copy_rows(source, part)
            with SqliteStore(room, is_writer=True) as store:
                state = OwnLog(store, key, f"{room}/{own_log.PUBLISHED}").state
            _set_plain(part)
            os.link(part, path)
        except FileExistsError:
            raise StateError(f"{path}: is there already; nothing is written over") from None
        except OSError as error:
            raise StateError(f"{path}: cannot be written: {error.strerror}") from None
    sync_directory(os.path.dirname(path) or ".")
    return state


@contextmanager
def _make_room(path: str) -> Iterator[str]:
    """A directory beside it for what is not whole yet."""
    room = f"{path}.part"
    try:
        shutil.rmtree(room, ignore_errors=True)  # of one that was killed
        os.mkdir(room, mode=0o700)
    except OSError as error:
        raise StateError(f"{room}: cannot be made: {error.strerror}") from None
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _copy_rows(source: str, part: str) -> None:
    try:
        db = sqlite3.connect(f"file:{quote_path(source)}?mode=ro", timeout=BUSY_S, uri=True)
        try:
            into = sqlite3.connect(part)
            try:
                db.backup(into)  # all pages in one step: one moment
            finally:
                into.close()
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        raise StateError(f"{source}: cannot be copied: {error}") from None
    except sqlite3.DatabaseError as error:
        raise SpecError(f"{source}: not a server's store: {error}") from None


def _set_plain(part: str) -> None:
    """One file with nothing beside it, durable."""
    db = sqlite3.connect(part)
    try:
        db.execute("PRAGMA journal_mode = DELETE")
    finally:
        db.close()
    sync_file(part)
