"""`docklock-runtime`: the OCI verbs on a bundle, as a runtime's caller types them.

create, start, state, kill and delete. The container inherits the caller's stdio. Its policy is
`default` unless the annotation dev.docklock.policy names another. Not here yet: the flags and verbs
that Docker, containerd and podman need beyond these (a later capability).

Source: OCI runtime-spec 1.2, runtime.md; the command line is runc's.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from chainlite.errors import About, DocklockError, SpecError, StateError
from docklock import __version__
from docklock.cli import options
from docklock.cli.denied import report_denial
from docklock.cli.options import Command, check_count, flag, text
from docklock.lifecycle import Container, find_container, make_directories
from docklock.paths import Paths, get_paths
from docklock.spec import OCI_VERSION

POLICY_ANNOTATION = "dev.docklock.policy"
SIGN_ANNOTATION = "dev.docklock.sign"
ID_BYTES = 32
PROGRAM = "docklock-runtime"

CREATE = Command(
    "create",
    "[OPTIONS] ID",
    "Create a container from a bundle.",
    (
        text("-b", "--bundle", help="the bundle's directory (the current one)", metavar="DIR"),
        text("--pid-file", help="write init's pid here", metavar="FILE"),
        text("--console-socket", help="send the terminal's master to this socket", metavar="PATH"),
    ),
    examples=("docklock-runtime create --bundle /srv/bundle job",),
)
START = Command(
    "start",
    "ID",
    "Run a created container's program.",
    examples=("docklock-runtime start job",),
)
STATE = Command(
    "state",
    "ID",
    "Print a container's state.",
    examples=("docklock-runtime state job",),
)
KILL = Command(
    "kill",
    "ID [SIGNAL]",
    "Send a signal to init (TERM).",
    examples=("docklock-runtime kill job KILL",),
)
DELETE = Command(
    "delete",
    "[OPTIONS] ID",
    "Delete a stopped container.",
    (flag("-f", "--force", help="kill it first"),),
    examples=("docklock-runtime delete job",),
)
COMMANDS = {command.name: command for command in (CREATE, START, STATE, KILL, DELETE)}


def create(argv: list[str], paths: Paths) -> None:
    """`create`: returns once init waits in its finished environment."""
    from docklock import client
    from docklock.cli.run import raise_start_error
    from docklock.runtime import CONFIG, load_container_policy, make_container
    from docklock.spec import parse_spec
    from docklock.supervisor.launch import launch

    values, words = options.parse(CREATE, argv)
    check_count(CREATE, words, 1, 1)
    bundle = os.path.abspath(values["bundle"] or ".")
    path = f"{bundle}/{CONFIG}"
    try:
        with open(path, "rb") as file:
            spec = parse_spec(file.read(), path)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}; name the bundle with --bundle") from None
    _check_console(values["console_socket"], is_terminal=spec.process.terminal)
    annotations = dict(spec.annotations)
    container = Container(
        id=os.urandom(ID_BYTES).hex(),
        name=words[0],
        bundle=bundle,
        created_ns=time.time_ns(),
        command=spec.process.args,
        policy=annotations.get(POLICY_ANNOTATION, "default"),
        sign=annotations.get(SIGN_ANNOTATION, "segment"),
        detached_stdio=False,
        tty=spec.process.terminal,
        network="none" if spec.get_namespace("network") else "host",
        labels=spec.annotations,
    )
    make_directories(paths)
    load_container_policy(paths, container, spec)
    live_fd = make_container(paths, container, spec)
    channel = launch(paths, container.id, live_fd, run=0, start_at_once=False)
    event = client.wait_event(channel, ("created", "exit", "error"))
    try:
        if event["event"] != "created":
            raise_start_error(event)
        if values["console_socket"]:
            _send_console(values["console_socket"], event["pid"])
    except (DocklockError, OSError):
        from docklock.runtime import delete

        delete(paths, container.id, force=True)
        raise
    if values["pid_file"]:
        with open(values["pid_file"], "w", encoding="ascii") as file_:
            file_.write(str(event["pid"]))


def _check_console(path: str | None, *, is_terminal: bool) -> None:
    if is_terminal and not path:
        raise SpecError("process.terminal: name a socket for its master with --console-socket")
    if path and not is_terminal:
        raise SpecError("--console-socket: the bundle asks for no terminal (process.terminal)")


def _send_console(path: str, pid: int) -> None:
    """Send the master to whoever listens at `path`, as runc does: a name and the descriptor."""
    import socket

    from docklock.enter import take_terminal

    pidfd = os.pidfd_open(pid)
    master = take_terminal(pidfd)
    os.set_blocking(master, True)  # as runc's is
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(path)
            socket.send_fds(channel, [b"/dev/ptmx"], [master])
    finally:
        os.close(master)
        os.close(pidfd)


def start(argv: list[str], paths: Paths) -> None:
    """`start`: StateError unless it is created."""
    from docklock import client

    _, words = options.parse(START, argv)
    check_count(START, words, 1, 1)
    container_id = find_container(paths, words[0])
    with About(container_id), client.connect(paths, container_id) as channel:
        client.request(channel, {"verb": "start"})


def state(argv: list[str], paths: Paths) -> None:
    """`state`: the specification's JSON document."""
    import json

    from docklock.runtime import describe_state

    _, words = options.parse(STATE, argv)
    check_count(STATE, words, 1, 1)
    print(json.dumps(describe_state(paths, find_container(paths, words[0])), indent=2))


def kill(argv: list[str], paths: Paths) -> None:
    """`kill`: StateError unless it is created or running."""
    from docklock import client
    from docklock.signals import parse_signal

    _, words = options.parse(KILL, argv)
    check_count(KILL, words, 1, 2)
    number = parse_signal(words[1] if len(words) > 1 else "TERM")
    container_id = find_container(paths, words[0])
    with About(container_id):
        client.send_signal(paths, container_id, number)


def delete(argv: list[str], paths: Paths) -> None:
    """`delete`: StateError unless it is stopped; with --force no error if there is none."""
    from docklock.cli.containers import remove

    values, words = options.parse(DELETE, argv)
    check_count(DELETE, words, 1, 1)
    try:
        container_id = find_container(paths, words[0])
        with About(container_id):
            remove(paths, container_id, force=values["force"])
    except StateError:
        if not values["force"]:
            raise


VERBS = {"create": create, "start": start, "state": state, "kill": kill, "delete": delete}


def name_program(text: str) -> str:
    """A --help with the name that this program is called by."""
    return text.replace("docklock  ", f"{PROGRAM} ").replace("docklock ", f"{PROGRAM} ")


def run(argv: list[str]) -> int:
    """The whole command; 0 or an error's exit code."""
    from chainlite.errors import DocklockError
    from docklock.cli.main import split_global
    from docklock.cli.options import HelpWanted, format_verbs
    from docklock.nearest import suggest
    from docklock.repair import repair

    name, paths = "", None
    try:
        places, rest = split_global(argv)
        if rest[:1] == ["--version"]:
            print(f"docklock-runtime version {__version__}\nspec: {OCI_VERSION}")
            return 0
        if rest[:1] in (["--help"], ["-h"]):
            print(name_program(format_verbs("", COMMANDS)))
            return 0
        verb: Any = VERBS.get(rest[0]) if rest else None
        if verb is None:
            asked = f"unknown verb {rest[0]!r}{suggest(rest[0], VERBS)}" if rest else "no verb"
            raise SpecError(f"{asked}; there are {', '.join(VERBS)}")
        name, paths = rest[0], get_paths(**places)
        repair(paths)
        verb(rest[1:], paths)
        return 0
    except HelpWanted as help_text:
        print(name_program(str(help_text)))
        return 0
    except (DocklockError, OSError) as error:
        print(f"docklock-runtime: {error}", file=sys.stderr)
        code: int = getattr(error, "exit_code", 1)
        if paths is not None:
            report_denial(paths, name, error, code)
        return code


def main() -> None:
    """Entry point `docklock-runtime`."""
    sys.exit(run(sys.argv[1:]))
