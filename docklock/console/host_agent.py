"""Whether this host's agent is there: its `_ping` is asked now and then. Nothing here needs it."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError
from docklock.agent.config_file import read_config
from docklock.agent.lock import find_agent

if TYPE_CHECKING:
    from docklock.paths import Paths

APART_NS = 3_000_000_000
TIMEOUT_S = 0.3
ANSWER_BYTES_MAX = 4096
UP, NONE = "up", "none"
_REQUEST = b"GET /_ping HTTP/1.1\r\nHost: docklock\r\n\r\n"


class AgentLook:
    """What was found last."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._read_ns = -APART_NS
        self._found = NONE

    def read(self) -> str:
        """`up`, `none`, or what is wrong with it."""
        now_ns = time.monotonic_ns()
        if now_ns - self._read_ns >= APART_NS:
            self._read_ns, self._found = now_ns, self._look()
        return self._found

    def _look(self) -> str:
        try:
            path = read_config(None).socket or f"{self._paths.run}/agent.sock"
        except DocklockError as error:
            return str(error)
        try:
            return ping(path)
        except (FileNotFoundError, ConnectionRefusedError):
            pid = find_agent(self._paths)
            return f"process {pid} does not listen at {path}" if pid else NONE
        except OSError as error:
            return f"does not answer: {error}"


def ping(path: str) -> str:
    """UP, or what it says instead. OSError where nobody answers in TIMEOUT_S."""
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(TIMEOUT_S)
            channel.connect(f"/proc/self/fd/{fd}/{name}")  # socket paths hold 107 bytes
            channel.sendall(_REQUEST)
            line = channel.recv(ANSWER_BYTES_MAX).partition(b"\r\n")[0]
    finally:
        os.close(fd)
    return UP if line.startswith(b"HTTP/1.1 200") else f"answers {line.decode(errors='replace')}"
