"""Processes, namespaces, credentials and capabilities: one function per system call.

Not here: mounts (kernel.mount), filters (kernel.seccomp), the order in which a container's first
process does these things (docklock.enter). Source: clone(2), capabilities(7), pidfd_open(2).
"""

from __future__ import annotations

import struct

from chainlite.lean import NamedTuple
from docklock.kernel.call import (
    fork_hooks,
    get_address,
    make_buffer,
    make_error,
    make_string_array,
    syscall,
    try_syscall,
)

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_INTO_CGROUP = 0x200000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

SIGKILL = 9
SIGTERM = 15
SIGCHLD = 17
_SIG_SETMASK = 2
_SIGNAL_MAX = 64
_EINVAL = 22
_CAP_VERSION_3 = 0x20080522
_CLONE_ARGS = struct.Struct("=11Q")
_CAP_HEADER = struct.Struct("=Ii")
_CAP_DATA = struct.Struct("=6I")

CAP_SYS_ADMIN = 21


class CapabilitySets(NamedTuple):
    """Bit masks; bit n is capability n."""

    effective: int
    permitted: int
    inheritable: int


class Cloned(NamedTuple):
    """What clone3 returned: pid 0 in the child, which has no pidfd."""

    pid: int
    pidfd: int


def clone3(flags: int, *, cgroup_fd: int = -1, step: str = "clone the process") -> Cloned:
    """Fork as fork(2) does, with namespaces and a pidfd, and into a cgroup if `cgroup_fd` >= 0.

    The process must have one thread. With CLONE_PARENT the exit signal is the parent's.
    """
    pidfd = make_buffer(struct.pack("=i", -1))
    wanted = flags | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0)
    exit_signal = 0 if flags & CLONE_PARENT else SIGCHLD
    args = make_buffer(
        _CLONE_ARGS.pack(
            wanted, get_address(pidfd), 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0)
        )
    )
    before, after_parent, after_child = fork_hooks()
    before()
    pid = try_syscall("clone3", args, _CLONE_ARGS.size)
    if pid == 0:
        after_child()
        return Cloned(0, -1)
    after_parent()
    if pid < 0:
        raise make_error(-pid, "clone3", step)
    return Cloned(pid, struct.unpack("=i", pidfd.raw)[0])


def unshare(flags: int, step: str = "leave a namespace") -> None:
    """Enter new namespaces."""
    syscall("unshare", step, flags)


def setns(fd: int, flags: int, step: str = "join a namespace") -> None:
    """Join one namespace by its file, or those of `flags` at once by a pidfd."""
    syscall("setns", step, fd, flags)


def pidfd_open(pid: int, step: str = "open the process") -> int:
    """A descriptor for `pid`, close-on-exec."""
    return syscall("pidfd_open", step, pid, 0)


def pidfd_send_signal(pidfd: int, signal: int, step: str = "signal the process") -> None:
    """Send `signal` to the process and to no other that may have got its pid."""
    syscall("pidfd_send_signal", step, pidfd, signal, 0, 0)


def pidfd_getfd(pidfd: int, fd: int, step: str = "take a descriptor of the process") -> int:
    """A duplicate, close-on-exec, of descriptor `fd` of another process."""
    return syscall("pidfd_getfd", step, pidfd, fd, 0)


def prctl(option: int, a: int = 0, b: int = 0, step: str = "set a process attribute") -> int:
    """prctl(2) with two arguments."""
    return syscall("prctl", step, option, a, b, 0, 0)


def set_death_signal(signal: int = SIGKILL) -> None:
    """Have the kernel send `signal` when the parent thread ends; a change of user clears it."""
    prctl(PR_SET_PDEATHSIG, signal, step="bind this process's life to its parent's")


def set_subreaper(*, is_one: bool) -> None:
    """Have descendants whose parents end become children of this process, or no longer."""
    prctl(PR_SET_CHILD_SUBREAPER, is_one, step="take over the orphans below this process")


def set_no_new_privs() -> None:
    """No execve of this process or its children will gain privileges."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, step="set no_new_privs")


def set_dumpable(*, dumpable: bool) -> None:
    """Allow or forbid others to trace this process; execve allows it again."""
    prctl(PR_SET_DUMPABLE, int(dumpable), step="set whether others may trace this process")


def capget() -> CapabilitySets:
    """This process's sets."""
    header = make_buffer(_CAP_HEADER.pack(_CAP_VERSION_3, 0))
    data = make_buffer(bytes(_CAP_DATA.size))
    syscall("capget", "read capabilities", header, data)
    e0, p0, i0, e1, p1, i1 = _CAP_DATA.unpack(data.raw)
    return CapabilitySets(e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32)


def capset(sets: CapabilitySets) -> None:
    """Set this process's three sets."""
    low, mask = [value & 0xFFFFFFFF for value in sets], 0xFFFFFFFF
    high = [value >> 32 & mask for value in sets]
    header = make_buffer(_CAP_HEADER.pack(_CAP_VERSION_3, 0))
    syscall("capset", "set capabilities", header, make_buffer(_CAP_DATA.pack(*low, *high)))


def get_bounding() -> int:
    """The bounding set as a bit mask."""
    mask = 0
    for number in range(64):
        held = try_syscall("prctl", PR_CAPBSET_READ, number)
        if held < 0:
            break
        mask |= held << number
    return mask


def drop_bounding(keep: int) -> None:
    """Drop every capability that is not in `keep` from the bounding set. Needs CAP_SETPCAP."""
    for number in range(64):
        if keep >> number & 1:
            continue
        result = try_syscall("prctl", PR_CAPBSET_DROP, number)
        if result == -_EINVAL:
            return
        if result < 0:
            raise make_error(-result, "prctl", "drop capabilities from the bounding set")


def set_keep_capabilities(*, keep: bool) -> None:
    """Keep the permitted set when the user changes from 0 to another."""
    prctl(PR_SET_KEEPCAPS, int(keep), step="keep capabilities over the change of user")


def set_ambient(mask: int) -> None:
    """Make the ambient set exactly `mask`, which has to be permitted and inheritable."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, step="clear ambient capabilities")
    for number in range(64):
        if mask >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, step="raise ambient capabilities")


def set_user(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Become uid:gid with exactly `groups`.

    By raw calls: glibc's wrappers would signal threads that a clone3 child does not have.
    """
    data = make_buffer(struct.pack(f"={len(groups)}I", *groups))
    syscall("setgroups", "set the supplementary groups", len(groups), data)
    syscall("setresgid", f"become group {gid}", gid, gid, gid)
    syscall("setresuid", f"become user {uid}", uid, uid, uid)


def sethostname(name: str) -> None:
    """Set the hostname of this UTS namespace."""
    data = name.encode()
    syscall("sethostname", f"set the hostname {name}", data, len(data))


def personality(persona: int) -> None:
    """Set the execution domain of this process."""
    syscall("personality", "set the execution domain", persona)


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close the descriptors first..last."""
    syscall("close_range", "close inherited descriptors", first, last, 0)


def reset_signals() -> None:
    """Give every signal its default action, none blocked: exec keeps what Python ignores."""
    # struct sigaction of both kernels: handler, flags, restorer, 64-bit mask; all zero is SIG_DFL.
    default = bytes(32)
    for number in range(1, _SIGNAL_MAX + 1):
        try_syscall("rt_sigaction", number, default, 0, 8)
    syscall("rt_sigprocmask", "unblock signals", _SIG_SETMASK, bytes(8), 0, 8)


class Image(NamedTuple):
    """The arguments of an execve, laid out beforehand so that the call alone is left to do."""

    path: bytes
    argv: object
    envp: object


def prepare_execve(path: bytes, args: tuple[bytes, ...], env: tuple[bytes, ...]) -> Image:
    """Lay out the arguments of an execve."""
    return Image(path, make_string_array(args), make_string_array(env))


def execve(image: Image) -> int:
    """Replace this process; returns the errno if that failed."""
    path, argv, envp = image
    return -try_syscall("execve", path, argv, envp)  # type: ignore[arg-type]
