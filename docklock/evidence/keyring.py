"""The host's signing key on disk: made once, read by whoever writes the host log.

Not here: what is signed (chainlite) and epoch keys, which are never on disk (recorder).
Files under `paths.keys`: `host.key` (0600, PRIVATE+KEY+NAME+HASH+BASE64) and `host.pub`
(NAME+HASH+BASE64). Invariant: a key file is whole or absent; an existing key is never replaced.
"""

from __future__ import annotations

import os

from chainlite import checkpoint, keys
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths

KEY_FILE_LIMIT_BYTES = 4096


def ensure_host_key(paths: Paths) -> keys.KeyPair:
    """The host's key pair, made on first use; safe with two commands at once."""
    path = f"{paths.keys}/host.key"
    if not os.path.exists(path):
        _make_host_key(paths)
    name, key = keys.parse_signer(_read(path), path)
    if name != checkpoint.get_origin(keys.compute_host_id(key.public)):
        raise SpecError(f"{path}: the name {name} is not this key's: restore the file")
    return key


def has_host_key(paths: Paths) -> bool:
    """Whether this host has a key."""
    return os.path.exists(f"{paths.keys}/host.key")


def get_public_key(paths: Paths) -> bytes:
    """The host's public key; StateError before the first key was made."""
    path = f"{paths.keys}/host.pub"
    if not os.path.exists(path):
        if has_host_key(paths):
            return ensure_host_key(paths).public
        raise StateError("this host has no key yet: run `docklock keys init`")
    return keys.parse_verifier(_read(path), path)[1]


def get_fingerprint(paths: Paths) -> str:
    """The host's id in hex: the hash of its public key."""
    return keys.compute_host_id(get_public_key(paths)).hex()


def parse_host_key(text: str) -> str:
    """The fingerprint named by `--host-key`: 64 hex digits, a key text, or a file with one."""
    return keys.parse_fingerprint(_read(text) if os.path.exists(text) else text)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(KEY_FILE_LIMIT_BYTES).decode("ascii").strip()
    except OSError as error:
        raise StateError(f"{path}: cannot read the key: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a key: it is not ASCII text") from None


def _make_host_key(paths: Paths) -> None:
    os.makedirs(paths.keys, mode=0o700, exist_ok=True)
    seed = os.urandom(keys.SEED_BYTES)
    public = keys.make_key_pair(seed).public
    name = checkpoint.get_origin(keys.compute_host_id(public))
    signer, verifier = keys.encode_signer(name, seed, public), keys.encode_verifier(name, public)
    if _write_once(f"{paths.keys}/host.key", f"{signer}\n".encode(), 0o600):
        _write_once(f"{paths.keys}/host.pub", f"{verifier}\n".encode(), 0o644)


def _write_once(path: str, data: bytes, mode: int) -> bool:
    """Make the file durable and whole under its name, unless the name is taken."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
        os.fsync(fd)
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        os.close(fd)
        os.unlink(temporary)
        _sync_directory(os.path.dirname(path))


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
