"""One blob of a registry to a file: resumed where it was left, and checked before anybody reads it.

`ROOT/images/downloads/HEX` holds what has come of the blob with that digest, flock(LOCK_EX) by who
is fetching it; a second pull waits for the first and takes its file. Not here: what the registry
answers (registry), unpacking (layer), which checks all of it again. Invariants: a file is given
only if size and digest are the descriptor's; what a killed pull left is never trusted, only gone
on with; a spoilt one is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from chainlite.errors import PeerError
from docklock.image.registry import Repository
from docklock.image.registry_http import Answer, RegistryError
from docklock.image.stream import CHUNK_BYTES

LEFT_MAX_S = 7 * 86400
"""What a killed pull left is kept so long, for the next to go on with."""
ATTEMPTS_MAX = 64
PROGRESS_BYTES_MIN = 1 << 20
"""An attempt that brought so much does not count against the registry's patience."""

Report = Callable[[str, int], None]
"""(state, bytes so far)."""


def fetch_blob(
    repository: Repository, directory: str, digest: str, size: int, report: Report
) -> BinaryIO:
    """The whole blob, checked, open at its start. RegistryError, PeerError, OSError."""
    with lock_file(f"{directory}/{digest[7:]}") as file:
        was_left = os.fstat(file.fileno()).st_size
        try:
            try:
                _complete(repository, file, digest, size, report)
            except _Spoilt:
                if not was_left:
                    raise
                # What was left here may be what is spoilt: once more, all of it.
                file.truncate(0)
                _complete(repository, file, digest, size, report)
        except (PeerError, OSError):
            os.unlink(f"{directory}/{digest[7:]}")
            raise
        # Opened anew, so that the lock ends here: two pulls that each kept what the other waits for
        # would wait for ever. The name may go; who has it open has all of it.
        return open(f"/proc/self/fd/{file.fileno()}", "rb", buffering=0)


@contextmanager
def lock_file(path: str) -> Iterator[BinaryIO]:
    """The file, made if it is not there, and nobody else's while this lasts."""
    while True:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(made, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same(file, path):  # not one that was removed while we waited
                yield file
                return


def remove_downloads(directory: str, digests: tuple[str, ...]) -> None:
    """Removes what a pull has finished with, and what nobody has gone on with for days."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        try:
            is_old = time.time() - os.stat(path).st_mtime > LEFT_MAX_S
            if is_old or f"sha256:{name}" in digests:
                os.unlink(path)
        except FileNotFoundError:
            pass  # another pull was faster


def remove_abandoned(directory: str) -> None:
    """Removes what killed pulls left; what a living one holds stays."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    for name in names:
        path = f"{directory}/{name}"
        try:
            found = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its pull has just ended
        with os.fdopen(found, "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _is_same(file, path):
                os.unlink(path)


class _Spoilt(PeerError):
    """All bytes are there, and their digest is another."""


def _complete(
    repository: Repository, file: BinaryIO, digest: str, size: int, report: Report
) -> None:
    """Fetches what is missing of a file that holds its beginning, and checks all of it."""
    state = hashlib.sha256()
    file.seek(0)
    have = 0
    while piece := file.read(CHUNK_BYTES):
        state.update(piece)
        have += len(piece)
    failures = 0
    for _ in range(ATTEMPTS_MAX):
        if have >= size:
            break
        before = have
        try:
            with _open(repository, digest, have, size) as (answer, offset):
                if offset != have:
                    have, state = 0, hashlib.sha256()
                    file.truncate(0)
                    file.seek(0)
                while have < size and (piece := answer.read(min(CHUNK_BYTES, size - have))):
                    left = memoryview(piece)
                    while left:  # a disk that gets full takes a part first
                        left = left[file.write(left) :]
                    state.update(piece)
                    have += len(piece)
                    report("Downloading", have)
                if have == size and answer.read(1):
                    raise PeerError(f"{repository.name}: {digest}: more than {size} bytes")
        except RegistryError as error:
            failures = 0 if have - before >= PROGRESS_BYTES_MIN else failures + 1
            if failures > repository.wire.pace.retries_max:
                raise
            report("Retrying", have)
            repository.pause(error, max(0, failures - 1))
    report("Verifying Checksum", have)
    found = f"sha256:{state.hexdigest()}"
    if have != size or found != digest:
        raise _Spoilt(
            f"{repository.name}: {digest}: {have} bytes with the digest {found}, expected {size}"
            " bytes: filesystem layer verification failed"
        )


@contextmanager
def _open(
    repository: Repository, digest: str, offset: int, size: int
) -> Iterator[tuple[Answer, int]]:
    """(answer, where it begins)."""
    answer = repository.open_blob(digest, offset)
    try:
        start = _read_start(answer, offset)
        if answer.length is not None and start + answer.length != size:
            text = f"{repository.name}: {digest}: the registry has {start + answer.length} bytes"
            raise PeerError(f"{text}, and its manifest says {size}")
        yield answer, start
    finally:
        answer.close()


def _read_start(answer: Answer, offset: int) -> int:
    if answer.status == 200:
        return 0
    unit, _, rest = answer.get("Content-Range").partition(" ")
    if unit != "bytes" or rest.partition("-")[0] != str(offset):
        raise PeerError("the registry gives another range than it was asked for")
    return offset


def _is_same(file: BinaryIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
