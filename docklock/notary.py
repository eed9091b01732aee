"""This host's notary put together: its key, its database, this host as its source.

Not here: what it does (enc.notary), what it is shown (docklock.evidence.notarising), who keeps it
running (docklock.agent.notary, docklock.cli.notary).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from chainlite import keys
from chainlite.errors import DocklockError, StateError
from chainlite.notarised import write_file
from docklock.evidence import keyring
from docklock.evidence.database import sqlite3
from docklock.evidence.kept_log import look_at_log
from docklock.evidence.notarising import LocalSource
from docklock.evidence.notary_key import ensure_notary_key
from docklock.program import is_wanted
from enc.notary.export import collect_frames
from enc.notary.notary import Notary
from enc.notary.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.notarised import NotaryVerification
    from docklock.paths import Paths
    from enc.notary.notary import Pass

LOOK_S = 1.0
"""How often a notary that follows looks whether the log has grown."""
PASS_APART_S = 5.0
"""And how long it leaves between two passes because of that."""
AFTER_FAILURE_S = 5.0


def get_directory(paths: Paths) -> str:
    """Where the notary keeps its database."""
    return f"{paths.state}/notary"


def run_pass(paths: Paths, source: LocalSource, *, flush: bool = False) -> Pass:
    """One pass over this host's log; waits for another one that is going on.

    StateError where nothing has run here, or what is here cannot be read now.
    """
    host = keys.compute_host_id(keyring.get_public_key(paths))
    key = ensure_notary_key(paths)
    with Store(get_directory(paths), key.public) as store:
        notary = Notary(store, host, source, key)
        return notary.run_pass(time.time_ns() // 1_000_000, flush=flush)


def run_once(paths: Paths, *, flush: bool) -> Pass:
    """One pass, and nothing is left open."""
    source = LocalSource(paths)
    try:
        return run_pass(paths, source, flush=flush)
    finally:
        source.end()


def follow(
    paths: Paths, parent: int, tell: Callable[[Pass], None], fail: Callable[[str], None]
) -> None:
    """Pass after pass, for as long as process `parent` is this one's parent (0: whatever it is).

    After a pass that failed, which `fail` is told, the next comes in AFTER_FAILURE_S.
    """
    source = LocalSource(paths)
    while is_wanted(parent):
        state, began = look_at_log(paths), time.monotonic()
        if not state:  # nothing has run here yet
            time.sleep(LOOK_S)
            continue
        try:
            done = run_pass(paths, source)
        except (DocklockError, OSError, sqlite3.Error) as error:
            fail(str(error))
            time.sleep(AFTER_FAILURE_S)
            continue
        tell(done)
        if done.unread:
            fail(done.unread)
            time.sleep(AFTER_FAILURE_S)
            continue
        while is_wanted(parent) and not _is_due(done.due_ms):
            time.sleep(LOOK_S)
            is_later = time.monotonic() - began >= PASS_APART_S
            if is_later and look_at_log(paths) != state:
                break


def write_export(paths: Paths, app: str, path: str) -> NotaryVerification:
    """Write an app's LogBlocks and PoE bundles to a file, whole under its name or absent.

    TamperError if what is here does not verify.
    """
    key, source = ensure_notary_key(paths), LocalSource(paths)
    temporary = f"{path}.{os.getpid()}.part"
    host = keys.compute_host_id(keyring.get_public_key(paths))
    try:
        with Store(get_directory(paths), None) as store, open(temporary, "xb") as file:
            view = source.open()
            views = {host: view} if view is not None else {}
            frames = collect_frames(store, views, app)
            state = write_file(file.write, frames, key, time.time_ns())
        os.replace(temporary, path)
    except FileExistsError:
        raise StateError(f"{temporary}: is there already") from None
    finally:
        source.close()
        source.end()
        if os.path.exists(temporary):
            os.unlink(temporary)
    return state


def _is_due(due_ms: int | None) -> bool:
    return due_ms is not None and time.time_ns() // 1_000_000 >= due_ms
