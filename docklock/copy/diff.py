"""What a container has changed in its image: what `docklock diff` prints.

Read from its upper directory and its layers, as overlayfs reads them: a character device 0/0 hides
a name, the xattr trusted.overlay.opaque all of a directory. What docklock mounts in (hosts, /proc
and the like) is no change of the container's, nor is the empty place that it is mounted on.
Invariant: every directory is opened by its name in an open one and no link is followed: the
container may be hostile, and running. Source: moby pkg/archive, changes_linux.go.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from docklock.image.rooted import DEPTH_MAX, DIRECTORY_FLAGS
from docklock.image.unpack import OPAQUE_XATTR, is_whiteout

ADDED, CHANGED, DELETED = "A", "C", "D"


class Change(NamedTuple):
    """One path, from the root on, and what was done to it."""

    path: bytes
    kind: str


def find_changes(
    upper: str, layers: tuple[str, ...], mounted: frozenset[bytes]
) -> tuple[Change, ...]:
    """All changes, by path. `layers` are topmost first; no `mounted` path ends with a slash."""
    opened: list[int] = []
    try:
        for path in (upper, *layers):
            opened.append(os.open(path, DIRECTORY_FLAGS))
        found = _walk(opened[0], opened[1:], b"/", mounted, 0)
    finally:
        for fd in opened:
            os.close(fd)
    return tuple(sorted(found))


def _walk(
    upper: int, lowers: list[int], prefix: bytes, mounted: frozenset[bytes], depth: int
) -> list[Change]:
    found: list[Change] = []
    names = [os.fsencode(name) for name in os.listdir(upper)]
    for name in names:
        try:
            found += _compare(upper, lowers, name, prefix, mounted, depth)
        except FileNotFoundError:
            continue  # removed while we looked
    if _is_opaque(upper):
        gone = set(_list_visible(lowers)) - set(names)
        found += [Change(prefix + name, DELETED) for name in gone]
    return found


def _compare(
    upper: int, lowers: list[int], name: bytes, prefix: bytes, mounted: frozenset[bytes], depth: int
) -> list[Change]:
    path = prefix + name
    status = os.stat(name, dir_fd=upper, follow_symlinks=False)
    below = _find_below(lowers, name)
    if is_whiteout(status):
        return [Change(path, DELETED)] if below is not None else []
    is_directory = stat.S_ISDIR(status.st_mode)
    if path in mounted and (is_directory or not status.st_size):
        return []
    own = Change(path, ADDED if below is None else CHANGED)
    if not is_directory or depth >= DEPTH_MAX:
        return [own]
    inner = os.open(name, DIRECTORY_FLAGS, dir_fd=upper)
    merged = _open_merged(lowers, name)
    try:
        is_empty = not os.listdir(inner)
        changes = _walk(inner, merged, path + b"/", mounted, depth + 1)
    finally:
        for fd in (inner, *merged):
            os.close(fd)
    # One that holds nothing but places to mount on was made, or copied up, for them.
    return [own, *changes] if changes or is_empty or not _is_for_mounts(path, mounted) else []


def _is_for_mounts(path: bytes, mounted: frozenset[bytes]) -> bool:
    return any(place.startswith(path + b"/") for place in mounted)


def _find_below(lowers: list[int], name: bytes) -> os.stat_result | None:
    """What the layers show under a name."""
    for lower in lowers:
        try:
            found = os.stat(name, dir_fd=lower, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if is_whiteout(found) else found
    return None


def _open_merged(lowers: list[int], name: bytes) -> list[int]:
    """The layers' directories that overlayfs shows as one, topmost first."""
    found: list[int] = []
    for lower in lowers:
        try:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=lower)
        except FileNotFoundError:
            continue
        except OSError:
            break  # no directory: it hides what is below it
        found.append(fd)
        if _is_opaque(fd):
            break
    return found


def _list_visible(lowers: list[int]) -> list[bytes]:
    names = {os.fsencode(name) for lower in lowers for name in os.listdir(lower)}
    return [name for name in names if _find_below(lowers, name) is not None]


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError:
        return False  # it has none, or its file system has none
