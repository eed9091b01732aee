"""docklock run: what a Docker user expects of a container, seen from inside and from its exit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock


def out(dock: Docklock, *words: str) -> str:
    return dock("run", "--rm", "--network", "none", *words).stdout


def test_output_and_exit_code_are_the_programs(dock: Docklock) -> None:
    result = dock("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_a_missing_program_is_127(dock: Docklock) -> None:
    assert "nothere" in dock("run", "--rm", "busybox", "nothere", code=127).stderr


def test_a_file_that_cannot_run_is_126(dock: Docklock) -> None:
    assert "/etc/passwd" in dock("run", "--rm", "busybox", "/etc/passwd", code=126).stderr


def test_a_bad_option_is_125_and_names_the_nearest(dock: Docklock) -> None:
    assert "--network" in dock("run", "--netwrk", "none", "busybox", "true", code=125).stderr


def test_a_missing_image_is_125(dock: Docklock) -> None:
    refused = dock("run", "--pull", "never", "--rm", "nosuch", "true", code=125)
    assert "No such image" in refused.stderr


def test_death_by_signal_is_128_plus_n(dock: Docklock) -> None:
    dock("run", "--rm", "busybox", "sh", "-c", "kill -9 $$; sleep 1; kill -SEGV 1; exit 3", code=3)
    assert dock("run", "-d", "--name", "sig", "busybox", "sleep", "60").stdout
    dock("kill", "sig")
    assert dock("wait", "sig").stdout == "137\n"
    dock("rm", "sig")


def test_environment_workdir_user_hostname(dock: Docklock) -> None:
    text = out(
        dock,
        "-e",
        "A=1",
        "-w",
        "/work/here",
        "-u",
        "1000:1001",
        "--hostname",
        "box",
        "busybox",
        "sh",
        "-c",
        "echo $A $HOME; pwd; id -u; id -g; hostname",
    )
    assert text.splitlines() == ["1 /home/worker", "/work/here", "1000", "1001", "box"]


def test_a_user_name_is_looked_up_in_the_image(dock: Docklock) -> None:
    assert out(dock, "-u", "worker", "busybox", "id", "-G").split() == ["1001", "1002"]
    assert "nobodyhere" in dock("run", "-u", "nobodyhere", "busybox", "id", code=125).stderr


def test_entrypoint_is_replaced(dock: Docklock) -> None:
    assert out(dock, "--entrypoint", "echo", "busybox", "a", "b") == "a b\n"


def test_namespaces_differ_from_the_hosts(dock: Docklock) -> None:
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    text = out(dock, "busybox", "sh", "-c", "".join(f"ls -l /proc/self/ns/{k};" for k in kinds))
    for kind in kinds:
        found = re.search(rf"{kind}:\[\d+\]", text)
        assert found, kind
        assert found.group() != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert out(dock, "busybox", "sh", "-c", "echo $$") == "1\n"


def test_network_none_has_only_loopback_and_host_has_the_hosts(dock: Docklock) -> None:
    assert re.findall(r"^\s*(\S+?):", out(dock, "busybox", "cat", "/proc/net/dev"), re.M) == ["lo"]
    text = dock("run", "--rm", "--network", "host", "busybox", "ls", "-l", "/proc/self/ns/net")
    assert os.readlink("/proc/self/ns/net") in text.stdout
    names = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    assert (
        dock("run", "--rm", "--network", "host", "busybox", "cat", "/etc/resolv.conf").stdout
        == names
    )


def test_default_capabilities_are_dockers_and_no_new_privs_is_set(dock: Docklock) -> None:
    text = out(dock, "busybox", "cat", "/proc/self/status")
    assert "CapEff:\t00000000a80425fb" in text
    assert "CapBnd:\t00000000a80425fb" in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text


def test_capabilities_can_be_added_and_dropped(dock: Docklock) -> None:
    text = out(
        dock, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "busybox", "cat", "/proc/self/status"
    )
    assert "CapEff:\t0000000000001000" in text
    text = out(
        dock, "--security-opt", "no-new-privileges=false", "busybox", "cat", "/proc/self/status"
    )
    assert "NoNewPrivs:\t0" in text
    assert "CapEff:\t00000000a80425fb" in text


def test_another_user_has_no_capabilities(dock: Docklock) -> None:
    for options in ((), ("--security-opt", "no-new-privileges=false")):
        text = out(dock, *options, "-u", "1000", "busybox", "cat", "/proc/self/status")
        assert "CapEff:\t0000000000000000" in text
        assert "CapPrm:\t0000000000000000" in text


def test_privileged_has_all_and_sees_unmasked_proc(dock: Docklock) -> None:
    text = out(
        dock,
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
    )
    host = Path("/proc/self/status").read_text()
    held = re.search(r"CapEff:\s*(\S+)", host)
    assert held and held.group(1) in text
    assert "mounted" in text
    disk = next(path for path in Path("/dev").iterdir() if path.is_block_device())
    assert disk.name in out(dock, "--privileged", "busybox", "ls", "/dev").split()


def test_read_only_root_with_tmpfs(dock: Docklock) -> None:
    text = out(
        dock,
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m",
        "busybox",
        "sh",
        "-c",
        "touch /x 2>&1; touch /scratch/y && echo yes; df -k /scratch | sed -n 2p",
    )
    assert "Read-only file system" in text
    assert "yes" in text
    assert " 1024 " in text


def test_bind_mounts_of_directories_and_files(dock: Docklock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    text = out(
        dock,
        "-v",
        f"{tmp_path}:/data",
        "-v",
        f"{tmp_path}/file:/etc/one:ro",
        "busybox",
        "sh",
        "-c",
        "cat /data/file /etc/one; echo new > /data/made; echo no > /etc/one || echo refused",
    )
    assert text == "hello\nhello\nrefused\n"
    assert (tmp_path / "made").read_text() == "new\n"
    (tmp_path / "made").unlink()


def test_a_missing_bind_source_is_named(dock: Docklock) -> None:
    result = dock("run", "--rm", "-v", "/no/such/place:/x:ro", "busybox", "true", code=None)
    # Docker makes the directory for -v; docklock refuses, since a typing error should not make one.
    assert result.returncode == 125
    assert "/no/such/place" in result.stderr


def test_kernel_paths_are_masked_and_read_only(dock: Docklock) -> None:
    text = out(dock, "busybox", "sh", "-c", "wc -c < /proc/keys; ls /sys/firmware | wc -l")
    assert text.split() == ["0", "0"]
    for path in (
        "/proc/sys/vm/swappiness",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/profiling",
    ):
        result = dock("run", "--rm", "busybox", "sh", "-c", f"echo 1 > {path}", code=1)
        assert "ead-only" in result.stderr or "nonexistent" in result.stderr, path


def test_devices_are_the_few(dock: Docklock) -> None:
    names = out(dock, "busybox", "ls", "/dev").split()
    assert {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "ptmx",
        "pts",
        "shm",
        "mqueue",
        "fd",
        "stdin",
        "stdout",
        "stderr",
    } <= set(names)
    assert not {"sda", "vda", "mem", "kmsg", "loop0"} & set(names)
    text = dock(
        "run", "--rm", "busybox", "sh", "-c", "mknod /tmp/disk b 254 0 && cat /tmp/disk", code=1
    ).stderr
    assert "not permitted" in text


def test_memory_limit_kills_and_inspect_says_oom(dock: Docklock) -> None:
    dock(
        "run",
        "--name",
        "oom",
        "--memory",
        "16m",
        "busybox",
        "sh",
        "-c",
        "x=a; while true; do x=$x$x; done",
        code=137,
    )
    state = dock.inspect("oom")["State"]
    assert state["OOMKilled"] is True  # type: ignore[index]
    dock("rm", "oom")


def test_pids_limit_holds(dock: Docklock) -> None:
    result = dock(
        "run",
        "--rm",
        "--pids-limit",
        "8",
        "busybox",
        "sh",
        "-c",
        "for i in $(seq 20); do sleep 1 & done; wait",
        code=None,
    )
    assert "fork" in result.stderr


def test_cpus_limit_is_written(dock: Docklock) -> None:
    dock("run", "-d", "--name", "cpu", "--cpus", "0.5", "busybox", "sleep", "60")
    container_id = dock.inspect("cpu")["Id"]
    quota = [
        path.read_text().split()
        for path in Path("/sys/fs/cgroup").rglob("cpu.cfs_quota_us")
        if str(container_id) in str(path)
    ]
    quota += [
        path.read_text().split()
        for path in Path("/sys/fs/cgroup").rglob("cpu.max")
        if str(container_id) in str(path)
    ]
    assert quota and quota[0][0] == "50000"
    dock("rm", "-f", "cpu")


@pytest.mark.parametrize(
    "option",
    [
        ("--memory", "lots"),
        ("--cpus", "-1"),
        ("--cpus", "9999"),
        ("-v", "x"),
        ("--network", "moon"),
        ("--cap-add", "FLY"),
        ("-e", "=1"),
        ("--pids-limit", "x"),
        ("--name", "a b"),
        ("--sign", "some"),
        ("--tmpfs", "rel"),
        ("--policy", "nosuch"),
    ],
)
def test_bad_values_are_refused_by_name_with_nothing_left(
    dock: Docklock, option: tuple[str, str]
) -> None:
    before = dock("ps", "-aq").stdout
    result = dock("run", *option, "busybox", "true", code=125)
    assert option[1].strip() in result.stderr or option[0] in result.stderr
    assert "Traceback" not in result.stderr
    assert dock("ps", "-aq").stdout == before


def test_plan_prints_and_does_nothing(dock: Docklock) -> None:
    before = sorted(str(path) for path in dock.root.rglob("*"))
    text = dock("run", "--plan", "--read-only", "busybox", "true").stdout
    assert "/proc" in text and "overlay" in text
    assert sorted(str(path) for path in dock.root.rglob("*")) == before


def test_rootfs_directory_runs_in_place(dock: Docklock, busybox_tree: Path) -> None:
    assert dock("run", "--rm", "--rootfs", str(busybox_tree), "echo", "hi").stdout == "hi\n"


def test_changes_stay_in_the_container(dock: Docklock) -> None:
    out(dock, "busybox", "sh", "-c", "rm /etc/passwd; touch /made")
    assert out(dock, "busybox", "sh", "-c", "ls / /etc").count("passwd") == 1


def test_detached_ps_logs_stop_rm(dock: Docklock) -> None:
    container_id = dock(
        "run", "-d", "--name", "web", "busybox", "sh", "-c", "echo one; echo two >&2; exec sleep 60"
    ).stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{64}", container_id)
    table = dock("ps").stdout.splitlines()
    assert table[0].split("   ")[0] == "CONTAINER ID"
    assert table[1].startswith(container_id[:12])
    assert "Up " in table[1]
    row = json.loads(dock("ps", "--format", "json").stdout.splitlines()[0])
    assert row["Names"] == "web" and row["State"] == "running"
    dock.wait_for(lambda: "two" in dock("logs", "web").stderr)
    assert dock("logs", "web").stdout == "one\n"
    assert dock("rm", "web", code=1).stderr
    assert dock("stop", "-t", "1", "web").stdout == "web\n"
    assert dock("wait", "web").stdout == "137\n"
    assert dock("ps", "-q").stdout == ""
    assert "Exited (137)" in dock("ps", "-a").stdout
    assert dock("rm", "web").stdout == "web\n"
    assert "No such container" in dock("logs", "web", code=1).stderr


def test_stop_sends_the_stop_signal_first(dock: Docklock) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "polite",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
    )
    dock("stop", "polite")
    assert dock("wait", "polite").stdout == "5\n"
    dock("rm", "polite")


def test_a_name_is_taken_once(dock: Docklock) -> None:
    dock("create", "--name", "one", "busybox", "true")
    assert "in use" in dock("create", "--name", "one", "busybox", "true", code=125).stderr
    dock("rm", "one")
    dock("run", "--rm", "--name", "one", "busybox", "true")


def test_create_start_and_start_again(dock: Docklock) -> None:
    dock("create", "--name", "twice", "busybox", "sh", "-c", "echo run; exit 4")
    assert dock("start", "-a", "twice", code=4).stdout == "run\n"
    assert dock("start", "-a", "twice", code=4).stdout == "run\n"
    runs = {receipt["run"] for receipt in dock.receipts("twice")}
    assert {str(run) for run in runs} == {"0", "1"}
    dock("verify", "twice")
    dock("rm", "twice")


def test_signals_of_the_front_end_reach_the_container(dock: Docklock) -> None:
    process = dock.start(
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.1; done",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "got\n"
    assert process.returncode == 9


def test_standard_input_with_i(dock: Docklock) -> None:
    assert dock("run", "--rm", "-i", "busybox", "cat", stdin="a\nb\n").stdout == "a\nb\n"
    assert dock("run", "--rm", "busybox", "cat", stdin="a\n").stdout == ""


def test_large_output_arrives_whole(dock: Docklock) -> None:
    text = out(dock, "busybox", "seq", "1", "200000")
    assert text.splitlines()[-1] == "200000"
    assert len(text.splitlines()) == 200_000


def test_exec_runs_in_the_same_container(dock: Docklock) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "host1",
        "--hostname",
        "inside",
        "-e",
        "A=1",
        "busybox",
        "sleep",
        "60",
    )
    result = dock(
        "exec",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "-u",
        "1000",
        "host1",
        "sh",
        "-c",
        "hostname; echo $A$B; pwd; id -u; exit 6",
        code=6,
    )
    assert result.stdout.splitlines() == ["inside", "12", "/tmp", "1000"]
    dock("exec", "host1", "nothere", code=127)
    status = dock("exec", "host1", "cat", "/proc/self/status").stdout
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    assert "CapEff:\t00000000a80425fb" in status
    assert dock("exec", "-i", "host1", "cat", stdin="x").stdout == "x"
    ops = [receipt["op"] for receipt in dock.receipts("host1")]
    assert "runtime.exec" in ops
    dock("rm", "-f", "host1")
    dock("exec", "host1", "true", code=125)


def test_inspect_names_its_shape(dock: Docklock) -> None:
    dock("run", "--name", "seen", "-e", "A=1", "busybox", "true")
    value = dock.inspect("seen")
    assert value["Name"] == "/seen"
    assert value["State"]["ExitCode"] == 0  # type: ignore[index]
    assert dock("inspect", "-f", "{{.State.Status}}", "seen").stdout == "exited\n"
    assert json.loads(dock("inspect", "busybox").stdout)[0]["RepoTags"] == ["busybox:latest"]
    dock("inspect", "nosuch", code=1)
    dock("rm", "seen")


def test_closed_output_does_not_hang_the_container(dock: Docklock) -> None:
    process = subprocess.Popen(
        ["sh", "-c", f"{' '.join(dock.argv('run', '--rm', 'busybox', 'yes'))} | head -n 1"],
        env=dock.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.communicate(timeout=30)[0] == "y\n"
    for name in dock("ps", "-q").stdout.split():
        dock("rm", "-f", name)


def test_input_that_nobody_reads_waits_with_its_sender(dock: Docklock, tmp_path: Path) -> None:
    """64 MiB for a program that reads none of it, then all: none is lost, little is kept."""
    source = tmp_path / "input"
    size = 64 << 20
    source.write_bytes(os.urandom(1 << 20) * 64)
    script = "while [ ! -e /go ]; do sleep 0.05; done; wc -c"
    with source.open("rb") as file:
        process = subprocess.Popen(
            dock.argv("run", "-i", "--name", "eats", "busybox", "sh", "-c", script),
            env=dock.environment, stdin=file, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    dock.wait_for(lambda: "eats" in dock("ps").stdout)
    guard = dock.supervisor_pid("eats")
    time.sleep(1)
    status = Path(f"/proc/{guard}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < 40_000
    dock("exec", "eats", "touch", "/go")
    output, _ = process.communicate(timeout=60)
    assert output == f"{size}\n"
    dock("rm", "eats")
