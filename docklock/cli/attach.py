"""The front end's half of an attached program: copy its streams, pass signals on, wait.

And the command `attach`. Not here: the terminal's modes and keys (terminal.py).
"""

from __future__ import annotations

import errno
import os
import select
import sys

from chainlite.errors import About, SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import signal, socket
from docklock.cli.options import Command, check_count, flag, parse, text
from docklock.lifecycle import find_container, read_container, read_state
from docklock.paths import Paths
from docklock.supervisor.wire import (
    MESSAGE,
    STDERR,
    STDIN,
    STDOUT,
    Packet,
    receive,
    send_data,
    send_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from docklock.cli.terminal import DetachKeys

READ_BYTES = 32_768
PROXIED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

DETACH_KEYS = text(
    "--detach-keys", help="leave it running with these (ctrl-p,ctrl-q)", metavar="KEYS"
)
SIG_PROXY = text("--sig-proxy", help="pass signals on (true)", metavar="true|false")
STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
ATTACH = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Follow a running container: its output, its input, its exit code.",
    (
        DETACH_KEYS,
        flag("--no-stdin", help="pass no input on"),
        SIG_PROXY,
    ),
    examples=(
        "docklock attach web",
        "docklock attach --detach-keys ctrl-x web",
    ),
)


class Attachment(NamedTuple):
    """How a front end is attached. `detach_keys` are looked for with `tty` and `interactive`."""

    interactive: bool  # standard input is passed on
    proxy: bool = True  # signals are passed on, but with a terminal that is typed into
    tty: bool = False
    detach_keys: bytes = b""
    is_late: bool = False  # the program has drawn its screen for somebody else
    shown: tuple[int, ...] = (STDOUT, STDERR)  # none: we leave when our input ends

    @property
    def is_any(self) -> bool:
        """Whether there is anything to stay for."""
        return self.interactive or bool(self.shown)


def choose_attachment(values: dict[str, Any], keys: bytes) -> Attachment:
    """What --attach, --interactive, --tty and --sig-proxy of a run mean. SpecError."""
    is_passing = parse_proxy("run", values["sig_proxy"])
    attachment = Attachment(values["interactive"], is_passing, values["tty"], keys)
    words = [word.lower() for word in values["attach"]]
    if not words:
        return attachment
    if values["detach"]:
        raise SpecError("Conflicting options: -a and -d")
    for word in words:
        if word not in STREAMS:
            raise SpecError(f"-a {word}: valid streams are STDIN, STDOUT and STDERR")
    return attachment._replace(
        interactive=values["interactive"] and "stdin" in words,
        shown=tuple(STREAMS[word] for word in words if word != "stdin"),
    )


def parse_proxy(command: str, word: str | None) -> bool:
    """Whether signals are passed on. SpecError."""
    if word not in (None, "true", "false"):
        raise SpecError(f"docklock {command}: --sig-proxy takes true or false")
    return word != "false"


def follow(channel: socket.socket, attachment: Attachment, upon_lost: Callable[[], int]) -> int:
    """Copy until the program ends; its exit code, or 0 when the detach keys are typed.

    `upon_lost` says what to exit with when the other end goes away without an exit code.
    """
    is_raw = attachment.tty and attachment.interactive
    if attachment.proxy and not is_raw:
        for number in PROXIED:
            signal.signal(number, lambda n, _frame: _pass_signal(channel, n))
    if attachment.tty:
        event = _copy_in_terminal(channel, attachment, is_raw=is_raw)
    else:
        event = _copy(channel, attachment)
    if event["event"] == "lost":
        return upon_lost()
    if event.get("message"):
        print(f"docklock: {event['message']}", file=sys.stderr)
    return int(event["exit_code"])


def _copy_in_terminal(
    channel: socket.socket, attachment: Attachment, *, is_raw: bool
) -> dict[str, Any]:
    from docklock.cli.terminal import DetachKeys, Ended, LocalTerminal

    terminal = LocalTerminal(channel)
    try:
        try:
            terminal.open(is_raw=is_raw, redraw=attachment.is_late)
            keys = DetachKeys(attachment.detach_keys) if is_raw else None
            event = _copy(channel, attachment, keys)
        finally:
            terminal.close()
    except Ended as signalled:
        event = {"event": "exit", "exit_code": signalled.exit_code}
    if event["event"] == "detached":
        print("read escape sequence", file=sys.stderr)
    return event


def _copy(
    channel: socket.socket, attachment: Attachment, keys: DetachKeys | None = None
) -> dict[str, Any]:
    """Copy both ways until an event ends it: exit, error, lost, left or detached."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    is_reading = attachment.interactive
    if is_reading:
        poll.register(0, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                data, is_detached = _read_input(keys)
                if data is not None:
                    send_data(channel, STDIN, data)
                if is_detached:
                    return {"event": "detached", "exit_code": 0}
                if data == b"":
                    if not attachment.shown:  # its answer says that all input was taken
                        send_message(channel, {"verb": "figures"})
                    poll.unregister(0)
                    is_reading = False
                continue
            packet = receive(channel)
            if packet.kind < 0:
                return {"event": "lost"}
            event = _take(packet, attachment.shown)
            if event.get("event") in ("exit", "error"):
                return event
            if event.get("event") == "figures":
                return {"event": "left", "exit_code": 0}
            if event.get("event") in ("full", "room") and is_reading:
                poll.modify(0, select.POLLIN * (event["event"] == "room"))


def _read_input(keys: DetachKeys | None) -> tuple[bytes | None, bool]:
    """(what to pass on: None is nothing yet, empty the end; whether the detach keys are typed)."""
    try:
        data = os.read(0, READ_BYTES)
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal was hung up: its end
            raise
        data = b""
    if keys is None or not data:
        return data, False
    passed, is_detached = keys.feed(data)
    return passed or None, is_detached


def wait_created(channel: socket.socket) -> dict[str, Any]:
    """The event that ends the start of a detached container: `started`, or its failure."""
    while True:
        packet = receive(channel)
        if packet.kind < 0:
            raise StateError("the container's supervisor ended before the container started")
        if packet.kind == MESSAGE:
            event = packet.get_message()
            if event.get("event") in ("started", "exit", "error"):
                return event


def _take(packet: Packet, shown: tuple[int, ...]) -> dict[str, Any]:
    if packet.kind == MESSAGE:
        event = packet.get_message()
        if event.get("event") == "warning":
            print(f"docklock: {event['message']}", file=sys.stderr, flush=True)
        return event
    target = {STDOUT: 1, STDERR: 2}.get(packet.kind) if packet.kind in shown else None
    data = packet.payload
    while target is not None and data:
        data = data[os.write(target, data) :]
    return {}


def report_lost(paths: Paths, container_id: str) -> int:
    """The supervisor was killed, so the container was: mend at once and say so."""
    from docklock.repair import EXIT_KILLED, repair

    repair(paths)  # it waits for a worker that is still killing
    print(
        f"docklock: the supervisor of {container_id[:12]} was killed; the container was killed "
        "and the gap in its evidence signed",
        file=sys.stderr,
    )
    return EXIT_KILLED


def _pass_signal(channel: socket.socket, number: int) -> None:
    try:
        send_message(channel, {"verb": "signal", "signal": number})
    except OSError:
        pass  # the container has ended; its exit event is on the way


def run_attach(argv: list[str], paths: Paths) -> int:
    """`docklock attach`: the container's exit code; 0 when the detach keys are typed."""
    from docklock import client
    from docklock.cli.terminal import complain_without_terminal, parse_detach_keys
    from docklock.evidence.operations import record_operation

    values, words = parse(ATTACH, argv)
    check_count(ATTACH, words, 1, 1)
    is_passing = parse_proxy("attach", values["sig_proxy"])
    keys = parse_detach_keys(values["detach_keys"])
    container_id = find_container(paths, words[0])
    container = read_container(paths, container_id)
    interactive = container.stdin_open and not values["no_stdin"]
    with About(container_id):
        if not container.detached_stdio:
            why = "has the stdio of its creator: nothing to attach to"
            raise StateError(f"container {words[0]} {why}")
        if complain_without_terminal(interactive=interactive, tty=container.tty):
            return 1
        channel = client.connect(paths, container_id)
        state = read_state(paths, container_id)
        if state.is_frozen:
            remedy = "release" if state.is_quarantined else "unpause"
            raise StateError(f"You cannot attach to a {state.shown} container, {remedy} it first")
        record_operation(paths, "attach", container_id)
        client.request(channel, {"verb": "attach"})
    attachment = Attachment(interactive, is_passing, container.tty, keys, is_late=True)
    return follow(channel, attachment, lambda: report_lost(paths, container_id))
