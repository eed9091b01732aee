"""`docklock top CONTAINER`: its processes, in Docker's columns. `docklock top`: the terminal UI.

The UI is a program of its own (`python -m tui`), which this process becomes: nothing here imports
it. It gets the root in its environment and all other words as they are. Not here: /proc
(docklock.processes).
"""

from __future__ import annotations

import os
import pwd
import sys
import time

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.report import escape
from docklock.cgroup.sampling import locate
from docklock.cli.options import Command, HelpWanted, UsageError, format_help, text
from docklock.image.listing import show_table
from docklock.lifecycle import RUNNING, find_container
from docklock.processes import NS_PER_S, read_processes
from docklock.runtime import get_state
from docklock.screen import get_columns

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from docklock.paths import Paths
    from docklock.processes import Process

# The options are the UI's, which reads them itself.
TOP = Command(
    "top",
    "[OPTIONS | CONTAINER [PS-OPTIONS]]",
    "Show this host's containers, evidence and chain on a screen; or a container's processes, in "
    "ps's columns: PS-OPTIONS are ps's own (aux, -o pid,comm).",
    (
        text("--bpci", help="show what a server holds of many hosts", metavar="URL"),
        text("--server-key", help="that server's key", metavar="FILE"),
        text("--key", help="the key of a member who may read there", metavar="FILE"),
        text("--ca-file", help="who vouches for the server's certificate", metavar="FILE"),
        text("--save", help="write what is shown to a file, for --replay", metavar="FILE"),
        text("--replay", help="show what was saved", metavar="FILE"),
        text("--format", help="of a container: json, one object a process", metavar="json"),
    ),
    examples=(
        "docklock top",
        "docklock top web",
    ),
)
HEADS = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
WIDTH = 20
DAY_S = 86_400


def run_top(argv: list[str], paths: Paths) -> int:
    """`docklock top`: with no word, or an option first, this process becomes the UI."""
    if argv and argv[0] in ("--help", "-h"):
        raise HelpWanted(format_help(TOP), TOP)
    if not argv or argv[0].startswith("-"):
        become_ui(argv, paths)
    form = "".join(argv[1:]).removeprefix("--format").removeprefix("=")
    is_own = not argv[1:] or argv[1].startswith("--format")
    if is_own and form not in ("", "json", "table"):
        raise UsageError("docklock top CONTAINER: --format takes json or table")
    container_id = find_container(paths, argv[0])
    if not is_own:
        rows = ask_ps(argv[1:], list_pids(paths, container_id))
    else:
        rows = describe_processes(list_processes(paths, container_id))
    sys.stdout.write(format_json(rows) if form == "json" else format_table(rows))
    return 0


def become_ui(argv: list[str], paths: Paths) -> None:
    """Run the terminal UI in this process's place; StateError if it is not installed."""
    from importlib.util import find_spec

    for module in ("tui", "textual"):
        if find_spec(module) is None:
            raise StateError(
                f"the terminal UI needs the Python package {module}, which is not installed here: "
                "pip install 'docklock[tui]'; docklock top CONTAINER needs none"
            )
    import docklock

    # What lies beside this docklock, and never a `tui` of the directory we were called in (-P).
    home = os.path.dirname(os.path.dirname(os.path.abspath(docklock.__file__)))
    known = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {
        "DOCKLOCK_ROOT": paths.state,
        "DOCKLOCK_RUNROOT": paths.run,
        "PYTHONPATH": f"{home}{os.pathsep}{known}" if known else home,
    }
    os.execve(sys.executable, [sys.executable, "-P", "-m", "tui", *argv], environment)


def list_processes(paths: Paths, container_id: str) -> list[Process]:
    """All of a running container's. StateError, in Docker's words, for any other."""
    return read_processes(list_pids(paths, container_id))


def list_pids(paths: Paths, container_id: str) -> tuple[int, ...]:
    """As this host numbers them. StateError for a container that does not run."""
    state = get_state(paths, container_id)
    cgroup = locate(container_id, state.pid) if state.status == RUNNING else None
    if cgroup is None:
        raise StateError(f"Container {container_id} is not running")
    return cgroup.list_pids()


def ask_ps(words: list[str], pids: tuple[int, ...]) -> list[tuple[str, ...]]:
    """What this host's ps says of these processes, its heads first. As Docker, asked by number.

    UsageError with ps's own words; StateError where there is no ps.
    """
    listed = [str(pid) for pid in pids]
    done = _run_ps([*words, "-q", ",".join(listed)])
    if done.returncode:  # options that do not go with -q, such as aux
        done = _run_ps(words)
    if done.returncode:
        said = escape(done.stderr.strip().partition("\n")[0])
        raise UsageError(f"docklock top: ps {' '.join(words)}: {said or 'it failed'}")
    heads, *lines = done.stdout.splitlines() or [""]
    names = tuple(heads.split())
    if "PID" not in names:
        raise UsageError("docklock top: ps shows no PID with these options: name pid after -o")
    place = names.index("PID")
    rows = [tuple(map(escape, line.split(None, len(names) - 1))) for line in lines]
    wanted = {(pid,) for pid in listed}
    return [names, *(row for row in rows if row[place : place + 1] in wanted)]


def _run_ps(words: list[str]) -> CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise StateError(
            "docklock top: with options it asks this host's ps, which is not installed: "
            "apt-get install procps"
        ) from None


def describe_processes(processes: list[Process]) -> list[tuple[str, ...]]:
    """`ps -ef`'s columns, its heads first."""
    now_ns = time.time_ns()
    return [HEADS, *(_describe(one, now_ns) for one in processes)]


def format_table(rows: list[tuple[str, ...]]) -> str:
    """As `docker top` prints it; on a terminal so that it fits."""
    if get_columns():  # Docker's own width is 160 and more
        return show_table(rows[0], rows[1:])
    return "".join("".join(f"{word:<{WIDTH}}" for word in row).rstrip() + "\n" for row in rows)


def format_json(rows: list[tuple[str, ...]]) -> str:
    """The same, one object a process."""
    import json

    shown = (dict(zip(rows[0], row, strict=True)) for row in rows[1:])
    return "".join(f"{json.dumps(row)}\n" for row in shown)


def _describe(one: Process, now_ns: int) -> tuple[str, ...]:
    lived_ns = max(1, now_ns - one.started_ns)
    return (
        get_user_name(one.uid),
        str(one.pid),
        str(one.parent),
        str(min(99, 100 * one.cpu_ns // lived_ns)),
        format_start(one.started_ns, now_ns),
        one.tty or "?",
        format_cpu(one.cpu_ns),
        escape(one.command),
    )


def get_user_name(uid: int) -> str:
    """This host's name for the user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def format_start(started_ns: int, now_ns: int) -> str:
    """ps's STIME: the time of today, else the day."""
    is_new = now_ns - started_ns < DAY_S * NS_PER_S
    return time.strftime("%H:%M" if is_new else "%b%d", time.localtime(started_ns // NS_PER_S))


def format_cpu(cpu_ns: int) -> str:
    """[DD-]HH:MM:SS."""
    days, seconds = divmod(cpu_ns // NS_PER_S, DAY_S)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days:02}-{text}" if days else text
