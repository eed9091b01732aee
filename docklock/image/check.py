"""`docklock system check`: whether the image store is whole, every blob read against its digest.

It changes nothing. Not here: mending: `docklock rmi -f` and another load, import or pull. A layer's
unpacked tree is looked for and not read: only its writer knew every file of it.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

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
    """What was looked at. A problem is (what, why); `leftovers` the next writer removes;
    where there is a problem nobody counts them."""

    images: int
    blobs: int
    blob_bytes: int
    problems: tuple[tuple[str, str], ...]
    leftovers: int


class _Blob(NamedTuple):
    """A blob to be read; `image` is the digest of a manifest that needs it, `user` its name."""

    digest: str
    image: str
    user: str


def check_store(paths: Paths) -> Found:
    """Looks at everything; writers wait only while documents are read."""
    store = ImageStore(paths)
    if not os.path.isdir(store.root):
        return Found(0, 0, 0, (), 0)
    look = _Look(store)
    with lock_store(store.root):
        try:
            entries = store.list_entries()
        except SpecError as error:
            return Found(0, 0, 0, (("index.json", str(error)),), 0)
        for entry in entries:
            look.visit(entry)
        leftovers = 0 if look.problems else look.count_leftovers()
    sizes = [look.read(blob) for blob in look.blobs.values()]
    images = len({entry.image_id for entry in entries})
    return Found(images, len(sizes), sum(sizes), tuple(look.problems), leftovers)


class _Look:
    """One look at the store: documents and sizes under its lock, all bytes afterwards."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._layers: set[str] = set()
        self.blobs: dict[str, _Blob] = {}
        self.problems: list[tuple[str, str]] = []

    def visit(self, entry: Entry) -> None:
        """Every blob that the image needs, and the places of its layers."""
        user = entry.reference and parse_reference(entry.reference).familiar
        user = user or entry.image_id[7 : 7 + SHORT_ID_CHARS]
        try:
            self._add(_Blob(entry.digest, entry.digest, user), entry.manifest_bytes)
            manifest = self._store.read_document(entry.digest)
            config = manifest.required("config")
            if parse_digest(config.required("digest")) != entry.image_id:
                raise config.error(f"names another image than index.json: not {entry.image_id}")
            self._add(_Blob(entry.image_id, entry.digest, user), _read_size(config))
            diff_ids = parse_diff_ids(self._store.read_document(entry.image_id))
            layers = manifest.required("layers").as_list()
            if len(layers) != len(diff_ids):
                raise manifest.error(f"{len(layers)} layers, and {len(diff_ids)} diff_ids")
            for item, diff_id in zip(layers, diff_ids, strict=True):
                digest = parse_digest(item.required("digest"))
                self._add(_Blob(digest, entry.digest, user), _read_size(item))
                self._check_layer(diff_id, user)
        except SpecError as error:
            self.problems.append((user, str(error)))

    def read(self, blob: _Blob) -> int:
        """Its size, once its bytes are compared with its digest."""
        digest, size = hashlib.sha256(), 0
        try:
            with open(self._store.blob(blob.digest), "rb") as file:
                while data := file.read(CHUNK_BYTES):
                    digest.update(data)
                    size += len(data)
        except OSError as error:
            if any(entry.digest == blob.image for entry in self._store.list_entries()):
                self.problems.append((blob.user, f"blob {blob.digest}: {error.strerror}"))
            return size  # else an rmi has taken it meanwhile
        found = f"sha256:{digest.hexdigest()}"
        if found != blob.digest:
            self.problems.append((blob.user, f"blob {blob.digest}: its digest is {found}"))
        return size

    def count_leftovers(self) -> int:
        """Blobs and layers that no image needs: a writer was killed."""
        blobs = set(os.listdir(f"{self._store.root}/blobs/sha256"))
        layers = set(os.listdir(f"{self._store.root}/layers"))
        return len(blobs - {one[7:] for one in self.blobs}) + len(layers - self._layers)

    def _add(self, blob: _Blob, size: int) -> None:
        """The blob is to be read later. SpecError if it is not there, or has another size."""
        self.blobs.setdefault(blob.digest, blob)
        try:
            found = os.stat(self._store.blob(blob.digest)).st_size
        except OSError as error:
            del self.blobs[blob.digest]
            raise SpecError(f"blob {blob.digest}: {error.strerror}") from None
        if found != size:
            raise SpecError(f"blob {blob.digest}: has {found} bytes, not {size}")

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


def _read_size(item: Cursor) -> int:
    return item.required("size").as_int(0, SIZE_MAX_BYTES)
