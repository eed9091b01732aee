"""The cage under a real server, called over a socket by the standard library's client."""

from __future__ import annotations

import http.client
import socket
import threading
from pathlib import Path

import pytest

from tests.cage.callers import Bench

uvicorn = pytest.importorskip("uvicorn", reason="the extra `server` is not installed")


def test_calls_through_a_real_server_are_signed_both_ways(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    config = uvicorn.Config(bench.cage, log_level="warning", lifespan="off", http="h11")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        address = listening.getsockname()
        connection = http.client.HTTPConnection(*address, timeout=20)
        for method, target, body in (
            ("GET", "/v1/blocks/7?at=%2F", b""),
            ("POST", "/v1/receipts", b"x" * 30_000),
        ):
            prepared = bench.prepare(method, target, body)
            connection.request(method, prepared.target, body or None, dict(prepared.fields))
            reply = connection.getresponse()
            answer = bench.alice.check(prepared, reply.status, reply.getheaders(), reply.read())
            assert (answer.status, answer.receipt.target) == (200, target)
            connection.request(method, prepared.target, body or None, dict(prepared.fields))
            again = connection.getresponse()
            assert (again.status, b"replayed" in again.read()) == (401, True)
        connection.close()
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()
