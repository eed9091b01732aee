"""What a cloned process does, inside its namespaces, to become the container's program.

Every function here runs in the child only. The order is the point: descriptors, limits, terminal,
working directory, capabilities and user, no_new_privs; then it says that it is ready and waits;
then the filter, as the very last thing before execve. After the filter the child makes no call but
execve, since the policy may stop any other: it learns over shared memory that its listener was
taken.
Not here: clone, namespaces and the parent's side (docklock.enter), the mounts (docklock.plan).
Source: capabilities(7), Transformation of capabilities during execve; seccomp(2).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import stat

from chainlite.errors import StateError
from chainlite.lean import NamedTuple
from docklock.capability import RLIMITS, compute_mask, list_names
from docklock.errors import KernelError
from docklock.inroot import open_path, open_target
from docklock.kernel import process as kernel
from docklock.kernel import seccomp, terminal
from docklock.kernel.mount import AT_FDCWD, RESOLVE_NO_MAGICLINKS, bind, try_openat2
from docklock.spec import UINT64_MAX, Process
from docklock.users import get_home, resolve_user

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
UMASK_DEFAULT = 0o022
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPT_DEPTH_MAX = 5
SCRIPT_HEAD_BYTES = 256

# Where the child puts its ends of the two pipes; everything above is closed.
ERROR_FD = 3
START_FD = 4
# And where the master of its terminal is, if it has one, for the parent to take: close-on-exec.
TERMINAL_FD = 5
_HIGH_FD = 64

# The shared page: the parent sets GO once it has the listener, whose number + 1 is at LISTENER.
SHARED_BYTES = mmap.PAGESIZE
GO_OFFSET = 0
LISTENER_OFFSET = 4
# Set by the child once its error pipe is at ERROR_FD.
ARRANGED_OFFSET = 8


class ExecError(StateError):
    """The program cannot be executed; `exit_code` is 126 or 127 as a shell has it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Command(NamedTuple):
    """What the child becomes, prepared by the parent as far as can be."""

    process: Process
    user: str
    stdio: tuple[int, int, int]
    error_fd: int
    start_fd: int
    filter: seccomp.Filter | None
    filter_flags: int
    shared: mmap.mmap
    die_with_parent: bool
    is_init: bool


def become(command: Command) -> None:
    """Turn this process into the program. Returns never; raises what went wrong."""
    process, warnings = command.process, []
    _arrange_descriptors(command)
    warnings += _set_rlimits(process)
    process = _resolve(process, command.user)
    if process.terminal:
        _take_terminal(process, has_console=command.is_init)
    _enter_directory(process.cwd)
    warnings += _set_credentials(process, needs_admin=command.filter is not None)
    if command.die_with_parent:
        # Again, because a change of user clears it. A parent dead by now is read as EOF below.
        kernel.set_death_signal()
    find_executable(process)
    os.write(ERROR_FD, encode_ready(warnings))
    if os.read(START_FD, 1) != b"s":
        os._exit(0)
    _execute(process, command)


def _execute(process: Process, command: Command) -> None:
    path = os.fsencode(find_executable(process))
    args = tuple(os.fsencode(text) for text in process.args)
    image = kernel.prepare_execve(path, args, tuple(os.fsencode(text) for text in process.env))
    shared = command.shared
    if command.filter is not None:
        listener = seccomp.try_install(command.filter, command.filter_flags)
        if listener < 0:
            raise seccomp.make_install_error(-listener)
        if command.filter_flags & seccomp.FLAG_NEW_LISTENER:
            shared[LISTENER_OFFSET] = listener + 1
            # No call is allowed to wait with; the parent needs some 50 us.
            while not shared[GO_OFFSET]:
                pass
    number = kernel.execve(image)
    raise make_exec_error(process.args[0], number)


def _arrange_descriptors(command: Command) -> None:
    """stdio on 0-2, the pipes on ERROR_FD and START_FD, nothing else open."""
    wanted = (*command.stdio, command.error_fd, command.start_fd)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in wanted]
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < ERROR_FD)
    command.shared[ARRANGED_OFFSET] = 1
    kernel.close_range(START_FD + 1)


def _set_rlimits(process: Process) -> list[str]:
    warnings = []
    for kind, soft, hard in process.rlimits:
        number = RLIMITS.index(kind)
        wanted = (_to_limit(soft), _to_limit(hard))
        try:
            resource.setrlimit(number, wanted)
        except (ValueError, PermissionError):
            # Without CAP_SYS_RESOURCE a hard limit can only fall.
            held = resource.getrlimit(number)[1]
            top = UINT64_MAX if held == resource.RLIM_INFINITY else held
            kept = (_to_limit(min(soft, top)), held)
            resource.setrlimit(number, kept)
            warnings.append(f"{kind}: kept at {top}, raising it to {hard} needs CAP_SYS_RESOURCE")
    return warnings


def _to_limit(value: int) -> int:
    return resource.RLIM_INFINITY if value == UINT64_MAX else value


def _resolve(process: Process, user: str) -> Process:
    """Fill in what only the mounted root knows: the user's numbers and HOME."""
    has_home = any(entry.startswith("HOME=") for entry in process.env)
    if not user and has_home:
        return process
    root_fd = open_path(AT_FDCWD, "/")
    try:
        if user:
            found = resolve_user(root_fd, user)
            held = process.capabilities
            if found.uid != 0:
                held = held._replace(effective=held.ambient, permitted=held.ambient)
            merged = tuple(sorted({*found.groups, *process.user.groups}))
            found = found._replace(groups=merged, umask=process.user.umask)
            process = process._replace(user=found, capabilities=held)
        if not has_home:
            home = f"HOME={get_home(root_fd, process.user.uid)}"
            process = process._replace(env=(*process.env, home))
    finally:
        os.close(root_fd)
    return process


def _take_terminal(process: Process, *, has_console: bool) -> None:
    """A new terminal on stdio and as the session's; its master at TERMINAL_FD."""
    master, slave = terminal.open_pair()
    if process.console_size is not None:
        terminal.set_size(master, *process.console_size)
    terminal.set_controlling(slave)
    os.fchown(slave, process.user.uid, -1)  # its group stays the one that devpts gives
    if has_console:
        _bind_console(slave)
    for fd in range(ERROR_FD):
        os.dup2(slave, fd)
    os.close(slave)
    if master != TERMINAL_FD:
        os.dup2(master, TERMINAL_FD, inheritable=False)
        os.close(master)


def _bind_console(slave: int) -> None:
    """Let /dev/console be the terminal, as the OCI specification has it."""
    root_fd = open_path(AT_FDCWD, "/")
    target = open_target(root_fd, "/dev/console", directory=False, links=False)
    try:
        bind(slave, target, 0, recursive=False, step="bind the terminal on /dev/console")
    finally:
        os.close(target)
        os.close(root_fd)


def _enter_directory(cwd: str) -> None:
    try:
        os.chdir(cwd)
        # A directory outside of the root has no path in it: getcwd fails (CVE-2024-21626).
        os.getcwd()
    except OSError as error:
        hint = "it is missing, no directory, or outside of the container"
        step = f"enter the working directory {cwd}"
        raise KernelError(error.errno or 0, "chdir", step, hint) from None


def _set_credentials(process: Process, *, needs_admin: bool) -> list[str]:
    """Bounding set, user, the other sets, no_new_privs; returns what could not be given."""
    caps, user = process.capabilities, process.user
    own = kernel.capget().permitted
    bounding, inheritable = compute_mask(caps.bounding), compute_mask(caps.inheritable)
    permitted, ambient = compute_mask(caps.permitted), compute_mask(caps.ambient)
    missing = (bounding | inheritable | permitted | ambient) & ~own
    permitted, effective = permitted & own, compute_mask(caps.effective) & own & permitted
    inheritable, ambient = inheritable & own, ambient & own & inheritable & permitted
    if needs_admin and not process.no_new_privs:
        # seccomp(2) wants CAP_SYS_ADMIN. execve computes the sets anew from bounding, inheritable
        # and ambient, none of which holds it unless asked for, so the program does not get it.
        permitted |= 1 << kernel.CAP_SYS_ADMIN
        effective |= 1 << kernel.CAP_SYS_ADMIN
    kernel.drop_bounding(bounding)
    kernel.set_keep_capabilities(keep=True)
    kernel.set_user(user.uid, user.gid, user.groups)
    kernel.capset(kernel.CapabilitySets(effective, permitted, inheritable))
    kernel.set_ambient(ambient)
    os.umask(UMASK_DEFAULT if user.umask is None else user.umask)
    if process.no_new_privs:
        kernel.set_no_new_privs()
    names = ", ".join(list_names(missing))
    return [f"docklock itself lacks and cannot give: {names}"] if missing else []


def find_executable(process: Process) -> str:
    """The path of args[0], looked up along PATH; ExecError if it is missing or may not run."""
    name, number = process.args[0], errno.ENOENT
    for path in _list_candidates(name, process.env):
        fd = try_openat2(AT_FDCWD, path, os.O_PATH, RESOLVE_NO_MAGICLINKS)
        if fd < 0:
            number = -fd if fd in (-errno.EACCES, -errno.ELOOP) else number
            continue
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if stat.S_ISREG(mode) and os.access(path, os.X_OK):
            _check_interpreter(path, name)
            return path
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EACCES
    raise make_exec_error(name, number)


def _list_candidates(name: str, env: tuple[str, ...]) -> list[str]:
    if "/" in name:
        return [name]
    search = PATH_DEFAULT
    for entry in env:
        if entry.startswith("PATH="):
            search = entry[5:]
    return [f"{directory or '.'}/{name}" for directory in search.split(":")]


def _check_interpreter(path: str, name: str) -> None:
    """Refuse `#!/proc/self/exe` and its like, which would run the host's Python (CVE-2019-5736)."""
    for _ in range(SCRIPT_DEPTH_MAX):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            # Executable, but not readable: the kernel runs no script that it cannot read for us.
            return
        try:
            head = os.read(fd, SCRIPT_HEAD_BYTES)
        finally:
            os.close(fd)
        if not head.startswith(b"#!"):
            return
        words = head[2:].split(b"\n", 1)[0].split()
        path = os.fsdecode(words[0]) if words else ""
        fd = try_openat2(AT_FDCWD, path, os.O_PATH, RESOLVE_NO_MAGICLINKS)
        if fd < 0:
            raise make_exec_error(f"{name} (interpreter {path})", -fd)
        os.close(fd)


def make_exec_error(name: str, number: int) -> ExecError:
    """ExecError with a shell's exit code: 127 if there is no such file, else 126."""
    if number == errno.ENOENT:
        return ExecError(f"exec {name}: not found in the container", EXIT_NOT_FOUND)
    if number == errno.ELOOP:
        text = "a link of /proc, or a loop of links, is not executed"
    elif number == errno.EISDIR:
        text = "is a directory"
    else:
        text = os.strerror(number)
    return ExecError(f"exec {name}: {text}", EXIT_NOT_EXECUTABLE)


def encode_ready(warnings: list[str]) -> bytes:
    """What the child says once: R and its warnings, each behind a NUL."""
    return b"R" + "".join(f"\0{text}" for text in warnings).encode()


def encode_error(error: BaseException) -> bytes:
    """What the child says instead: X, exit code, text; or K, errno, call, step, hint."""
    if isinstance(error, KernelError):
        fields = ["K", str(error.errno), error.call, error.step, error.hint]
    elif isinstance(error, OSError):
        step = "prepare the container's process"
        fields = ["K", str(error.errno or errno.EIO), f"on {error.filename}", step, ""]
    else:
        fields = ["X", str(getattr(error, "exit_code", 1)), str(error)]
    return "\0".join(text.replace("\0", "?") for text in fields).encode(errors="backslashreplace")
