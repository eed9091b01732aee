"""Pushing to registries that lead uploads astray, refuse, break off or keep something else."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import PeerError
from docklock.image.archive import load_archive
from docklock.image.progress import Progress
from docklock.image.push import push_image
from docklock.image.reference import parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import RegistryError, Wire
from docklock.image.store import Entry, ImageStore
from docklock.paths import Paths
from tests.image.scripted import Reply, Request, Script, Scripted
from tests.image.test_pull import AUTH, FAST, LOGIN

CHALLENGE = Reply(401, b"", (("WWW-Authenticate", 'Basic realm="x"'),))


@pytest.fixture
def entry(paths: Paths, archives: Any) -> Entry:
    """An image of the store with two layers."""
    layers = [archives.tar((archives.member(name), name.encode())) for name in "ab"]
    data = archives.files(archives.layout(layers, gzip.compress))
    load_archive(paths, io.BytesIO(data), "a.tar")
    (found,) = ImageStore(paths).list_entries()
    return found


def push(paths: Paths, entry: Entry, server: Scripted) -> None:
    reference = parse_reference(f"{server.domain}/a/b:1")
    repository = Repository(reference, LOGIN, Wire(FAST), actions="pull,push")
    push_image(paths, reference, entry, repository, Progress(None))


def take(location: str = "/upload/1?state=x") -> Script:
    """An honest registry that has nothing yet; uploads go to `location`."""

    def script(request: Request) -> Reply:
        if request.method == "HEAD" and "/blobs/" in request.path:
            return Reply(404)
        if request.method == "POST":
            return Reply(202, b"", (("Location", location),))
        return Reply(201 if request.method == "PUT" else 200)

    return script


def get_puts(server: Scripted) -> list[Request]:
    return [request for request in server.asked if request.method == "PUT"]


def test_all_blobs_go_as_they_are_and_the_manifest_last(paths: Paths, entry: Entry) -> None:
    with Scripted(take()) as server:
        push(paths, entry, server)
        *blobs, manifest = get_puts(server)
    for request in blobs:
        digest = request.path.partition("&digest=sha256%3A")[2]
        assert request.body == Path(paths.images, "blobs/sha256", digest).read_bytes()
    assert len(blobs) == 3
    assert manifest.path == "/v2/a/b/manifests/1"
    assert manifest.body == Path(ImageStore(paths).blob(entry.digest)).read_bytes()
    assert manifest.fields["content-type"] == entry.media_type


def test_an_upload_elsewhere_is_handed_no_password(paths: Paths, entry: Entry) -> None:
    with Scripted(take()) as store:
        honest = take(f"{store.url}/upload?signed=1")
        script: Script = lambda request: honest(request) if AUTH in request.fields else CHALLENGE  # noqa: E731
        with Scripted(script) as server:
            push(paths, entry, server)
            assert any(AUTH in request.fields for request in server.asked)
        assert len(store.asked) == 3
        assert not any(AUTH in request.fields for request in store.asked)


@pytest.mark.parametrize("location", ["http://192.0.2.1/x", "ftp://127.0.0.1/", "http://[::1"])
def test_an_upload_to_where_nobody_should_go_is_refused(
    paths: Paths, entry: Entry, location: str
) -> None:
    with Scripted(take(location)) as server:
        with pytest.raises(PeerError):
            push(paths, entry, server)
        assert get_puts(server) == []


@pytest.mark.parametrize(("status", "is_again"), [(500, True), (429, True), (413, False)])
def test_an_upload_that_fails_begins_anew_or_ends_it_and_names_nothing(
    paths: Paths, entry: Entry, status: int, is_again: bool
) -> None:
    honest = take()

    def script(request: Request) -> Reply:
        if request.method == "PUT" and request.path.startswith("/upload"):
            return Reply(status, b"", (("Retry-After", "0"),))
        return honest(request)

    with Scripted(script) as server:
        with pytest.raises(RegistryError) as caught:
            push(paths, entry, server)
        puts = get_puts(server)
    assert caught.value.status == status or caught.value.status == 0
    assert not any("/manifests/" in request.path for request in puts)
    assert (len(puts) > 2) == is_again


def test_a_registry_that_keeps_another_manifest_is_told_of(paths: Paths, entry: Entry) -> None:
    honest = take()

    def script(request: Request) -> Reply:
        reply = honest(request)
        if "/manifests/" in request.path:
            return reply._replace(fields=(("Docker-Content-Digest", f"sha256:{'0' * 64}"),))
        return reply

    with Scripted(script) as server, pytest.raises(PeerError, match="another manifest"):
        push(paths, entry, server)
