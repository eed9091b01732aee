"""The bad network of our tests is as bad as it is asked to be, whatever is between its hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.net.spaces import enter
from tests.net.wires import Wires, find_way

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

WAYS = (
    pytest.param(
        "netem",
        marks=pytest.mark.skipif(
            find_way() != "netem", reason="no netem in this kernel: tests/vm/test_netem.py has one"
        ),
    ),
    pytest.param(
        "router",
        marks=pytest.mark.skipif(
            not os.path.exists("/dev/net/tun"), reason="no TUN devices in this kernel"
        ),
    ),
)
SENT = 1_000
LOSS = 0.2
LOST_MIN, LOST_MAX = 120, 280
"""Six standard deviations (12.6) to either side of what is lost of SENT."""
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
import socket, sys, time
peer = socket.create_connection((sys.argv[1], 7000), timeout=3)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(10):
    start = time.monotonic()
    peer.sendall(b"x")
    peer.recv(1)
    times.append(time.monotonic() - start)
print(min(times) * 1000)
"""
TAKE = """
import socket, sys
taker = socket.socket(type=socket.SOCK_DGRAM)
taker.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE: no loss of its own
taker.bind((sys.argv[1], 7001))
print("ready", flush=True)
order = []
while (data := taker.recv(8)) != b"end":
    order.append(int(data))
print(len(order), order != sorted(order))
"""
SEND = """
import socket, sys, time
sender = socket.socket(type=socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sender.sendto(b"%d" % number, (sys.argv[1], 7001))
    time.sleep(0.001)
"""
END = """
import socket, sys
socket.socket(type=socket.SOCK_DGRAM).sendto(b"end", (sys.argv[1], 7001))
"""


def run_on(wires: Wires, number: int, program: str, *arguments: str) -> list[str]:
    return [
        *enter(wires.namespaces[number]),
        sys.executable,
        "-c",
        program,
        wires.addresses[0],
        *arguments,
    ]


@contextmanager
def listening(wires: Wires, program: str) -> Iterator[subprocess.Popen[str]]:
    """It runs as host 0."""
    words = run_on(wires, 0, program)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.kill()


def ask(wires: Wires, number: int = 1) -> float | None:
    """The quickest way there and back in ms, None where there is none.

    No packet is sooner than asked, and some are later: this machine has other things to do.
    """
    done = subprocess.run(run_on(wires, number, ASK), capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


@pytest.mark.parametrize("way", WAYS)
def test_packets_pass_are_delayed_and_are_cut_off(way: str) -> None:
    with Wires(3, way=way) as wires, listening(wires, ECHO):
        quick = ask(wires)
        wires.set_all(delay_ms=40)
        slow = ask(wires)
        wires.cut([1])
        none = ask(wires)
        beside = ask(wires, 2)
        wires.set_all()
        again = ask(wires)
    assert quick is not None and slow is not None and beside is not None and again is not None
    print(f"measured wires: no delay {quick:.1f} ms, 40 ms each way {slow:.1f} ms")
    assert quick < 40 <= 79 < slow
    assert none is None
    assert beside > 79 and again < 40


@pytest.mark.parametrize("way", WAYS)
def test_a_rule_is_of_two_hosts_alone(way: str) -> None:
    with Wires(3, way=way) as wires, listening(wires, ECHO):
        wires.set(0, 1, delay_ms=60)
        slow, quick = ask(wires, 1), ask(wires, 2)
        wires.set(0, 2, loss=1)
        still, none = ask(wires, 1), ask(wires, 2)
    assert slow is not None and quick is not None and still is not None
    assert quick < 60 <= 119 < slow
    assert still > 119 and none is None


@pytest.mark.parametrize("way", WAYS)
def test_so_many_are_lost_and_jitter_changes_their_order(way: str) -> None:
    with Wires(2, way=way) as wires:
        wires.set_all(delay_ms=5, jitter_ms=20, loss=LOSS)
        with listening(wires, TAKE) as taker:
            subprocess.run(run_on(wires, 1, SEND, str(SENT)), check=True)
            wires.set_all(delay_ms=50)
            subprocess.run(run_on(wires, 1, END), check=True)
            assert taker.stdout is not None
            taken, is_mixed = taker.stdout.readline().split()
    print(f"measured wires: {LOSS:.0%} loss: {SENT - int(taken)} of {SENT} lost")
    assert LOST_MIN < SENT - int(taken) < LOST_MAX
    assert is_mixed == "True"
