"""Through the command line: limits change while a container runs and while it does not, and stay.

On hosts with v1 and with v2 controllers (tests/vm runs it on v2 alone).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock import client
from docklock.cgroup import driver
from docklock.cgroup.hierarchy import detect_hierarchies
from docklock.cgroup.limits import compute_settings
from docklock.paths import get_paths
from docklock.spec import Resources
from tests.e2e.conftest import Docklock
from tests.e2e.test_denied import read_denied
from tests.e2e.test_oci import bundle, runtime
from tests.e2e.test_watch import read_leaves
from tests.e2e.test_worker import of

__all__ = ["bundle"]

MIB = 1 << 20
WORDS = (
    "--memory 64m --memory-swap 96m --memory-reservation 32m --cpu-shares 512 --cpu-quota 40000"
    " --cpu-period 80000 --pids-limit 30"
).split()
LIMITS = Resources(
    memory_max_bytes=64 * MIB,
    memory_swap_bytes=96 * MIB,
    memory_low_bytes=32 * MIB,
    cpu_shares=512,
    cpu_quota_us=40_000,
    cpu_period_us=80_000,
    pids_max=30,
)
LABELS = {
    "memory": str(64 * MIB),
    "memory-swap": str(96 * MIB),
    "memory-reservation": str(32 * MIB),
    "cpu-shares": "512",
    "cpu-quota": "40000",
    "cpu-period": "80000",
    "pids-limit": "30",
}


def find_cgroup(dock: Docklock, name: str) -> driver.Cgroup:
    found = driver.find_cgroup(str(dock.inspect(name)["Id"]))
    assert found is not None
    return found


def read_limits(cgroup: driver.Cgroup, wanted: Resources) -> tuple[dict[str, str], dict[str, str]]:
    """What the kernel has in each file that `wanted` sets, and what it should have."""
    trees = {tree.name: tree for tree in detect_hierarchies()}
    found, expected = {}, {}
    for name, directory in cgroup.dirs:
        for one in compute_settings(wanted, trees[name].version):
            if one.controller in trees[name].controllers:
                found[one.file] = Path(directory, one.file).read_text().strip()
                expected[one.file] = one.value
    assert len(expected) >= len(compute_settings(wanted, 2))
    return found, expected


def check_limits(dock: Docklock, name: str, wanted: Resources) -> None:
    found, expected = read_limits(find_cgroup(dock, name), wanted)
    assert found == expected


def test_a_running_containers_limits_change_and_stay(dock: Docklock) -> None:
    dock("run", "-d", "--name", "live", "-m", "32m", "busybox", "sleep", "60")
    assert dock("update", *WORDS, "live").stdout == "live\n"
    check_limits(dock, "live", LIMITS)
    assert read_leaves(dock, "live", "update") == [LABELS]
    assert [receipt["labels"] for receipt in of(dock, "live", "runtime.update")] == [LABELS]
    dock("update", "--memory", "48m", "--cpus", "0.5", "live")
    changed = LIMITS._replace(memory_max_bytes=48 * MIB, cpu_quota_us=50_000, cpu_period_us=100_000)
    check_limits(dock, "live", changed)
    dock("stop", "-t", "0", "live")
    dock("start", "live")
    check_limits(dock, "live", changed)
    host = dock.inspect("live")["HostConfig"]
    assert isinstance(host, dict)
    assert (host["Memory"], host["PidsLimit"], host["CpuQuota"]) == (48 * MIB, 30, 50_000)
    dock("exec", "live", "true")
    dock("verify", "live")
    dock("rm", "-f", "live")


def test_a_stopped_containers_limits_hold_from_its_next_start(dock: Docklock) -> None:
    dock("create", "--name", "still", "busybox", "sleep", "60")
    dock("update", *WORDS, "--cpuset-cpus", "0", "still")
    assert read_leaves(dock, "still", "update") == [LABELS | {"cpuset-cpus": "0"}]
    dock("start", "still")
    check_limits(dock, "still", LIMITS._replace(cpuset_cpus="0"))
    dock("stop", "-t", "0", "still")
    dock("update", "--pids-limit", "-1", "still")
    dock("start", "still")
    check_limits(dock, "still", LIMITS._replace(cpuset_cpus="0", pids_max=-1))
    dock("rm", "-f", "still")


def test_run_names_limits_as_update_does(dock: Docklock) -> None:
    dock("run", "-d", "--name", "born", *WORDS, "--cpuset-cpus", "0", "busybox", "sleep", "60")
    check_limits(dock, "born", LIMITS._replace(cpuset_cpus="0"))
    dock("update", "--memory-swap", "-1", "--cpu-quota", "-1", "--pids-limit", "-1", "born")
    assert read_leaves(dock, "born", "update") == [
        {"memory-swap": "-1", "cpu-quota": "-1", "pids-limit": "-1"}
    ]
    found, _ = read_limits(find_cgroup(dock, "born"), Resources(pids_max=-1))
    assert found == {"pids.max": "max"}
    dock("rm", "-f", "born")


def test_what_the_kernel_refuses_changes_nothing(dock: Docklock) -> None:
    """The last of several limits is refused: the others are put back, on disk, too."""
    words = (*WORDS, "--cpuset-cpus", "0")
    dock("run", "-d", "--name", "firm", *words, "busybox", "sleep", "60")
    before, denied = dock.inspect("firm"), len(read_denied(dock))
    asked = "--memory 128m --memory-swap 256m --cpus 1 --pids-limit 99 --cpuset-cpus 4000".split()
    error = dock("update", *asked, "firm", code=1).stderr
    assert "cpuset.cpus" in error
    assert "refuses this value" in error
    check_limits(dock, "firm", LIMITS._replace(cpuset_cpus="0"))
    assert dock.inspect("firm") == before
    (leaf,) = read_denied(dock)[denied:]
    assert leaf["labels"] == {"request": "update", "why": "kernel", "code": "1"}
    assert leaf["container"] == before["Id"]
    (receipt,) = of(dock, "firm", "runtime.denied")
    assert receipt["labels"] == {"request": "update", "why": "kernel"}
    dock("rm", "-f", "firm")


def test_a_cpuset_for_a_container_that_has_none(dock: Docklock) -> None:
    """v1 makes one only when it is asked for at the start; v2 always has it."""
    dock("run", "-d", "--name", "none", "busybox", "sleep", "60")
    is_v2 = any(tree.version == 2 and "cpuset" in tree.controllers for tree in detect_hierarchies())
    result = dock("update", "--cpuset-cpus", "0", "none", code=0 if is_v2 else 1)
    if is_v2:
        check_limits(dock, "none", Resources(cpuset_cpus="0"))
    else:
        assert "started without cpuset: stop it, update it, start it" in result.stderr
        dock("stop", "-t", "0", "none")
        dock("update", "--cpuset-cpus", "0", "none")
        dock("start", "none")
        check_limits(dock, "none", Resources(cpuset_cpus="0"))
    dock("rm", "-f", "none")


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("update asked", 2, "you must provide one or more flags"),
        ("update --memory asked", 2, "expected [OPTIONS] CONTAINER..."),
        ("update --memory lots asked", 2, "give a size such as 64m"),
        ("update --cpu-shares 1 asked", 2, "from 2 to 262144"),
        ("update --cpu-period 10 asked", 2, "from 1000 to 1000000"),
        ("update --cpu-quota 10 asked", 2, "from 1000 to"),
        ("update --cpuset-cpus 3-1 asked", 2, "such as 0-2,5"),
        ("update --cpuset-mems all asked", 2, "such as 0-2,5"),
        ("update --cpus 1 --cpu-quota 2000 asked", 2, "Nano CPUs and CPU Quota cannot both be set"),
        ("update --memory-swap 64m asked", 2, "always set the Memory limit when using Memoryswap"),
        (
            "update --memory 64m --memory-swap 32m asked",
            2,
            "update the memoryswap at the same time",
        ),
        ("update --memory 64m --memory-reservation 65m asked", 2, "memory reservation limit"),
        ("update --memory 64m nobody", 1, "No such container: nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(dock: Docklock, line: str, code: int, text: str) -> None:
    names = dock("ps", "-a").stdout
    if "asked" not in names:
        dock("create", "--name", "asked", "busybox", "true")
    before = dock.inspect("asked")
    assert text in dock(*line.split(), code=code).stderr
    assert dock.inspect("asked") == before
    assert read_leaves(dock, "asked", "update") == []


def test_a_running_containers_restart_policy_changes_and_holds(dock: Docklock) -> None:
    """With a limit in one request; asked by the guard at the exit that comes after."""
    script = "until [ -e /tmp/go ]; do sleep 0.05; done; rm /tmp/go; exit 3"
    dock("run", "-d", "--name", "kept", "busybox", "sh", "-c", script)
    dock("update", "--restart", "on-failure:2", "--pids-limit", "44", "kept")
    assert find_policy(dock, "kept") == {"Name": "on-failure", "MaximumRetryCount": 2}
    check_limits(dock, "kept", Resources(pids_max=44))
    labels = {"pids-limit": "44", "restart": "on-failure:2"}
    assert read_leaves(dock, "kept", "update") == [labels]
    assert [receipt["labels"] for receipt in of(dock, "kept", "runtime.update")] == [labels]
    dock("exec", "kept", "touch", "/tmp/go")
    dock.wait_for(lambda: dock.inspect("kept")["RestartCount"] == 1)
    dock.wait_for(lambda: dock.inspect("kept")["State"]["Status"] == "running")  # type: ignore[index]
    dock("update", "--restart", "no", "kept")
    dock("exec", "kept", "touch", "/tmp/go")
    dock.wait_for(lambda: dock.inspect("kept")["State"]["Status"] == "exited")  # type: ignore[index]
    assert dock.inspect("kept")["RestartCount"] == 1
    dock("verify", "kept")
    dock("rm", "kept")


def test_a_stopped_containers_restart_policy_changes(dock: Docklock) -> None:
    dock("create", "--name", "calm", "busybox", "false")
    dock("update", "--restart", "unless-stopped", "calm")
    assert find_policy(dock, "calm")["Name"] == "unless-stopped"
    assert dock.inspect("calm")["State"]["Status"] == "created"  # type: ignore[index]
    assert read_leaves(dock, "calm", "update") == [{"restart": "unless-stopped"}]
    dock("start", "calm")
    dock.wait_for(lambda: dock.inspect("calm")["RestartCount"])
    dock("update", "--restart", "no", "calm")  # while it waits or runs: the one that is due comes
    dock.wait_for(lambda: dock.inspect("calm")["State"]["Status"] == "exited")  # type: ignore[index]
    dock("rm", "calm")


def test_a_container_that_waits_for_its_restart_can_be_changed(dock: Docklock) -> None:
    dock("run", "-d", "--name", "loops", "--restart", "always", "busybox", "false")
    dock.wait_for(lambda: int(str(dock.inspect("loops")["RestartCount"])) >= 4)  # waits are 1.6 s
    dock.wait_for(lambda: dock.inspect("loops")["State"]["Restarting"])  # type: ignore[index]
    dock("update", "--restart", "on-failure", "--memory", "48m", "loops")
    assert find_policy(dock, "loops")["Name"] == "on-failure"
    assert dock.inspect("loops")["HostConfig"]["Memory"] == 48 * MIB  # type: ignore[index]
    dock("update", "--restart", "no", "loops")
    dock.wait_for(lambda: dock.inspect("loops")["State"]["Status"] == "exited")  # type: ignore[index]
    dock("verify", "loops")
    dock("rm", "loops")


def test_a_policy_that_cannot_hold_is_refused(dock: Docklock, bundle: Path) -> None:
    dock("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "60")
    error = dock("update", "--restart", "always", "brief", code=1).stderr
    assert "Restart policy cannot be updated because AutoRemove is enabled" in error
    assert "unknown policy 'ever'" in dock("update", "--restart", "ever", "brief", code=2).stderr
    with client.connect(get_paths(str(dock.root)), str(dock.inspect("brief")["Id"])) as channel:
        for asked in ("", 3, ["no"]):
            with pytest.raises(StateError, match="malformed request"):
                client.request(channel, {"verb": "update", "restart": asked})
        with pytest.raises(StateError, match="unknown policy"):
            client.request(channel, {"verb": "update", "restart": "ever"})
        with pytest.raises(StateError, match="AutoRemove"):
            client.request(channel, {"verb": "update", "restart": "always"})
    assert find_policy(dock, "brief")["Name"] == "no"
    dock("rm", "-f", "brief")
    runtime(dock, "create", "--bundle", str(bundle), "made", capture=False)
    error = dock("update", "--restart", "always", "made", code=1).stderr
    assert "it has no restart policy" in error
    runtime(dock, "kill", "made", "KILL")
    dock("wait", "made")
    runtime(dock, "delete", "made")


def find_policy(dock: Docklock, name: str) -> dict[str, object]:
    host = dock.inspect(name)["HostConfig"]
    assert isinstance(host, dict)
    found = host["RestartPolicy"]
    assert isinstance(found, dict)
    return found


def test_a_malformed_request_changes_nothing(dock: Docklock) -> None:
    dock("run", "-d", "--name", "raw", *WORDS, "busybox", "sleep", "60")
    before = dock.inspect("raw")
    malformed = [
        {"pids_max": "12"}, {"pids_max": True}, {"pids_max": -2}, {"devices": []}, {"pids": 1}, {},
        {"cpuset_cpus": 0}, {"cpuset_cpus": "0\n1"}, {"memory_max_bytes": 2**63}, [], None,
    ]  # fmt: skip
    with client.connect(get_paths(str(dock.root)), str(before["Id"])) as channel:
        for limits in malformed:
            with pytest.raises(StateError, match="malformed request"):
                client.request(channel, {"verb": "update", "limits": limits})
    assert dock.inspect("raw") == before
    check_limits(dock, "raw", LIMITS)
    dock("rm", "-f", "raw")


def test_a_limit_that_was_set_later_is_watched(dock: Docklock) -> None:
    script = "sleep 1; sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done'; sleep 60"
    dock("run", "-d", "--name", "late", "busybox", "sh", "-c", script)
    dock("update", "--pids-limit", "4", "late")
    dock.wait_for(lambda: read_leaves(dock, "late", "limit"))
    dock("rm", "-f", "late")


def test_a_bundles_config_is_its_creators(dock: Docklock, bundle: Path) -> None:
    config = (bundle / "config.json").read_bytes()
    runtime(dock, "create", "--bundle", str(bundle), "oci", capture=False)
    dock("update", "--pids-limit", "17", "oci")
    check_limits(dock, "oci", Resources(pids_max=17))
    runtime(dock, "kill", "oci", "KILL")
    dock("wait", "oci")
    assert (
        "limits are those of its bundle"
        in dock("update", "--pids-limit", "9", "oci", code=1).stderr
    )
    assert (bundle / "config.json").read_bytes() == config
    assert not json.loads(config)["linux"].get("resources")
    runtime(dock, "delete", "oci")


def find_disk() -> tuple[str, str]:
    """(path, MAJOR:MINOR) of a disk of this host that can be limited."""
    for name in sorted(os.listdir("/sys/block"), reverse=True):
        size = Path(f"/sys/block/{name}/size").read_text().strip()
        if size != "0" and Path(f"/dev/{name}").is_block_device():
            return f"/dev/{name}", Path(f"/sys/block/{name}/dev").read_text().strip()
    pytest.skip("this host has no disk")


def find_block_files(dock: Docklock, name: str) -> Path:
    """Its directory of the hierarchy that limits block I/O."""
    trees = {tree.name: tree for tree in detect_hierarchies()}
    for tree, path in find_cgroup(dock, name).dirs:
        if "blkio" in trees[tree].controllers:
            return Path(path)
    pytest.skip("this host's cgroups limit no block I/O")


def test_block_io_is_limited_by_device_and_by_weight(dock: Docklock) -> None:
    disk, number = find_disk()
    rates = ("--device-read-bps", f"{disk}:2mb", "--device-write-iops", f"{disk}:30")
    dock("run", "-d", "--name", "slow", *rates, "busybox", "sleep", "60")
    files = find_block_files(dock, "slow")
    is_v2 = (files / "io.max").exists()
    if is_v2:
        assert f"{number} rbps={2 * MIB} wbps=max riops=max wiops=30" in (
            (files / "io.max").read_text()
        )
    else:
        read = (files / "blkio.throttle.read_bps_device").read_text()
        assert read == f"{number} {2 * MIB}\n"
        write = (files / "blkio.throttle.write_iops_device").read_text()
        assert write == f"{number} 30\n"
    host = dock.inspect("slow")["HostConfig"]
    assert isinstance(host, dict)
    assert host["BlkioDeviceReadBps"] == [{"Path": f"/dev/block/{number}", "Rate": 2 * MIB}]
    names = ("io.bfq.weight", "io.weight") if is_v2 else ("blkio.bfq.weight",)
    weights = [files / name for name in names if (files / name).exists()]
    if weights:
        dock("update", "--blkio-weight", "300", "slow")
        assert read_leaves(dock, "slow", "update") == [{"blkio-weight": "300"}]
        shown = weights[0].read_text()
        assert "300" in shown or weights[0].name == "io.weight"
    else:
        error = dock("update", "--blkio-weight", "300", "slow", code=1).stderr
        assert "weighs no block I/O" in error
    dock("rm", "-f", "slow")


def test_a_weight_for_what_was_started_without_needs_a_new_start(dock: Docklock) -> None:
    if not any(tree.version == 1 and "blkio" in tree.controllers for tree in detect_hierarchies()):
        pytest.skip("on v2 a running container gets the controller")
    dock("run", "-d", "--name", "plain", "busybox", "sleep", "60")
    error = dock("update", "--blkio-weight", "300", "plain", code=1).stderr
    assert "it was started without blkio: stop it, update it, start it" in error
    dock("rm", "-f", "plain")
