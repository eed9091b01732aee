"""A registry's faults, at each thing that it is asked: told as they are, and nothing half done."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import PeerError
from docklock.image.reference import Reference, parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import RegistryError, Wire
from docklock.image.store import ImageStore
from docklock.paths import Paths
from tests.image.scripted import Reply, Request, Script, Scripted, serve_layout
from tests.image.test_pull import AUTH, FAST, LOGIN, change, check_nothing, get_layers, pull

TRIES = FAST.retries_max + 1
PASSING = (429, 500, 503)
TOKEN = json.dumps({"token": "t0ken"}).encode()


@pytest.fixture
def files(archives: Any) -> dict[str, bytes]:
    layers = [archives.tar((archives.member(name), os.urandom(1000))) for name in "ab"]
    return archives.layout(layers, gzip.compress)  # type: ignore[no-any-return]


def get_place(files: dict[str, bytes], what: str) -> str:
    """The end of the path where it is asked for."""
    (item,) = json.loads(files["index.json"])["manifests"]
    config = json.loads(files[f"blobs/sha256/{item['digest'][7:]}"])["config"]["digest"]
    return {"manifest": "/manifests/1", "config": config, "layer": get_layers(files)[0]}[what]


@pytest.mark.parametrize("status", [401, 403, 404, 410, *PASSING])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_pull_that_is_refused_says_so_and_leaves_nothing(
    paths: Paths, files: dict[str, bytes], what: str, status: int
) -> None:
    place = get_place(files, what)

    def refuse(request: Request, _: Reply) -> Reply | None:
        return Reply(status) if request.path.endswith(place) else None

    with Scripted(change(serve_layout(files), refuse)) as server:
        with pytest.raises(RegistryError) as caught:
            pull(paths, server)
        times = sum(request.path.endswith(place) for request in server.asked)
    assert caught.value.status == status
    if status == 404:
        assert f"{'manifest' if what == 'manifest' else 'blob'} unknown" in str(caught.value)
    assert times == (TRIES if status in PASSING else 1)
    check_nothing(paths)
    # The other layer has come; it is kept for the next pull, which asks for it no more.
    with Scripted(serve_layout(files)) as server:
        assert pull(paths, server).is_new


@pytest.mark.parametrize("status", PASSING)
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_fault_that_passes_is_no_fault(
    paths: Paths, files: dict[str, bytes], what: str, status: int
) -> None:
    left = [Reply(status, b"", (("Retry-After", "0"),))]
    place = get_place(files, what)

    def refuse_once(request: Request, _: Reply) -> Reply | None:
        return left.pop() if left and request.path.endswith(place) else None

    with Scripted(change(serve_layout(files), refuse_once)) as server:
        assert pull(paths, server).is_new


@pytest.mark.parametrize(
    ("reply", "error", "text", "tries"),
    [
        (Reply(401), RegistryError, "incorrect username or password", 1),
        (Reply(403), RegistryError, "incorrect username or password", 1),
        (Reply(404), RegistryError, "answers 404", 1),
        (Reply(429), RegistryError, "answers 429", TRIES),
        (Reply(500), RegistryError, "answers 500", TRIES),
        (Reply(302, b"", (("Location", "/"),)), RegistryError, "answers 302", 1),
        (Reply(200, b"{}"), PeerError, "without a token", 1),
        (Reply(200, b'{"token": "a\\nb"}'), PeerError, "without a token", 1),
        (Reply(200, b'{"token": "a'), PeerError, "JSON", 1),
        (Reply(200, b" " * (1 << 20) + b"{}"), PeerError, "bytes", 1),
    ],
)
def test_a_token_server_s_faults_are_told(
    paths: Paths,
    files: dict[str, bytes],
    reply: Reply,
    error: type[Exception],
    text: str,
    tries: int,
) -> None:
    with Scripted(lambda _: reply) as tokens:
        challenge = f'Bearer realm="{tokens.url}/token",service="s"'

        def lock(_: Request, __: Reply) -> Reply | None:
            return Reply(401, b"", (("WWW-Authenticate", challenge),))

        with Scripted(change(serve_layout(files), lock)) as server:
            with pytest.raises(error, match=text) as caught:
                pull(paths, server, LOGIN)
            assert LOGIN.secret not in str(caught.value)
        assert len(tokens.asked) == tries
    check_nothing(paths)


def test_a_token_that_runs_out_is_renewed(paths: Paths, files: dict[str, bytes]) -> None:
    """Each token serves two requests; nothing of that is to be seen."""
    made: list[str] = []
    uses: dict[str, int] = {}
    lock = threading.Lock()

    def give(_: Request) -> Reply:
        with lock:
            made.append(f"t{len(made)}")
            return Reply(200, json.dumps({"token": made[-1]}).encode())

    with Scripted(give) as tokens:
        challenge = f'Bearer realm="{tokens.url}/token"'

        def check(request: Request, _: Reply) -> Reply | None:
            token = request.fields.get(AUTH, "").removeprefix("Bearer ")
            with lock:
                uses[token] = uses.get(token, 0) + 1
                if token in made and uses[token] <= 2:
                    return None
            return Reply(401, b"", (("WWW-Authenticate", challenge),))

        with Scripted(change(serve_layout(files), check)) as server:
            assert pull(paths, server, LOGIN).is_new
    assert len(made) > 1


RANGES: dict[str, tuple[Callable[[bytes], Reply], bool]] = {
    "all of it": (lambda data: Reply(200, data), True),
    "another range": (lambda data: give_part(data, 50), False),
    "no range": (lambda data: Reply(206, data[100:]), False),
    "another length": (lambda data: give_part(data, 100)._replace(body=data[100:-1]), False),
    "other bytes": (lambda data: give_part(b"x" * len(data), 100), True),
    "nothing": (lambda _: Reply(416), False),
}


def give_part(data: bytes, start: int) -> Reply:
    place = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return Reply(206, data[start:], (("Content-Range", place),))


@pytest.mark.parametrize("kind", RANGES)
def test_a_resumed_layer_is_whole_or_refused(
    paths: Paths, files: dict[str, bytes], kind: str
) -> None:
    """A killed pull left 100 bytes; what is then given for the rest is not always the rest."""
    layer = get_layers(files)[0]
    give, is_whole = RANGES[kind]
    folder = Path(paths.images, "downloads")
    folder.mkdir(parents=True)
    (folder / layer[7:]).write_bytes(files[f"blobs/sha256/{layer[7:]}"][:100])

    def answer(request: Request, reply: Reply) -> Reply | None:
        if request.path.endswith(layer) and "range" in request.fields:
            assert request.fields["range"] == "bytes=100-"
            return give(files[f"blobs/sha256/{layer[7:]}"])
        return None

    with Scripted(change(serve_layout(files), answer)) as server:
        if is_whole:
            assert pull(paths, server).is_new
            return
        with pytest.raises((PeerError, RegistryError)):
            pull(paths, server)
    check_nothing(paths)


@contextmanager
def trickle(before: bytes) -> Iterator[str]:
    """A server whose answer has no end: after `before` a letter as often as it is taken."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(before)
                while not stop.wait(0.01):
                    connection.sendall(b"x")
            except OSError:
                pass  # the client has had enough

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize("before", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 ", b""])
def test_an_answer_that_never_ends_is_left(before: bytes) -> None:
    """Each letter is in time for the socket; the whole is not."""
    with trickle(before) as domain:
        wire = Wire(FAST._replace(head_s=0.3))
        with pytest.raises(RegistryError, match=r"no answer in 0\.3 s"):
            wire.exchange("GET", f"http://{domain}/v2/")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (lambda _: Reply(403), "denied"),
        (lambda _: Reply(404), "not found"),
        (lambda _: Reply(401), "no basic auth credentials|incorrect"),
        (lambda _: Reply(500), "answers 500"),
        (lambda _: Reply(401, b"", (("WWW-Authenticate", "Negotiate"),)), "incorrect"),
    ],
)
def test_a_login_that_is_refused_is_an_error(script: Script, text: str) -> None:
    with Scripted(script) as server:
        repository = Repository(Reference(server.domain, "", ""), LOGIN, Wire(FAST), actions="")
        with pytest.raises(RegistryError, match=text):
            repository.check_login()


def test_what_is_left_of_a_refused_pull_is_used_by_the_next(
    paths: Paths, files: dict[str, bytes]
) -> None:
    first, second = get_layers(files)
    arrived = threading.Event()

    def refuse(request: Request, _: Reply) -> Reply | None:
        if request.path.endswith(first):
            arrived.wait(30)
            return Reply(404)
        return None

    def see(file: Path) -> None:
        while not (
            file.exists() and file.stat().st_size == len(files[f"blobs/sha256/{second[7:]}"])
        ):
            arrived.wait(0.01)
        arrived.set()

    watch = threading.Thread(target=see, args=(Path(paths.images, "downloads", second[7:]),))
    watch.start()
    with Scripted(change(serve_layout(files), refuse)) as server, pytest.raises(RegistryError):
        pull(paths, server)
    watch.join()
    with Scripted(serve_layout(files)) as server:
        assert pull(paths, server).is_new
        assert not any(request.path.endswith(second) for request in server.asked)
    assert len(ImageStore(paths).list_entries()) == 1


def list_tags(server: Scripted) -> tuple[str, ...]:
    reference = parse_reference(f"{server.domain}/a/b")
    return Repository(reference, LOGIN, Wire(FAST)).list_tags()


def test_tags_come_page_by_page(paths: Paths) -> None:
    pages = {"": ["1", "2"], "2": ["2", "x-3"], "x-3": None}

    def script(request: Request) -> Reply:
        if not request.path.startswith("/v2/a/b/tags/list?n="):
            return Reply()
        last = request.path.partition("&last=")[2]
        follows = {"": "2", "2": "x-3"}.get(last)
        link = f'</v2/a/b/tags/list?n=1000&last={follows}>; rel="next"'
        body = json.dumps({"name": "a/b", "tags": pages[last]}).encode()
        return Reply(200, body, (("Link", link),) if follows else ())

    with Scripted(script) as server:
        assert list_tags(server) == ("1", "2", "x-3")


@pytest.mark.parametrize(
    ("tags", "link"),
    [
        (["../x"], ""),
        ([""], ""),
        ([7], ""),
        ({}, ""),
        (["1"], '</v2/a/b/tags/list?n=1>; rel="next"'),
        (["1"], '<http://192.0.2.1/>; rel="next"'),
        (["1"], '<http://[::1>; rel="next"'),
    ],
)
def test_tags_that_are_none_or_have_no_end_are_refused(tags: object, link: str) -> None:
    def script(request: Request) -> Reply:
        body = json.dumps({"tags": tags}).encode()
        return Reply(200, body, (("Link", link),) if link else ())

    with Scripted(script) as server, pytest.raises(PeerError):
        list_tags(server)
