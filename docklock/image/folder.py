"""A folder of documents and blobs that may be hostile: an unpacked archive, or a user's directory.

Not here: what the documents mean (layout, archive). No name leads out of the folder (rooted).
"""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO, Self, cast

from chainlite.errors import SpecError
from docklock.document import SIZE_MAX_BYTES, Cursor, parse_document
from docklock.image.in_place import Held, Slice
from docklock.image.layout import Wanted
from docklock.image.rooted import Rooted


class Folder:
    """Reads files below one directory; `where` names it in errors.

    `held`: the archive in which the data of its files still is.
    """

    def __init__(self, path: str, where: str, held: Held | None = None) -> None:
        self.where = where
        self._held = held
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._tree = Rooted(root)
        finally:
            os.close(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tree.close()

    def has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._tree.root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def open(self, name: str) -> BinaryIO:
        """A regular file; SpecError if it is missing or leads nowhere."""
        return self._open(name)[0]

    def _open(self, name: str) -> tuple[BinaryIO, int]:
        """And its size."""
        try:
            file = self._tree.open_file(os.fsencode(name))
            state = os.fstat(file)
            if self._held is not None and state.st_ino in self._held.places:
                os.close(file)
                offset, size = self._held.places[state.st_ino]
                return cast("BinaryIO", Slice(self._held.file, offset, size)), size
            return os.fdopen(file, "rb", buffering=0), state.st_size
        except SpecError as error:
            raise SpecError(f"{self.where}: {error}") from None
        except OSError as error:
            raise SpecError(f"{self.where}: {name!r}: {error.strerror}") from None

    def read(self, name: str) -> bytes:
        """A document, whole."""
        file, size = self._open(name)
        with file:
            if size > SIZE_MAX_BYTES:
                raise SpecError(
                    f"{self.where}: {name!r} has {size} bytes, at most {SIZE_MAX_BYTES} are read"
                )
            return file.read()

    def parse(self, name: str) -> Cursor:
        return parse_document(self.read(name), f"{self.where}: {name}")

    def read_blob(self, digest: str) -> bytes:
        """A document of an OCI layout; its digest is checked."""
        data = self.read(get_blob_name(digest))
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != digest:
            raise SpecError(f"{self.where}: blob {digest}: its digest is {found}: it is spoilt")
        return data

    def read_manifest(self, digest: str) -> bytes:
        return self.read_blob(digest)

    def expect_layers(self, _layers: tuple[Wanted, ...]) -> None:
        """They are here."""

    def open_layer(self, digest: str) -> BinaryIO:
        """A blob of an OCI layout; nothing of it is checked."""
        return self.open(get_blob_name(digest))


def get_blob_name(digest: str) -> str:
    """Where an OCI layout keeps a blob."""
    return f"blobs/sha256/{digest[7:]}"
