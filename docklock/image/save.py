"""`docklock save`: images as one docker archive, or as an OCI layout, in a tar or a directory.

A docker archive has plain layers, as `docker load` of every version takes them; an OCI layout has
the blobs of the store byte for byte, so an image keeps its digest. Not here: reading them (archive,
layout), the store (store). Invariants: every blob is read and its digest compared before the first
byte of an archive is written, and it is the same open file that is then copied: no `rmi` meanwhile
takes it away. The same images give the same bytes.
Source: moby image/spec/v1.2.md; OCI image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple, Protocol

from chainlite.errors import SpecError, StateError
from docklock.document import encode_document
from docklock.evidence.operations import record_operation
from docklock.image import tar
from docklock.image.layout import CONTAINERD_NAME, LAYOUT_FILE
from docklock.image.reference import is_hex, parse_reference
from docklock.image.staging import INDEX_TYPE, lock_store, read_diff_ids, read_layer_digests
from docklock.image.store import REF_NAME, Entry, ImageStore, find_entry
from docklock.image.stream import CHUNK_BYTES, Tap, Unpacked
from docklock.image.tar import TarEntry
from docklock.image.tarwrite import END, encode_header, encode_padding
from docklock.paths import Paths

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY = FORMATS = ("docker-archive", "oci-archive", "oci-dir")


class Sink(Protocol):
    """Where the files of an archive go, each once; `close` ends it."""

    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> None: ...

    def close(self) -> None: ...


class TarSink:
    """A tar; a file's directories come before it."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._made: set[str] = set()

    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> None:
        for at, letter in enumerate(name):
            if letter == "/" and name[: at + 1] not in self._made:
                self._made.add(name[: at + 1])
                directory = name[: at + 1].encode()
                self._write(encode_header(TarEntry(directory, tar.DIRECTORY, 0o755, 0, 0, 0, 0)))
        self._write(encode_header(TarEntry(name.encode(), tar.FILE, 0o644, 0, 0, 0, size_bytes)))
        for chunk in chunks:
            self._write(chunk)
        self._write(encode_padding(size_bytes))

    def close(self) -> None:
        self._write(END)


class DirectorySink:
    """A directory, new or empty."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        if os.listdir(path):
            raise StateError(f"{path}: is not empty: a layout is saved into a directory of its own")
        self._path = path

    def add(self, name: str, size_bytes: int, chunks: Iterable[bytes]) -> None:
        path = f"{self._path}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
            assert file.tell() == size_bytes

    def close(self) -> None:
        os.sync()


class Chosen(NamedTuple):
    """An image to be saved, and the names that go with it."""

    entry: Entry
    names: tuple[str, ...]
    diff_ids: tuple[str, ...]


class Blob(NamedTuple):
    """An open blob of the store, as it is or to be unpacked: `digest` and `size` are what it gives,
    compared with what the store says."""

    file: BinaryIO
    where: str
    digest: str
    size_bytes: int
    is_unpacked: bool

    def read(self) -> Iterator[bytes]:
        """Its bytes. StateError if they are not as many any more."""
        self.file.seek(0)
        stream = Unpacked(self.file, self.where) if self.is_unpacked else self.file
        left = self.size_bytes
        while data := stream.read(CHUNK_BYTES):
            left -= len(data)
            if left < 0:
                break
            yield data
        if left:
            raise StateError(f"{self.where}: was changed while it was saved")


def choose_images(store: ImageStore, words: Iterable[str]) -> tuple[Chosen, ...]:
    """What `save` was asked for: a name without a tag means all its tags, an ID no name."""
    entries = store.list_entries()
    found: dict[str, Chosen] = {}
    for word in words:
        for entry, name in _find(entries, word):
            old = found.get(entry.image_id)
            if old is None:
                old = Chosen(entry, (), read_diff_ids(store, entry.image_id))
            names = (*old.names, name) if name and name not in old.names else old.names
            found[entry.image_id] = old._replace(names=names)
    return tuple(found.values())


def save_images(paths: Paths, words: Iterable[str], kind: str, make: Callable[[], Sink]) -> None:
    """Writes the images; `make` is called once all of it is known to be there and whole.

    StateError for an image that is not here, SpecError for a blob that is spoilt.
    """
    store = ImageStore(paths)
    if not os.path.isdir(store.root):
        for word in words:
            find_entry((), word)
    with ExitStack() as files:
        with lock_store(store.root):
            chosen = choose_images(store, words)
            blobs = _open_blobs(store, chosen, files, is_docker=kind == DOCKER_ARCHIVE)
        checked = {digest: _check(digest, blob) for digest, blob in blobs.items()}
        for one in chosen:
            labels = (("image", one.entry.image_id), ("name", " ".join(one.names)))
            record_operation(paths, "save", labels=labels)
        sink = make()
        if kind == DOCKER_ARCHIVE:
            _write_docker(chosen, checked, sink)
        else:
            _write_layout(chosen, checked, sink)
        sink.close()


def _find(entries: tuple[Entry, ...], word: str) -> list[tuple[Entry, str]]:
    """(entry, name to save it by) of what a word means; at least one."""
    is_bare = ":" not in word.rpartition("/")[2] and "@" not in word
    if is_bare and not is_hex(word):
        try:
            prefix = f"{parse_reference(word).name}:"
        except SpecError:
            prefix = ":"
        all_tags = [(item, item.reference) for item in entries if item.reference.startswith(prefix)]
        if all_tags:
            return all_tags
    entry = find_entry(entries, word)
    is_named = ":" in word and not word.startswith("sha256:") and "@" not in word
    return [(entry, entry.reference if is_named else "")]


def _open_blobs(
    store: ImageStore, chosen: tuple[Chosen, ...], files: ExitStack, *, is_docker: bool
) -> dict[str, Blob]:
    """Every blob that is to be saved, by the digest that it must give."""
    found: dict[str, Blob] = {}

    def add(digest: str, expected: str, *, is_unpacked: bool) -> None:
        where = store.blob(digest)
        if expected in found:
            return
        try:
            file = files.enter_context(open(where, "rb"))
        except FileNotFoundError:
            advice = "`docklock rmi -f` its image and load it again"
            raise SpecError(f"{where}: missing, though index.json needs it: {advice}") from None
        found[expected] = Blob(file, where, expected, 0, is_unpacked)

    for one in chosen:
        add(one.entry.image_id, one.entry.image_id, is_unpacked=False)
        layers = read_layer_digests(store, one.entry.digest)
        if is_docker:
            for digest, diff_id in zip(layers, one.diff_ids, strict=True):
                add(digest, diff_id, is_unpacked=True)
        else:
            for digest in (one.entry.digest, *layers):
                add(digest, digest, is_unpacked=False)
    return found


def _check(digest: str, blob: Blob) -> Blob:
    """The blob with the size that it has. SpecError unless it has its digest."""
    tap = Tap(Unpacked(blob.file, blob.where) if blob.is_unpacked else blob.file)
    tap.drain()
    if tap.digest != digest:
        raise SpecError(f"{blob.where}: gives {tap.digest}, not {digest}: it is spoilt")
    return blob._replace(size_bytes=tap.size_bytes)


def _write_docker(chosen: tuple[Chosen, ...], blobs: dict[str, Blob], sink: Sink) -> None:
    items = []
    for digest, blob in blobs.items():
        suffix = "/layer.tar" if blob.is_unpacked else ".json"
        sink.add(f"{digest[7:]}{suffix}", blob.size_bytes, blob.read())
    for one in chosen:
        layers = [f"{item[7:]}/layer.tar" for item in one.diff_ids]
        names = [parse_reference(name).familiar for name in one.names]
        config = f"{one.entry.image_id[7:]}.json"
        items.append({"Config": config, "RepoTags": names or None, "Layers": layers})
    _add_document(sink, "manifest.json", items)


def _write_layout(chosen: tuple[Chosen, ...], blobs: dict[str, Blob], sink: Sink) -> None:
    _add_document(sink, LAYOUT_FILE, {"imageLayoutVersion": "1.0.0"})
    for digest, blob in blobs.items():
        sink.add(f"blobs/sha256/{digest[7:]}", blob.size_bytes, blob.read())
    manifests = [_describe(one.entry, name) for one in chosen for name in one.names or ("",)]
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
    _add_document(sink, "index.json", document)


def _describe(entry: Entry, name: str) -> dict[str, object]:
    named = {"annotations": {REF_NAME: name, CONTAINERD_NAME: name}} if name else {}
    return {
        "mediaType": entry.media_type,
        "digest": entry.digest,
        "size": entry.manifest_bytes,
        **named,
    }


def _add_document(sink: Sink, name: str, value: object) -> None:
    data = encode_document(value)
    sink.add(name, len(data), (data,))
