"""`docklock bpci backup|restore`: copies of a server's store, and what is done after a loss.

Not here: what they do (chainlite.bpci.backup, restoring, abandoning), the other verbs (bpci). Exit:
0 done; 1 there is a store already, none, no key, or it is served; 2 not a copy or a checkpoint;
3 the copy is another server's, or was changed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError, StateError
from docklock.cli.options import Command, flag, listed, text

if TYPE_CHECKING:
    from chainlite.bpci.restoring import Mark

BACKUP = Command(
    "bpci backup",
    "DIRECTORY FILE",
    "Copy a server's store to a file, also while it is served; the key is not in it.",
    examples=("docklock bpci backup /srv/bpci bpci.copy",),
)
RESTORE = Command(
    "bpci restore",
    "[OPTIONS] [FILE] DIRECTORY",
    "Put a copy back beside the server's key, or begin with the key alone. Nothing is signed until "
    "hosts have brought its log back to the newest checkpoint that anyone has.",
    (
        listed("--checkpoint", help="one of its log, from a witness or an auditor", metavar="FILE"),
        listed("--without", help="do not wait for this host (64 hex digits), or for all that have "
               "not come yet; may be given later, too", metavar="HOST|all"),
        text("--hosts", help="so many have to come at least; needed where there is no copy",
             metavar="N"),
        flag("--abandon-log", help="a leaf is lost with its host: begin a new log under a new key"),
    ),
    examples=("docklock bpci restore bpci.copy /srv/bpci",),
)  # fmt: skip
HOSTS_MAX = 1_000_000
ID_CHARS = 64


def run_backup(_: dict[str, Any], words: list[str]) -> int:
    """Copy it; say what is not in it."""
    from chainlite.bpci.backup import KEY_FILE, back_up

    directory, path = words
    state = back_up(directory, path)
    print(f"{path}: the server's log has {state.size} leaves in it")
    print(f"the key is not in it: keep {directory}/{KEY_FILE} apart; without it nothing opens")
    return 0


def run_restore(values: dict[str, Any], words: list[str]) -> int:
    """Put back, begin with a key, say more of a restore, or give the log up."""
    from chainlite.bpci import backup
    from chainlite.bpci.sqlite_store import FILE, SqliteStore
    from chainlite.note import NOTE_LIMIT_BYTES
    from docklock.chain.directory import read_bounded

    directory = words[-1]
    if values["abandon_log"]:
        return _abandon(words)
    mark = _read_mark(values, directory)
    shown = tuple([read_bounded(path, NOTE_LIMIT_BYTES) for path in values["checkpoint"]])
    if len(words) > 1:
        state = backup.put_back(words[0], directory, mark, shown)
        print(f"{directory}: the copy's log has {state.size} leaves")
    elif not os.path.exists(f"{directory}/{FILE}"):
        if not mark.hosts and not mark.without:
            raise SpecError("docklock bpci restore: without a copy, name --hosts N")
        backup.begin_with_key(directory, mark, shown)
    elif shown:
        with SqliteStore(directory, is_writer=True):
            backup.begin(directory, mark, shown)
    else:
        backup.begin(directory, mark, ())
    print("in restore: serve it, and its hosts bring back what is missing (GET /readyz says how "
          "far it is)")  # fmt: skip
    return 0


def _abandon(words: list[str]) -> int:
    from chainlite.bpci.abandoning import NOTE_FILE, OLD_KEY_FILE, abandon
    from chainlite.bpci.backup import check_empty
    from chainlite.bpci.serving import get_now_ms, load_server_key
    from chainlite.note import encode_vkey

    directory = words[-1]
    if len(words) > 1:
        check_empty(directory)
        raise StateError(f"{directory}: put the copy back first, and try to bring its log back")
    abandon(directory, get_now_ms)
    print(f"{directory}/{NOTE_FILE} says, under both keys, what ended and what follows")
    print(f"the old key is {directory}/{OLD_KEY_FILE}; for hosts and auditors, the new ones:")
    for key in load_server_key(directory).log_keys:
        print(encode_vkey(key))
    return 0


def _read_mark(values: dict[str, Any], directory: str) -> Mark:
    """What was said before, and what is said now."""
    from chainlite.bpci.restoring import ALL, Mark, read_mark

    before = read_mark(directory) or Mark()
    for one in values["without"]:
        is_id = len(one) == ID_CHARS and all(letter in "0123456789abcdef" for letter in one)
        if one != ALL and not is_id:
            raise SpecError(f"docklock bpci restore: --without {one}: want a host's 64 hex digits")
    hosts = values["hosts"] or str(before.hosts)
    if not (hosts.isdigit() and hosts.isascii() and int(hosts) <= HOSTS_MAX):
        raise SpecError(f"docklock bpci restore: --hosts takes 0 to {HOSTS_MAX}")
    return Mark(before.without | set(values["without"]), int(hosts))
