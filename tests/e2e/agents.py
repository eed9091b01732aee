"""An agent of one's own for a test: started, heard through its notifications, ended."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.e2e.conftest import Docklock

READY_LIMIT_S = 20.0
_FLOCK = struct.Struct("@hhqqi4x")


class Agent:
    """`docklock agent` on a docklock's root; use as a context manager."""

    def __init__(self, dock: Docklock, *options: str, **environment: str) -> None:
        self.dock, self.options = dock, options
        self.environment = dock.environment | environment
        self.notify = dock.root / f"notify{time.monotonic_ns()}"
        self.log = self.notify.with_suffix(".log")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(self.notify))
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.manager.close()
        self.notify.unlink()

    def start(self, *, is_awaited: bool = True) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.dock.argv("agent", *self.options),
                env=self.environment | {"NOTIFY_SOCKET": str(self.notify)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if is_awaited:
            self.await_message("READY=1")

    def await_message(self, line: str, limit_s: float = READY_LIMIT_S) -> list[str]:
        """The lines of the next message that has `line`."""
        deadline = time.monotonic() + limit_s
        while (rest := deadline - time.monotonic()) > 0:
            self.manager.settimeout(rest)
            try:
                lines = self.manager.recv(65536).decode().split("\n")
            except TimeoutError:
                break
            if line in lines:
                return lines
        raise AssertionError(f"no {line} in {limit_s} s; {self.said()}")

    def forget_messages(self) -> None:
        """Read what is there."""
        self.manager.setblocking(False)
        try:
            while self.manager.recv(65536):
                pass
        except BlockingIOError:
            return

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def ask(self, page: str) -> str:
        """GET over its socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.dock.root / "run/agent.sock"))
            client.sendall(f"GET {page} HTTP/1.1\r\n\r\n".encode())
            data = b""
            while more := client.recv(65536):
                data += more
        return data.decode().partition("\r\n\r\n")[2]

    def count_adopted(self) -> int:
        lines = self.ask("/metrics").splitlines()
        return int(next(line for line in lines if line.startswith("docklock_adopted ")).split()[1])


def find_guards(dock: Docklock) -> dict[str, int]:
    """The guard of each live run, by container id: who has the record lock."""
    found = {}
    for path in Path(dock.root / "live").iterdir():
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        finally:
            os.close(fd)
        if kind != fcntl.F_UNLCK:
            found[path.name] = pid
    return found
