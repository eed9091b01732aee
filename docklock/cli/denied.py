"""A command that was refused is on record: the leaf `denied`. Loaded by a refusal alone.

Only for commands that change something. What does not parse is no request, a program that cannot
run (126, 127) is its own fault, and a start that failed is on record by its guard.
"""

from __future__ import annotations

import sys

from chainlite.lean import TYPE_CHECKING
from docklock.cli.options import UsageError
from docklock.errors import StartError

if TYPE_CHECKING:
    from docklock.paths import Paths

# Every command that has operations of its own, and keys, whose changes are leaves of their kind.
RECORDED = frozenset(
    (
        "attach",
        "cp",
        "create",
        "delete",
        "evidence",
        "exec",
        "export",
        "import",
        "keys",
        "kill",
        "load",
        "pause",
        "pull",
        "push",
        "quarantine",
        "rename",
        "restart",
        "rm",
        "rmi",
        "run",
        "save",
        "start",
        "stop",
        "tag",
        "unpause",
        "update",
    )
)
PROGRAMS_FAULT = (126, 127)
_ONLY_SHOWS = ("keys", "show")


def report_denial(
    paths: Paths, request: str, error: BaseException, exit_code: int, container: str = ""
) -> None:
    """Record that `request` was refused; if that fails, say so on stderr. Never raises for that.

    `container` is a full id; if it is empty, what the error itself says (docklock.cli.about).
    """
    if request not in RECORDED or exit_code in PROGRAMS_FAULT:
        return
    if isinstance(error, UsageError | StartError):
        return
    from docklock.evidence.denials import record_denial

    named = container or str(getattr(error, "container", ""))
    failure = record_denial(paths, request, error, exit_code, named)
    if failure:
        print(f"docklock: the refusal is not on record: {failure}", file=sys.stderr)


def is_change(command: str, argv: list[str]) -> bool:
    """Whether a command line asks for a change: `keys show` does not."""
    return command in RECORDED and not (command == _ONLY_SHOWS[0] and _ONLY_SHOWS[1] in argv)
