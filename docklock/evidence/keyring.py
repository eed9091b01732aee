"""The host's signing key: made once, read by whoever writes the host log, used only while needed.

Not here: a key's file (key_file), its change (rotation), epoch keys' certificates (sealing).
Files under `paths.keys`: `host.key` (0600) and `host.pub` (NAME+HASH+BASE64 of the enrolled key,
which names the host for good); `host.key.next`, `.old` and `.part` for a moment in a rotation.
The log's ML-DSA-44 key is derived from the same seed, so it is made, sealed, rotated and erased
with it; its own seed passes through `cryptography`, which leaves copies in memory (mldsa).
Invariants: an enrolled key is never replaced but by a rotation; the private key is in memory only
between `hold` and `drop`, or for one signature, and always in guarded memory.
"""

from __future__ import annotations

import fcntl
import os

from chainlite import checkpoint, domains, keys, mldsa
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import key_file
from docklock.kernel.guarded import make_guarded_page

if TYPE_CHECKING:
    from typing import Self

    from docklock.paths import Paths

TEXT_LIMIT_BYTES = 4096


class HostKey:
    """The host's key: what is public of it, and its signature. `host` is the enrolled key's id.

    `number` and `public` are the key's that was held or used last; a rotation by another process
    changes them at the next `hold` or `sign`.
    """

    __slots__ = ("_held", "_paths", "enrolled", "host", "number", "public")

    def __init__(self, paths: Paths, head: key_file.KeyHead) -> None:
        """For `ensure_host_key` alone."""
        self._paths = paths
        self._held: keys.GuardedKey | None = None
        self.enrolled, self.number, self.public = head.enrolled, head.number, head.public
        self.host = keys.compute_host_id(head.enrolled)

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message by the held key, else by the one that is on disk now."""
        if self._held is not None:
            return self._held.sign(message)
        self.hold(None)
        try:
            return self.sign(message)
        finally:
            self.drop()

    def make_mldsa_signer(self) -> mldsa.Signer:
        """The ML-DSA-44 key that goes with the held key; it outlives a rotation and `drop`."""
        assert self._held is not None, "hold the host's key first"
        return mldsa.Signer(self._held.derive_seed(domains.MLDSA_SEED))

    def hold(self, number: int | None) -> None:
        """Load key `number` (None: the one that is there) into guarded memory, until `drop`."""
        assert self._held is None, "the host's key is held already"
        # host.key again: a rotation may have renamed the next to it just before we looked for that.
        ours, following = get_key_path(self._paths), get_next_path(self._paths)
        for path in (ours, following, ours):
            loaded = key_file.load_key(path)
            if loaded is None:
                continue
            head, key = loaded
            if number in (None, head.number) and head.enrolled == self.enrolled:
                self.take_over(head.number, key)
                return
            key.erase()
        raise StateError(
            f"{self._paths.keys}: the host log is signed by key number {number} of host "
            f"{self.host.hex()[:16]}, which is not here: restore keys/ and host.db together "
            "(or try again, if a rotation is going on)"
        )

    def take_over(self, number: int, key: keys.GuardedKey) -> None:
        """Hold `key` as the host's from now on; the one held before is erased."""
        self.drop()
        self._held, self.number, self.public = key, number, key.public

    def drop(self) -> None:
        """Erase the private key from memory. Again does nothing."""
        held, self._held = self._held, None
        if held is not None:
            held.erase()


def make_epoch_key() -> keys.GuardedKey:
    """A new key for an epoch, in guarded memory of this process alone."""
    return keys.make_guarded_pair(make_guarded_page())


def ensure_host_key(paths: Paths) -> HostKey:
    """The host's key, made on first use; safe with two commands at once."""
    path = get_key_path(paths)
    if not os.path.exists(path):
        _enrol(paths)
    elif any(name.startswith("host.key.") for name in os.listdir(paths.keys)):
        from docklock.evidence.rotation import finish_rotation

        finish_rotation(paths)
    return HostKey(paths, key_file.read_head(path))


def has_host_key(paths: Paths) -> bool:
    """Whether this host has a key."""
    return os.path.exists(get_key_path(paths))


def get_public_key(paths: Paths) -> bytes:
    """The host's enrolled public key; StateError before the first key was made."""
    path = f"{paths.keys}/host.pub"
    if not os.path.exists(path):
        if has_host_key(paths):
            return key_file.read_head(get_key_path(paths)).enrolled
        raise StateError("this host has no key yet: run `docklock keys init`")
    return keys.parse_verifier(_read(path), path)[1]


def get_fingerprint(paths: Paths) -> str:
    """The host's id in hex: the hash of its enrolled public key."""
    return keys.compute_host_id(get_public_key(paths)).hex()


def parse_host_key(text: str) -> str:
    """The fingerprint named by `--host-key`: 64 hex digits, a key text, or a file with one."""
    return keys.parse_fingerprint(_read(text) if os.path.exists(text) else text)


def get_key_path(paths: Paths) -> str:
    """The file of the private key."""
    return f"{paths.keys}/host.key"


def get_next_path(paths: Paths) -> str:
    """The file of the key that a rotation has made and the log perhaps not yet taken."""
    return f"{paths.keys}/host.key.next"


def get_old_path(paths: Paths) -> str:
    """A second name of the key that a rotation has replaced, until it is overwritten."""
    return f"{paths.keys}/host.key.old"


class KeysLock:
    """For `with`: whoever makes, replaces or overwrites key files, one at a time."""

    __slots__ = ("_fd", "is_held")

    def __init__(self, paths: Paths, *, wait: bool) -> None:
        """Take the lock; without `wait`, `is_held` may be False."""
        os.makedirs(paths.keys, mode=0o700, exist_ok=True)
        self._fd = os.open(paths.keys, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.is_held = True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.is_held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(TEXT_LIMIT_BYTES).decode("ascii").strip()
    except OSError as error:
        raise StateError(f"{path}: cannot read the key: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a key: it is not ASCII text") from None


def _enrol(paths: Paths) -> None:
    """Make key number 0 and the public file, unless another command just did."""
    with KeysLock(paths, wait=True):
        path = get_key_path(paths)
        if os.path.exists(path):
            return
        key = key_file.write_new_key(path, number=0, enrolled=b"")
        name = checkpoint.get_origin(keys.compute_host_id(key.public))
        _write_public(paths, keys.encode_verifier(name, key.public))
        key.erase()


def _write_public(paths: Paths, verifier: str) -> None:
    path = f"{paths.keys}/host.pub"
    with open(f"{path}.part", "w", encoding="ascii") as file:
        file.write(f"{verifier}\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(f"{path}.part", 0o644)
    os.rename(f"{path}.part", path)
    key_file.sync_directory(paths.keys)
