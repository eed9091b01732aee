"""`docklock system check`: whether the image store is whole, every blob read against its digest.

It changes nothing. Not here: mending: `docklock rmi -f` and another load, import or pull. A layer's
unpacked tree is looked for and not read: only its writer knew every file of it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from chainlite.errors import SpecError
from docklock.document import Cursor, parse_document
from docklock.image.layer import LAYER_FILE
from docklock.image.reference import parse_reference
from docklock.image.staging import lock_store
from docklock.image.store import SIZE_MAX_BYTES, Entry, ImageStore, parse_diff_ids, parse_digest
from docklock.image.stream import CHUNK_BYTES
from docklock.paths import Paths

SHORT_ID_CHARS = 12


class Found(NamedTuple):
    """What was looked at. A problem is (what, why); `leftovers` the next writer removes."""

    images: int
    blobs: int
    blob_bytes: int
    problems: tuple[tuple[str, str], ...]
    leftovers: int


class _Blob(NamedTuple):
    file: BinaryIO
    digest: str
    user: str


def check_store(paths: Paths) -> Found:
    """Looks at everything; writers wait only while files are opened."""
    store = ImageStore(paths)
    if not os.path.isdir(store.root):
        return Found(0, 0, 0, (), 0)
    with ExitStack() as files:
        look = _Look(store, files)
        with lock_store(store.root):
            try:
                entries = store.list_entries()
            except (SpecError, FileNotFoundError) as error:
                return Found(0, 0, 0, (("index.json", str(error)),), 0)
            for entry in entries:
                look.open_image(entry)
            leftovers = look.count_leftovers()
        sizes = [look.read(blob) for blob in look.blobs.values()]
    images = len({entry.image_id for entry in entries})
    return Found(images, len(sizes), sum(sizes), tuple(look.problems), leftovers)


class _Look:
    """One look at the store: opens under its lock, reads afterwards."""

    def __init__(self, store: ImageStore, files: ExitStack) -> None:
        self._store, self._files = store, files
        self._layers: set[str] = set()
        self.blobs: dict[str, _Blob] = {}
        self.problems: list[tuple[str, str]] = []

    def open_image(self, entry: Entry) -> None:
        """Every blob that the image needs, and the places of its layers."""
        user = entry.reference and parse_reference(entry.reference).familiar
        user = user or entry.image_id[7 : 7 + SHORT_ID_CHARS]
        try:
            manifest = self._open_document(entry.digest, entry.manifest_bytes, user)
            config = manifest.required("config")
            if parse_digest(config.required("digest")) != entry.image_id:
                raise config.error(f"names another image than index.json: not {entry.image_id}")
            size = config.required("size").as_int(0, SIZE_MAX_BYTES)
            diff_ids = parse_diff_ids(self._open_document(entry.image_id, size, user))
            layers = manifest.required("layers").as_list()
            if len(layers) != len(diff_ids):
                raise manifest.error(f"{len(layers)} layers, and {len(diff_ids)} diff_ids")
            for item, diff_id in zip(layers, diff_ids, strict=True):
                size = item.required("size").as_int(0, SIZE_MAX_BYTES)
                self._open(parse_digest(item.required("digest")), size, user)
                self._check_layer(diff_id, user)
        except SpecError as error:
            self.problems.append((user, str(error)))

    def read(self, blob: _Blob) -> int:
        """Its size, once its bytes are compared with its digest."""
        digest, size = hashlib.sha256(), 0
        blob.file.seek(0)
        try:
            while data := blob.file.read(CHUNK_BYTES):
                digest.update(data)
                size += len(data)
        except OSError as error:
            self.problems.append((blob.user, f"blob {blob.digest}: {error.strerror}"))
            return size
        found = f"sha256:{digest.hexdigest()}"
        if found != blob.digest:
            self.problems.append((blob.user, f"blob {blob.digest}: its digest is {found}"))
        return size

    def count_leftovers(self) -> int:
        """Blobs and layers that no image needs: a writer was killed, or a document is spoilt."""
        blobs = set(os.listdir(f"{self._store.root}/blobs/sha256"))
        layers = set(os.listdir(f"{self._store.root}/layers"))
        return len(blobs - {one[7:] for one in self.blobs}) + len(layers - self._layers)

    def _open_document(self, digest: str, size: int, user: str) -> Cursor:
        return parse_document(self._open(digest, size, user).read(), self._store.blob(digest))

    def _open(self, digest: str, size: int, user: str) -> BinaryIO:
        """The blob from its beginning, to be read to its end later. SpecError for another size."""
        where = self._store.blob(digest)
        if digest not in self.blobs:
            try:
                opened = self._files.enter_context(open(where, "rb"))
            except OSError as error:
                raise SpecError(f"blob {digest}: {error.strerror}") from None
            self.blobs[digest] = _Blob(opened, digest, user)
        file = self.blobs[digest].file
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise SpecError(f"blob {digest}: has {found} bytes, not {size}")
        file.seek(0)
        return file

    def _check_layer(self, diff_id: str, user: str) -> None:
        """Whether the layer is there unpacked, and its own record is of it."""
        directory = self._store.layer(diff_id)
        self._layers.add(diff_id[7:])
        where = f"{directory}/{LAYER_FILE}"
        try:
            with open(where, "rb") as file:
                document = parse_document(file.read(), where)
        except OSError as error:
            self.problems.append((user, f"layer {diff_id}: {LAYER_FILE}: {error.strerror}"))
            return
        if document.get("diff_id").as_str("") != diff_id:
            self.problems.append((user, f"layer {diff_id}: {LAYER_FILE} is of another layer"))
        if not os.path.isdir(f"{directory}/fs"):
            self.problems.append((user, f"layer {diff_id}: its files are missing"))
