"""One private key of the host in a file: write, load into guarded memory, overwrite.

Not here: which file is the host's key now (keyring) and when it changes (rotation). The seed goes
between file and guarded memory by readv and writev: no byte of it becomes an object of Python.
A seed lies in the file as it is, or sealed with a key that is derived from the systemd credential
`docklock-host-key`, where one is given. Invariants: a key file is whole under its name, or absent;
a loaded key is the one whose public half the file names. Layout: README.md of this room.
"""

from __future__ import annotations

import os
import struct

from chainlite import domains, keys, sodium
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.kernel.guarded import PAGE_BYTES, GuardedPage, make_guarded_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Read = TypeVar("Read")

MAGIC = b"DOCKLOCK-HOST-KEY\0"
VERSION = 1
CREDENTIAL = "docklock-host-key"
CREDENTIAL_BYTES_MIN, CREDENTIAL_BYTES_MAX = 32, 2048
_HEAD = struct.Struct(">18sHBI32s32s")
_BOX_BYTES = keys.SEED_BYTES + sodium.BOX_EXTRA_BYTES
# Where things lie in a page: a secret from 0 (GuardedKey), then these while it is loaded or made.
_SEED_AT, _KEY_AT, _CREDENTIAL_AT = 128, 192, 256


class KeyHead(NamedTuple):
    """What a key file says openly: its number, the host's enrolled key, and its own public half."""

    is_sealed: int
    number: int
    enrolled: bytes
    public: bytes


def read_head(path: str) -> KeyHead:
    """The open part of a key file. StateError if it cannot be read, SpecError if it is none."""
    head = _read(path, lambda fd: _parse_head(os.read(fd, _HEAD.size), path))
    if head is None:
        raise StateError(f"{path}: the host's key is not there")
    return head


def load_key(path: str) -> tuple[KeyHead, keys.GuardedKey] | None:
    """The key in guarded memory, and what its file says of it; None if there is no file."""
    return _read(path, lambda fd: _load(fd, path))


def _read(path: str, read: Callable[[int], Read]) -> Read | None:
    """What `read` makes of the file; again if a rotation took the name from it meanwhile.

    A rotation overwrites the file that it has replaced, which may be the one that is open here.
    """
    while True:
        fd = _open(path)
        if fd is None:
            return None
        try:
            return read(fd)
        except SpecError:
            if _has_name(fd, path):
                raise
        finally:
            os.close(fd)


def _has_name(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _load(fd: int, path: str) -> tuple[KeyHead, keys.GuardedKey]:
    page = make_guarded_page()
    try:
        data = os.read(fd, _HEAD.size)
        head = _parse_head(data, path)
        _read_seed(fd, page, data, path)
        key = keys.load_guarded_pair(page, _SEED_AT)
    except BaseException:
        keys.release_erased(page, PAGE_BYTES)
        raise
    if key.public != head.public:
        key.erase()
        raise SpecError(f"{path}: the key in it is not the one it names: restore the file")
    return head, key


def write_new_key(path: str, *, number: int, enrolled: bytes) -> keys.GuardedKey:
    """Make a key, durable under `path`; it is sealed if there is a credential to seal it with.

    With number 0 the key itself is the enrolled one. The caller holds the lock of the keys.
    """
    page = make_guarded_page()
    try:
        public = sodium.make_random_pair_at(page.address)
        is_sealed = int(get_credential_path() != "")
        head = KeyHead(is_sealed, number, enrolled if number else public, public)
        _write(path, _HEAD.pack(MAGIC, VERSION, *head), page, is_sealed=bool(is_sealed))
    except BaseException:
        keys.release_erased(page, PAGE_BYTES)
        raise
    return keys.GuardedKey(public, page)


def erase_file(path: str) -> None:
    """Overwrite a key file, durably, and remove it. Nothing happens if it is not there.

    What a file system or a disk has copied elsewhere (snapshots, journals of data, flash) stays.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        os.write(fd, bytes(os.fstat(fd).st_size))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.unlink(path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def get_credential_path() -> str:
    """The file of the credential that systemd gave this process, or an empty text."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = f"{directory}/{CREDENTIAL}"
    return path if directory and os.path.exists(path) else ""


_kept: dict[str, int] = {}  # directory -> a descriptor of the credential that was read in it last


def _open_credential() -> int:
    """A descriptor of the credential, which stays open: a guard outlives the unit that began it.

    systemd takes the file away with that unit. -1 if this process was given none.
    """
    directory, path = os.environ.get("CREDENTIALS_DIRECTORY", ""), get_credential_path()
    fd = _open(path) if path else None
    if fd is not None:
        if directory in _kept:
            os.close(_kept[directory])
        _kept[directory] = fd
    return _kept.get(directory, -1)


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: cannot read the host's key: {error.strerror}") from None


def _parse_head(data: bytes, path: str) -> KeyHead:
    if len(data) != _HEAD.size or not data.startswith(MAGIC):
        raise SpecError(f"{path}: not a host key file: restore it")
    _, version, *fields = _HEAD.unpack(data)
    if version != VERSION:
        raise SpecError(f"{path}: version {version}; this program reads {VERSION}")
    return KeyHead._make(fields)


def _write(path: str, head: bytes, page: GuardedPage, *, is_sealed: bool) -> None:
    """The seed is the first half of the secret, which lies at the start of the page."""
    if is_sealed:
        nonce = os.urandom(sodium.NONCE_BYTES)
        _derive_key(page)
        at = page.address
        parts = [head, nonce, sodium.seal_at(at, keys.SEED_BYTES, at + _KEY_AT, nonce, head)]
        sodium.erase_at(at + _KEY_AT, PAGE_BYTES - _KEY_AT)
    else:
        parts = [head, sodium.get_view(page.address, keys.SEED_BYTES)]
    temporary = f"{path}.part"
    erase_file(temporary)  # of a process that was killed
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = sum(len(part) for part in parts)
        if os.writev(fd, parts) != size:
            raise StateError(f"{path}: cannot write the host's key: the disk is full")
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        erase_file(temporary)
        raise
    finally:
        os.close(fd)
    sync_directory(os.path.dirname(path))


def _read_seed(fd: int, page: GuardedPage, head: bytes, path: str) -> None:
    """The rest of the file: a seed, or a nonce and a sealed seed."""
    if not _parse_head(head, path).is_sealed:
        view = sodium.get_view(page.address + _SEED_AT, keys.SEED_BYTES)
        if os.readv(fd, [view]) != keys.SEED_BYTES:
            raise SpecError(f"{path}: not a whole key file: restore it")
        return
    if _open_credential() < 0:
        raise StateError(
            f"{path}: sealed with the systemd credential {CREDENTIAL}, which this process was not "
            f"given: run docklock in a unit with LoadCredentialEncrypted={CREDENTIAL}:FILE"
        )
    data = os.read(fd, sodium.NONCE_BYTES + _BOX_BYTES)
    if len(data) != sodium.NONCE_BYTES + _BOX_BYTES:
        raise SpecError(f"{path}: not a whole key file: restore it")
    _derive_key(page)
    nonce, box, at = data[: sodium.NONCE_BYTES], data[sodium.NONCE_BYTES :], page.address
    opened = sodium.open_at(at + _SEED_AT, box, at + _KEY_AT, nonce, head)
    sodium.erase_at(at + _KEY_AT, PAGE_BYTES - _KEY_AT)
    if not opened:
        raise StateError(f"{path}: the systemd credential {CREDENTIAL} is not the one it needs")


def _derive_key(page: GuardedPage) -> None:
    """SHA-256 of a tag and the credential, all within the page."""
    start = page.address + _CREDENTIAL_AT
    sodium.get_view(start, 1)[:] = domains.SEALING_KEY
    fd = _open_credential()
    if fd < 0:
        raise StateError(f"the systemd credential {CREDENTIAL} has gone")
    size = os.preadv(fd, [sodium.get_view(start + 1, CREDENTIAL_BYTES_MAX + 1)], 0)
    if not CREDENTIAL_BYTES_MIN <= size <= CREDENTIAL_BYTES_MAX:
        raise SpecError(
            f"{CREDENTIAL}: a credential has {CREDENTIAL_BYTES_MIN} to {CREDENTIAL_BYTES_MAX} "
            "bytes, from a random source"
        )
    sodium.hash_at(page.address + _KEY_AT, start, 1 + size)
