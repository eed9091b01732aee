"""`docklock log serve` over a socket: what a client gets, what it cannot get, what it cannot do."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

from chainlite import checkpoint, cosignature, merkle, tile
from docklock.evidence import tile_server
from docklock.evidence.tiles import publish, read_log_keys
from docklock.paths import Paths
from tests.evidence.logs import get_files, grow
from tests.evidence.recording import ROOT, make_paths


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: bytes


class Serving(NamedTuple):
    """A server of its own process, and where it listens."""

    paths: Paths
    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request("GET", path)
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            client.close()

    def exchange(self, data: bytes) -> bytes:
        """Send these bytes; all that comes back until the server closes, or is quiet for 1 s."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
            link.sendall(data)
            found = b""
            try:
                while part := link.recv(65536):
                    found += part
            except TimeoutError:
                pass
            return found


def start(paths: Paths, *options: str) -> Serving:
    process = subprocess.Popen(
        [sys.executable, "-m", "docklock.cli.main", "--root", paths.state, "log", "serve",
         "--listen", "127.0.0.1:0", *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving the host log on http://127.0.0.1:"), line
    return Serving(paths, process, int(line.rpartition(":")[2]))


def stop(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(10) == 0
    assert serving.process.stdout is not None
    serving.process.stdout.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    paths = make_paths(tmp_path_factory.mktemp("serving"))
    grow(paths, 700)
    publish(paths)
    found = start(paths, "--interval", "0")
    yield found
    stop(found)


def test_a_client_gets_the_log_and_checks_it_alone(serving: Serving) -> None:
    data = serving.get("/checkpoint").body
    state = cosignature.check_checkpoint(data, read_log_keys(serving.paths))
    hashes: list[bytes] = []
    for one in tile.get_new_tiles(0, state.size):
        response = serving.get(f"/{tile.encode_path(one)}")
        assert response.status == 200
        body = response.body
        if one.level == tile.ENTRIES:
            hashes += map(merkle.compute_leaf_hash, tile.parse_bundle(body, one.width))
        elif one.level == 0:
            first = one.number * tile.WIDTH
            assert body == b"".join(hashes[first : first + one.width])
    assert merkle.compute_root(hashes) == state.root


def test_every_file_is_served_with_its_type_and_how_long_it_lasts(serving: Serving) -> None:
    for name, data in get_files(serving.paths).items():
        response = serving.get(f"/{name}")
        assert response.body == data
        head = response.headers
        if name == "checkpoint":
            assert head["Content-Type"] == "text/plain; charset=utf-8"
            assert head["Cache-Control"] == "no-cache"
        else:
            assert head["Content-Type"] == "application/octet-stream"
            assert head["Cache-Control"] == "public, max-age=31536000, immutable"


def test_head_has_the_size_and_no_body_and_a_connection_serves_on(serving: Serving) -> None:
    client = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=10)
    for _ in range(3):
        client.request("HEAD", "/tile/0/000")
        response = client.getresponse()
        assert (response.status, response.headers["Content-Length"]) == (200, "8192")
        assert response.read() == b""
        client.request("GET", "/tile/0/000")
        assert len(client.getresponse().read()) == 8192
    client.close()


@pytest.mark.parametrize(
    "path",
    [
        "/", "/host.db", "/../host.db", "/tile/../../host.db", "/tile/0/../../../keys/host.key",
        "//checkpoint", "/checkpoint/", "/tile", "/tile/0", "/tile/0/00", "/tile/0/999",
        "/tile/0/000.p/9", "/tile/0/000.part", "/tile/entries/000/", "/%2e%2e/host.db", "/keys",
    ],
)  # fmt: skip
def test_nothing_else_is_served(serving: Serving, path: str) -> None:
    assert serving.get(path).status == 404


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /checkpoint HTTP/1.1\r\n\r\n", b"405"),
        (b"DELETE /tile/0/000 HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /checkpoint\r\n\r\n", b"400"),
        (b"\xff\xfe\r\n\r\n", b"400"),
        (b"GET /checkpoint HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"400"),
        (b"GET /checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_read_is_refused(serving: Serving, data: bytes, status: bytes) -> None:
    answer = serving.exchange(data)
    # What is too large may be cut off by a reset before its answer is read.
    assert answer.startswith(b"HTTP/1.1 " + status) or (status == b"431" and not answer)
    assert serving.get("/checkpoint").status == 200


def test_more_connections_than_the_limit_are_turned_away_and_none_lasts(serving: Serving) -> None:
    links = [
        socket.create_connection(("127.0.0.1", serving.port), timeout=5)
        for _ in range(tile_server.CONNECTIONS_MAX)
    ]
    time.sleep(0.3)
    assert serving.exchange(b"").startswith(b"HTTP/1.1 503")
    for link in links:
        link.close()
    deadline = time.monotonic() + 5
    while serving.exchange(b"GET /checkpoint HTTP/1.0\r\n\r\n")[9:12] != b"200":
        assert time.monotonic() < deadline


def test_the_server_has_neither_database_nor_key_open(serving: Serving) -> None:
    assert serving.get("/tile/0/000").status == 200
    targets = set()
    for one in Path(f"/proc/{serving.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            targets.add(os.readlink(one))
    assert targets
    assert not any("host.db" in target or "keys" in target for target in targets)
    libraries = Path(f"/proc/{serving.process.pid}/maps").read_text()
    assert "cryptography" not in libraries and "_sodium" not in libraries


def test_what_is_new_is_published_by_itself(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    serving = start(paths, "--interval", "0.1")
    first = checkpoint.parse_claim(serving.get("/checkpoint").body)
    size = grow(paths, 300)
    assert size > first.size
    deadline = time.monotonic() + 20
    while checkpoint.parse_claim(serving.get("/checkpoint").body).size != size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop(serving)
