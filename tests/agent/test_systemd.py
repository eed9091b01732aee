"""What systemd hands over: notifications, watchdog, sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from docklock.agent.systemd import Notifier, compute_watchdog_s, take_environment


@pytest.mark.parametrize("is_abstract", [False, True])
def test_messages_reach_the_manager(tmp_path: Path, is_abstract: bool) -> None:
    address = f"@docklock-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if is_abstract else address)
        manager.settimeout(5)
        notifier = Notifier(address)
        notifier.send("READY=1", "STATUS=3 containers run")
        assert manager.recv(4096) == b"READY=1\nSTATUS=3 containers run"
        before_us = time.monotonic_ns() // 1000
        notifier.send_reloading()
        first, second = manager.recv(4096).decode().split("\n")
        assert first == "RELOADING=1"
        name, _, value = second.partition("=")
        assert name == "MONOTONIC_USEC"
        notifier.close()
        assert before_us <= int(value) <= time.monotonic_ns() // 1000


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "gone")):
        notifier = Notifier(address)
        notifier.send("READY=1")
        notifier.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "often"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environment: dict[str, str], seconds: float) -> None:
    assert compute_watchdog_s(environment, 7) == seconds


def test_programs_that_the_agent_starts_do_not_see_what_systemd_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert take_environment() == {"NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1"}
    assert "NOTIFY_SOCKET" not in os.environ
    assert "LISTEN_FDS" not in os.environ


TAKE = """
import os, sys
from chainlite.errors import DocklockError
from docklock.agent.systemd import take_listening
environment = {"LISTEN_FDS": sys.argv[1], "LISTEN_PID": sys.argv[2] or str(os.getpid())}
try:
    found = take_listening(environment, os.getpid())
    print(found and found.getsockname(), found and os.get_inheritable(found.fileno()))
except DocklockError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "count", "pid", "said"),
    [
        ("listening", "1", "", "PATH False"),
        ("listening", "1", "1", "None None"),
        ("listening", "0", "", "None None"),
        ("listening", "2", "", "2 sockets were passed"),
        ("bound", "1", "", "no listening unix stream socket"),
        ("file", "1", "", "descriptor 3 (LISTEN_FDS): "),
    ],
)
def test_a_passed_socket_is_taken_and_nothing_else(
    tmp_path: Path, kind: str, count: str, pid: str, said: str
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made, open(os.devnull) as null:
        made.bind(path)
        if kind == "listening":
            made.listen(1)
        fd = null.fileno() if kind == "file" else made.fileno()
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" "$@" 3<&{fd}', sys.executable, "-c", TAKE, count, pid],
            pass_fds=(fd,), capture_output=True, text=True, check=True,
            cwd=Path(__file__).resolve().parents[2],
        )  # fmt: skip
    assert said.replace("PATH", path) in done.stdout
