"""`docklock pull`: an image of a registry into the store, its layers fetched side by side.

Not here: the registry's language (registry), one blob (download), what an image is (layout), the
commit (staging). Invariants: what stands in the store was checked against the digest of the
manifest that names it; two pulls of one image share the work, the second waits and finds it done;
however a pull ends, the store is whole, and what was fetched is there for the next.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from chainlite.errors import PeerError, SpecError
from docklock.document import Cursor
from docklock.image.download import fetch_blob, lock_file, remove_downloads
from docklock.image.layout import Wanted, stage_image
from docklock.image.registry import Manifest, Repository
from docklock.image.staging import Staging

if TYPE_CHECKING:
    from docklock.image.progress import Progress
    from docklock.image.reference import Reference
    from docklock.paths import Paths

DOWNLOADS_MAX = 3
"""At once; Docker's max-concurrent-downloads."""
LAYER_BYTES_MAX = 64 << 30
SHORT_CHARS = 12
FULL = (errno.ENOSPC, errno.EDQUOT)


class Pulled(NamedTuple):
    """What came. `digest` is the registry's for the name: of the index, if it has one."""

    image_id: str
    digest: str
    is_new: bool


class RegistrySource:
    """A Source of one image at a registry; `expect_layers` starts to fetch."""

    def __init__(self, repository: Repository, top: Manifest, directory: str, progress: Progress):
        self.where = repository.name
        self._repository, self._directory, self._progress = repository, directory, progress
        self._manifests = {top.digest: top.data}
        self._pool = ThreadPoolExecutor(DOWNLOADS_MAX)
        self._coming: dict[str, Future[BinaryIO]] = {}
        self.layers: tuple[str, ...] = ()

    def read_manifest(self, digest: str) -> bytes:
        if digest not in self._manifests:
            self._manifests[digest] = self._repository.fetch_manifest(digest).data
        return self._manifests[digest]

    def read_blob(self, digest: str) -> bytes:
        return self._repository.fetch_document(digest)

    def expect_layers(self, layers: tuple[Wanted, ...]) -> None:
        self.layers = tuple(item.digest for item in layers)
        for item in layers:
            if item.blob_bytes > LAYER_BYTES_MAX:
                size = f"{item.blob_bytes} bytes, at most {LAYER_BYTES_MAX} are fetched"
                raise SpecError(f"{self.where}: {item.digest}: {size}")
            state = "Already exists" if item.is_here else "Pulling fs layer"
            self._progress.update(_shorten(item.digest), state, 0, item.blob_bytes)
        for item in layers:
            if not item.is_here and item.digest not in self._coming:
                self._coming[item.digest] = self._pool.submit(self._fetch, item)

    @contextmanager
    def open_layer(self, digest: str) -> Iterator[BinaryIO]:
        with self._coming[digest].result() as file:
            self._progress.update(_shorten(digest), "Extracting", 0, 0)
            yield file
        self._progress.update(_shorten(digest), "Pull complete", 0, 0)

    def close(self, *, is_whole: bool) -> None:
        """Ends what is under way. A thread that waits for another pull's file is left to it."""
        if not is_whole:
            self._repository.wire.abort()
        self._pool.shutdown(wait=is_whole, cancel_futures=True)
        for future in self._coming.values():
            future.add_done_callback(_close_file)

    def _fetch(self, item: Wanted) -> BinaryIO:
        name = _shorten(item.digest)

        def report(state: str, have: int) -> None:
            self._progress.update(name, state, have, item.blob_bytes)

        file = fetch_blob(self._repository, self._directory, item.digest, item.blob_bytes, report)
        report("Download complete", item.blob_bytes)
        return file


def pull_image(
    paths: Paths, reference: Reference, repository: Repository, progress: Progress, platform: str
) -> Pulled:
    """Pulls an image. RegistryError: refused or away. PeerError: the registry lies, or errs."""
    try:
        top = repository.fetch_manifest(reference.digest or reference.tag)
        progress.start(reference)
        directory = f"{paths.images}/downloads"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # One pull of an image at a time: who waited finds all of it here.
        lock = f"{directory}/{top.digest[7:]}.lock"
        with lock_file(lock):
            try:
                return _pull(paths, reference, repository, top, progress, platform)
            finally:
                os.unlink(lock)
    except SpecError as error:
        # Nothing that the caller wrote is wrong.
        raise PeerError(str(error)) from None


def _pull(
    paths: Paths, reference: Reference, repository: Repository, top: Manifest,
    progress: Progress, platform: str,
) -> Pulled:  # fmt: skip
    directory = f"{paths.images}/downloads"
    source = RegistrySource(repository, top, directory, progress)
    is_whole = False
    try:
        with Staging(paths) as staging:
            descriptor = {"mediaType": top.media_type, "digest": top.digest, "size": len(top.data)}
            item = Cursor(descriptor, repository.name)
            image = stage_image(staging, source, item, reference.text, platform)
            is_whole = True
            is_new = image.entry not in staging.store.list_entries()
            if is_new:
                staging.commit((image,), "pull")
    except OSError as error:
        if error.errno in FULL:  # what was fetched would keep the disk full until the next pull
            remove_downloads(directory, source.layers)
        raise
    finally:
        source.close(is_whole=is_whole)
    # Of a layer that was here, too: a pull that was killed after its commit has left it.
    remove_downloads(directory, source.layers)
    return Pulled(image.entry.image_id, top.digest, is_new)


def _close_file(future: Future[BinaryIO]) -> None:
    """Of a layer that nobody came to open."""
    if not future.cancelled() and future.exception() is None:
        future.result().close()


def _shorten(digest: str) -> str:
    return digest[7 : 7 + SHORT_CHARS]
