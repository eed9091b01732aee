"""`docklock exec`: one more program in a running container, under the same policy and on record.

This process joins the container itself and keeps the program's stdio; the listener of its filter
goes to the container's supervisor, which records and answers its calls as init's.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from chainlite.errors import SpecError, StateError
from docklock import client
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, listed, text
from docklock.cli.values import check_no_terminal, parse_env
from docklock.lifecycle import RUNNING, Container, find_container, read_container
from docklock.paths import Paths
from docklock.runtime import CONFIG, get_state, load_container_policy
from docklock.spec import Process, Spec, parse_spec

EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a program in a running container.",
    (
        flag("-d", "--detach", help="do not wait for it"),
        flag("-i", "--interactive", help="keep standard input open"),
        flag("-t", "--tty", help="refused: docklock has no terminals yet"),
        listed("-e", "--env", help="set an environment variable", metavar="NAME[=VALUE]"),
        text("-w", "--workdir", help="working directory", metavar="DIR"),
        text("-u", "--user", help="user and group, names or numbers", metavar="USER[:GROUP]"),
    ),
    is_program_last=True,
)
SIGNAL_EXIT_BASE = 128


def run_exec(argv: list[str], paths: Paths) -> int:
    """`docklock exec`: the program's exit code."""
    values, words = options.parse(EXEC, argv)
    check_count(EXEC, words, 2)
    check_no_terminal(values)
    container_id = find_container(paths, words[0])
    state = get_state(paths, container_id)
    if state.status != RUNNING:
        raise StateError(f"container {words[0]} is {state.status}, not running")
    container = read_container(paths, container_id)
    path = f"{container.bundle}/{CONFIG}"
    with open(path, "rb") as file:
        spec = parse_spec(file.read(), path)
    spec = spec._replace(process=build_process(spec, values, tuple(words[1:]), state.pid))
    return join_and_wait(paths, container, spec, state.pid, values)


def build_process(spec: Spec, values: dict[str, Any], args: tuple[str, ...], pid: int) -> Process:
    """The container's process with this program, user, directory and more environment."""
    from docklock.users import get_home, resolve_user

    process = spec.process
    found = dict(entry.partition("=")[::2] for entry in process.env)
    for word in values["env"]:
        pair = parse_env(word)
        if pair is not None:
            found[pair[0]] = pair[1]
    user, capabilities = process.user, process.capabilities
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
    )


def join_and_wait(
    paths: Paths, container: Container, spec: Spec, pid: int, values: dict[str, Any]
) -> int:
    """Start the program in the container, hand its listener over, wait; its exit code."""
    from docklock import enter
    from docklock.evidence.operations import record_operation
    from docklock.kernel.seccomp import get_listener_flags
    from docklock.supervisor.task import locate_cgroup

    policy = load_container_policy(paths, container, spec)
    pidfd = os.pidfd_open(pid)
    channel = client.connect(paths, container.id)  # it lives, so `pid` was its init's
    record_operation(paths, "exec", container.id)
    stdin = 0 if values["interactive"] else os.open("/dev/null", os.O_RDONLY)
    init = enter.join(
        pidfd,
        spec.process,
        cgroup=locate_cgroup(container.id, spec),
        stdio=(stdin, 1, 2),
        program=policy.program,
        seccomp_flags=get_listener_flags(),
        die_with_parent=not values["detach"],
    )
    enter.await_ready(init)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: _pass_signal(init.pidfd, n))
    listener = enter.start(init)
    assert listener is not None
    try:
        client.request(channel, {"verb": "listener", "argv": list(spec.process.args)}, (listener,))
    except StateError:
        enter.abort(init)
        raise
    os.close(listener)
    error = enter.parse_child_error(os.read(init.error_fd, enter.MESSAGE_MAX_BYTES))
    if error is not None:
        enter.abort(init)
        raise error
    if values["detach"]:
        return 0
    result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    assert result is not None
    is_exit = result.si_code == os.CLD_EXITED
    return int(result.si_status) if is_exit else SIGNAL_EXIT_BASE + int(result.si_status)


def _pass_signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
