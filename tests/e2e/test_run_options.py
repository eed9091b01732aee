"""The rarer options of docklock run, create and exec: what each does inside a real container."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import CGROUPS, Docklock
from tests.e2e.test_watch import read_leaves


def sh(dock: Docklock, script: str, *options: str) -> str:
    return dock("run", "--rm", *options, "busybox", "sh", "-c", script).stdout


def refuse(dock: Docklock, *options: str) -> str:
    return dock("run", "--rm", *options, "busybox", "true", code=125).stderr


def test_an_env_file_is_read_as_docker_reads_it(dock: Docklock, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(
        b"\xef\xbb\xbf# no\n\n  A=1 # not a comment \nB=x=y\nONLY_HERE\nNOT_HERE\nC=\n"
    )
    dock.environment["ONLY_HERE"] = "host's"
    try:
        text = sh(dock, "env", "--env-file", str(file), "-e", "B=later")
    finally:
        del dock.environment["ONLY_HERE"]
    lines = text.splitlines()
    assert {"A=1 # not a comment ", "B=later", "ONLY_HERE=host's", "C="} <= set(lines)
    assert not any(line.startswith(("NOT_HERE", "#")) for line in lines)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"A=1\n=x\n", "line 2: no variable name"),
        (b"A B=1\n", "line 1: variable 'A B' contains whitespaces"),
        (b"\xff=1\n", "line 1: contains invalid utf8 bytes"),
        (b"A=\0\n", "line 1: contains a NUL"),
    ],
)
def test_a_wrong_env_file_is_refused_by_line(
    dock: Docklock, tmp_path: Path, data: bytes, words: str
) -> None:
    file = tmp_path / "env"
    file.write_bytes(data)
    assert words in refuse(dock, "--env-file", str(file))
    assert "No such file" in refuse(dock, "--env-file", str(tmp_path / "none"))


def test_exec_reads_an_env_file_too(dock: Docklock, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=from file\n")
    dock("run", "-d", "--name", "envs", "busybox", "sleep", "60")
    found = dock("exec", "--env-file", str(file), "envs", "sh", "-c", "echo $A").stdout
    dock("rm", "-f", "envs")
    assert found == "from file\n"


def test_labels_and_id_come_from_and_go_to_files(dock: Docklock, tmp_path: Path) -> None:
    labels, kept = tmp_path / "labels", tmp_path / "id"
    labels.write_text("# ours\na=1\nb\n")
    words = ("--label-file", str(labels), "-l", "a=2", "--cidfile", str(kept))
    made = dock("create", "--name", "files", *words, "busybox", "true").stdout.strip()
    assert kept.read_text() == made
    assert dock.inspect("files")["Config"]["Labels"] == {"a": "2", "b": ""}  # type: ignore[index]
    assert "container ID file found" in refuse(dock, "--cidfile", str(kept))
    assert kept.read_text() == made
    other = tmp_path / "other"
    dock("create", "--name", "files", "--cidfile", str(other), "busybox", "true", code=125)
    assert not other.exists()
    dock("rm", "files")


def test_mounts_are_given_by_keys_and_values(dock: Docklock, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("there\n")
    text = sh(
        dock,
        "cat /a/b/file; touch /a/b/x; touch /a/new && echo made; grep -E ' /(a|a/b) ' /proc/mounts",
        "--mount",
        f"type=bind,src={tmp_path / 'in'},dst=/a/b,readonly",
        "--mount",
        "type=tmpfs,destination=/a,tmpfs-size=2m,tmpfs-mode=1770",
    )
    lines = text.splitlines()
    assert lines[:2] == ["there", "made"]
    assert "size=2048k,mode=1770" in lines[2] and "noexec" in lines[2]
    assert " ro," in lines[3]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("type=bind,src=/nosuchthing,dst=/a", "bind source path does not exist: /nosuchthing"),
        ("type=bind,src=/tmp", "target is required"),
        ("type=tmpfs,dst=a", "must be an absolute path"),
        ("type=tmpfs,dst=/a,src=/tmp", "Source must not be specified"),
        ("type=tmpfs,dst=/a,bind-propagation=slave", "cannot mix 'bind-*' options"),
        ("type=tmpfs,dst=/a,readnoly=1", "unexpected key 'readnoly'"),
        ("type=tmpfs,dst=/a,tmpfs-mode=9", "invalid value for tmpfs-mode"),
        ("type=bind,src=/tmp,dst=/a,bind-propagation=rshared", "no mount goes back"),
        ("type=volume,src=v,dst=/a", "no volumes yet"),
        ("src=v,dst=/a", "no volumes yet"),
        ("type=npipe,dst=/a", "mount type unknown"),
        ("type", "must be a key=value pair"),
    ],
)
def test_a_wrong_mount_is_refused(dock: Docklock, word: str, why: str) -> None:
    assert why in refuse(dock, "--mount", word)


def test_a_place_is_mounted_on_once(dock: Docklock, tmp_path: Path) -> None:
    bind = f"type=bind,src={tmp_path},dst=/a"
    assert "Duplicate mount point: /a" in refuse(dock, "--mount", bind, "--tmpfs", "/a")


def test_groups_are_added_by_name_and_number(dock: Docklock) -> None:
    assert sh(dock, "id -G", "--group-add", "extra", "--group-add", "77").split() == [
        "0",
        "77",
        "1002",
    ]
    assert "nosuch" in refuse(dock, "--group-add", "nosuch")


def test_a_setting_is_the_containers_and_not_the_hosts(dock: Docklock) -> None:
    host = Path("/proc/sys/kernel/msgmax").read_text()
    text = sh(
        dock,
        "cat /proc/sys/kernel/msgmax /proc/sys/net/core/somaxconn",
        "--sysctl",
        "kernel.msgmax=4097",
        "--sysctl",
        "net.core.somaxconn=77",
    )
    assert text.split() == ["4097", "77"]
    assert Path("/proc/sys/kernel/msgmax").read_text() == host
    assert "belongs to the host" in refuse(dock, "--sysctl", "vm.swappiness=1")
    shared = ("--network", "host", "--sysctl", "net.core.somaxconn=77")
    assert "not allowed in host network namespace" in refuse(dock, *shared)


def test_a_device_is_there_with_the_rights_given(dock: Docklock, tmp_path: Path) -> None:
    assert sh(dock, "head -c 3 /dev/mine | wc -c", "--device", "/dev/zero:/dev/mine") == "3\n"
    # What is no default device: opened, and nothing written.
    os.mknod(tmp_path / "kmsg", 0o600 | stat.S_IFCHR, os.makedev(1, 11))
    node, script = f"{tmp_path}/kmsg:/dev/kmsg", "(: >/dev/kmsg) 2>/dev/null && echo yes || echo no"
    assert sh(dock, script, "--device", f"{node}:w") == "yes\n"
    assert sh(dock, script, "--device", f"{node}:r") == "no\n"
    made = f"mknod /dev/kmsg c 1 11; {script}"
    assert sh(dock, made) == "no\n"
    assert sh(dock, made, "--device-cgroup-rule", "c 1:* wm") == "yes\n"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("/dev/nosuch", "No such file"),
        ("/etc/passwd", "not a device node"),
        ("/dev/zero:/dev/x:rz", "invalid device mode"),
        ("/dev/zero:/dev/../x", "without .."),
        ("vendor.com/class=name", "unresolvable CDI devices vendor.com/class=name"),
        ("/var/empty-nothing:/a:r:w", "give HOST"),
    ],
)
def test_a_wrong_device_is_refused(dock: Docklock, word: str, why: str) -> None:
    assert why in refuse(dock, "--device", word)


def test_a_wrong_device_rule_is_refused(dock: Docklock) -> None:
    for word in ("c 1 r", "c 1:2", "x 1:2 r", "c 1:2 rx", "c 1:99999999 r"):
        assert "device" in refuse(dock, "--device-cgroup-rule", word)
    assert "every device" in refuse(dock, "--device-cgroup-rule", "a 1:2 r")


def test_a_directory_of_devices_is_all_of_them(dock: Docklock, tmp_path: Path) -> None:
    os.mknod(tmp_path / "a", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    (tmp_path / "deep").mkdir()
    os.mknod(tmp_path / "deep/b", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    text = sh(dock, "head -c 2 /dev/d/a /dev/d/deep/b | wc -c", "--device", f"{tmp_path}:/dev/d")
    assert int(text) > 4


def test_an_init_reaps_and_passes_signals_on(dock: Docklock) -> None:
    text = sh(dock, "cat /proc/1/comm; test $$ != 1 && echo behind", "--init")
    assert text == "docker-init\nbehind\n"
    words = ("sh", "-c", "trap 'exit 9' TERM; echo on; while :; do sleep 0.05; done")
    dock("run", "-d", "--init", "--name", "inited", "busybox", *words)
    dock.wait_for(lambda: dock("logs", "inited").stdout)
    dock("stop", "inited")
    assert dock("wait", "inited").stdout == "9\n"
    described = dock.inspect("inited")
    assert described["Path"] == "sh"
    assert described["HostConfig"]["Init"] is True  # type: ignore[index]
    dock("rm", "inited")


def test_without_a_static_init_init_is_refused(dock: Docklock, tmp_path: Path) -> None:
    (tmp_path / "tini").symlink_to(sys.executable)  # it wants libraries
    path, dock.environment["PATH"] = dock.environment["PATH"], str(tmp_path)
    try:
        assert "install tini" in refuse(dock, "--init")
    finally:
        dock.environment["PATH"] = path


def test_the_stop_timeout_is_the_containers(dock: Docklock) -> None:
    deaf = ("busybox", "sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.05; done")
    dock("run", "-d", "--name", "deaf", "--stop-timeout", "0", *deaf)
    dock.wait_for(lambda: dock("logs", "deaf").stdout)
    dock("stop", "deaf")  # 10 s would be over the limit of nothing, but of patience
    assert dock("wait", "deaf").stdout == "137\n"
    assert dock.inspect("deaf")["Config"]["StopTimeout"] == 0  # type: ignore[index]
    dock("rm", "deaf")
    assert "whole seconds" in refuse(dock, "--stop-timeout", "1.5")


def test_shm_oom_score_and_annotations_are_set(dock: Docklock) -> None:
    words = ("--shm-size", "1m", "--oom-score-adj", "123", "--annotation", "a.b=c")
    text = sh(dock, "df -k /dev/shm | sed -n 2p; cat /proc/self/oom_score_adj", *words)
    lines = text.splitlines()
    assert lines[0].split()[1] == "1024"
    assert lines[1] == "123"
    dock("create", "--name", "noted", *words, "busybox", "true")
    config = dock.inspect("noted")["HostConfig"]
    dock("rm", "noted")
    assert isinstance(config, dict)
    assert (config["ShmSize"], config["OomScoreAdj"]) == (1 << 20, 123)
    assert config["Annotations"] == {"a.b": "c"}
    assert "greater than 0" in refuse(dock, "--shm-size", "0")
    assert "[-1000, 1000]" in refuse(dock, "--oom-score-adj", "1001")
    assert "NAME=VALUE" in refuse(dock, "--annotation", "=x")


def test_hosts_and_name_servers_are_written(dock: Docklock) -> None:
    words = ("--add-host", "db:10.0.0.7", "--add-host", "six=[fd00::1]", "--dns", "10.0.0.53")
    more = ("--dns-search", "lan", "--dns-opt", "ndots:2")
    for network in ("none", "host"):
        text = sh(dock, "cat /etc/hosts /etc/resolv.conf", "--network", network, *words, *more)
        lines = text.splitlines()
        assert {"10.0.0.7\tdb", "fd00::1\tsix"} <= set(lines), network
        assert lines[-3:] == ["nameserver 10.0.0.53", "search lan", "options ndots:2"]
    assert "bad format" in refuse(dock, "--add-host", "db")
    assert "invalid IP address" in refuse(dock, "--add-host", "db:10.0.0")
    assert "no network with a gateway" in refuse(dock, "--add-host", "db:host-gateway")
    assert "not an ip address" in refuse(dock, "--dns", "x")
    assert "one word" in refuse(dock, "--dns-search", "a b")


def test_namespaces_of_the_host_are_kept_where_asked(dock: Docklock, tmp_path: Path) -> None:
    script = "for k in ipc uts cgroup pid; do busybox readlink /proc/self/ns/$k; done; hostname"
    text = sh(dock, script, "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    lines = text.splitlines()
    for line, kind in zip(lines, ("ipc", "uts", "cgroup"), strict=False):
        assert line == os.readlink(f"/proc/self/ns/{kind}")
    assert lines[3] != os.readlink("/proc/self/ns/pid")
    assert lines[4] == os.uname().nodename
    dock("run", "-d", "--name", "shared", "--ipc", "host", "busybox", "sleep", "60")
    mode = dock.inspect("shared")["HostConfig"]
    execed = dock("exec", "shared", "busybox", "readlink", "/proc/self/ns/ipc").stdout
    dock("rm", "-f", "shared")
    assert isinstance(mode, dict)
    assert (mode["IpcMode"], mode["UTSMode"], mode["CgroupnsMode"]) == ("host", "", "private")
    assert execed.strip() == os.readlink("/proc/self/ns/ipc")


def test_without_ipc_there_is_no_shared_memory(dock: Docklock) -> None:
    assert sh(dock, "grep -c /dev/shm /proc/mounts || true", "--ipc", "none") == "0\n"
    assert sh(dock, "grep -c /dev/shm /proc/mounts", "--ipc", "private") == "1\n"


@pytest.mark.parametrize(
    ("option", "word", "why"),
    [
        ("--pid", "host", "go on unrecorded"),
        ("--pid", "container:x", "on the other's record"),
        ("--pid", "nothing", "invalid pid mode"),
        ("--ipc", "container:x", "joins no container's"),
        ("--ipc", "hots", "invalid ipc mode"),
        ("--userns", "keep-id", "no user namespaces yet"),
        ("--cgroupns", "x", "invalid cgroupns mode"),
        ("--uts", "private", "invalid uts mode"),
        ("--platform", "linux/s390x", "does not match the specified platform"),
        ("--platform", "windows/amd64", "give linux/"),
        ("--cgroup-parent", "/docklock/0123", "a container's own cgroup"),
        ("--cgroup-parent", "a/../b", "without .."),
    ],
)
def test_what_would_break_a_promise_is_refused(
    dock: Docklock, option: str, word: str, why: str
) -> None:
    assert why in refuse(dock, option, word)


def test_the_images_own_platform_runs(dock: Docklock) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
    for word in (f"linux/{machine}", machine, "linux", f"linux/{os.uname().machine}"):
        assert sh(dock, "echo ran", "--platform", word) == "ran\n"


def test_a_cgroup_parent_holds_the_container_and_its_limits(dock: Docklock) -> None:
    parent = f"docklock-test-{os.getpid()}"
    words = ("--cgroup-parent", f"/{parent}/deep", "--cpuset-cpus", "0", "--memory", "64m")
    dock("run", "-d", "--name", "below", *words, "busybox", "sleep", "60")
    try:
        pid = dock.inspect("below")["State"]["Pid"]  # type: ignore[index]
        found = Path(f"/proc/{pid}/cgroup").read_text()
        assert f"/{parent}/deep/" in found
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Cpus_allowed_list:\t0\n" in status
        host = dock.inspect("below")["HostConfig"]
        assert host["CgroupParent"] == f"/{parent}/deep"  # type: ignore[index]
    finally:
        dock("rm", "-f", "below")
        for tree, _, _ in os.walk(CGROUPS):
            if tree.endswith(f"/{parent}"):
                os.rmdir(f"{tree}/deep")
                os.rmdir(tree)


def test_one_attaches_to_what_one_names(dock: Docklock) -> None:
    script = ("busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    result = dock("run", "--rm", "-a", "stderr", *script, code=3)
    assert (result.stdout, result.stderr) == ("", "err\n")
    result = dock("run", "--rm", "-a", "STDOUT", *script, code=3)
    assert (result.stdout, result.stderr) == ("out\n", "")
    assert "Conflicting options: -a and -d" in refuse(dock, "-a", "stdout", "-d")
    assert "valid streams" in refuse(dock, "-a", "out")


def test_input_alone_is_passed_and_left(dock: Docklock) -> None:
    words = ("-i", "-a", "stdin", "--name", "fed", "busybox", "sh", "-c", "cat; exit 4")
    made = dock("run", *words, stdin="hello\n").stdout.strip()
    assert dock("wait", made).stdout == "4\n"
    assert dock("logs", "fed").stdout == "hello\n"
    dock("rm", "fed")


def test_signals_stay_with_the_front_end_where_asked(dock: Docklock) -> None:
    words = ("busybox", "sh", "-c", "trap 'exit 9' TERM; echo on; while :; do sleep 0.05; done")
    for proxy, code in (("true", 9), ("false", -15)):
        front = dock.start("run", "--name", f"proxy-{proxy}", "--sig-proxy", proxy, *words)
        assert front.stdout is not None
        assert front.stdout.readline() == "on\n"
        front.terminate()
        front.communicate(timeout=30)
        assert front.returncode == code
    status = dock.inspect("proxy-false")["State"]
    assert status["Running"] is True  # type: ignore[index]
    dock("rm", "-f", "proxy-true", "proxy-false")
    assert "takes true or false" in refuse(dock, "--sig-proxy", "maybe")


def test_exec_privileged_has_all_capabilities_and_is_on_record(dock: Docklock) -> None:
    dock("run", "-d", "--name", "plain", "busybox", "sleep", "60")

    def find(*options: str) -> str:
        text = dock("exec", *options, "plain", "grep", "CapEff", "/proc/self/status").stdout
        return text.split()[1]

    host = Path("/proc/self/status").read_text()
    held = next(line.split()[1] for line in host.splitlines() if line.startswith("CapEff"))
    assert find("--privileged") == held
    assert find() != held
    assert find("--privileged", "-u", "1000") == "0" * 16
    assert read_leaves(dock, "plain", "exec") == [{"privileged": "1"}, {}, {"privileged": "1"}]
    dock("verify", "plain")
    dock("rm", "-f", "plain")


def test_inspect_says_who_is_privileged(dock: Docklock) -> None:
    for name, options in (("most", ("--privileged",)), ("least", ("--net", "none"))):
        dock("create", "--name", name, *options, "busybox", "true")
        host = dock.inspect(name)["HostConfig"]
        assert isinstance(host, dict)
        assert host["Privileged"] == (name == "most")
        dock("rm", name)
