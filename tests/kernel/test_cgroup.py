"""Limits hold, everything can be frozen, killed and removed, and errors name what to change."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docklock.block_io import BlockLimit
from docklock.cgroup import driver
from docklock.cgroup.devices import assemble_v2_program, compute_v1_settings
from docklock.cgroup.hierarchy import choose_hierarchies, detect_hierarchies, parse_hierarchies
from docklock.cgroup.limits import compute_settings
from docklock.defaults import ALL_DEVICES, DEFAULT_DEVICE_RULES
from docklock.errors import KernelError
from docklock.kernel.bpf import attach_device_program, load_device_program
from docklock.spec import DeviceRule, Resources

HYBRID = """4:memory:/host/shell
3:cpu,cpuacct:/
2:name=systemd:/
1:pids:/
0::/user.slice
"""
HYBRID_MOUNTS = """\
30 25 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:32 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,pids
35 30 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.fixture
def name(need_root: None) -> Iterator[str]:
    made = f"test-{uuid.uuid4().hex}"
    yield made
    left = driver.find_cgroup(made)
    if left is not None:
        left.kill()
        left.delete()


@pytest.fixture
def make(name: str) -> Any:
    def create(resources: Resources) -> driver.Cgroup:
        cgroup = driver.locate_for(name, resources)
        driver.create(cgroup, resources)
        return cgroup

    return create


def run_in(cgroup: driver.Cgroup, line: str) -> subprocess.Popen[bytes]:
    """A shell that enters the cgroup first, as a container's first process does.

    That one is cloned into its v2 directory; here, a process that exists is moved.
    """
    code = (
        "import os,sys;from docklock.cgroup.driver import Cgroup;"
        f"cgroup=Cgroup({cgroup.name!r},{cgroup.dirs!r});cgroup.enter();"
        "path=cgroup.unified;path and open(path+'/cgroup.procs','w').write('0');"
        "os.execv('/bin/sh',['sh','-c',sys.argv[1]])"
    )
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", code, line],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_a_hybrid_host_is_read_and_not_guessed() -> None:
    found = parse_hierarchies(HYBRID, HYBRID_MOUNTS, lambda _: "hugetlb rdma\n")
    chosen = {h.name: names for h, names in choose_hierarchies(found)}
    assert chosen == {
        "pids": ("pids",),
        "memory": ("memory",),
        "cpu,cpuacct": ("cpu", "cpuacct"),
        "unified": ("devices", "freezer"),
    }
    bases = {h.name: h.base for h in found}
    assert bases["memory"] == "/sys/fs/cgroup/memory/host/shell"
    assert bases["pids"] == "/sys/fs/cgroup/with space"
    assert bases["unified"] == "/sys/fs/cgroup/unified"


def test_a_pure_v2_host_needs_one_directory() -> None:
    mounts = "30 25 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    found = parse_hierarchies("0::/a.scope\n", mounts, lambda _: "cpu memory pids cpuset\n")
    ((hierarchy, names),) = choose_hierarchies(found)
    assert hierarchy.base == "/sys/fs/cgroup"
    assert set(names) == {"pids", "memory", "cpu", "cpuacct", "devices", "freezer"}


def test_settings_are_those_of_the_specification() -> None:
    resources = Resources(1000, 500, 3000, 1024, 50_000, None, "0-1", "", 0)
    assert [(s.file, s.value) for s in compute_settings(resources, 1)] == [
        ("memory.limit_in_bytes", "1000"),
        ("memory.soft_limit_in_bytes", "500"),
        ("memory.memsw.limit_in_bytes", "3000"),
        ("cpu.shares", "1024"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("pids.max", "max"),
        ("cpuset.cpus", "0-1"),
    ]
    assert [(s.file, s.value) for s in compute_settings(resources, 2)] == [
        ("memory.max", "1000"),
        ("memory.low", "500"),
        ("memory.swap.max", "2000"),
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "max"),
        ("cpuset.cpus", "0-1"),
    ]


BLOCK = Resources(
    blkio_weight=505,
    blkio_devices=(
        BlockLimit("read_bps", 8, 0, 1 << 20),
        BlockLimit("write_iops", 8, 0, 30),
        BlockLimit("weight", 8, 16, 10),
    ),
)


def test_block_io_has_other_files_in_each_version() -> None:
    assert [(s.file, s.value) for s in compute_settings(BLOCK, 1)] == [
        ("blkio.bfq.weight", "505"),
        ("blkio.bfq.weight_device", "8:16 10"),
        ("blkio.throttle.read_bps_device", "8:0 1048576"),
        ("blkio.throttle.write_iops_device", "8:0 30"),
    ]
    found = compute_settings(BLOCK, 2)
    assert [(s.file, s.value) for s in found] == [
        ("io.bfq.weight", "505"),
        ("io.bfq.weight", "8:16 10"),
        ("io.max", "8:0 rbps=1048576"),
        ("io.max", "8:0 wiops=30"),
    ]
    assert [s.instead for s in found[:2]] == [("io.weight", "5000"), ("io.weight", "8:16 1")]
    assert {s.controller for version in (1, 2) for s in compute_settings(BLOCK, version)} == {
        "blkio"
    }


def test_the_other_file_is_taken_where_the_kernel_has_not_the_first(tmp_path: Path) -> None:
    (weight, *_) = compute_settings(BLOCK, 2)
    assert driver.choose_file(weight, str(tmp_path)) == ("blkio", "io.weight", "5000")
    (tmp_path / "io.bfq.weight").touch()
    assert driver.choose_file(weight, str(tmp_path)) == ("blkio", "io.bfq.weight", "505")


def test_v2_calls_the_controller_io() -> None:
    mounts = "30 25 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    found = parse_hierarchies("0::/a.scope\n", mounts, lambda _: "cpu io memory pids\n")
    ((_, names),) = choose_hierarchies(found, ("pids", "blkio"))
    assert names == ("pids", "blkio")


def test_limits_are_in_the_kernel_and_nothing_stays(make: Any, name: str) -> None:
    resources = Resources(
        memory_max_bytes=64 << 20, cpu_quota_us=50_000, pids_max=9, devices=DEFAULT_DEVICE_RULES
    )
    cgroup = make(resources)
    assert name in driver.list_cgroups()
    assert driver.find_cgroup(name) is not None
    texts = {
        path: Path(f"{directory}/{path}").read_text().strip()
        for _, directory in cgroup.dirs
        for path in os.listdir(directory)
        if path in ("memory.limit_in_bytes", "memory.max", "pids.max", "devices.list")
    }
    assert str(64 << 20) in texts.values()
    assert texts["pids.max"] == "9"
    assert "c 1:3 rwm" in texts.get("devices.list", "c 1:3 rwm")
    cgroup.delete()
    assert not cgroup.exists()
    assert driver.find_cgroup(name) is None
    cgroup.delete()


def test_a_process_is_counted_frozen_and_killed(make: Any) -> None:
    cgroup = make(Resources(pids_max=20))
    with run_in(cgroup, "sleep 100 & sleep 100 & echo up; wait") as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        assert len(cgroup.list_pids()) == 3
        assert cgroup.stat().pids == 3
        assert cgroup.stat().cpu_ns > 0
        assert cgroup.stat().memory_bytes > 0
        cgroup.freeze()
        cgroup.freeze()
        cgroup.kill()
        assert shell.wait() == -9
    assert cgroup.list_pids() == ()
    assert cgroup.count_events() == (0, 0)


def test_a_fork_bomb_is_held_and_killed(make: Any) -> None:
    cgroup = make(Resources(pids_max=20))
    with run_in(cgroup, "echo up; f() { f | f & }; f; f; f; sleep 100") as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        assert cgroup.stat().pids <= 20
        cgroup.kill()
        shell.wait()
    assert cgroup.list_pids() == ()
    cgroup.delete()


def test_nested_cgroups_of_the_container_go_too(make: Any) -> None:
    cgroup = make(Resources())
    for _, path in cgroup.dirs:
        os.makedirs(f"{path}/a/b")
    cgroup.delete()
    assert not cgroup.exists()


def test_an_eater_of_memory_is_killed_and_said(make: Any) -> None:
    cgroup = make(Resources(memory_max_bytes=16 << 20))
    line = f"exec {sys.executable} -c 'x = bytearray(64 << 20)'"
    with run_in(cgroup, line) as shell:
        shell.wait()
    assert shell.returncode == -9
    assert cgroup.count_events() == (1, 0)


def test_an_error_names_file_value_controller_and_remedy(make: Any, name: str) -> None:
    with pytest.raises(KernelError) as caught:
        make(Resources(cpu_quota_us=5))
    text = str(caught.value)
    assert "write '5'" in text or "write '5 100000'" in text
    assert "cpu.cfs_quota_us" in text or "cpu.max" in text
    assert "the cpu controller refuses this value" in text
    assert driver.find_cgroup(name) is None


def test_a_second_container_of_the_name_leaves_the_first_alone(make: Any, name: str) -> None:
    first = make(Resources())
    with pytest.raises(KernelError, match="still there"):
        make(Resources())
    assert first.exists()
    assert all(os.path.isdir(path) for _, path in first.dirs)


def test_a_cpuset_gets_its_parents_memory_nodes(make: Any) -> None:
    if not any("cpuset" in hierarchy.controllers for hierarchy in detect_hierarchies()):
        pytest.skip("this host's cgroups have no cpuset controller")
    cgroup = make(Resources(cpuset_cpus="0"))
    with run_in(cgroup, "grep Cpus_allowed_list /proc/self/status") as shell:
        output, _ = shell.communicate()
    assert output.split()[-1] == b"0"


def run_device_program(code: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """An interpreter of the few BPF instructions that the assembler uses."""
    memory = {0: access << 16 | kind, 4: major, 8: minor}
    registers, at = {1: 0}, 0
    while True:
        opcode, both, offset, value = struct.unpack_from("<BBhi", code, at * 8)
        to, source = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[to] = memory[offset]
        elif opcode in (0xB4, 0xBC):
            registers[to] = value if opcode == 0xB4 else registers[source]
        elif opcode == 0x54:
            registers[to] &= value
        elif opcode == 0x74:
            registers[to] >>= value
        elif opcode in (0x56, 0x16):
            at += offset if (registers[to] == value) == (opcode == 0x16) else 0
        else:
            assert opcode == 0x95
            return registers[0]


def is_allowed(
    rules: tuple[DeviceRule, ...], kind: str, access: str, numbers: tuple[int, int]
) -> bool:
    """What the rules mean: the last that matches decides."""
    verdict = False
    for rule in rules:
        asked, named = set(access), set(rule.access)
        hit = rule.kind == "a" or (
            rule.kind == kind
            and rule.major in (-1, numbers[0])
            and rule.minor in (-1, numbers[1])
            and (asked <= named if rule.allow else bool(asked & named))
        )
        verdict = rule.allow if hit else verdict
    return verdict


@pytest.mark.parametrize(
    "rules",
    [
        DEFAULT_DEVICE_RULES,
        ALL_DEVICES,
        (),
        (*ALL_DEVICES, DeviceRule(allow=False, kind="c", major=1, minor=-1, access="w")),
    ],
)
def test_the_device_program_means_what_the_rules_mean(rules: tuple[DeviceRule, ...]) -> None:
    code = assemble_v2_program(rules)
    for kind, number in (("b", 1), ("c", 2)):
        for access, bits in (("m", 1), ("r", 2), ("w", 4), ("rw", 6), ("rwm", 7)):
            for major, minor in ((1, 3), (1, 4), (5, 2), (5, 9), (136, 7), (8, 0)):
                got = run_device_program(code, number, bits, major, minor)
                assert got == is_allowed(rules, kind, access, (major, minor))


def test_v1_lines_are_those_of_the_kernel() -> None:
    settings = [one[:3] for one in compute_v1_settings(DEFAULT_DEVICE_RULES)]
    assert settings[0] == ("devices", "devices.deny", "a")
    assert settings[1] == ("devices", "devices.allow", "c *:* m")
    assert ("devices", "devices.allow", "c 136:* rwm") in settings


def test_the_kernel_takes_the_device_program(need_root: None, name: str) -> None:
    trees = [h for h in detect_hierarchies() if h.version == 2]
    if not trees:
        pytest.skip("this host has no v2 tree")
    directory = f"{trees[0].mountpoint}/docklock/{name}"
    os.makedirs(directory)
    program = load_device_program(assemble_v2_program(DEFAULT_DEVICE_RULES))
    try:
        attach_device_program(directory, program)
        cgroup = driver.Cgroup(name, (("unified", directory),))
        line = "cat /dev/null && echo null; head -c0 /dev/kmsg && echo kmsg; echo end"
        with subprocess.Popen(
            ["sh", "-c", f"echo $$ > {directory}/cgroup.procs; {line}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as shell:
            output, _ = shell.communicate()
        assert output.split() == [b"null", b"end"]
        cgroup.delete()
    finally:
        os.close(program)


V2_LIFE = """
import os, sys, time
from docklock.cgroup.driver import Cgroup
from docklock.kernel.process import clone3
cgroup = Cgroup(sys.argv[1], (("unified", sys.argv[2]),))
fd = cgroup.open_for_clone()
child = clone3(0, cgroup_fd=fd)
if child.pid == 0:
    time.sleep(100)
    os._exit(0)
assert cgroup.list_pids() == (child.pid,), cgroup.list_pids()
assert cgroup.stat().cpu_ns >= 0
cgroup.freeze()
cgroup.thaw()
cgroup.freeze()
cgroup.kill()
assert os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED).si_status == 9
assert cgroup.list_pids() == ()
cgroup.delete()
assert not cgroup.exists()
"""


def test_a_v2_directory_is_cloned_into_frozen_killed_and_removed(
    need_root: None, name: str
) -> None:
    trees = [h for h in detect_hierarchies() if h.version == 2]
    if not trees:
        pytest.skip("this host has no v2 tree")
    directory = f"{trees[0].mountpoint}/docklock/{name}"
    os.makedirs(directory)
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", V2_LIFE, name, directory],
        check=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": root},
    )
