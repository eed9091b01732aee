"""Change the host's key: the old one signs the new one in the log, and is overwritten on disk.

Not here: what the records mean to a verifier (chainlite.hostkeys). Order, each step durable:
1. the new key is in host.key.next, and the old one has named it for the chains that know the host
(parting);  2. one transaction of the log appends its record, signed by
the old key, and signs the checkpoint with the new one;  3. host.key becomes the new file, and
host.key.old names the old one;  4. host.key.old is overwritten and removed.
Invariants: after a crash anywhere the log can be signed, and the next command that needs the key
goes on (`finish_rotation`); a key that the log does not name is never used. Runs that live on do
not notice: each signature of the log takes the key that the log names.
"""

from __future__ import annotations

import os
import time

from chainlite import hostkeys, hostlog
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import key_file, log_keys
from docklock.evidence.host_log import HostLog, has_host_log
from docklock.evidence.keyring import (
    HostKey,
    KeysLock,
    ensure_host_key,
    get_key_path,
    get_next_path,
    get_old_path,
)
from docklock.evidence.parting import sign_partings

if TYPE_CHECKING:
    from docklock.paths import Paths


def rotate_host_key(paths: Paths) -> HostKey:
    """Give the host its next key; what is public of it."""
    ensure_host_key(paths)
    with KeysLock(paths, wait=True):
        return _rotate(paths)


def revoke_host_key(paths: Paths, number: int | None, first_index: int | None) -> int:
    """Say that what key `number` signs from leaf `first_index` on is not to be trusted.

    None: the key of now (which is rotated first), and from now on. Returns the leaf's index.
    SpecError for a key that the host never had, or an index that the log has not reached.
    """
    key = ensure_host_key(paths)
    with KeysLock(paths, wait=True):
        current = key_file.read_head(get_key_path(paths)).number
        number = current if number is None else number
        if not 0 <= number <= current:
            raise SpecError(f"keys revoke: this host has had the keys 0 to {current}, not {number}")
        if number == current:
            key = _rotate(paths)
        with HostLog(paths, key) as log, log.write():
            size = log.get_size()
            first = size if first_index is None else first_index
            if not 0 <= first <= size:
                raise SpecError(f"keys revoke: the host log has {size} leaves, not {first}")
            now = time.time_ns()
            leaf = hostlog.Revocation(key.host, number, key.number, size, first, now, b"")
            signed = hostkeys.sign_revocation(leaf, key)
            return log.append(hostlog.encode_revocation(signed))


def finish_rotation(paths: Paths) -> None:
    """Go on with what a crash has interrupted, unless a rotation is going on right now."""
    with KeysLock(paths, wait=False) as lock:
        if lock.is_held:
            _finish(paths)


def _rotate(paths: Paths) -> HostKey:
    _finish(paths)
    key = HostKey(paths, key_file.read_head(get_key_path(paths)))
    with HostLog(paths, key) as log:
        number = key.number + 1
        new = key_file.write_new_key(get_next_path(paths), number=number, enrolled=key.enrolled)
        try:
            with log.write():
                signer = log_keys.get_signer(log, key)
                sign_partings(paths, key, new)
                log.append_key(new)
                if signer is not None:
                    log_keys.append_log_key(log, key, signer)
        except BaseException:
            new.erase()
            raise
    _finish(paths)
    return key


def _finish(paths: Paths) -> None:
    """Under the lock: make the files say what the log says."""
    path, following, old = get_key_path(paths), get_next_path(paths), get_old_path(paths)
    if os.path.exists(following):
        number = key_file.read_head(following).number
        if _get_logged_number(paths) == number:
            if key_file.read_head(path).number != number - 1:
                raise StateError(f"{path}: not the key before number {number}: restore keys/")
            _name_old(path, old)
            os.rename(following, path)
            key_file.sync_directory(paths.keys)
        else:
            key_file.erase_file(following)
    if os.path.exists(old):
        if os.path.samefile(old, path):
            os.unlink(old)
        else:
            key_file.erase_file(old)
    for name in os.listdir(paths.keys):
        if name.startswith("host.key.") and name.endswith(".part"):
            key_file.erase_file(f"{paths.keys}/{name}")


def _name_old(path: str, old: str) -> None:
    """A second name for the file of the key that goes, unless a crash left just that."""
    if os.path.exists(old):
        if os.path.samefile(old, path):
            return
        key_file.erase_file(old)
    os.link(path, old)
    key_file.sync_directory(os.path.dirname(path))


def _get_logged_number(paths: Paths) -> int:
    """The number of the key that the log is signed with; -1 without a log."""
    if not has_host_log(paths):
        return -1
    with HostLog(paths, None) as log:
        return log.get_key_number()
