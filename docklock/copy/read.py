"""One file or directory of a hostile root as a tar stream, under a name of ours.

What is opened for reading is a regular file, whatever its name means by then (tree.open_regular).
A directory is copied as far as its own file system goes: a mount below it comes out empty, and is
named to `note`. Sockets are passed over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from docklock.image.tar import show_name
from docklock.image.tarwrite import END
from docklock.image.tree import TreeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from docklock.copy.place import Place


class PlaceStream(TreeStream):
    """The tar of what is at `place`, called `name` in it (`.`: only a directory's contents).

    `close` closes the place's directory, too.
    """

    def __init__(self, place: Place, name: bytes, note: Callable[[str], None]) -> None:
        self._place, self._name, self._note = place, name, note
        super().__init__(place.path)

    def close(self) -> None:
        super().close()
        os.close(self._place.parent)

    def _walk_root(self) -> Generator[bytes, None, None]:
        place = self._place
        assert place.found is not None
        self._device = place.found.st_dev
        yield from self._emit(place.parent, self._name, place.name, 0)
        yield END

    def _emit(self, directory: int, path: bytes, name: bytes, depth: int) -> Iterator[bytes]:
        try:
            yield from super()._emit(directory, path, name, depth)
        except FileNotFoundError:
            self._note(f"{show_name(path)} was removed while it was read")

    def _emit_directory(
        self, directory: int, path: bytes, name: bytes, found: os.stat_result, depth: int
    ) -> Iterator[bytes]:
        if found.st_dev != self._device:
            self._note(f"{show_name(path)} is another mount: left empty")
        yield from super()._emit_directory(directory, path, name, found, depth)
