"""System calls fail with their name and a remedy; numbers are those of the kernel's headers."""

from __future__ import annotations

import errno
import os
import struct
import threading
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock import enter
from docklock.become import encode_error, make_exec_error
from docklock.defaults import default_spec
from docklock.enter import parse_child_error
from docklock.errors import KernelError
from docklock.kernel import mount, process, seccomp
from docklock.kernel.call import get_address, make_string_array
from docklock.kernel.numbers import BY_NAME
from docklock.plan import build_plan

HEADERS = (
    (0, Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")),
    (1, Path("/usr/include/asm-generic/unistd.h")),
)


@pytest.mark.parametrize(("column", "header"), HEADERS)
def test_numbers_are_the_headers(column: int, header: Path) -> None:
    if not header.exists():
        pytest.skip(f"{header} is not installed (linux-libc-dev)")
    numbers = {}
    for line in header.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[1].startswith("__NR") and words[2].isdigit():
            name = words[1].removeprefix("__NR3264_").removeprefix("__NR_")
            numbers[name] = int(words[2])
    known = {name: both for name, both in BY_NAME.items() if name in numbers}
    assert {name: both[column] for name, both in known.items()} == {
        name: numbers[name] for name in known
    }
    assert len(known) >= len(BY_NAME) - 2


def test_an_error_names_call_step_and_remedy() -> None:
    with pytest.raises(KernelError) as caught:
        process.setns(-1, 0, "join nothing")
    assert caught.value.errno == errno.EBADF
    assert str(caught.value) == "join nothing: setns: Bad file descriptor"
    with pytest.raises(KernelError, match="symbolic link stands where"):
        mount.openat2(-100, "/proc/self/exe", os.O_PATH, mount.RESOLVE_NO_SYMLINKS)
    with pytest.raises(KernelError, match="lib"):
        mount.umount2("/lib/nowhere")


def test_a_page_of_mount_options_is_the_limit(need_root: None) -> None:
    with pytest.raises(KernelError) as caught:
        mount.mount("x", "/nowhere", "tmpfs", 0, "a" * 4096)
    assert caught.value.errno == errno.E2BIG


def test_capabilities_read_as_proc_says() -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.strip().split(":\t") for line in file if line.startswith("Cap"))
    sets = process.capget()
    assert f"{sets.permitted:016x}" == status["CapPrm"]
    assert f"{sets.effective:016x}" == status["CapEff"]
    assert f"{process.get_bounding():016x}" == status["CapBnd"]


def test_the_kernels_notifications_are_laid_out_as_here() -> None:
    seccomp.check_notif_sizes()
    assert seccomp.NOTIF.size == seccomp.NOTIF_SIZE_BYTES
    assert seccomp.get_listener_flags() & seccomp.FLAG_NEW_LISTENER


@pytest.mark.parametrize("size", [0, 7, 8 * 4097])
def test_a_filter_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(KernelError, match="a filter of"):
        seccomp.prepare_filter(bytes(size))


def test_a_string_array_is_what_execve_reads() -> None:
    strings = (b"a", b"", b"longer one")
    buffer = make_string_array(strings)
    base = get_address(buffer)
    *addresses, end = struct.unpack_from("=4Q", buffer)
    assert end == 0
    read = [buffer.raw[at - base : buffer.raw.index(b"\0", at - base)] for at in addresses]
    assert tuple(read) == strings


def test_what_the_child_says_arrives_whole() -> None:
    error = KernelError(errno.EPERM, "mount", "mount proc on /proc", "why")
    again = parse_child_error(encode_error(error))
    assert isinstance(again, KernelError)
    assert (again.errno, str(again)) == (errno.EPERM, str(error))
    code = parse_child_error(encode_error(make_exec_error("x", errno.ENOENT)))
    assert code is not None
    assert code.exit_code == 127
    assert parse_child_error(b"") is None


def test_a_process_with_threads_is_refused() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(StateError, match="threads"):
            enter.spawn(build_plan(default_spec(args=("true",)), "/nowhere"))
    finally:
        stop.set()
        thread.join()
