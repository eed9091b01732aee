"""The sockets of a container's network namespace, as /proc/PID/net has them.

Source: proc(5), /proc/net/tcp, /proc/net/unix; net/tcp_states.h. Invariant: at most BYTES_MAX of
each table is read (tests/console/test_host_details.py).
"""

from __future__ import annotations

import os
import socket
import sys

from docklock.console.facts import Connection

BYTES_MAX = 1 << 20
TABLES = (("tcp", 4), ("tcp6", 6), ("udp", 4), ("udp6", 6))
STATES = {
    "01": "established", "02": "syn sent", "03": "syn received", "04": "fin wait 1",
    "05": "fin wait 2", "06": "time wait", "07": "closed", "08": "close wait", "09": "last ack",
    "0A": "listening", "0B": "closing", "0C": "new syn received",
}  # fmt: skip
UNBOUND = "07"
"""Of UDP: it hears whoever sends."""
LISTENING_FLAG = 0x10000


def read_connections(pid: int, limit: int) -> tuple[list[Connection], int]:
    """The first `limit`, TCP and UDP before Unix; how many more there are. None without it."""
    found: list[Connection] = []
    for table, family in TABLES:
        for line in read_table(f"/proc/{pid}/net/{table}"):
            fields = line.split()
            if len(fields) > 3:
                found.append(parse_connection(table, family, fields))
    for line in read_table(f"/proc/{pid}/net/unix"):
        fields = line.split(maxsplit=7)
        if len(fields) == 8:  # one that has a name
            is_listening = int(fields[3], 16) & LISTENING_FLAG
            state = "listening" if is_listening else "connected" if fields[5] == "03" else ""
            found.append(Connection("unix", fields[7], "", state))
    return found[:limit], max(0, len(found) - limit)


def read_table(path: str) -> list[str]:
    """The whole lines of a table, without its head."""
    data = b""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        while len(data) < BYTES_MAX and (part := os.read(fd, 65_536)):
            data += part
    except OSError:
        return []
    finally:
        os.close(fd)
    return data.decode("utf-8", "backslashreplace").split("\n")[1:-1]


def parse_connection(table: str, family: int, fields: list[str]) -> Connection:
    """A line of a table of TCP or UDP."""
    state = STATES.get(fields[3], fields[3])
    if table.startswith("udp") and fields[3] == UNBOUND:
        state = "open"
    return Connection(table, show_end(fields[1], family), show_end(fields[2], family), state)


def show_end(text: str, family: int) -> str:
    """`127.0.0.1:80`, `[::1]:80`; `*:0` for none."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    if sys.byteorder == "little":  # each word of four bytes is as the machine has it
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    if not any(words):
        return f"*:{int(port, 16)}"
    shown = socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, words)
    return f"{shown}:{int(port, 16)}" if family == 4 else f"[{shown}]:{int(port, 16)}"
