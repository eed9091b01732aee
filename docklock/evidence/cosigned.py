"""Checkpoints of this host's log that others have signed: kept, and named by later runs.

Genesis and epoch certificates carry the hash of the newest one, so that they cannot be older than
its cosignature (HostLog.get_cosigned_hash). Not here: asking witnesses, and checking their
signatures, which the caller has done. Invariant: what is kept is a state of this log; a note of
another history under this host's name is a fork or a rollback, and refused with TamperError.
"""

from __future__ import annotations

from chainlite import checkpoint
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key

if TYPE_CHECKING:
    from docklock.paths import Paths

_DASH = "— ".encode()


def store_cosigned(paths: Paths, note: bytes) -> None:
    """Keep a checkpoint whose cosignatures the caller has checked; replaces one of that size.

    SpecError if it is no note of this host, or only this host's; TamperError if its size or root
    is not a state of the log: somebody has signed another history, or this one was cut.
    """
    key = ensure_host_key(paths)
    with HostLog(paths, key) as log, log.write():
        # By any of the host's keys: a note may be older than a rotation.
        signed = checkpoint.parse_checkpoint(note, *log.read_keys(key.enrolled).publics)
        if signed.origin != checkpoint.get_origin(key.host):
            raise SpecError("checkpoint: it is of another log than this host's")
        _, _, lines = note.partition(b"\n\n")
        own = _DASH + signed.origin.encode() + b" "
        if all(line.startswith(own) for line in lines.splitlines()):
            raise SpecError("checkpoint: nobody but this host has signed it")
        size = log.get_size()
        if signed.size > size:
            raise TamperError(
                f"the log has {size} leaves, and others have seen {signed.size}: it was cut"
            )
        if log.compute_root(signed.size) != signed.root:
            raise TamperError(f"others have seen another history of {signed.size} leaves: a fork")
        log.add_cosigned(signed.size, note)
