"""Docker's rules for what `cp` makes where: they depend on what is there, and on slashes.

Source: docker cp's reference, "Description". Pure but for looking (docklock.copy.place).
"""

from __future__ import annotations

import os
import posixpath
from typing import NamedTuple

from chainlite.errors import StateError
from docklock.copy.place import Place, find_place


class Wanted(NamedTuple):
    """A path as typed, made absolute and clean; Docker gives its ends a meaning.

    `is_contents`: it ends with `/.`, what is in the directory. `is_directory`: it must be one, as
    it ends with `/` or `/.`; or is one, as a look at it has shown.
    """

    path: str
    is_contents: bool
    is_directory: bool

    @property
    def name(self) -> bytes:
        return os.fsencode(posixpath.basename(self.path))


class Target(NamedTuple):
    """Entries go below `base`; the first is called `name` (`.`: the contents go into `base`).

    `new` is the directory to make first, or None.
    """

    base: str
    name: bytes
    new: Place | None = None


def parse_path(text: str, here: str) -> Wanted:
    """`text` from `here` on: the caller's directory, or a container's `/`."""
    path = posixpath.normpath(posixpath.join("/", here, text))
    clean = "/" + path.strip("/")
    is_contents = text.endswith("/.") or text == "." or clean == "/"
    return Wanted(clean, is_contents, is_contents or text.endswith("/"))


def find_source(root: int, wanted: Wanted, *, follow: bool) -> Place:
    """What is to be copied; a link itself, unless it is to be followed. StateError.

    Its directory is the caller's to close.
    """
    place = find_place(root, wanted.path, follow=follow or wanted.is_directory)
    if place.found is not None and (place.is_directory or not wanted.is_directory):
        return place
    os.close(place.parent)
    why = "no such file or directory" if place.found is None else "not a directory"
    raise StateError(f"{wanted.path}: {why}")


def find_target(root: int, wanted: Wanted, source: Wanted) -> Target:
    """Where the source, which has been looked at, goes. StateError."""
    place = find_place(root, wanted.path, follow=True)
    if place.found is None and source.is_directory:
        return Target(place.path, b".", place)
    os.close(place.parent)
    if place.is_directory:
        return Target(place.path, b"." if source.is_contents else source.name)
    if wanted.is_directory:
        why = "no such directory" if place.found is None else "not a directory"
        raise StateError(f"{wanted.path}: {why}")
    if source.is_directory:
        raise StateError(f"{wanted.path}: cannot copy a directory to a file")
    return Target(place.directory, place.name)
