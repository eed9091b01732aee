"""`docklock restart`: stop containers as `docklock stop` does, then start them; Docker's command.

Not here: restart policies (docklock.restart), which no command starts.
"""

from __future__ import annotations

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.cli import options
from docklock.cli.containers import (
    STOP_SIGNAL,
    STOP_TIME,
    for_each,
    has_failed,
    parse_stop_time,
    start_in_background,
    stop,
)
from docklock.cli.options import Command, check_count
from docklock.cli.run import raise_start_error
from docklock.lifecycle import read_container
from docklock.signals import parse_signal

if TYPE_CHECKING:
    from docklock.paths import Paths

RESTART = Command(
    "restart",
    "[OPTIONS] CONTAINER...",
    "Stop containers, then start them again.",
    (STOP_SIGNAL, STOP_TIME),
    examples=("docklock restart web",),
)


def run_restart(argv: list[str], paths: Paths) -> int:
    """`docklock restart`: one that does not run is started all the same, as with Docker."""
    values, words = options.parse(RESTART, argv)
    check_count(RESTART, words, 1)
    timeout_s = parse_stop_time(RESTART, values["time"])
    number = parse_signal(values["signal"]) if values["signal"] else 0
    return for_each("restart", words, paths, lambda one: restart(paths, one, timeout_s, number))


def restart(paths: Paths, container_id: str, timeout_s: int | None, number: int) -> None:
    """End its run, if there is one, and begin the next. StateError, StartError."""
    if read_container(paths, container_id).auto_remove:
        raise StateError("it is removed when it ends (--rm): there would be nothing to start")
    stop(paths, container_id, timeout_s, number)
    event = start_in_background(paths, container_id)
    if has_failed(event):
        raise_start_error(event)
