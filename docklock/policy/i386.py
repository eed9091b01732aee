"""What each system call of i386 is on x86_64, so that a policy's rules on names hold for both.

Not here: numbers (syscalls_i386.py), rules (compile.py). Pure, plain data.
A rule on `setuid` also decides i386's setuid32, a rule on `connect` also socketcall(SYS_CONNECT):
else a program would pass a rule by by another spelling of the same call. `name=other:index` says
that from argument `index` on, i386's registers are not those of `other` (64 bits in two registers,
a structure in memory, 16-bit user ids, another order), so a comparison of them cannot be made.
Source: Linux arch/x86/entry/syscalls/syscall_32.tbl, arch/x86/kernel/sys_ia32.c, kernel/uid16.c,
net/socket.c (SYS_*), ipc/syscall.c; checked call by call against their SYSCALL_DEFINE.
"""

from __future__ import annotations

from typing import NamedTuple

SAME = 6  # every argument is the other's

_TABLE = """
_llseek=lseek:1 _newselect=select chown32=chown clock_adjtime64=clock_adjtime
clock_getres_time64=clock_getres clock_gettime64=clock_gettime
clock_nanosleep_time64=clock_nanosleep clock_settime64=clock_settime fadvise64_64=fadvise64:1
fchown32=fchown fcntl64=fcntl fstat64=fstat fstatat64=newfstatat fstatfs64=fstatfs:1
ftime=gettimeofday:0 ftruncate64=ftruncate:1 futex_time64=futex getegid32=getegid
geteuid32=geteuid getgid32=getgid getgroups32=getgroups getresgid32=getresgid
getresuid32=getresuid getuid32=getuid io_pgetevents_time64=io_pgetevents lchown32=lchown
lstat64=lstat mmap2=mmap:5 mq_timedreceive_time64=mq_timedreceive
mq_timedsend_time64=mq_timedsend nice=setpriority:0 oldfstat=fstat oldlstat=lstat
oldolduname=uname oldstat=stat olduname=uname ppoll_time64=ppoll pselect6_time64=pselect6
readdir=getdents:2 recvmmsg_time64=recvmmsg rt_sigtimedwait_time64=rt_sigtimedwait
sched_rr_get_interval_time64=sched_rr_get_interval semtimedop_time64=semtimedop
sendfile64=sendfile setfsgid32=setfsgid setfsuid32=setfsuid setgid32=setgid setgroups32=setgroups
setregid32=setregid setresgid32=setresgid setresuid32=setresuid setreuid32=setreuid
setuid32=setuid sgetmask=rt_sigprocmask:0 sigaction=rt_sigaction signal=rt_sigaction:1
sigpending=rt_sigpending sigprocmask=rt_sigprocmask sigreturn=rt_sigreturn
sigsuspend=rt_sigsuspend:0 ssetmask=rt_sigprocmask:0 stat64=stat statfs64=statfs:1
stime=settimeofday:0 timer_gettime64=timer_gettime timer_settime64=timer_settime
timerfd_gettime64=timerfd_gettime timerfd_settime64=timerfd_settime truncate64=truncate:1
ugetrlimit=getrlimit umount=umount2:1 utimensat_time64=utimensat waitpid=wait4:3

chown=chown:1 clone=clone:3 fadvise64=fadvise64:1 fallocate=fallocate:2
fanotify_mark=fanotify_mark:2 fchown=fchown:1 ftruncate=ftruncate:1 lchown=lchown:1
lookup_dcookie=lookup_dcookie:0 lseek=lseek:1 mmap=mmap:0 pread64=pread64:3 preadv=preadv:3
preadv2=preadv2:3 pwrite64=pwrite64:3 pwritev=pwritev:3 pwritev2=pwritev2:3 readahead=readahead:1
select=select:0 setfsgid=setfsgid:0 setfsuid=setfsuid:0 setgid=setgid:0 setregid=setregid:0
setresgid=setresgid:0 setresuid=setresuid:0 setreuid=setreuid:0 setuid=setuid:0
sync_file_range=sync_file_range:1 truncate=truncate:1
"""


class Counterpart(NamedTuple):
    """The x86_64 call that does the same; arguments below `changed` are in the same registers."""

    name: str
    changed: int


class Multiplexer(NamedTuple):
    """A call whose argument 0, in the bits of `mask`, says which call it is; the rest is memory."""

    mask: int
    calls: dict[int, str]


_COUNTERPARTS: dict[str, Counterpart] = {}
for _row in _TABLE.split():
    _name, _, _rest = _row.partition("=")
    _other, _, _changed = _rest.partition(":")
    _COUNTERPARTS[_name] = Counterpart(_other, int(_changed or SAME))

_SOCKET_CALLS = (
    "socket bind connect listen accept getsockname getpeername socketpair sendto recvfrom sendto"
    " recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
MULTIPLEXERS: dict[str, Multiplexer] = {
    "ipc": Multiplexer(
        0xFFFF,
        {
            **dict(enumerate("semop semget semctl semtimedop".split(), 1)),
            **dict(enumerate("msgsnd msgrcv msgget msgctl".split(), 11)),
            **dict(enumerate("shmat shmdt shmget shmctl".split(), 21)),
        },
    ),
    "socketcall": Multiplexer(0xFFFFFFFF, dict(enumerate(_SOCKET_CALLS.split(), 1))),
}


def get_counterpart(name: str) -> Counterpart:
    """What i386's call `name` is on x86_64; itself where nothing else is known."""
    return _COUNTERPARTS.get(name, Counterpart(name, SAME))
