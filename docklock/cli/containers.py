"""The commands start, stop, kill, wait and rm: Docker's shapes and words."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from chainlite.errors import About, DocklockError, SpecError, StateError
from docklock import client
from docklock.cli import options
from docklock.cli.attach import DETACH_KEYS, Attachment, follow, report_lost, wait_created
from docklock.cli.options import Command, check_count, flag, text
from docklock.lifecycle import (
    NoSuchContainer,
    find_container,
    is_live,
    read_container,
    read_state,
)
from docklock.paths import Paths
from docklock.runtime import delete, keep_ended, relaunch
from docklock.signals import parse_signal

SHORT_ID = 12
COMMAND_WIDTH = 20

START = Command(
    "start",
    "[OPTIONS] CONTAINER...",
    "Start created or stopped containers.",
    (
        flag("-a", "--attach", help="attach output and pass signals; exit with its exit code"),
        flag("-i", "--interactive", help="attach, and pass standard input on"),
        DETACH_KEYS,
    ),
    examples=(
        "docklock start web",
        "docklock start -a job",
    ),
)
STOP_TIME = text(
    "-t",
    "--timeout",
    "--time",
    help="seconds before SIGKILL (10, or --stop-timeout of its run); -1: never",
    metavar="SECONDS",
)
STOP_SIGNAL = text(
    "-s", "--signal", help="instead of its own stop signal (SIGTERM)", metavar="SIGNAL"
)
STOP = Command(
    "stop",
    "[OPTIONS] CONTAINER...",
    "Send the stop signal, then SIGKILL.",
    (STOP_SIGNAL, STOP_TIME),
    examples=(
        "docklock stop web",
        "docklock stop -t 2 web job",
    ),
)
KILL = Command(
    "kill",
    "[OPTIONS] CONTAINER...",
    "Send a signal.",
    (text("-s", "--signal", help="name or number (KILL)", metavar="SIGNAL"),),
    examples=("docklock kill -s HUP web",),
)
WAIT = Command(
    "wait",
    "CONTAINER...",
    "Wait for containers to end; print their exit codes.",
    examples=("docklock wait job",),
)
RM = Command(
    "rm",
    "[OPTIONS] CONTAINER...",
    "Remove containers. Their evidence stays.",
    (
        flag("-f", "--force", help="kill a running container first"),
        flag("-v", "--volumes", help="accepted for Docker's sake: there are no anonymous volumes"),
    ),
    examples=(
        "docklock rm job",
        "docklock rm -f web",
    ),
)


def for_each(
    request: str,
    words: list[str],
    paths: Paths,
    act: Callable[[str], str | None],
    *,
    may_be_gone: bool = False,
) -> int:
    """Do `act` for each container; print what it returns, or its error; 1 if any failed.

    `request` is the command's name: what is refused of it is on record. With `may_be_gone` one that
    is not there is told, and is no failure.
    """
    code = 0
    for word in words:
        container_id = ""
        try:
            container_id = find_container(paths, word)
            line = act(container_id)
            print(word if line is None else line)
        except DocklockError as error:
            from docklock.cli.denied import report_denial

            print(f"docklock: {word}: {error}", file=sys.stderr)
            if not (may_be_gone and isinstance(error, NoSuchContainer)):
                code = error.exit_code
                report_denial(paths, request, error, code, container_id)
    return code


def run_start(argv: list[str], paths: Paths) -> int:
    """`docklock start`: the next run of the same containers."""
    values, words = options.parse(START, argv)
    is_attached = values["attach"] or values["interactive"]
    check_count(START, words, 1, 1 if is_attached else None)
    if is_attached:
        return _start_attached(paths, words[0], values)
    code = 0
    for word in words:
        code = _start_detached(paths, word) or code
    return code


def _start_attached(paths: Paths, word: str, values: dict[str, Any]) -> int:
    from docklock.cli.terminal import complain_without_terminal, parse_detach_keys

    keys = parse_detach_keys(values["detach_keys"])
    container_id = find_container(paths, word)
    container = read_container(paths, container_id)
    interactive = values["interactive"] and container.stdin_open
    if complain_without_terminal(interactive=interactive, tty=container.tty):
        return 1
    with About(container_id):
        channel = relaunch(paths, container_id)
    attachment = Attachment(interactive, tty=container.tty, detach_keys=keys)
    return follow(channel, attachment, lambda: report_lost(paths, container_id))


def _start_detached(paths: Paths, word: str) -> int:
    container_id = find_container(paths, word)
    with About(container_id):
        event = start_in_background(paths, container_id)
    if has_failed(event):
        print(f"docklock: {event['message']}", file=sys.stderr)
        return int(event["exit_code"])
    print(word)
    return 0


def start_in_background(paths: Paths, container_id: str) -> dict[str, Any]:
    """The next run, detached; the event that its start ends with."""
    channel = relaunch(paths, container_id, is_background=True)
    try:
        return wait_created(channel)
    finally:
        channel.close()


def has_failed(event: dict[str, Any]) -> bool:
    """Whether the event of a start says that there is no program: why is its `message`."""
    return event["event"] != "started" and bool(event.get("message"))


def run_stop(argv: list[str], paths: Paths) -> int:
    """`docklock stop`: the stop signal, then SIGKILL after --time seconds."""
    values, words = options.parse(STOP, argv)
    check_count(STOP, words, 1)
    timeout_s = parse_stop_time(STOP, values["time"])
    number = parse_signal(values["signal"]) if values["signal"] else 0
    return for_each("stop", words, paths, lambda one: stop(paths, one, timeout_s, number))


def parse_stop_time(command: Command, word: str | None) -> int | None:
    """The seconds of --time; None where the container's own are to hold."""
    if word is None:
        return None
    if not word.removeprefix("-").isdigit():
        raise SpecError(f"docklock {command.name}: --time takes whole seconds, not {word!r}")
    return int(word)


def stop(paths: Paths, container_id: str, timeout_s: int | None, asked: int = 0) -> None:
    """Stop signal, wait, SIGKILL, wait. Nothing happens to a container that does not run.

    One that is quarantined is killed as it stands. Less than no seconds: wait for ever. `asked`:
    a signal instead of its own.
    """
    container = read_container(paths, container_id)
    keep_ended(paths, container_id)
    wait_s = container.stop_timeout_s if timeout_s is None else timeout_s
    if read_state(paths, container_id).is_quarantined:
        wait_s = 0  # nothing of it runs again, not even to end

    def ask(channel: socket.socket) -> None:
        number = asked or parse_signal(container.stop_signal)
        client.request_signal(channel, paths, container_id, number, is_to_end=bool(asked))
        if client.wait_exit(channel, wait_s if wait_s >= 0 else None) is None:
            client.request_signal(channel, paths, container_id, signal.SIGKILL)
            client.wait_exit(channel)

    client.end(paths, container_id, ask)


def run_kill(argv: list[str], paths: Paths) -> int:
    """`docklock kill`: one signal to each."""
    values, words = options.parse(KILL, argv)
    check_count(KILL, words, 1)
    number = parse_signal(values["signal"] or "KILL")
    return for_each("kill", words, paths, lambda one: client.send_signal(paths, one, number))


def run_wait(argv: list[str], paths: Paths) -> int:
    """`docklock wait`: print the exit codes, in the order asked."""
    _, words = options.parse(WAIT, argv)
    check_count(WAIT, words, 1)
    return for_each("wait", words, paths, lambda one: str(wait(paths, one)))


def wait(paths: Paths, container_id: str) -> int:
    """The exit code of the newest run, once it has ended."""
    while is_live(paths, container_id):
        try:
            with client.connect(paths, container_id) as channel:
                client.request(channel, {"verb": "wait"})
                code = client.wait_exit(channel)
                assert code is not None
                return code
        except StateError:
            time.sleep(client.ASK_AGAIN_S)  # it begins, or ends
    return read_state(paths, container_id).exit_code


def run_rm(argv: list[str], paths: Paths) -> int:
    """`docklock rm`: StateError for a running one without --force.

    With it, as Docker since 20.10, one that is not there is no failure: it is gone.
    """
    values, words = options.parse(RM, argv)
    check_count(RM, words, 1)
    force = values["force"]
    act = partial(remove, paths, force=force)
    return for_each("rm", words, paths, act, may_be_gone=force)


def remove(paths: Paths, container_id: str, *, force: bool) -> None:
    """Remove a container, on record; the evidence stays."""
    from docklock.evidence.operations import record_operation

    read_container(paths, container_id)  # a StateError leaves no leaf
    record_operation(paths, "remove", container_id, (("force", str(int(force))),))
    delete(paths, container_id, force=force)
