"""This machine's kernel takes the programs and does what they say."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import sys

import pytest

from docklock.policy.decision import Compiled
from docklock.policy.load import compile_source
from docklock.policy.machines import get_machine
from docklock.policy.shipped import list_profiles
from tests.policy.policies import compile_shipped, compile_text

MACHINE = os.uname().machine
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or MACHINE not in ("x86_64", "aarch64"),
    reason="programs are for Linux on x86_64 and aarch64",
)
libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def call(name: str, *args: int | None) -> int:
    """The call's errno, or 0."""
    numbers = get_machine(MACHINE).numbers
    values = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in args]
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(numbers[name], *values) == -1 else 0


def run_under(compiled: Compiled, calls: list[tuple]) -> list[int]:
    """Fork, install without a listener (so gated calls fail ENOSYS), make the calls."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            program = Program(len(compiled.program) // 8, compiled.program)
            seccomp = get_machine(MACHINE).numbers["seccomp"]
            if libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(program)) == -1:
                os.write(writer, bytes([255, ctypes.get_errno()]))
            else:
                os.write(writer, bytes(call(*one) for one in calls))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        got = list(file.read())
    assert os.waitpid(pid, 0)[1] == 0
    assert got[:1] != [255], f"the kernel refuses the program: {os.strerror(got[1])}"
    return got


@pytest.mark.parametrize("name", list_profiles())
def test_the_kernel_takes_the_program_and_closed_calls_fail(name) -> None:
    calls = [
        ("getpid",), ("io_uring_setup", 1, 0), ("clone3", 0, 0), ("seccomp", 1, 8, 0),
        ("close", 999), ("io_uring_enter", 0), ("io_uring_register", 0), ("dup", 999),
    ]  # fmt: skip
    got = run_under(compile_shipped(name, MACHINE), calls)
    assert got == [0, errno.ENOSYS, errno.ENOSYS, errno.EPERM, errno.EBADF,
                   errno.ENOSYS, errno.ENOSYS, errno.EBADF]  # fmt: skip


def test_gated_calls_without_a_listener_fail() -> None:
    calls = [("connect", 999, 0, 0), ("setuid", os.getuid()), ("keyctl", 0, 0)]
    assert run_under(compile_shipped("default", MACHINE), calls) == [errno.ENOSYS] * 3


def test_the_kernel_compares_registers_as_the_program_says() -> None:
    rules = b"""
  - syscalls: [socket]
    action: closed
    errno: EAGAIN
    when: {args: [{index: 0, op: "==", value: 1}]}
  - syscalls: [lseek]
    action: closed
    errno: EBUSY
    when: {args: [{index: 1, op: ">", value: 0x100000000}]}
  - {syscalls: [write, socket, lseek, close], action: allow}
"""
    calls = [
        ("socket", socket.AF_UNIX, 1, 0),
        ("socket", (1 << 32) | socket.AF_UNIX, 1, 0),
        ("socket", 9999, 1, 0),
        ("lseek", 999, 1 << 32, 0),
        ("lseek", 999, (1 << 32) + 1, 0),
        ("lseek", 999, 0xFFFFFFFF, 0),
        ("lseek", 999, 2 << 32, 0),
    ]
    assert run_under(compile_text(rules, MACHINE), calls) == [
        errno.EAGAIN, errno.EAGAIN, errno.EAFNOSUPPORT,
        errno.EBADF, errno.EBUSY, errno.EBADF, errno.EBUSY,
    ]  # fmt: skip


def get_calls() -> list[tuple]:
    """Each fails on its own: a bad descriptor, or a family that nobody has."""
    return [
        ("socket", socket.AF_INET, socket.SOCK_STREAM, 0), ("socket", socket.AF_UNIX, 1, 0),
        ("socket", socket.AF_INET, socket.SOCK_RAW, 0), ("sendto", 999, 0, 0, 0, 1, 16),
        ("sendto", 999, 0, 0, 0, 0, 0), ("sendmsg", 999, 0, 0), ("bind", 999, 0, 0),
        ("accept4", 999, 0, 0, 0), ("ptrace", 0xFFFF, 0, 0, 0),
    ]  # fmt: skip


GATED, BAD = errno.ENOSYS, errno.EBADF
ANSWERS = {
    # Without a listener a gated call fails with ENOSYS; one that is allowed fails on its own.
    "default": [0, 0, errno.EPROTONOSUPPORT, BAD, BAD, BAD, BAD, BAD, GATED],
    "strict": [0, 0, GATED, GATED, BAD, GATED, BAD, BAD, GATED],
    "network-service": [0, 0, GATED, BAD, BAD, BAD, GATED, BAD, GATED],
    "batch": [GATED, 0, GATED, GATED, BAD, GATED, BAD, BAD, GATED],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_kernel_does_what_each_profile_says(name) -> None:
    assert run_under(compile_shipped(name, MACHINE), get_calls()) == ANSWERS[name]


def call_i386(number: int) -> int:
    """The call by int 0x80, as a program of 32 bits makes it; its result, or minus the errno."""
    code = b"\x89\xf8\xcd\x80\xc3"  # mov eax, edi; int 0x80; ret
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(number)
    return result


@pytest.mark.skipif(MACHINE != "x86_64", reason="i386 runs on x86_64")
@pytest.mark.parametrize("is_asked", [False, True])
def test_the_kernel_lets_i386_in_when_it_is_asked_for(is_asked) -> None:
    getpid, chroot = 20, 61
    if call_i386(getpid) != os.getpid():
        pytest.skip("this kernel runs no programs of 32 bits")
    head = "architectures: [i386]\n" if is_asked else ""
    text = f"name: a\n{head}default: {{action: allow}}\n"
    text += "rules: [{syscalls: [chroot], action: closed, errno: EXDEV}]\n"
    compiled = compile_source(text.encode(), "a", MACHINE, ())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            program = Program(len(compiled.program) // 8, compiled.program)
            seccomp = get_machine(MACHINE).numbers["seccomp"]
            assert libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(program)) == 0
            results = (call_i386(getpid) == os.getpid(), -call_i386(chroot))
            os.write(writer, bytes(results))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        got = list(file.read())
    assert os.waitpid(pid, 0)[1] == 0
    assert got == ([1, errno.EXDEV] if is_asked else [0, errno.ENOSYS])
