"""`docklock logs`: the json-file lines that the supervisor wrote, as Docker shows them.

--tail counts before --since and --until choose, as with Docker. A line that the container wrote in
pieces has one timestamp. Not here: finding the lines (log_files.py), writing them
(supervisor/logfile.py). Source: docker.com, reference of `docker logs`.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.log_files import LogFiles
from docklock.cli.moment import parse_moment
from docklock.cli.options import Command, check_count, flag, text
from docklock.json_text import parse_json
from docklock.lifecycle import find_container, has_guard, read_container
from docklock.log_settings import decode_log
from docklock.supervisor.logfile import format_time

if TYPE_CHECKING:
    from typing import Any

    from docklock.paths import Paths

LOGS = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Show a container's output.",
    (
        flag("--details", help="show what --log-opt has each line carry"),
        flag("-f", "--follow", help="go on until the container ends"),
        text("--since", help="from then on: 10m, RFC 3339 or Unix time", metavar="TIME"),
        text("-n", "--tail", help="only the last N lines, or all", metavar="N"),
        flag("-t", "--timestamps", help="show times"),
        text("--until", help="up to then", metavar="TIME"),
    ),
    examples=(
        "docklock logs -f --tail 20 web",
        "docklock logs -t --since 10m --until 5m web",
    ),
)
TAIL_DIGITS_MAX = 18
TIME_MAX_NS = 253_402_300_799 * 10**9  # 9999-12-31T23:59:59Z


class Entry(NamedTuple):
    """One line of a log."""

    text: str
    is_error: bool
    time: str
    attributes: dict[str, str]


def run_logs(argv: list[str], paths: Paths) -> int:
    """`docklock logs`: stdout to stdout, stderr to stderr."""
    values, words = options.parse(LOGS, argv)
    check_count(LOGS, words, 1, 1)
    tail = parse_tail(values["tail"])
    now_ns = time.time_ns()
    since, until_ns = (
        parse_moment(f"docklock logs: --{name}", values[name], now_ns) if values[name] else None
        for name in ("since", "until")
    )
    container_id = find_container(paths, words[0])
    settings = decode_log(read_container(paths, container_id).log)
    if not settings.has_file:
        raise StateError("configured logging driver does not support reading")
    printer = Printer(values, format_limit(since), format_limit(until_ns))
    path = f"{paths.container(container_id)}/container.log"
    with LogFiles(path, settings.files_max) as files:
        files.set_upon_loss(lambda: complain("lines may have been removed before they were shown"))
        for line in files.read(tail):
            if not printer.show(line):
                break
        if values["follow"] and not printer.is_over:
            follow(printer, files, paths, container_id, until_ns)
    printer.flush()
    return 0


def follow(
    printer: Printer, files: LogFiles, paths: Paths, container_id: str, until_ns: int | None
) -> None:
    """What comes, until the container ends or the time is up."""

    def is_written() -> bool:
        is_time_left = until_ns is None or time.time_ns() <= until_ns
        return is_time_left and has_guard(paths, container_id)

    for line in files.read_new(is_written):
        if line is None:
            printer.flush()
        elif not printer.show(line):
            return


def parse_tail(word: str | None) -> int | None:
    """How many lines; None for all of them. SpecError."""
    if word in (None, "all", "-1"):
        return None
    assert word is not None
    if not (word.isascii() and word.isdigit() and len(word) <= TAIL_DIGITS_MAX):
        raise SpecError(f"docklock logs: --tail takes a number or all, not {word!r}")
    return int(word)


def format_limit(time_ns: int | None) -> str:
    """A time as the lines have theirs, to be compared with them; empty for none."""
    return "" if time_ns is None else format_time(min(max(0, time_ns), TIME_MAX_NS))


def complain(why: str) -> None:
    """Say on stderr what is not shown."""
    sys.stdout.flush()
    print(f"docklock logs: {why}", file=sys.stderr)


def parse_line(line: bytes) -> Entry | None:
    """One json-file line; None for what is none, as after a power cut."""
    try:
        found = parse_json(line)
        attributes = {str(key): str(value) for key, value in found.get("attrs", {}).items()}
        is_error = found["stream"] == "stderr"
        return Entry(str(found["log"]), is_error, str(found["time"]), attributes)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Printer:
    """Writes lines to the streams that they came from. Its output is flushed with `flush`."""

    def __init__(self, values: dict[str, Any], since: str, until: str) -> None:
        self._is_timed, self._is_detailed = values["timestamps"], values["details"]
        self._since, self._until = since, until
        self._is_begun = {False: False, True: False}  # by is_error: a line that has not ended
        self._was_error = False
        self.is_over = False

    def show(self, line: bytes) -> bool:
        """Write one line; False once --until is passed."""
        entry = parse_line(line)
        if entry is None:
            complain("a damaged line is left out")
            return True
        if self._until and entry.time > self._until:
            self.is_over = True
            return False
        if entry.time >= self._since:
            self._write(entry)
        return True

    def flush(self) -> None:
        """Have all that was written be seen."""
        sys.stdout.buffer.flush()
        sys.stderr.buffer.flush()

    def _write(self, entry: Entry) -> None:
        if entry.is_error != self._was_error:
            self.flush()  # so that both keep their order where they meet
            self._was_error = entry.is_error
        target = sys.stderr.buffer if entry.is_error else sys.stdout.buffer
        if not self._is_begun[entry.is_error]:
            target.write(self._format_head(entry).encode("utf-8", "replace"))
        target.write(entry.text.encode("utf-8", "replace"))
        self._is_begun[entry.is_error] = not entry.text.endswith("\n")

    def _format_head(self, entry: Entry) -> str:
        head = f"{entry.time} " if self._is_timed else ""
        if self._is_detailed:
            from urllib.parse import quote

            pairs = (f"{quote(k)}={quote(v)}" for k, v in sorted(entry.attributes.items()))
            head += f"{','.join(pairs)} "
        return head
