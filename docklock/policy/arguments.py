"""What each system call's six registers hold: their width, and which point at text worth a receipt.

One letter an argument: l 64 bits; i 32 bits; h 16 bits (umode_t); and pointers, 64 bits: p path,
s string, a argv, k socket address (its length is the next argument). The kernel looks at the low
bits only of a narrow argument, so a comparison of all 64 would be passed by by setting a high one:
socket(0x100000028) is AF_VSOCK. clone's flags are declared long and used as 32 bits
(kernel/fork.c, lower_32_bits). A call that is not here has 64-bit arguments and no text.

Source: the formats under events/syscalls of tracefs, Linux 6.18; those without one (module calls,
kexec, lookup_dcookie, map_shadow_stack) from their SYSCALL_DEFINE. Both machines share it.
"""

from __future__ import annotations

_TABLE = """
accept=ill accept4=illi access=pi acct=p add_key=sslli adjtimex=l alarm=i arch_prctl=il bind=iki
bpf=ili brk=l cachestat=illi capget=ll capset=ll chdir=p chmod=ph chown=pii chroot=p
clock_adjtime=il clock_getres=il clock_gettime=il clock_nanosleep=iill clock_settime=il
clone=illll clone3=ll close=i close_range=iii connect=iki copy_file_range=ililli creat=ph
delete_module=si dup=i dup2=ii dup3=iii epoll_create=i epoll_create1=i epoll_ctl=iiil
epoll_pwait=iliill epoll_pwait2=ililll epoll_wait=ilii eventfd=i eventfd2=ii execve=pal
execveat=ipali exit=i exit_group=i faccessat=ipi faccessat2=ipii fadvise64=illi fallocate=iill
fanotify_init=ii fanotify_mark=iilip fchdir=i fchmod=ih fchmodat=iph fchmodat2=iphi fchown=iii
fchownat=ipiii fcntl=iil fdatasync=i fgetxattr=isll finit_module=isi flistxattr=ill flock=ii fork=
fremovexattr=is fsconfig=iisli fsetxattr=islli fsmount=iii fsopen=si fspick=ipi fstat=il
fstatfs=il fsync=i ftruncate=il futex=liilli futex_requeue=liii futex_wait=lllili
futex_waitv=liili futex_wake=llii futimesat=ipl get_mempolicy=lllll get_robust_list=ill
get_thread_area=l getcpu=lll getcwd=ll getdents=ili getdents64=ili getegid= geteuid= getgid=
getgroups=il getitimer=il getpeername=ill getpgid=i getpgrp= getpid= getppid= getpriority=ii
getrandom=lli getresgid=lll getresuid=lll getrlimit=il getrusage=il getsid=i getsockname=ill
getsockopt=iiill gettid= gettimeofday=ll getuid= getxattr=psll init_module=lls
inotify_add_watch=ipi inotify_init= inotify_init1=i inotify_rm_watch=ii io_cancel=lll io_destroy=l
io_getevents=lllll io_pgetevents=llllll io_setup=il io_submit=lll io_uring_enter=iiiill
io_uring_register=iili io_uring_setup=il ioctl=iil ioperm=lli iopl=i ioprio_get=ii ioprio_set=iii
kcmp=iiill kexec_file_load=iilsl kexec_load=llll keyctl=illll kill=ii landlock_add_rule=iili
landlock_create_ruleset=lli landlock_restrict_self=ii lchown=pii lgetxattr=psll link=pp
linkat=ipipi listen=ii listmount=llli listxattr=pll llistxattr=pll lookup_dcookie=lll
lremovexattr=ps lseek=ili lsetxattr=pslli lsm_get_self_attr=illi lsm_list_modules=lli
lsm_set_self_attr=ilii lstat=pl madvise=lli map_shadow_stack=lli mbind=llllli membarrier=iii
memfd_create=si memfd_secret=i migrate_pages=illl mincore=lll mkdir=ph mkdirat=iph mknod=phi
mknodat=iphi mlock=ll mlock2=lli mlockall=i mmap=llllll modify_ldt=ill mount=ppsll
mount_setattr=ipill move_mount=ipipi move_pages=illlli mprotect=lll mq_getsetattr=ill mq_notify=il
mq_open=sihl mq_timedreceive=illll mq_timedsend=illil mq_unlink=s mremap=lllll mseal=lll
msgctl=iil msgget=ii msgrcv=illli msgsnd=illi msync=lli munlock=ll munlockall= munmap=ll
name_to_handle_at=iplli nanosleep=ll newfstatat=ipli open=pih open_by_handle_at=ili open_tree=ipi
openat=ipih openat2=ipll pause= perf_event_open=liiil personality=i pidfd_getfd=iii pidfd_open=ii
pidfd_send_signal=iili pipe=l pipe2=li pivot_root=pp pkey_alloc=ll pkey_free=i pkey_mprotect=llli
poll=lii ppoll=lilll prctl=illll pread64=illl preadv=lllll preadv2=llllli prlimit64=iill
process_madvise=illii process_mrelease=ii process_vm_readv=illlll process_vm_writev=illlll
pselect6=illlll ptrace=llll pwrite64=illl pwritev=lllll pwritev2=llllli quotactl=ipil
quotactl_fd=iiil read=ill readahead=ill readlink=pli readlinkat=ipli readv=lll reboot=iiil
recvfrom=illill recvmmsg=iliil recvmsg=ili remap_file_pages=lllll removexattr=ps rename=pp
renameat=ipip renameat2=ipipi request_key=sssi restart_syscall= rmdir=p rseq=liii
rt_sigaction=illl rt_sigpending=ll rt_sigprocmask=illl rt_sigqueueinfo=iil rt_sigreturn=
rt_sigsuspend=ll rt_sigtimedwait=llll rt_tgsigqueueinfo=iiil sched_get_priority_max=i
sched_get_priority_min=i sched_getaffinity=iil sched_getattr=ilii sched_getparam=il
sched_getscheduler=i sched_rr_get_interval=il sched_setaffinity=iil sched_setattr=ili
sched_setparam=il sched_setscheduler=iil sched_yield= seccomp=iil select=illll semctl=iiil
semget=iii semop=ili semtimedop=ilil sendfile=iill sendmmsg=ilii sendmsg=ili sendto=illiki
set_mempolicy=ill set_mempolicy_home_node=llll set_robust_list=ll set_thread_area=l
set_tid_address=l setdomainname=li setfsgid=i setfsuid=i setgid=i setgroups=il sethostname=li
setitimer=ill setns=ii setpgid=ii setpriority=iii setregid=ii setresgid=iii setresuid=iii
setreuid=ii setrlimit=il setsid= setsockopt=iiili settimeofday=ll setuid=i setxattr=pslli
shmat=ili shmctl=iil shmdt=l shmget=ili shutdown=ii sigaltstack=ll signalfd=ill signalfd4=illi
socket=iii socketpair=iiil splice=ililli stat=pl statfs=pl statmount=llli statx=ipiil swapoff=p
swapon=pi symlink=pp symlinkat=pip sync= sync_file_range=illi syncfs=i sysfs=ill sysinfo=l
syslog=ili tee=iili tgkill=iii time=l timer_create=ill timer_delete=i timer_getoverrun=i
timer_gettime=il timer_settime=iill timerfd_create=ii timerfd_gettime=il timerfd_settime=iill
times=l tkill=ii truncate=pl umask=i umount2=pi uname=l unlink=p unlinkat=ipi unshare=l uselib=p
userfaultfd=i ustat=il utime=ll utimensat=ipli utimes=ll vfork= vhangup= vmsplice=illi wait4=ilil
waitid=iilil write=ill writev=lll
"""

SIGNATURES: dict[str, str] = {
    name: signature for name, _, signature in (row.partition("=") for row in _TABLE.split())
}
WIDTHS = {"h": 0xFFFF, "i": 0xFFFFFFFF}
FULL_WIDTH = 0xFFFFFFFFFFFFFFFF
KINDS = {"a": "argv", "k": "sockaddr", "p": "path", "s": "string"}


def get_width(name: str, index: int) -> int:
    """The mask of the bits of argument `index` at which the kernel looks."""
    signature = SIGNATURES.get(name, "")
    return WIDTHS.get(signature[index], FULL_WIDTH) if index < len(signature) else FULL_WIDTH


def get_argument_count(name: str) -> int:
    """How many arguments the call takes; 6 where nobody told us."""
    return len(SIGNATURES[name]) if name in SIGNATURES else 6


def get_strings(name: str) -> dict[str, tuple[int, str]]:
    """What a receipt of this call reads from memory: name to (argument, kind), by argument.

    The name is the kind; a second one of its kind has its argument's number, as in path, path1.
    """
    found: dict[str, tuple[int, str]] = {}
    for i, letter in enumerate(SIGNATURES.get(name, "")):
        if letter in KINDS:
            kind = KINDS[letter]
            found[f"{kind}{i}" if kind in found else kind] = (i, kind)
    return found
