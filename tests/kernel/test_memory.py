"""What callers point to: strings at page ends, unreadable places, and after an execve."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
import time

import pytest

from docklock.kernel.memory import CHUNK_BYTES, KEPT_NS, PAGE_BYTES, CallerMemory

pytestmark = pytest.mark.usefixtures("need_root")


def get_address(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3000, PAGE_BYTES - 1, 5000])
def test_a_string_is_read_to_its_end_from_anywhere(kept: bool, length: int) -> None:
    mapped = mmap.mmap(-1, 4 * PAGE_BYTES)
    memory, tid = CallerMemory(may_keep=kept), os.getpid()
    text = bytes(65 + number % 26 for number in range(length))
    for offset in (0, 17, PAGE_BYTES - 1, PAGE_BYTES - length % PAGE_BYTES):
        mapped[:] = bytes(len(mapped))
        mapped[offset : offset + length] = text
        for _ in range(3):
            memory.look_at(tid, time.monotonic_ns())
            found = memory.read_string(tid, get_address(mapped) + offset, 4 * PAGE_BYTES)
            assert found == text
            assert memory.read_string(tid, get_address(mapped) + offset, 10) == text[:10]
    memory.forget()


@pytest.mark.parametrize("address", [0, 1, 2**63, 2**64 - 1, 0xFFFF800000000000])
def test_an_unreadable_address_is_none(address: int) -> None:
    memory = CallerMemory(may_keep=True)
    for _ in range(3):
        memory.look_at(os.getpid(), time.monotonic_ns())
        assert memory.read_string(os.getpid(), address, 100) is None
        assert memory.read_memory(os.getpid(), address, 100) == b""
    memory.forget()


def test_nobody_is_kept_for_long_or_after_forget() -> None:
    memory, tid = CallerMemory(may_keep=True), os.getpid()
    before = len(os.listdir("/proc/self/fd"))
    now = time.monotonic_ns()
    memory.look_at(tid, now)
    memory.look_at(tid, now)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    memory.look_at(tid + 1, now)
    assert len(os.listdir("/proc/self/fd")) == before
    memory.look_at(tid, now)
    memory.look_at(tid, now)
    memory.look_at(tid, now + KEPT_NS)
    memory.forget()
    assert len(os.listdir("/proc/self/fd")) == before


def test_after_an_execve_and_forget_it_is_the_new_programs_memory() -> None:
    code = "import os; os.write(1, b'.'); os.read(0, 1); os.execv('/bin/cat', ['cat'])"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.read(1)
        memory, old = CallerMemory(may_keep=True), find_base(process.pid)
        for _ in range(2):
            memory.look_at(process.pid, time.monotonic_ns())
        assert memory.read_string(process.pid, old, 4) == b"\x7fELF"
        memory.forget()
        process.stdin.write(b".")
        process.stdin.flush()
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(sys.executable):
            assert time.monotonic() < deadline
        for _ in range(2):
            memory.look_at(process.pid, time.monotonic_ns())
        assert find_base(process.pid) != old
        assert memory.read_string(process.pid, find_base(process.pid), 4) == b"\x7fELF"
        assert memory.read_string(process.pid, old, 4) is None
        memory.forget()
        process.stdin.close()


def find_base(pid: int) -> int:
    with open(f"/proc/{pid}/maps") as file:
        return int(file.readline().split("-")[0], 16)


def test_threads_do_not_read_each_others_strings() -> None:
    """Each gate has a buffer of its own."""
    texts = [bytes([65 + number]) * 200 for number in range(3)]
    places = [ctypes.create_string_buffer(text) for text in texts]
    wrong: list[bytes | None] = []

    def read(number: int) -> None:
        memory, address = CallerMemory(may_keep=False), ctypes.addressof(places[number])
        for _ in range(5000):
            found = memory.read_string(os.getpid(), address, 4096)
            if found != texts[number]:
                wrong.append(found)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
