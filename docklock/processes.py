"""The processes of a container as the host's /proc has them.

Not here: which processes are a container's (docklock.cgroup). What they say of themselves (command
line, name) is theirs to choose: whoever shows it makes it harmless.
Source: proc(5), /proc/PID/stat; devices.txt for terminals.
"""

from __future__ import annotations

import os

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND_BYTES_MAX = 65_536
NS_PER_S = 1_000_000_000
PTS_MAJORS = range(136, 144)
TTY_MAJOR = 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One process by the host's numbers. `command` is its argument vector with spaces between."""

    pid: int
    parent: int
    uid: int
    started_ns: int  # Unix time
    cpu_ns: int
    memory_bytes: int
    tty: str  # "" where it has none
    command: str


def read_processes(pids: Iterable[int]) -> list[Process]:
    """Those that are still there, in the order given."""
    boot_ns = read_boot_ns()
    found = (_read_process(pid, boot_ns) for pid in pids)
    return [one for one in found if one is not None]


def read_boot_ns() -> int:
    """When this machine began, by the clock as it is now."""
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return int(line.split()[1]) * NS_PER_S
    return 0


def _read_process(pid: int, boot_ns: int) -> Process | None:
    try:
        fd = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat, command = _read(fd, "stat"), _read(fd, "cmdline")
        uid = os.stat("stat", dir_fd=fd).st_uid
    except OSError:
        return None  # it has ended meanwhile
    finally:
        os.close(fd)
    head, _, tail = stat.rpartition(b") ")  # the name before it may hold anything
    fields = tail.split()  # from field 3 on
    name = head.partition(b"(")[2]
    words = command.rstrip(b"\0").replace(b"\0", b" ") or b"[" + name + b"]"
    tick_ns = NS_PER_S // TICKS_PER_S
    return Process(
        pid,
        int(fields[1]),
        uid,
        boot_ns + int(fields[19]) * tick_ns,
        (int(fields[11]) + int(fields[12])) * tick_ns,
        int(fields[21]) * PAGE_BYTES,
        describe_terminal(int(fields[4])),
        words.decode("utf-8", "backslashreplace"),
    )


def _read(directory_fd: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        return os.read(fd, COMMAND_BYTES_MAX)
    finally:
        os.close(fd)


def describe_terminal(number: int) -> str:
    """`pts/3` for the device number of a controlling terminal; empty for none."""
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if major in PTS_MAJORS:
        return f"pts/{minor + (major - PTS_MAJORS[0]) * 256}"
    if major == TTY_MAJOR:
        return f"tty{minor}"
    return f"{major},{minor}" if number else ""
