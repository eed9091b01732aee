"""Pushing to registries that lead uploads astray, refuse, break off or keep something else."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from chainlite.errors import PeerError, StateError
from docklock.image.archive import load_archive
from docklock.image.progress import Progress
from docklock.image.push import push_image
from docklock.image.reference import parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import Pace, RegistryError, Wire
from docklock.image.staging import read_diff_ids, read_layer_digests
from docklock.image.store import Entry, ImageStore
from docklock.paths import Paths
from tests.image.scripted import Reply, Request, Script, Scripted
from tests.image.test_pull import AUTH, FAST, LOGIN

TRIES = FAST.retries_max + 1
CHALLENGE = Reply(401, b"", (("WWW-Authenticate", 'Basic realm="x"'),))


@pytest.fixture
def entry(paths: Paths, archives: Any) -> Entry:
    """An image of the store with two layers."""
    layers = [archives.tar((archives.member(name), name.encode())) for name in "ab"]
    data = archives.files(archives.layout(layers, gzip.compress))
    load_archive(paths, io.BytesIO(data), "a.tar")
    (found,) = ImageStore(paths).list_entries()
    return found


def push(paths: Paths, entry: Entry, server: Scripted, pace: Pace = FAST) -> None:
    reference = parse_reference(f"{server.domain}/a/b:1")
    repository = Repository(reference, LOGIN, Wire(pace), actions="pull,push")
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


@pytest.mark.parametrize("location", ["", "http://192.0.2.1/x", "ftp://127.0.0.1/", "http://[::1"])
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


STEPS = {
    "look": lambda request: request.method == "HEAD" and "/blobs/" in request.path,
    "begin": lambda request: request.method == "POST",
    "send": lambda request: request.path.startswith("/upload"),
    "name": lambda request: "/manifests/" in request.path,
}


def spoil(step: str, what: Callable[[], Reply | None]) -> Script:
    """An honest registry but for one step, where `what` answers unless it gives None."""
    honest = take()
    return lambda request: (what() if STEPS[step](request) else None) or honest(request)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 429, 500, 503])
@pytest.mark.parametrize("step", STEPS)
def test_a_push_that_is_refused_says_so_and_names_nothing(
    paths: Paths, entry: Entry, step: str, status: int
) -> None:
    if (step, status) == ("look", 404):
        return  # that is an honest answer
    with Scripted(spoil(step, lambda: Reply(status, b"", (("Retry-After", "0"),)))) as server:
        with pytest.raises(RegistryError) as caught:
            push(paths, entry, server)
        named = [request for request in get_puts(server) if STEPS["name"](request)]
    # A registry that refuses while the layer is still on its way is seen as one that hangs up.
    assert caught.value.status in ((status, 0) if step == "send" else (status,))
    assert len(named) == (0 if step != "name" else TRIES if status in (429, 500, 503) else 1)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
@pytest.mark.parametrize("step", STEPS)
def test_a_push_goes_on_after_a_fault_that_passes(
    paths: Paths, entry: Entry, step: str, status: int
) -> None:
    """0: the connection ends without an answer."""
    left = [Reply(status, b"", (("Retry-After", "0"),))]

    def fail_once() -> Reply | None:
        reply = left.pop() if left else None
        if reply is not None and not reply.status:
            raise ConnectionError
        return reply

    with Scripted(spoil(step, fail_once)) as server:
        push(paths, entry, server)
        *blobs, manifest = get_puts(server)
    assert STEPS["name"](manifest)
    # Whatever was sent again was sent from its start.
    for request in blobs:
        if STEPS["send"](request):
            digest = request.path.partition("&digest=sha256%3A")[2]
            assert hashlib.sha256(request.body).hexdigest() == digest


def test_a_password_that_is_asked_for_in_the_middle_is_sent_with_the_whole_body(
    paths: Paths, entry: Entry
) -> None:
    """A token has run out between the request for an upload and the upload."""
    with Scripted(lambda _: Reply(200, b'{"token": "second"}')) as tokens:
        challenge = f'Bearer realm="{tokens.url}/token"'
        honest = take()

        def script(request: Request) -> Reply:
            if STEPS["send"](request) and request.fields.get(AUTH) != "Bearer second":
                return Reply(401, b"", (("WWW-Authenticate", challenge),))
            return honest(request)

        with Scripted(script) as server:
            push(paths, entry, server)
            puts = [request for request in get_puts(server) if AUTH in request.fields]
    for request in puts:
        if STEPS["send"](request):
            digest = request.path.partition("&digest=sha256%3A")[2]
            assert hashlib.sha256(request.body).hexdigest() == digest
    assert STEPS["name"](puts[-1]) and len(puts) == 4


@pytest.mark.parametrize("step", STEPS)
def test_a_registry_that_does_not_answer_a_push_is_left(
    paths: Paths, entry: Entry, step: str
) -> None:
    release = threading.Event()

    def hold() -> Reply | None:
        release.wait(30)
        return None

    with Scripted(spoil(step, hold)) as server:
        with pytest.raises(RegistryError):
            push(paths, entry, server, FAST._replace(read_s=0.2))
        release.set()


def test_an_image_that_is_not_whole_is_not_pushed(paths: Paths, entry: Entry) -> None:
    digest = read_layer_digests(ImageStore(paths), entry.digest)[1]
    Path(ImageStore(paths).blob(digest)).unlink()
    with Scripted(take()) as server:
        with pytest.raises(StateError, match=f"{digest}: .*system check"):
            push(paths, entry, server)
        assert server.asked == []


def test_a_blob_that_was_spoilt_here_reaches_nobody_as_the_image(
    paths: Paths, entry: Entry
) -> None:
    """The registry compares it with its digest; what it refuses is told."""
    digest = read_layer_digests(ImageStore(paths), entry.digest)[0]
    place = Path(ImageStore(paths).blob(digest))
    place.write_bytes(b"x" * place.stat().st_size)
    honest = take()

    def script(request: Request) -> Reply:
        wanted = request.path.partition("&digest=sha256%3A")[2]
        if STEPS["send"](request) and hashlib.sha256(request.body).hexdigest() != wanted:
            words = b'{"errors":[{"code":"DIGEST_INVALID","message":"it did not match"}]}'
            return Reply(400, words)
        return honest(request)

    with Scripted(script) as server:
        with pytest.raises(RegistryError, match="digest invalid: it did not match"):
            push(paths, entry, server)
        assert not any(STEPS["name"](request) for request in get_puts(server))


@pytest.fixture
def own(paths: Paths, archives: Any) -> Entry:
    """An image out of a docker archive, whose layers the store has packed."""
    layers = [
        archives.tar((archives.member(name), os.urandom(2000) + name.encode())) for name in "ab"
    ]
    data = archives.files(archives.docker(layers, ["own:1"]))
    load_archive(paths, io.BytesIO(data), "a.tar")
    (found,) = [one for one in ImageStore(paths).list_entries() if "own:1" in one.reference]
    return found


def test_what_the_store_packed_itself_goes_in_gzip_the_same_each_time(
    paths: Paths, own: Entry
) -> None:
    """Docker before 23 reads no zstd."""
    before = sorted(Path(paths.images).rglob("*"))
    with Scripted(take()) as server:
        push(paths, own, server)
        push(paths, own, server)
        puts = get_puts(server)
    assert sorted(Path(paths.images).rglob("*")) == before
    first, second = puts[:4], puts[4:]
    assert sorted(one.body for one in first) == sorted(one.body for one in second)
    bodies = {hashlib.sha256(one.body).hexdigest(): one.body for one in first}
    manifest = json.loads(first[-1].body)
    assert manifest["config"]["digest"] == own.image_id
    diff_ids = read_diff_ids(ImageStore(paths), own.image_id)
    for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        body = bodies[layer["digest"][7:]]
        assert len(body) == layer["size"]
        assert f"sha256:{hashlib.sha256(gzip.decompress(body)).hexdigest()}" == diff_id
    assert first[-1].fields["content-type"] == manifest["mediaType"] == own.media_type


def test_zstd_layers_from_elsewhere_go_as_they_are(paths: Paths, archives: Any) -> None:
    kind = "application/vnd.oci.image.layer.v1.tar+zstd"
    files = archives.layout([archives.tar(archives.member("a"))], zstd.compress, kind)
    load_archive(paths, io.BytesIO(archives.files(files)), "a.tar")
    (entry,) = ImageStore(paths).list_entries()
    with Scripted(take()) as server:
        push(paths, entry, server)
        assert hashlib.sha256(get_puts(server)[-1].body).hexdigest() == entry.digest[7:]


def test_what_is_spoilt_here_gets_no_digest_that_fits(
    paths: Paths, own: Entry, archives: Any
) -> None:
    digest = read_layer_digests(ImageStore(paths), own.digest)[0]
    place = Path(ImageStore(paths).blob(digest))
    other = zstd.compress(archives.tar((archives.member("a"), b"other")))
    size = place.stat().st_size
    # Of the same size, and whole zstd: its end is a frame that is skipped.
    rest = size - len(other) - 8
    assert rest >= 0
    skipped = b"\x50\x2a\x4d\x18" + rest.to_bytes(4, "little") + b"\0" * rest
    place.write_bytes(other + skipped)
    with Scripted(take()) as server:
        with pytest.raises(StateError, match=f"{digest}: spoilt in the store"):
            push(paths, own, server)
        assert get_puts(server) == []


def test_who_is_not_let_in_is_told_before_the_work(
    paths: Paths, own: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docklock.image.repack.LEVEL", 99)  # what zlib would refuse
    with Scripted(lambda _: CHALLENGE) as server, pytest.raises(RegistryError, match="denied"):
        push(paths, own, server)
