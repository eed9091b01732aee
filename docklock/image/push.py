"""`docklock push`: an image of the store to a registry, what it has already left out.

Not here: the registry's language (registry), which images (docklock.cli.push), layers in gzip
(repack). Invariants: the manifest goes last, so that no name is there before all of its blobs; the
host log has a leaf first; the password goes to the registry alone, wherever it has uploads sent.
Source: OCI distribution-spec 1.1, "Pushing Blobs", "Pushing Manifests".
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import quote

from chainlite.errors import PeerError, StateError
from docklock.evidence.operations import record_operation
from docklock.image.registry import DIGEST_FIELD, Repository
from docklock.image.registry_http import Body, follow
from docklock.image.repack import Blob, describe, is_own, repack_layer
from docklock.image.staging import Staging, lock_store, read_layer_digests
from docklock.image.store import Entry, ImageStore

if TYPE_CHECKING:
    from docklock.image.progress import Progress
    from docklock.image.reference import Reference
    from docklock.paths import Paths

UPLOADS_MAX = 5
"""At once; Docker's max-concurrent-uploads."""
SHORT_CHARS = 12


class Counted:
    """A file as http.client sends it; tells how far it is."""

    def __init__(self, blob: Blob, progress: Progress) -> None:
        self._blob, self._progress = blob, progress
        self._sent = 0
        self.seek(0)

    def seek(self, position: int) -> None:
        self._blob.file.seek(position)
        self._sent = position

    def read(self, size: int = -1, /) -> bytes:
        data = self._blob.file.read(size)
        self._sent += len(data)
        self._progress.update(self._blob.name, "Pushing", self._sent, self._blob.size)
        return data


def push_image(
    paths: Paths, reference: Reference, entry: Entry, repository: Repository, progress: Progress
) -> None:
    """Pushes one name. RegistryError: refused or away. StateError: the image is not whole."""
    labels = (("image", entry.image_id), ("name", reference.text))
    store = ImageStore(paths)
    with ExitStack() as stack:
        manifest, layers, config = _open_blobs(store, entry, stack)
        record_operation(paths, "push", labels=labels)
        for layer in layers:
            progress.update(layer.name, "Preparing", 0, layer.size)
        pool = ThreadPoolExecutor(UPLOADS_MAX)
        is_whole = False
        try:
            if is_own(manifest, config, layers):
                # Who is not let in is told before the work.
                repository.retry(lambda: _has_blob(repository, config.digest))
                layers = _repack(paths, layers, pool, stack)
                manifest = describe(config, layers)
            for future in [pool.submit(_push_blob, repository, item, progress) for item in layers]:
                future.result()
            is_whole = True
        finally:
            if not is_whole:
                repository.wire.abort()
            pool.shutdown(cancel_futures=True)
        _push_blob(repository, config, None)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    put_manifest(repository, reference.tag, entry.media_type, digest, manifest)
    progress.say(f"{reference.tag}: digest: {digest} size: {len(manifest)}")


def put_manifest(
    repository: Repository, tag: str, media_type: str, digest: str, data: bytes
) -> None:
    """Names what has been pushed."""

    def put() -> None:
        answer = repository.ask("PUT", f"manifests/{tag}", {"Content-Type": media_type}, data)
        try:
            if answer.status != 201:
                raise repository.refuse(answer)
            if answer.get(DIGEST_FIELD) not in ("", digest):
                raise PeerError(f"{repository.name}: the registry keeps another manifest")
        finally:
            answer.close()

    repository.retry(put)


def _repack(
    paths: Paths, layers: tuple[Blob, ...], pool: ThreadPoolExecutor, stack: ExitStack
) -> tuple[Blob, ...]:
    staging = stack.enter_context(Staging(paths))
    coming = [pool.submit(repack_layer, layer, staging.path) for layer in layers]
    for future in coming:
        stack.callback(_close, future)
    return tuple(future.result() for future in coming)


def _close(future: Future[Blob]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().file.close()


def _open_blobs(
    store: ImageStore, entry: Entry, stack: ExitStack
) -> tuple[bytes, tuple[Blob, ...], Blob]:
    """(manifest, layers lowest first, configuration)."""
    with lock_store(store.root):
        with open(store.blob(entry.digest), "rb") as file:
            manifest = file.read()
        digests = dict.fromkeys((*read_layer_digests(store, entry.digest), entry.image_id))
        found = []
        for digest in digests:
            try:
                opened = stack.enter_context(open(store.blob(digest), "rb"))
            except FileNotFoundError:
                raise StateError(
                    f"{digest}: the store has it not: see `docklock system check`"
                ) from None
            size = os.fstat(opened.fileno()).st_size
            found.append(Blob(digest, opened, size, _shorten(digest)))
    return manifest, tuple(found[:-1]), found[-1]


def _push_blob(repository: Repository, blob: Blob, progress: Progress | None) -> None:
    state = "Pushed"
    if repository.retry(lambda: _has_blob(repository, blob.digest)):
        state = "Layer already exists"
    else:
        repository.retry(lambda: _upload(repository, blob, progress))
    if progress is not None:
        progress.update(blob.name, state, blob.size, blob.size)


def _has_blob(repository: Repository, digest: str) -> bool:
    answer = repository.ask("HEAD", f"blobs/{digest}")
    answer.close()
    if answer.status == 404:
        return False
    if answer.status != 200:
        raise repository.refuse(answer)
    return True


def _upload(repository: Repository, blob: Blob, progress: Progress | None) -> None:
    """In one piece; an upload that broke off begins anew."""
    answer = repository.ask("POST", "blobs/uploads/", {"Content-Length": "0"})
    try:
        if answer.status != 202:
            raise repository.refuse(answer)
        is_plain = repository.get_base().startswith("http:")
        target = follow(answer.url, answer.get("Location"), is_plain_allowed=is_plain)
    finally:
        answer.close()
    joint = "&" if "?" in target else "?"
    url = f"{target}{joint}digest={quote(blob.digest, safe='')}"
    fields = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    if progress is None:
        blob.file.seek(0)
        body: Body = blob.file
    else:
        body = Counted(blob, progress)
    answer = repository.ask_url("PUT", url, fields, body)
    try:
        if answer.status != 201:
            raise repository.refuse(answer)
    finally:
        answer.close()


def _shorten(digest: str) -> str:
    return digest[7 : 7 + SHORT_CHARS]
