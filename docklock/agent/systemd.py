"""What systemd hands a service: readiness and watchdog messages, and listening sockets.

Without systemd each of these does nothing. Not here: the journal (journal.py).
Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
import time

from chainlite.errors import StateError

LISTEN_FDS_START = 3
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
_ALSO = ("LISTEN_FDNAMES",)


class Notifier:
    """Sends states to NOTIFY_SOCKET; a manager that does not listen is no error."""

    def __init__(self, address: str) -> None:
        """`address` as in NOTIFY_SOCKET; empty for none."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """One message of lines such as READY=1."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass  # the manager is gone or not reading: it will see that by itself

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def send_reloading(self) -> None:
        """RELOADING=1 with the time that Type=notify-reload asks for; READY=1 must follow."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def compute_watchdog_s(environment: dict[str, str], pid: int) -> float:
    """How often WATCHDOG=1 is due, in seconds: half of what is allowed; 0 for never."""
    usec, wanted = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or wanted not in ("", str(pid)):
        return 0.0
    return int(usec) / 2_000_000


def take_listening(environment: dict[str, str], pid: int) -> socket.socket | None:
    """The unix socket that systemd listens on for us; StateError if it is something else."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not count.isdigit() or int(count) == 0:
        return None
    if int(count) != 1:
        raise StateError(f"{count} sockets were passed (LISTEN_FDS); the agent takes one")
    os.set_inheritable(LISTEN_FDS_START, False)
    try:
        found = socket.socket(fileno=LISTEN_FDS_START)
        is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StateError(f"descriptor {LISTEN_FDS_START} (LISTEN_FDS): {error}") from None
    if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM or not is_listening:
        raise StateError(
            f"descriptor {LISTEN_FDS_START} (LISTEN_FDS) is no listening unix stream socket"
        )
    return found


def take_environment() -> dict[str, str]:
    """What systemd said to this process; programs that it starts are not to see it."""
    return {
        name: value
        for name in (*_OURS, *_ALSO)
        if (value := os.environ.pop(name, None)) is not None
    }
