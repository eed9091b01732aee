"""`docklock pause` and `unpause`: freeze every process of a container, and let them go on.

Docker's words. Not here: freezing (docklock.supervisor.steering), what thaws a container besides.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from docklock import client
from docklock.cli import options
from docklock.cli.containers import for_each
from docklock.cli.options import Command, check_count
from docklock.evidence.operations import record_operation
from docklock.lifecycle import check_pause
from docklock.runtime import get_state

if TYPE_CHECKING:
    from docklock.paths import Paths

PAUSE = Command(
    "pause",
    "CONTAINER...",
    "Freeze all processes of containers.",
    examples=("docklock pause web",),
)
UNPAUSE = Command(
    "unpause",
    "CONTAINER...",
    "Let the processes of paused containers go on.",
    examples=("docklock unpause web",),
)


def run_pause(argv: list[str], paths: Paths) -> int:
    """`docklock pause`: StateError unless it runs and is not paused."""
    return _run(PAUSE, argv, paths, freeze=True)


def run_unpause(argv: list[str], paths: Paths) -> int:
    """`docklock unpause`: StateError unless it is paused."""
    return _run(UNPAUSE, argv, paths, freeze=False)


def _run(command: Command, argv: list[str], paths: Paths, *, freeze: bool) -> int:
    _, words = options.parse(command, argv)
    check_count(command, words, 1)

    def act(container_id: str) -> None:
        check_pause(get_state(paths, container_id), container_id, freeze=freeze)
        with client.connect(paths, container_id) as channel:
            labels = (("state", "frozen" if freeze else "thawed"),)
            record_operation(paths, "pause", container_id, labels)
            client.request(channel, {"verb": command.name})

    return for_each(command.name, words, paths, act)
