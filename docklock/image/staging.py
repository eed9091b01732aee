"""The image store, write side: everything new is made under staging/ and moved in at the end.

A writer makes its blobs and layers in a directory of its own that it holds a lock on, then takes
the store's lock, moves them to their names and writes index.json last: that rename is the commit.
Invariants: index.json names only blobs and layers that are whole and on disk; kill -9 anywhere
leaves only a staging directory without a living owner, or blobs and layers that index.json does
not name, and the next writer removes both. Writers run at the same time; only commits take turns.
Not here: unpacking (layer), reading (store).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

from chainlite.errors import StateError
from docklock.document import encode_document
from docklock.evidence.operations import record_operation
from docklock.image.store import (
    IMAGE_ID,
    IMAGE_SIZE,
    REF_NAME,
    Entry,
    ImageStore,
    parse_diff_ids,
)
from docklock.paths import Paths

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class NewImage(NamedTuple):
    """An image ready to be committed; its blobs and layers are staged or in the store already."""

    entry: Entry
    diff_ids: tuple[str, ...]
    layer_digests: tuple[str, ...]


class Staging:
    """One writer's private directory; leaves nothing behind however it ends."""

    def __init__(self, paths: Paths) -> None:
        self.store = ImageStore(paths)
        _make_store(self.store.root)
        with lock_store(self.store.root):
            remove_leftovers(self.store)
            self._paths = paths
            self.path = f"{self.store.root}/staging/{secrets.token_hex(8)}"
            os.mkdir(self.path, 0o700)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.mkdir(f"{self.path}/blobs", 0o700)
        os.mkdir(f"{self.path}/layers", 0o700)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)
        os.close(self._lock)

    def blob(self, digest: str) -> str:
        return f"{self.path}/blobs/{digest[7:]}"

    def layer(self, diff_id: str) -> str:
        return f"{self.path}/layers/{diff_id[7:]}"

    def write_blob(self, data: bytes) -> str:
        """Stages a small blob; gives its digest."""
        import hashlib

        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        _write_durable(self.blob(digest), data)
        return digest

    def commit(self, images: Iterable[NewImage], operation: str) -> None:
        """Moves everything in and names the images; a name that was taken goes to the new one.

        The host log has a leaf `operation` for each image first.
        """
        images = tuple(images)
        for image in images:
            labels = (("image", image.entry.image_id), ("name", image.entry.reference))
            record_operation(self._paths, operation, labels=labels)
        # Thousands of files: one sync of everything costs less than an fsync of each.
        os.sync()
        with lock_store(self.store.root):
            root = self.store.root
            _move_in(f"{self.path}/blobs", f"{root}/blobs/sha256")
            _move_in(f"{self.path}/layers", f"{root}/layers")
            for image in images:
                self._check_whole(image)
            entries = self.store.list_entries()
            for image in images:
                entries = add_entry(entries, image.entry)
            write_index(root, entries)
            remove_unused(self.store, entries)

    def _check_whole(self, image: NewImage) -> None:
        digests = (image.entry.image_id, image.entry.digest, *image.layer_digests)
        found = [os.path.exists(self.store.blob(item)) for item in digests]
        found += [os.path.isdir(self.store.layer(item)) for item in image.diff_ids]
        if not all(found):
            raise StateError("a layer was removed by another command meanwhile: try again")


@contextmanager
def lock_store(root: str) -> Iterator[None]:
    """Holds the store's lock; waits for it."""
    file = os.open(f"{root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def add_entry(entries: tuple[Entry, ...], new: Entry) -> tuple[Entry, ...]:
    """Pure: names the new image; the image that had the name stays, without one."""
    kept = []
    for item in entries:
        if new.reference and item.reference == new.reference:
            item = item._replace(reference="")
        kept.append(item)
    return tidy_entries((*kept, new))


def tidy_entries(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Drops a nameless descriptor when the same image has a name, and repeated ones."""
    named = {item.image_id for item in entries if item.reference}
    found = (item for item in entries if item.reference or item.image_id not in named)
    return tuple(dict.fromkeys(found))


def write_index(root: str, entries: tuple[Entry, ...]) -> None:
    """Replaces index.json. The caller holds the lock."""
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [_encode_entry(item) for item in entries],
    }
    _write_durable(f"{root}/.index.json.new", encode_document(document))
    os.rename(f"{root}/.index.json.new", f"{root}/index.json")
    _sync_directory(root)


def remove_leftovers(store: ImageStore) -> None:
    """What killed writers left: staging directories nobody holds, and unused blobs and layers."""
    for name in os.listdir(f"{store.root}/staging"):
        path = f"{store.root}/staging/{name}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # a writer ends without the store's lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if os.path.exists(path):
                shutil.rmtree(path)
        finally:
            os.close(file)
    remove_unused(store, store.list_entries())


def remove_unused(store: ImageStore, entries: tuple[Entry, ...]) -> tuple[str, ...]:
    """Removes blobs and layers that no image needs; gives the diff_ids of the layers removed."""
    blobs: set[str] = set()
    layers: set[str] = set()
    for entry in dict.fromkeys(item._replace(reference="") for item in entries):
        blobs |= {entry.digest[7:], entry.image_id[7:]}
        blobs.update(item[7:] for item in read_layer_digests(store, entry.digest))
        layers.update(item[7:] for item in read_diff_ids(store, entry.image_id))
    for name in os.listdir(f"{store.root}/blobs/sha256"):
        if name not in blobs:
            os.unlink(f"{store.root}/blobs/sha256/{name}")
    removed = sorted(set(os.listdir(f"{store.root}/layers")) - layers)
    for name in removed:
        shutil.rmtree(f"{store.root}/layers/{name}")
    return tuple(f"sha256:{name}" for name in removed)


def read_layer_digests(store: ImageStore, digest: str) -> tuple[str, ...]:
    """The layer blobs of a manifest in the store."""
    manifest = store.read_document(digest)
    return tuple(item.required("digest").as_str() for item in manifest.get("layers").as_list())


def read_diff_ids(store: ImageStore, image_id: str) -> tuple[str, ...]:
    """The layers of an image in the store, lowest first."""
    return parse_diff_ids(store.read_document(image_id))


def _make_store(root: str) -> None:
    # 0700: a layer's set-user-id programs are not for this host's users.
    os.makedirs(root, mode=0o700, exist_ok=True)
    for part in ("blobs/sha256", "layers", "staging"):
        os.makedirs(f"{root}/{part}", mode=0o700, exist_ok=True)
    if not os.path.exists(f"{root}/oci-layout"):
        with lock_store(root):
            _write_durable(f"{root}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            if not os.path.exists(f"{root}/index.json"):
                write_index(root, ())


def _move_in(source: str, target: str) -> None:
    for name in os.listdir(source):
        if not os.path.lexists(f"{target}/{name}"):
            os.rename(f"{source}/{name}", f"{target}/{name}")
    _sync_directory(target)


def _encode_entry(entry: Entry) -> dict[str, object]:
    notes = {IMAGE_ID: entry.image_id, IMAGE_SIZE: str(entry.image_bytes)}
    if entry.reference:
        notes[REF_NAME] = entry.reference
    return {
        "mediaType": entry.media_type,
        "digest": entry.digest,
        "size": entry.manifest_bytes,
        "annotations": notes,
    }


def _write_durable(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
