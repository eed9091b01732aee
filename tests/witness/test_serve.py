"""`docklock witness serve`: over its socket, as a log or a hostile client meets it."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chainlite import cosignature, note
from chainlite.witness import BODY_BYTES_MAX
from docklock.witness import server
from tests.chainlite.trees import make_tree
from tests.witness.conftest import Make
from tests.witness.witnesses import ROOT, RUN, Running

TREE = make_tree()
OTHER = TREE.fork(5)


@pytest.fixture
def one(make_running: Make) -> Running:
    made = make_running("w1.example")
    made.configure([((TREE.vkey,), "")])
    made.start()
    return made


def connect(one: Running) -> socket.socket:
    place = urlsplit(one.url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=30)


def test_a_log_is_cosigned_with_both_keys_and_goes_on_from_there(one: Running) -> None:
    got = one.submit(0, (), TREE.note(7))
    assert (got.status, got.kind) == (200, "text/plain; charset=utf-8")
    signed = note.parse_note(TREE.note(7) + got.body)
    assert [line.name for line in signed.lines] == [TREE.origin, "w1.example", "w1.example"]
    for key in one.keys:
        (found,) = cosignature.get_cosignatures(TREE.note(7) + got.body, (key,))
        assert abs(found.time - time.time()) < 60
    assert one.submit(7, TREE.prove(7, 12), TREE.note(12)).status == 200
    again = one.submit(7, TREE.prove(7, 12), TREE.note(12))
    assert again == (409, b"12\n", "text/x.tlog.size")
    assert one.submit(12, (), TREE.note(12)).status == 200
    assert one.submit(12, OTHER.prove(12, 15), OTHER.note(15)).status == 422
    assert one.submit(0, (), make_tree(number=8).note(3)).status == 404
    assert one.post("/add-checkpoint", b"hello").status == 400


def test_what_was_cosigned_stands_after_a_stop_and_a_start(one: Running) -> None:
    assert one.submit(0, (), TREE.note(7)).status == 200
    assert one.stop() == 0
    one.start()
    assert one.submit(0, (), TREE.note(3)).body == b"7\n"
    assert one.submit(7, TREE.prove(7, 9), TREE.note(9)).status == 200


def test_a_fork_that_a_submission_shows_is_kept_and_told(one: Running) -> None:
    assert one.submit(0, (), TREE.note(7)).status == 200
    assert one.submit(7, OTHER.prove(7, 12), OTHER.note(12)).status == 422
    assert one.submit(7, (), OTHER.note(7)).status == 409
    assert one.submit(7, OTHER.prove(7, 12), OTHER.note(12)).status == 422
    assert len(one.list_forks()) == 2
    assert one.read_metric("forks") == 2
    assert one.said().count("FORK: ") == 2
    for file in one.list_forks():
        done = verify(file)
        assert done.returncode == 3
        assert f"FORKED: {TREE.origin} has signed two histories" in done.stdout


def verify(file: Path) -> subprocess.CompletedProcess[str]:
    """As a third person does, with this file alone."""
    return subprocess.run(
        [RUN[0], "-m", "chainlite.verify", str(file)], cwd=ROOT, capture_output=True, text=True
    )


def test_a_second_witness_on_the_root_is_refused(one: Running) -> None:
    words = [*RUN, "--root", str(one.top), "witness", "serve", "--config", str(one.config)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "another witness runs on" in done.stderr


def test_requests_that_are_not_plain_http_are_refused(one: Running) -> None:
    for request, status in (
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /add-checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), b"413"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 9000 + b"\r\n\r\n", b"400"),
    ):  # fmt: skip
        with connect(one) as client:
            client.sendall(request)
            assert client.recv(4096).split(b" ")[1] == status, request


def test_a_connection_serves_many_requests(one: Running) -> None:
    with connect(one) as client:
        for _ in range(5):
            client.sendall(b"GET /checkpoints/x HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"keep-alive" in answer


def test_one_address_has_few_connections_and_the_rest_is_dropped(one: Running) -> None:
    clients = [connect(one) for _ in range(server.ADDRESS_CLIENTS_MAX + 8)]
    time.sleep(0.3)
    request = b"GET /checkpoints/x HTTP/1.1\r\nHost: x\r\n\r\n"
    served = 0
    for client in clients:
        try:
            client.sendall(request)
            served += client.recv(4096).startswith(b"HTTP/1.1 404")
        except OSError:
            continue
    for client in clients:
        client.close()
    assert 0 < served <= server.ADDRESS_CLIENTS_MAX
    time.sleep(0.3)
    assert one.get("/checkpoints/x").status == 404


def test_who_asks_too_often_is_told_so_and_served_again_later(one: Running) -> None:
    request = b"GET /checkpoints/x HTTP/1.1\r\nHost: x\r\n\r\n"
    statuses = []
    with connect(one) as client:
        client.sendall(request * 2000)
        data = b""
        while chunk := client.recv(65_536):
            data += chunk
            if b" 429 " in data:
                break
        statuses = [data.count(b" 404 "), data.count(b" 429 ")]
    assert statuses[0] >= server.BURST - 50
    assert statuses[1] == 1
    time.sleep(0.5)
    assert one.get("/checkpoints/x").status == 404
