"""The bad network of our tests is as bad as it is asked to be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.net.wires import Wires

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7000))
print("ready", flush=True)
while True:
    peer, _ = server.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
"""
ASK = """
import socket, statistics, sys, time
peer = socket.create_connection((sys.argv[1], 7000), timeout=3)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(10):
    start = time.monotonic()
    peer.sendall(b"x")
    peer.recv(1)
    times.append(time.monotonic() - start)
print(statistics.median(times) * 1000)
"""


def ask(wires: Wires) -> float | None:
    done = subprocess.run(
        ["ip", "netns", "exec", wires.namespaces[1], sys.executable, "-c", ASK, wires.addresses[0]],
        capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout) if done.returncode == 0 else None


def test_packets_pass_are_delayed_and_are_cut_off() -> None:
    with Wires(3) as wires:
        server = subprocess.Popen(
            ["ip", "netns", "exec", wires.namespaces[0], sys.executable, "-c", ECHO,
             wires.addresses[0]],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            quick = ask(wires)
            wires.set_all(delay_ms=40)
            slow = ask(wires)
            wires.cut([1])
            none = ask(wires)
        finally:
            server.kill()
            server.communicate()
    assert quick is not None
    assert slow is not None
    assert quick < 40 <= 79 < slow
    assert none is None
