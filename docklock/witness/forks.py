"""Forks that were found: each a file that a third person verifies with public keys alone.

Not here: how a fork is found (witness.py, ask.py, against.py) and what its file says
(chainlite.fork). Files are ROOT/forks/LOG-FORK.fork, by hashes. Invariants: a fork is durable
before it is told; of one log FORKS_MAX are kept, so that a stolen key cannot fill a disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite import checkpoint, fork
from chainlite.errors import DocklockError
from chainlite.sha2 import sha256
from chainlite.witness import compute_origin_hash
from docklock.evidence.host_log import has_host_log
from docklock.evidence.key_file import sync_directory
from docklock.evidence.operations import record_operation
from docklock.witness.fork_files import SUFFIX, get_directory, list_forks

if TYPE_CHECKING:
    from chainlite.fork import Fork
    from docklock.paths import Paths

FORKS_MAX = 8
_HASH_CHARS = 16


def keep_fork(paths: Paths, found: Fork) -> str:
    """Keep the proof of a fork and say it in this host's log, if there is one.

    The file's path where the fork is new, "" if it is known, or one too many of its log.
    """
    states = [checkpoint.parse_claim(data) for data in (found.first, found.second)]
    said = "".join(f"{one.origin}\n{one.size}\n{one.root.hex()}\n" for one in states)
    log = compute_origin_hash(states[0].origin)[:_HASH_CHARS]
    name = f"{log}-{sha256(said.encode()).hexdigest()[:_HASH_CHARS]}{SUFFIX}"
    os.makedirs(get_directory(paths), mode=0o700, exist_ok=True)
    known = [one for one in list_forks(paths) if os.path.basename(one).startswith(f"{log}-")]
    path = f"{get_directory(paths)}/{name}"
    if path in known or len(known) >= FORKS_MAX:
        return ""
    with open(f"{path}.part", "wb") as file:
        file.write(fork.encode_fork(found))
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.part", path)
    sync_directory(get_directory(paths))
    _record(paths, states)
    return path


def _record(paths: Paths, states: list[checkpoint.Checkpoint]) -> None:
    """`docklock events` shows it; where the log cannot be written, the file is there anyway."""
    if not has_host_log(paths):
        return
    sizes = ",".join(str(one.size) for one in states)
    try:
        record_operation(paths, "fork", labels=(("log", states[0].origin), ("sizes", sizes)))
    except DocklockError:
        return
