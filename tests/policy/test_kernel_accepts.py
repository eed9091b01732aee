"""This machine's kernel takes the programs and does what they say."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys

import pytest

from docklock.policy.decision import Compiled
from docklock.policy.machines import get_machine
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


@pytest.mark.parametrize("name", ["default", "observe"])
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
