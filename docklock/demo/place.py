"""A demo's own directory: nobody else uses it, and nothing of it stays.

Not here: what runs in it (commands, pipeline). Invariants: a directory is removed only by who holds
its lock, and the lock is shared by all processes that were started in it: so nothing that still
runs loses its files. Whoever is killed is cleaned up after by the next one.
Source: flock(2): a lock is of the open file, and goes when its last descriptor is closed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import StateError
from docklock.demo.commands import SIGNALS, Commands, remove_containers
from docklock.files import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "docklock-demo-"
HOST = "host"
"""The root of the host's docklock, in the directory."""
FREE_MIN_BYTES = 64 << 20
"""A demo takes some 10 MB."""
TRIES_MAX = 100
LEFT_MAX = 64
"""Directories of earlier demos that one demo removes."""


class Place(NamedTuple):
    """A directory, and the descriptor that holds its lock."""

    path: str
    fd: int


@contextmanager
def hold_place() -> Iterator[Place]:
    """A new directory; removed in the end, with what earlier demos left that were killed.

    StateError where there is no room for it.
    """
    remove_left()
    place = _make()
    try:
        free = shutil.disk_usage(place.path).free
        if free < FREE_MIN_BYTES:
            raise StateError(
                f"{os.path.dirname(place.path)}: {free >> 20} MB are free, a demo wants "
                f"{FREE_MIN_BYTES >> 20}: make room, or set TMPDIR"
            )
        yield place
    finally:
        with ignore_signals():
            _remove(place)


@contextmanager
def ignore_signals() -> Iterator[None]:
    """What has to be done in any case is not to be interrupted."""
    before = [signal.signal(number, signal.SIG_IGN) for number in SIGNALS]
    try:
        yield
    finally:
        for number, old in zip(SIGNALS, before, strict=True):
            signal.signal(number, old)


def remove_left() -> None:
    """Remove directories of demos that were killed and of which nothing runs any more."""
    top = tempfile.gettempdir()
    for name in sorted(name for name in os.listdir(top) if name.startswith(PREFIX))[:LEFT_MAX]:
        place = _take(f"{top}/{name}")
        if place is not None:
            _remove(place)


def _make() -> Place:
    """A new directory of ours: one that another demo took for a left one is made anew."""
    for _ in range(TRIES_MAX):
        place = _take(tempfile.mkdtemp(prefix=PREFIX))
        if place is not None:
            return place
    raise StateError(f"{tempfile.gettempdir()}: no directory can be made that stays")


def _take(path: str) -> Place | None:
    """The directory if it is our user's, is there, and nobody holds it; a link is not followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, there = os.fstat(fd), os.lstat(path)
        is_same = (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
        is_private = ours.st_uid == os.geteuid() and not stat.S_IMODE(ours.st_mode) & 0o077
        if is_same and is_private:
            return Place(path, fd)
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _remove(place: Place) -> None:
    """Remove all, and any container of a demo that was killed."""
    try:
        host = f"{place.path}/{HOST}"
        if os.path.isdir(f"{host}/containers"):
            remove_containers(Commands(host, place.fd))
        remove_tree(place.path)
    finally:
        os.close(place.fd)
