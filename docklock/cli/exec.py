"""`docklock exec`: one more program in a running container, under the same policy and on record.

This process joins the container itself and keeps the program's stdio; the listener of its filter
goes to the container's supervisor, which records and answers its calls as init's. With a terminal
a process forked from this one does so, and relays: the detach keys leave it there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from chainlite.errors import About, DocklockError, SpecError, StateError
from chainlite.lean import NamedTuple
from docklock import client
from docklock.cli import options
from docklock.cli.attach import DETACH_KEYS
from docklock.cli.options import Command, check_count, flag, listed, text
from docklock.cli.terminal import complain_without_terminal, get_size, parse_detach_keys
from docklock.cli.values import ENV_FILE, TERM_DEFAULT, parse_env
from docklock.defaults import compute_capabilities
from docklock.lifecycle import RUNNING, Container, State, find_container, read_container
from docklock.paths import Paths
from docklock.runtime import get_state, load_run_policy, read_spec
from docklock.spec import Capabilities, Process, Spec
from docklock.supervisor.wire import make_pair

if TYPE_CHECKING:
    import _socket

    from docklock.enter import Init
    from docklock.policy.load import Compiled

EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a program in a running container.",
    (
        flag("-d", "--detach", help="do not wait for it"),
        flag("-i", "--interactive", help="keep standard input open"),
        flag("-t", "--tty", help="give it a terminal"),
        listed("-e", "--env", help="set an environment variable", metavar="NAME[=VALUE]"),
        ENV_FILE,
        text("-w", "--workdir", help="working directory", metavar="DIR"),
        text("-u", "--user", help="user and group, names or numbers", metavar="USER[:GROUP]"),
        flag("--privileged", help="all capabilities, under the container's policy all the same"),
        DETACH_KEYS,
    ),
    is_program_last=True,
    examples=(
        "docklock exec -it web sh",
        "docklock exec -u nobody -e LANG=C web env",
    ),
)
EXIT_FAILED = 125


def run_exec(argv: list[str], paths: Paths) -> int:
    """`docklock exec`: the program's exit code."""
    values, words = options.parse(EXEC, argv)
    check_count(EXEC, words, 2)
    if values["env_file"]:
        from docklock.cli.refine import read_option_files

        read_option_files(values)
    parse_detach_keys(values["detach_keys"])
    interactive = values["interactive"] and not values["detach"]
    if complain_without_terminal(interactive=interactive, tty=values["tty"]):
        return 1
    container_id = find_container(paths, words[0])
    with About(container_id):
        return _exec(paths, container_id, values, words)


def _exec(paths: Paths, container_id: str, values: dict[str, Any], words: list[str]) -> int:
    state = get_state(paths, container_id)
    if state.status != RUNNING:
        raise StateError(f"container {words[0]} is {state.status}, not running")
    if state.is_frozen:
        remedy = "release" if state.is_quarantined else "unpause"
        why = f"is {state.shown}, {remedy} the container before exec"
        raise StateError(f"Container {container_id} {why}")
    container = read_container(paths, container_id)
    spec = read_spec(container)
    policy = load_run_policy(paths, container, spec, state.policy)
    spec = spec._replace(process=build_process(spec, values, tuple(words[1:]), state.pid))
    return join_and_wait(paths, container, spec, state, policy, values)


def build_process(spec: Spec, values: dict[str, Any], args: tuple[str, ...], pid: int) -> Process:
    """The container's process with this program, user, directory and more environment."""
    from docklock.users import get_home, resolve_user

    process = spec.process
    found = dict(entry.partition("=")[::2] for entry in process.env)
    if values["tty"]:
        found.setdefault("TERM", TERM_DEFAULT)
    for word in values["env"]:
        pair = parse_env(word)
        if pair is not None:
            found[pair[0]] = pair[1]
    user, capabilities = process.user, process.capabilities
    if values["privileged"]:
        capabilities = get_all_capabilities(user.uid)
        process = process._replace(no_new_privs=False)
    if values["user"]:
        root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = resolve_user(root_fd, values["user"])
            found["HOME"] = get_home(root_fd, user.uid)
        finally:
            os.close(root_fd)
        held = capabilities.bounding if user.uid == 0 else ()
        capabilities = capabilities._replace(effective=held, permitted=held)
    cwd = values["workdir"] or process.cwd
    if not cwd.startswith("/"):
        raise SpecError(f"docklock exec: --workdir {cwd}: must be absolute")
    return process._replace(
        args=args,
        cwd=cwd,
        user=user,
        capabilities=capabilities,
        env=tuple(f"{name}={value}" for name, value in found.items()),
        terminal=values["tty"],
        console_size=get_size() if values["tty"] else None,
    )


def get_all_capabilities(uid: int) -> Capabilities:
    """What `docklock run --privileged` gives a user."""
    names = compute_capabilities((), (), privileged=True)
    held = names if uid == 0 else ()
    return Capabilities(bounding=names, effective=held, permitted=held)


def join_and_wait(
    paths: Paths,
    container: Container,
    spec: Spec,
    state: State,
    policy: Compiled,
    values: dict[str, Any],
) -> int:
    """Start the program in the container, hand its listener over, wait; its exit code."""
    from docklock.evidence.operations import record_operation
    from docklock.supervisor.terminal import wait_exit_code

    joining = _prepare(paths, container, spec, state, policy)
    labels = (("privileged", "1"),) if values["privileged"] else ()
    record_operation(paths, "exec", container.id, labels)
    if spec.process.terminal:
        return _run_in_terminal(joining, values)
    stdin = 0 if values["interactive"] else os.open("/dev/null", os.O_RDONLY)
    init = _join(joining, (stdin, 1, 2), die_with_parent=not values["detach"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: _pass_signal(init.pidfd, n))
    _start(joining, init)
    return 0 if values["detach"] else wait_exit_code(init.pidfd)


class _Joining(NamedTuple):
    """All that starts one more program in a container."""

    paths: Paths
    container: Container
    spec: Spec
    policy: Compiled
    pidfd: int  # the container's init
    channel: socket.socket  # to its supervisor
    log_path: str


def _prepare(
    paths: Paths, container: Container, spec: Spec, state: State, policy: Compiled
) -> _Joining:
    pidfd = os.pidfd_open(state.pid)
    channel = client.connect(paths, container.id)  # it lives, so the pid was its init's
    log_path = f"{paths.container(container.id)}/supervisor.log"
    return _Joining(paths, container, spec, policy, pidfd, channel, log_path)


def _join(joining: _Joining, stdio: tuple[int, int, int], *, die_with_parent: bool) -> Init:
    """The program's process, ready and waiting."""
    from docklock import enter
    from docklock.kernel.seccomp import get_listener_flags
    from docklock.supervisor.task import locate_cgroup

    init = enter.join(
        joining.pidfd,
        joining.spec.process,
        cgroup=locate_cgroup(joining.container.id, joining.spec),
        stdio=stdio,
        program=joining.policy.program,
        seccomp_flags=get_listener_flags(),
        die_with_parent=die_with_parent,
    )
    enter.await_ready(init)
    return init


def _start(joining: _Joining, init: Init) -> None:
    """Hand the listener over; the program runs, or an error says why not."""
    from docklock import enter

    listener = enter.start(init)
    assert listener is not None
    request = {"verb": "listener", "argv": list(joining.spec.process.args)}
    try:
        client.request(joining.channel, request, (listener,))
    except StateError:
        enter.abort(init)
        raise
    os.close(listener)
    error = enter.parse_child_error(os.read(init.error_fd, enter.MESSAGE_MAX_BYTES))
    if error is not None:
        enter.abort(init)
        raise error


def _run_in_terminal(joining: _Joining, values: dict[str, Any]) -> int:
    """As join_and_wait, through a process of its own, which outlives us when we are detached."""
    from docklock.cli.attach import Attachment, follow, wait_created
    from docklock.cli.run import raise_start_error

    keys = parse_detach_keys(values["detach_keys"])
    ours, theirs = make_pair()
    if os.fork() == 0:
        try:
            _relay(joining, theirs, takes_input=values["interactive"])
        finally:
            os._exit(0)
    theirs.close()
    joining.channel.close()
    if values["detach"]:
        event = wait_created(ours)
        if event["event"] != "started" and event.get("message"):
            raise_start_error(event)
        return 0
    attachment = Attachment(values["interactive"], tty=True, detach_keys=keys)
    return follow(ours, attachment, _report_lost)


def _relay(joining: _Joining, channel: _socket.socket, *, takes_input: bool) -> None:
    """The life of exec's own process: start the program in a terminal, copy, tell its end."""
    import gc

    from docklock import enter
    from docklock.supervisor.apart import keep_only
    from docklock.supervisor.relay import Relay, tell
    from docklock.supervisor.worker import write_traceback

    gc.enable()
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    keep_only((0, 1, 2, channel.fileno(), joining.pidfd, joining.channel.fileno()))
    event: dict[str, Any] = {"event": "exit", "exit_code": EXIT_FAILED}
    try:
        init = _join(joining, (0, 1, 2), die_with_parent=True)
        master = enter.take_terminal(init.pidfd)
        _start(joining, init)
        joining.channel.close()
        tell(channel, {"event": "started"})
        relay = Relay(channel, init.pidfd, master, takes_input=takes_input)
        event["exit_code"] = relay.run()
    except (DocklockError, OSError) as error:
        from docklock.cli.denied import report_denial

        event["message"] = str(error)
        code = event["exit_code"] = max(getattr(error, "exit_code", 0), EXIT_FAILED)
        report_denial(joining.paths, "exec", error, code, joining.container.id)
    except BaseException:
        write_traceback(joining.log_path)
        raise
    tell(channel, event)


def _report_lost() -> int:
    print("docklock: the process that held the program's terminal was killed", file=sys.stderr)
    return EXIT_FAILED


def _pass_signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
