"""Make the container's first process, or one more in a container that runs.

    init = spawn(plan, ...)      cloned; works on its namespaces while we do something else
    await_ready(init)            everything is in place, it waits; KernelError or ExecError if not
    listener = start(init)       it installs its filter; we hold the listener; it calls execve
    init.error_fd                EOF once execve is done, else an error for parse_child_error

Invariants: the calling process has one thread; the child dies with the caller (PDEATHSIG) until
its program undoes that; a child that fails leaves nothing, since all it made is in its namespaces.
Not here: what the child does (docklock.become), mounts (docklock.plan), limits (docklock.cgroup),
answering the listener (docklock.capture), which must happen between start and EOF on error_fd.
"""

from __future__ import annotations

import _thread
import errno
import mmap
import os
import select
import time

from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.become import (
    ARRANGED_OFFSET,
    ERROR_FD,
    GO_OFFSET,
    LISTENER_OFFSET,
    SHARED_BYTES,
    TERMINAL_FD,
    Command,
    ExecError,
    become,
    encode_error,
)
from docklock.cgroup.driver import Cgroup
from docklock.errors import KernelError
from docklock.kernel import process as kernel
from docklock.kernel import seccomp
from docklock.kernel.interface import set_interface_up
from docklock.plan import Plan
from docklock.spec import Process, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE_MAX_BYTES = 65536
START_MAX_S = 10.0
POLL_S = 0.00005
EXIT_SETUP = 125

_CLONE_FLAGS = {
    "mount": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "network": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
}
_JOINED = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


class Init:
    """A child between clone and execve, as its parent holds it. `close` when execve is done."""

    __slots__ = ("error_fd", "has_listener", "is_ready", "pid", "pidfd", "shared", "start_fd")

    def __init__(
        self, cloned: kernel.Cloned, start_fd: int, error_fd: int, shared: mmap.mmap
    ) -> None:
        self.pid, self.pidfd = cloned
        self.start_fd = start_fd
        self.error_fd = error_fd
        self.shared = shared
        self.has_listener = False
        self.is_ready = False

    def close(self) -> None:
        """Close the pipes and the shared page; the pid and pidfd stay the caller's."""
        for fd in (self.start_fd, self.error_fd):
            if fd >= 0:
                os.close(fd)
        self.start_fd = self.error_fd = -1
        self.shared.close()


def spawn(
    plan: Plan,
    *,
    cgroup: Cgroup | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    program: bytes | None = None,
    seccomp_flags: int = seccomp.FLAG_NEW_LISTENER,
    user: str = "",
    die_with_parent: bool = True,
) -> Init:
    """Clone the container's first process. Returns at once: see await_ready.

    `user` is a `user[:group]` to be resolved in the container instead of spec.process.user.
    `program` is the filter; with FLAG_NEW_LISTENER in `seccomp_flags`, start returns its listener.
    """
    spec, flags = plan.spec, 0
    for kind, path in spec.linux.namespaces:
        # The cgroup namespace is entered after the cgroup, whose place becomes its root.
        flags |= 0 if path or kind == "cgroup" else _CLONE_FLAGS[kind]
    pid_namespace = spec.get_namespace("pid")
    pid_path = pid_namespace.path if pid_namespace else ""
    pid_fd = os.open(pid_path, os.O_RDONLY | os.O_CLOEXEC) if pid_path else -1

    def enter() -> None:
        if cgroup is not None:
            cgroup.enter()
        _enter_namespaces(spec)
        _set_oom_score(spec.process)
        plan.execute()

    try:
        return _clone(
            spec.process,
            enter,
            flags=flags,
            pid_fd=pid_fd,
            cgroup=cgroup,
            stdio=stdio,
            program=program,
            seccomp_flags=seccomp_flags,
            user=user,
            die_with_parent=die_with_parent,
            is_init=True,
        )
    finally:
        if pid_fd >= 0:
            os.close(pid_fd)


def join(
    pidfd: int,
    process: Process,
    *,
    cgroup: Cgroup | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    program: bytes | None = None,
    seccomp_flags: int = seccomp.FLAG_NEW_LISTENER,
    user: str = "",
    die_with_parent: bool = True,
) -> Init:
    """Clone one more process into the container whose first process is `pidfd`.

    It is our child, in all of the container's namespaces and its cgroup; otherwise as spawn.
    """

    def enter() -> None:
        if cgroup is not None:
            cgroup.enter()
        _set_oom_score(process)
        kernel.setns(pidfd, _JOINED, "join the container's namespaces")

    return _clone(
        process,
        enter,
        flags=0,
        pid_fd=pidfd,
        cgroup=cgroup,
        stdio=stdio,
        program=program,
        seccomp_flags=seccomp_flags,
        user=user,
        die_with_parent=die_with_parent,
        is_init=False,
    )


def await_ready(init: Init) -> tuple[str, ...]:
    """Wait until the child has everything but its filter; returns what could not be given it.

    On failure the child is reaped and `init` closed.
    """
    if init.is_ready:
        return ()
    data = os.read(init.error_fd, MESSAGE_MAX_BYTES)
    if not data.startswith(b"R"):
        status = _reap(init)
        raise _read_failure(data, status)
    init.is_ready = True
    return tuple(data.decode().split("\0")[1:])


def take_terminal(pidfd: int) -> int:
    """The master, close-on-exec, of the terminal of a child that is ready and not yet started.

    The child's process.terminal must be set.
    """
    return kernel.pidfd_getfd(pidfd, TERMINAL_FD, "take the container's terminal")


def start(init: Init) -> int | None:
    """Let the child go on to its program; returns the filter's listener, if it has one.

    The child may already wait in execve for an answer from the listener. On failure it is killed
    and reaped, and `init` closed.
    """
    await_ready(init)
    try:
        os.write(init.start_fd, b"s")
        return _take_listener(init) if init.has_listener else None
    except BrokenPipeError:
        status = abort(init)
        raise _read_failure(b"", status) from None
    except DocklockError:
        abort(init)
        raise


def abort(init: Init) -> int:
    """Kill the child, reap it and close `init`; returns its wait status' code."""
    try:
        kernel.pidfd_send_signal(init.pidfd, kernel.SIGKILL)
    except KernelError as error:
        if error.errno != errno.ESRCH:
            raise
    return _reap(init)


def parse_child_error(data: bytes) -> DocklockError | None:
    """What the child wrote to error_fd: None for EOF, which means that execve is done."""
    if not data:
        return None
    kind, number, *rest = data.decode(errors="replace").split("\0")
    if kind == "X":
        code = int(number)
        return ExecError(rest[0], code)
    call, step, hint = (*rest, "", "", "")[:3]
    return KernelError(int(number), call, step, hint)


def _clone(
    process: Process,
    enter: Callable[[], None],
    *,
    flags: int,
    pid_fd: int,
    cgroup: Cgroup | None,
    stdio: tuple[int, int, int],
    program: bytes | None,
    seccomp_flags: int,
    user: str,
    die_with_parent: bool,
    is_init: bool,
) -> Init:
    if _thread._count():
        raise StateError("a process with threads cannot make containers: call spawn before them")
    prepared = seccomp.prepare_filter(program) if program else None
    shared = mmap.mmap(-1, SHARED_BYTES)
    error_read, error_write = os.pipe()
    start_read, start_write = os.pipe()
    command = Command(
        process,
        user,
        stdio,
        error_write,
        start_read,
        prepared,
        seccomp_flags,
        shared,
        die_with_parent,
        is_init,
    )
    try:
        cloned = _clone_into(flags, pid_fd, cgroup)
        if cloned.pid == 0:
            _run_child(enter, command)
    except DocklockError:
        os.close(error_read)
        os.close(start_write)
        raise
    finally:
        os.close(error_write)
        os.close(start_read)
    init = Init(cloned, start_write, error_read, shared)
    init.has_listener = bool(prepared and seccomp_flags & seccomp.FLAG_NEW_LISTENER)
    return init


def _clone_into(flags: int, pid_fd: int, cgroup: Cgroup | None) -> kernel.Cloned:
    """clone3, in another pid namespace if `pid_fd` is one (or a process of one)."""
    cgroup_fd = cgroup.open_for_clone() if cgroup is not None else -1
    own_fd = -1
    try:
        if pid_fd >= 0:
            own_fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(pid_fd, kernel.CLONE_NEWPID, "join the pid namespace")
        cloned = kernel.clone3(flags, cgroup_fd=cgroup_fd, step="make the container's process")
        if cloned.pid and own_fd >= 0:
            kernel.setns(own_fd, kernel.CLONE_NEWPID, "return to our pid namespace")
        return cloned
    finally:
        for fd in (cgroup_fd, own_fd):
            if fd >= 0:
                os.close(fd)


def _run_child(enter: Callable[[], None], command: Command) -> None:
    """The child's whole life before its program; it never returns to the parent's code."""
    try:
        kernel.set_dumpable(dumpable=False)
        if command.die_with_parent:
            kernel.set_death_signal()
        os.setsid()
        kernel.reset_signals()
        os.umask(0)
        enter()
        become(command)
    except (DocklockError, OSError) as error:
        is_arranged = command.shared[ARRANGED_OFFSET]
        os.write(ERROR_FD if is_arranged else command.error_fd, encode_error(error))
    finally:
        os._exit(EXIT_SETUP)


def _enter_namespaces(spec: Spec) -> None:
    for kind, path in spec.linux.namespaces:
        if path and kind != "pid":
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                kernel.setns(fd, _CLONE_FLAGS[kind], f"join the {kind} namespace {path}")
            finally:
                os.close(fd)
        elif kind == "cgroup" and not path:
            kernel.unshare(kernel.CLONE_NEWCGROUP, "enter a new cgroup namespace")
        elif kind == "network" and not path:
            set_interface_up("lo")
    if spec.hostname:
        kernel.sethostname(spec.hostname)


def _set_oom_score(process: Process) -> None:
    if process.oom_score_adj is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(str(process.oom_score_adj).encode())
    except OSError as error:
        step = f"set oom_score_adj to {process.oom_score_adj}"
        hint = "lowering it needs CAP_SYS_RESOURCE"
        raise KernelError(error.errno or 0, "write", step, hint) from None


def _take_listener(init: Init) -> int:
    """Wait for the child's filter and duplicate its listener, then let the child go on."""
    end = time.monotonic() + START_MAX_S
    poll = select.poll()
    poll.register(init.error_fd, select.POLLIN)
    poll.register(init.pidfd, select.POLLIN)
    while not (number := init.shared[LISTENER_OFFSET]):
        if poll.poll(0):
            # Before its filter is in place the child can only fail.
            raise _read_failure(os.read(init.error_fd, MESSAGE_MAX_BYTES), None)
        if time.monotonic() >= end:
            hint = f"the child did not install its filter within {START_MAX_S:g} s"
            raise KernelError(errno.ETIMEDOUT, "seccomp", "start the container", hint)
        time.sleep(POLL_S)
    listener = kernel.pidfd_getfd(init.pidfd, number - 1, "take the filter's listener")
    init.shared[GO_OFFSET] = 1
    return listener


def _reap(init: Init) -> int:
    result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    init.close()
    os.close(init.pidfd)
    init.pidfd = -1
    return result.si_status if result else 0


def _read_failure(data: bytes, status: int | None) -> DocklockError:
    error = parse_child_error(data)
    if error is not None:
        return error
    hint = (
        "out of memory, or killed from outside" if status == kernel.SIGKILL else f"status {status}"
    )
    return KernelError(errno.ESRCH, "clone3", "wait for the container's process", hint)
