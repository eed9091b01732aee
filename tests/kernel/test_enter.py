"""A container has what its spec says, and a failure or a killed parent leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docklock.cgroup import driver
from docklock.spec import Capabilities, Device, Mount, Rlimit, Spec, User
from tests.conftest import is_anothers

SpecOf = Callable[..., Spec]
# CAP_CHOWN .. CAP_SETFCAP: what runc gives for Docker's default fourteen.
DEFAULT_MASK = "00000000a80425fb"
NONE_MASK = "0" * 16


def get_mounts(tmp_path: Path) -> list[str]:
    """This host's, but for what the tests of other workers mount meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not is_anothers(line.split()[4], str(tmp_path.parent))]


def get_status(output: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)


def test_a_container_sees_only_itself(launch: Any) -> None:
    outcome = launch("hostname; echo pid $$; ls /proc/self/fd /dev; cat /proc/net/dev; id; pwd")
    lines = outcome.output.split()
    assert outcome.result["status"] == 0
    assert lines[:3] == ["box", "pid", "1"]
    assert "lo:" in outcome.output
    assert "eth0" not in outcome.output
    assert "uid=0 gid=0" in outcome.output
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"} <= set(lines)


def test_nothing_of_the_hosts_mounts_is_left(launch: Any) -> None:
    outcome = launch("cat /proc/self/mountinfo")
    targets = [line.split()[4] for line in outcome.output.splitlines()]
    assert targets.count("/") == 1
    tops = ("/", "/proc", "/dev", "/sys")
    assert [path for path in targets if "/".join(path.split("/")[:2]) not in tops] == []
    assert [path for path in targets if path.startswith("/sys/fs/cgroup/systemd")] == []


def test_only_stdio_is_open_and_signals_are_default(launch: Any) -> None:
    outcome = launch("ls /proc/self/fd; grep Sig[PBIC] /proc/self/status; sleep 0 | true")
    # The fourth is ls's own, of the directory it lists.
    assert outcome.output.split()[:5] == ["0", "1", "2", "3", "SigPnd:"]
    status = get_status(outcome.output)
    assert status["SigIgn"] == status["SigBlk"] == NONE_MASK


@pytest.mark.parametrize("no_new_privs", [True, False])
@pytest.mark.parametrize("trap", [[], ["execve", "mount"]])
def test_capabilities_are_those_runc_gives(
    launch: Any, spec_of: SpecOf, no_new_privs: bool, trap: list[str]
) -> None:
    line = ("grep", "-E", "Cap|NoNewPrivs|Uid", "/proc/self/status")
    for uid, held in ((0, DEFAULT_MASK), (1000, NONE_MASK)):
        spec = spec_of(*line, user=User(uid, uid, (7,)), no_new_privs=no_new_privs)
        status = get_status(launch(spec=spec, job={"trap": trap}).output)
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["NoNewPrivs"] == str(int(no_new_privs))
        assert (status["CapBnd"], status["CapInh"]) == (DEFAULT_MASK, NONE_MASK)
        assert (status["CapEff"], status["CapPrm"]) == (held, held)
        assert status["CapAmb"] == NONE_MASK


def test_ambient_capabilities_reach_an_ordinary_user(launch: Any, spec_of: SpecOf) -> None:
    names = ("CAP_NET_BIND_SERVICE",)
    spec = spec_of("grep", "Cap", "/proc/self/status", user=User(1000, 1000))
    caps = Capabilities(names, names, names, names, names)
    spec = spec._replace(process=spec.process._replace(capabilities=caps))
    status = get_status(launch(spec=spec).output)
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {
        f"{1 << 10:016x}"
    }


def test_a_missing_program_is_127_and_one_that_cannot_run_126(launch: Any, bundle: Any) -> None:
    (bundle.rootfs / "bin" / "text").write_text("no program")
    (bundle.rootfs / "bin" / "broken").write_text("no program either")
    (bundle.rootfs / "bin" / "broken").chmod(0o755)
    codes = {
        args: launch(*args).result.get("exit_code")
        for args in [("nowhere", ""), ("text", ""), ("/bin", ""), ("broken", ""), ("/a/b", "")]
    }
    assert codes == {
        ("nowhere", ""): 127,
        ("text", ""): 126,
        ("/bin", ""): 126,
        ("broken", ""): 126,
        ("/a/b", ""): 127,
    }


@pytest.mark.parametrize("content", ["#!/proc/self/exe\n", "#! /proc/1/exe -x\n"])
def test_no_script_runs_the_hosts_python(launch: Any, bundle: Any, content: str) -> None:
    script = bundle.rootfs / "bin" / "evil"
    script.write_text(content)
    script.chmod(0o755)
    assert launch("evil", "").result["exit_code"] == 126
    assert launch("/proc/self/exe", "").result["exit_code"] == 126


def test_the_filter_may_trap_any_call_and_the_program_still_starts(launch: Any) -> None:
    # write and poll are what the child used before; execve is its only call after the filter.
    trap = ["execve", "openat2", "prctl", "close_range", "rt_sigaction", "pidfd_getfd"]
    outcome = launch("true", "", job={"trap": trap})
    assert outcome.result["status"] == 0
    assert outcome.result["seen"][0] in (59, 221)
    assert "error" not in outcome.result


def test_every_step_may_fail_and_nothing_is_left(launch: Any, bundle: Any, tmp_path: Path) -> None:
    before = get_mounts(tmp_path)
    outcome = launch("true", "", job={"mode": "fail-each"})
    assert len(outcome.results) > 30
    for result in outcome.results:
        assert result["error"] == "fail on purpose: on a file: Input/output error"
    assert get_mounts(tmp_path) == before
    assert driver.find_cgroup(bundle.name) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mounts": (Mount("/x", "bind", "/nowhere/at/all", ("rbind",)),)}, "/nowhere/at/all"),
        ({"mounts": (Mount("/x", "nosuchfs", "none"),)}, "no such file system"),
        ({"mounts": (Mount("/bin/busybox", "tmpfs", "tmpfs"),)}, "Not a directory"),
        ({"rlimits": (Rlimit("RLIMIT_NOFILE", 64, 2**40),)}, ""),
        ({"cwd": "/bin/busybox"}, "working directory|open the directory|make the directory"),
    ],
)
def test_a_bad_spec_names_its_step(
    launch: Any, spec_of: SpecOf, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    import re

    before = get_mounts(tmp_path)
    result = launch(spec=spec_of("true", **change)).result
    assert re.search(said, result.get("error", ""))
    assert get_mounts(tmp_path) == before


def test_a_bad_sysctl_names_its_file(launch: Any, spec_of: SpecOf) -> None:
    spec = spec_of("true")
    spec = spec._replace(linux=spec.linux._replace(sysctl=(("net.ipv4.ip_forward", "maybe"),)))
    result = launch(spec=spec).result
    assert "set net.ipv4.ip_forward to maybe" in result["error"]
    spec = spec._replace(linux=spec.linux._replace(sysctl=(("net.ipv4.ip_forward", "1"),)))
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    assert launch(spec=spec).result["status"] == 0
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_a_hard_limit_that_cannot_rise_is_kept_and_said(launch: Any, spec_of: SpecOf) -> None:
    limits = (Rlimit("RLIMIT_NOFILE", 64, 128), Rlimit("RLIMIT_STACK", 2**64 - 1, 2**64 - 1))
    spec = spec_of("grep", "open files", "/proc/self/limits", rlimits=limits)
    outcome = launch(spec=spec)
    assert outcome.output.split()[3:5] == ["64", "128"]
    assert outcome.result["warnings"] == []


@pytest.mark.parametrize("started", [False, True])
def test_a_killed_parent_takes_the_container_with_it(
    bundle: Any, spec_of: SpecOf, started: bool, tmp_path: Path
) -> None:
    before = get_mounts(tmp_path)
    # Another user than root: the change of user clears the death signal, which must be set again.
    bundle.write(spec_of("sleep", "100", user=User(1000, 1000)))
    command = bundle.make_command(mode="hang", started=started)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        assert b"pid" in line
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert bundle.name in driver.list_cgroups()
    left = driver.find_cgroup(bundle.name)
    assert left is not None
    end = time.monotonic() + 5
    while left.list_pids() and time.monotonic() < end:
        time.sleep(0.01)
    assert left.list_pids() == ()
    left.delete()
    assert driver.find_cgroup(bundle.name) is None
    assert get_mounts(tmp_path) == before


def test_a_user_is_resolved_by_the_images_own_files(launch: Any, bundle: Any) -> None:
    etc = bundle.rootfs / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nweb:x:34:\nextra:x:77:web,other\n")
    outcome = launch("id -u; id -g; id -G; echo $HOME", job={"user": "web"})
    assert outcome.output.split() == ["33", "34", "34", "77", "/srv/web"]
    assert launch("id -u; id -g", job={"user": "5:extra"}).output.split() == ["5", "77"]
    result = launch("true", "", job={"user": "nobody"}).result
    assert "not in the container's /etc/passwd" in result["error"]


def test_a_joined_process_is_in_the_container_and_its_status_ours(
    launch: Any, spec_of: SpecOf
) -> None:
    line = "hostname; ls -d /proc/[0-9]*; cat /proc/self/cgroup; exit 7"
    job = {"mode": "join", "join": ["sh", "-c", line], "trap": ["execve"]}
    outcome = launch(spec=spec_of("sleep", "100"), job=job)
    assert outcome.result["status"] == 7
    assert outcome.output.split()[0] == "box"
    assert "/proc/1\n" in outcome.output
    assert ":pids:/\n" in outcome.output
    missing = launch(spec=spec_of("sleep", "100"), job=job | {"join": ["nowhere"]})
    assert missing.result["exit_code"] == 127


def test_a_new_device_has_its_numbers_and_owner(launch: Any, spec_of: SpecOf) -> None:
    device = Device("/dev/sub/it", "c", 1, 3, 0o640, 5, 6)
    outcome = launch(spec=spec_of("stat", "-c", "%t:%T %a %u %g", "/dev/sub/it", devices=(device,)))
    assert outcome.output == "1:3 640 5 6"


def test_the_network_is_the_hosts_only_when_asked(launch: Any, spec_of: SpecOf) -> None:
    own = launch("ls -l /proc/self/ns/net").output.split("->")[1].strip()
    spec = spec_of("ls", "-l", "/proc/self/ns/net", network="host")
    shared = launch(spec=spec).output.split("->")[1].strip()
    assert shared == os.readlink("/proc/self/ns/net")
    assert own != shared


def test_the_oom_killer_is_told_its_preference(launch: Any, spec_of: SpecOf) -> None:
    spec = spec_of("cat", "/proc/self/oom_score_adj")
    spec = spec._replace(process=spec.process._replace(oom_score_adj=500))
    assert launch(spec=spec).output == "500"
