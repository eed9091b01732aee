"""`docklock logs`: read the json-file lines that the supervisor wrote (supervisor/logfile.py)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import IO

from chainlite.errors import SpecError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text
from docklock.lifecycle import find_container, is_live
from docklock.paths import Paths

POLL_S = 0.1

LOGS = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Show a container's output.",
    (
        flag("-f", "--follow", help="go on until the container ends"),
        flag("-t", "--timestamps", help="show times"),
        text("-n", "--tail", help="only the last N lines", metavar="N"),
    ),
    examples=("docklock logs -f --tail 20 web",),
)


def run_logs(argv: list[str], paths: Paths) -> int:
    """`docklock logs`: stdout to stdout, stderr to stderr."""
    values, words = options.parse(LOGS, argv)
    check_count(LOGS, words, 1, 1)
    container_id = find_container(paths, words[0])
    path = f"{paths.container(container_id)}/container.log"
    tail = values["tail"]
    if tail not in (None, "all") and not tail.isdigit():
        raise SpecError(f"docklock logs: --tail takes a number or all, not {tail!r}")
    file = open_log(path)
    lines = list(read_rotated(path)) + (list(read_whole_lines(file)) if file else [])
    if tail not in (None, "all"):
        lines = lines[-int(tail) :] if int(tail) else []
    for line in lines:
        print_line(line, timestamps=values["timestamps"])
    if values["follow"]:
        for line in read_new(paths, container_id, path, file):
            print_line(line, timestamps=values["timestamps"])
    return 0


def open_log(path: str) -> IO[bytes] | None:
    """The open file, or None before the first output."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def read_rotated(path: str) -> Iterator[bytes]:
    """The whole lines of the file before the current one, if there is one."""
    file = open_log(f"{path}.1")
    if file is not None:
        with file:
            yield from read_whole_lines(file)


def read_new(paths: Paths, container_id: str, path: str, file: IO[bytes] | None) -> Iterator[bytes]:
    """Lines after those already read from `file`, until the container ends."""
    while True:
        was_live = is_live(paths, container_id)
        file = file or open_log(path)
        if file is not None:
            is_rotated = os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
            yield from read_whole_lines(file)  # after the look: a rotated file grows no more
            if is_rotated:
                file.close()
                file = open_log(path)
                continue
        if not was_live:
            return
        time.sleep(POLL_S)


def read_whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines that have ended; the position stays before one that has not."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line


def print_line(line: bytes, *, timestamps: bool) -> None:
    """One json-file line to the stream that it came from."""
    entry = json.loads(line)
    target = sys.stderr if entry["stream"] == "stderr" else sys.stdout
    target.write(f"{entry['time']} {entry['log']}" if timestamps else entry["log"])
    target.flush()
