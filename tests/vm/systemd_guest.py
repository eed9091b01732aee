"""The job of the machine that systemd runs: docklock's .deb, from its installation to its purge.

It runs as a service: in two boots or, short, in one. Prints to ttyS1 as guest.py does, `boot N` at
the beginning of each boot, `measured NAME: VALUE`, and `done`. Functions `first_NAME` are the
checks of the first boot, `second_NAME` of the one after the reboot. Not here: starting the machine
(systemd_machine.py).
"""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agent.openmetrics import parse_page
from tests.e2e.conftest import Docklock, make_busybox_tree
from tests.vm.guest import run_checks
from tests.vm.journal import check_journal

JOB = Path("/job")
STATE = Path("/var/lib/docklock")
RUN = Path("/run/docklock")
TOP = Path("/usr/lib/docklock")
TREE = Path("/sys/fs/cgroup")
MANAGER = Path("/run/systemd/private")
WORK = Path("/var/lib/docklock-tests")
OUTPUT = "/dev/ttyS1"
AGENT, SOCKET = "docklock.service", "docklock.socket"
MEND = "docklock-mend.service"
EXPOSURE_MAX = 2.0
# Emulated, everything takes ten times as long: these only end what hangs.
LIMIT_S = 60.0
SLEEP = "trap 'exit 5' TERM; while :; do sleep 0.2; done"
REFERENCE = """
[Service]
Type=notify
Restart=always
RestartSec=100ms
ExecStart=/usr/bin/python3 -IS -c "import asyncio, os, socket; \\
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \\
s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); asyncio.run(asyncio.sleep(9999))"
"""
# container -> (its --restart, whether its user stops it, whether Docker would start it at boot)
BOOTED = {
    "never": ("no", False, False),
    "failing": ("on-failure:3", False, True),
    "always": ("always", False, True),
    "stopped-always": ("always", True, True),
    "unless": ("unless-stopped", False, True),
    "stopped-unless": ("unless-stopped", True, False),
}


class Installed(Docklock):
    """/usr/bin/docklock, with the system's own paths."""

    def __init__(self) -> None:
        super().__init__(STATE)
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def argv(self, *words: str) -> list[str]:
        return ["/usr/bin/docklock", *words]


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S * 2)
    assert done.returncode == 0, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
    return done.stdout.strip()


def show(unit: str, name: str) -> str:
    return run("systemctl", "show", "-P", name, unit)


def get_agent() -> int:
    return int(show(AGENT, "MainPID"))


def get_scope(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition("/")[2]


def get_children(pid: int) -> list[str]:
    """The words of each child's command line."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{one}/cmdline").read_bytes().decode() for one in pids]


def count_notarised(dock: Docklock) -> int:
    """Segments that the notary has taken."""
    chains = json.loads(dock("notary", "status", "--json").stdout)["chains"]
    return sum(chain["segments"] + chain["waiting"] for chain in chains)


def is_running(dock: Docklock, name: str) -> bool:
    return bool(dock.inspect(name)["State"]["Running"])  # type: ignore[index]


def start(dock: Docklock, name: str, *options: str) -> None:
    dock("run", "-d", "--name", name, *options, "busybox", "sh", "-c", SLEEP)


def start_witness(dock: Docklock) -> int:
    """The container that lives through the checks; the pid of its guard."""
    if "witness" not in dock("ps", "-a").stdout:
        start(dock, "witness")
    elif not is_running(dock, "witness"):
        dock("start", "witness")
    return dock.supervisor_pid("witness")


def wait_scope(dock: Docklock, name: str) -> None:
    """Its guard's; the spawner is in one of its own."""
    pid = dock.supervisor_pid(name)
    spawner = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    wanted = f"docklock-{dock.inspect(name)['Id']}.scope"
    dock.wait_for(lambda: get_scope(pid) == wanted, LIMIT_S)
    if spawner != 1:
        dock.wait_for(lambda: get_scope(spawner) == f"docklock-spawner-{spawner}.scope", LIMIT_S)


def list_units(pattern: str) -> str:
    return run("systemctl", "list-units", "--all", "--no-legend", pattern)


def measure_run(dock: Docklock) -> float:
    """Seconds that one short container takes."""
    began = time.monotonic()
    dock("run", "--rm", "busybox", "true")
    return time.monotonic() - began


def measure_restart(unit: str) -> float:
    """Seconds from kill -9 of a unit's process to its being active again."""
    before = show(unit, "MainPID")
    began = time.monotonic()
    os.kill(int(before), signal.SIGKILL)
    while True:
        active, pid = show(unit, "ActiveState"), show(unit, "MainPID")
        if active == "active" and pid not in ("0", before):
            return time.monotonic() - began
        assert time.monotonic() - began < LIMIT_S, f"{unit} is {active}"


def ask(page: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(LIMIT_S)
        channel.connect(str(RUN / "agent.sock"))
        channel.sendall(f"GET {page} HTTP/1.1\r\n\r\n".encode())
        return b"".join(iter(lambda: channel.recv(65536), b"")).decode()


def tell(name: str, value: str) -> None:
    print(f"measured {name}: {value}", flush=True)


# -- the first boot --


def first_the_package_installs_and_the_agent_runs(dock: Docklock) -> None:
    run("dpkg", "-i", str(JOB / "docklock_1.0_amd64.deb"))
    assert (show(AGENT, "ActiveState"), show(SOCKET, "ActiveState")) == ("active", "active")
    assert show(AGENT, "UnitFileState") == show(SOCKET, "UnitFileState") == "enabled"
    found = (RUN / "agent.sock").stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert grp.getgrgid(found.st_gid).gr_name == "docklock"
    assert stat.S_IMODE(RUN.stat().st_mode) == 0o711
    assert ask("/_ping").endswith("OK")
    assert "0 containers run" in show(AGENT, "StatusText")
    dock("import", str(WORK / "rootfs"), "busybox")


def first_output_is_the_same_with_and_without_the_agent(dock: Docklock) -> None:
    script = "id; echo no >&2; cat /proc/self/limits"
    words = ("run", "--rm", "-m", "64m", "busybox", "sh", "-c", script)
    with_agent = dock(*words)
    run("systemctl", "stop", SOCKET, AGENT)
    without = dock(*words)
    run("systemctl", "start", SOCKET, AGENT)
    assert (with_agent.stdout, with_agent.stderr) == (without.stdout, without.stderr)
    assert with_agent.stdout.startswith("uid=0"), with_agent
    check_journal(dock)


def first_a_supervisor_is_in_a_scope_of_its_own(dock: Docklock) -> None:
    start(dock, "scoped")
    wait_scope(dock, "scoped")
    assert get_scope(dock.worker_pid("scoped")) == get_scope(dock.supervisor_pid("scoped"))
    dock("rm", "-f", "scoped")
    dock.wait_for(lambda: not list_units("docklock-*.scope"), LIMIT_S)


def first_a_scope_costs_a_start_little(dock: Docklock) -> None:
    """Against a manager that cannot be reached; by turns, and the best of each."""
    asked, alone = [], []
    for _ in range(5):
        asked.append(measure_run(dock))
        MANAGER.rename(MANAGER.with_suffix(".away"))
        try:
            alone.append(measure_run(dock))
        finally:
            MANAGER.with_suffix(".away").rename(MANAGER)
    tell("a start", f"{min(asked):.2f} s with a scope, {min(alone):.2f} s without (emulated)")
    assert min(asked) < 1.5 * min(alone), (asked, alone)


def first_the_end_of_whoever_started_it_is_not_its_own(dock: Docklock) -> None:
    """A oneshot service: systemd kills what is left in its cgroup the moment it ends."""
    words = ("systemd-run", "-q", "--wait", "-p", "Type=oneshot", "-p", "KillMode=control-group")
    run(*words, "/usr/bin/docklock", "run", "-d", "--name", "session", "busybox", "sh", "-c", SLEEP)
    wait_scope(dock, "session")
    assert is_running(dock, "session")
    run("systemctl", "stop", AGENT)
    assert is_running(dock, "session")
    run("systemctl", "start", AGENT)
    dock.wait_for(lambda: "docklock_adopted 1\n" in ask("/metrics"), LIMIT_S)
    dock("rm", "-f", "session")


def first_a_stopped_scope_ends_its_container_in_order(dock: Docklock) -> None:
    start(dock, "ordered")
    wait_scope(dock, "ordered")
    run("systemctl", "stop", f"docklock-{dock.inspect('ordered')['Id']}.scope")
    dock.wait_for(lambda: not is_running(dock, "ordered"), LIMIT_S)
    assert dock.inspect("ordered")["State"]["ExitCode"] == 5  # type: ignore[index]
    assert "cut" not in dock("verify", "ordered").stdout
    dock("rm", "ordered")


def first_what_a_container_inherits_is_not_the_units(dock: Docklock) -> None:
    """Of one that the agent starts again, and of one that a shell starts."""
    script = (
        "grep -E 'NoNewPrivs|Seccomp|Cap|Umask' /proc/self/status; cat /proc/self/oom_score_adj;"
        "cat /proc/self/limits; wc -l < /proc/self/mounts; echo whole; sleep 9999"
    )
    options = ("--restart", "always", "--privileged", "--security-opt", "no-new-privileges=false")
    dock("run", "-d", "--name", "heir", *options, "busybox", "sh", "-c", script)
    dock.wait_for(lambda: dock("logs", "heir").stdout.endswith("whole\n"), LIMIT_S)
    by_shell = dock("logs", "heir").stdout
    guard = dock.supervisor_pid("heir")
    os.kill(guard, signal.SIGKILL)
    dock.wait_for(lambda: dock("logs", "heir").stdout == by_shell * 2, LIMIT_S)
    again = dock.supervisor_pid("heir")
    for kind in ("mnt", "net", "ipc", "uts", "user", "cgroup"):
        assert os.readlink(f"/proc/{again}/ns/{kind}") == os.readlink(f"/proc/1/ns/{kind}"), kind
    dock("rm", "-f", "heir")


def first_limits_may_be_raised_and_hold(dock: Docklock) -> None:
    words = ("--ulimit", "nofile=1048576:1048576", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn")
    done = dock("run", "--rm", *words)
    assert (done.stdout, done.stderr) == ("1048576\n1048576\n", "")


def first_controllers_stay_when_systemd_reloads(dock: Docklock) -> None:
    start(dock, "limited", "-m", "64m", "--cpus", "0.5", "--pids-limit", "33")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", AGENT)
    directory = TREE / "docklock" / str(dock.inspect("limited")["Id"])
    assert (directory / "memory.max").read_text() == f"{64 << 20}\n"
    assert (directory / "cpu.max").read_text() == "50000 100000\n"
    assert (directory / "pids.max").read_text() == "33\n"
    controllers = (TREE / "docklock/cgroup.controllers").read_text().split()
    assert {"cpu", "memory", "pids"} <= set(controllers)
    assert (show(AGENT, "Delegate"), show(MEND, "Delegate")) == ("no", "yes")
    dock("rm", "-f", "limited")


def first_a_killed_agent_is_back_soon_and_containers_go_on(dock: Docklock) -> None:
    """As soon as systemd restarts anything that imports asyncio, and twice as long for the rest."""
    Path("/run/systemd/system/reference.service").write_text(REFERENCE)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "reference.service")
    guard = start_witness(dock)
    reference = min(measure_restart("reference.service") for _ in range(2))
    ours = min(measure_restart(AGENT) for _ in range(2))
    run("systemctl", "stop", "reference.service")
    tell("restart after kill -9", f"agent {ours:.1f} s, reference {reference:.1f} s")
    assert ours < 3 * reference + 1, (ours, reference)
    assert dock.supervisor_pid("witness") == guard
    assert "docklock_adopted 1\n" in ask("/metrics")


def first_the_agent_mends_by_a_unit_of_its_own(dock: Docklock) -> None:
    """A container that lost its supervisor runs again, and is no descendant of the agent's unit."""
    start(dock, "orphan", "--restart", "always")
    wait_scope(dock, "orphan")
    guard, agent = dock.supervisor_pid("orphan"), get_agent()
    stem = f"docklock-{dock.inspect('orphan')['Id']}"
    os.kill(guard, signal.SIGKILL)
    dock.wait_for(lambda: dock.inspect("orphan")["RestartCount"] == 1, LIMIT_S)
    dock.wait_for(lambda: is_running(dock, "orphan"), LIMIT_S)
    again = dock.supervisor_pid("orphan")
    # systemd may not have let go of the first one's scope: then the name is longer.
    dock.wait_for(lambda: re.fullmatch(rf"{stem}(-{again})?\.scope", get_scope(again)), LIMIT_S)
    assert get_agent() == agent
    assert not any("mend" in title for title in get_children(agent))
    assert "is started" not in run("journalctl", "-u", AGENT, "--no-pager")
    dock.wait_for(lambda: show(MEND, "ActiveState") == "inactive", LIMIT_S)
    assert (show(MEND, "Result"), show(MEND, "ExecMainStatus")) == ("success", "0")
    dock("rm", "-f", "orphan")


def first_the_locked_up_agent_tells_its_metrics(dock: Docklock) -> None:
    page = parse_page(ask("/metrics").partition("\r\n\r\n")[2])
    assert page["docklock_agent_well"].get() == 1
    assert page["docklock_runs"].get("_total") > 0
    assert page["docklock_receipts"].get("_total") > 0
    assert page["docklock_commit_seconds"].get("_count") > 0
    status = Path(f"/proc/{get_agent()}/status").read_text()
    assert "CapBnd:\t0000000000000000\n" in status and "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status


def first_what_the_locked_up_agent_starts_can_do_its_work(dock: Docklock) -> None:
    """Its notary takes what runs, and the log is cosigned by a witness beyond a socket."""
    dock("run", "--rm", "busybox", "true")
    dock.wait_for(lambda: count_notarised(dock) > 0, LIMIT_S)
    assert any("notary" in title for title in get_children(get_agent()))
    dock("log", "checkpoint")
    witness = "docklock --root /root/witness witness"
    keys = run(*witness.split(), "key").splitlines()
    Path("/root/witness.toml").write_text(
        f'listen = "127.0.0.1:9191"\n[[log]]\nkeys = {dock("log", "keys").stdout.splitlines()}\n'
    )
    run(
        "systemd-run",
        "--unit=other-witness",
        *f"{witness} serve --config /root/witness.toml".split(),
    )
    Path("/etc/docklock").mkdir(exist_ok=True)
    Path("/etc/docklock/witnesses.toml").write_text(
        f'operator = "us"\nneed = 1\n[[witness]]\nname = "{keys[0].partition("+")[0]}"\n'
        f'operator = "them"\nurl = "http://127.0.0.1:9191"\nkeys = {keys}\n'
    )
    run("systemctl", "reload", AGENT)
    dock.wait_for(lambda: "docklock_witness_policy_met 1\n" in ask("/metrics"), LIMIT_S)
    Path("/etc/docklock/witnesses.toml").unlink()
    run("systemctl", "reload", AGENT)
    run("systemctl", "stop", "other-witness")


def first_a_hung_agent_is_restarted_by_the_watchdog(dock: Docklock) -> None:
    guard, before = start_witness(dock), get_agent()
    os.kill(before, signal.SIGSTOP)
    dock.wait_for(lambda: get_agent() not in (0, before), LIMIT_S)
    dock.wait_for(lambda: show(AGENT, "ActiveState") == "active", LIMIT_S)
    assert "watchdog" in run("journalctl", "-u", AGENT, "--no-pager").lower()
    assert dock.supervisor_pid("witness") == guard


def first_the_units_exposure_is_recorded(dock: Docklock) -> None:
    text = run("systemd-analyze", "security", "--no-pager", AGENT)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert found, text
    tell("systemd-analyze security", found[1])
    assert float(found[1]) <= EXPOSURE_MAX, text


def first_an_upgrade_leaves_containers_running(dock: Docklock) -> None:
    guard, agent = start_witness(dock), get_agent()
    (before,) = (TOP / "trees").iterdir()
    run("dpkg", "-i", str(JOB / "docklock_2.0_amd64.deb"))
    dock.wait_for(lambda: get_agent() not in (0, agent), LIMIT_S)
    assert (TOP / "current").resolve() != before
    assert before.is_dir(), "the tree that a supervisor runs from is gone"
    assert dock.supervisor_pid("witness") == guard
    assert dock("exec", "witness", "echo", "in").stdout == "in\n"
    dock("stop", "witness")
    assert dock.inspect("witness")["State"]["ExitCode"] == 5  # type: ignore[index]
    assert "cut" not in dock("verify", "witness").stdout
    run(str(TOP / "current/trees"), "prune")
    assert not before.exists()


def first_containers_of_each_policy_run_before_the_reboot(dock: Docklock) -> None:
    for name, (policy, is_stopped, _) in BOOTED.items():
        start(dock, name, "--restart", policy)
        if is_stopped:
            dock("stop", name)
    dock("run", "-d", "--name", "deaf", "--restart", "always", "busybox", "sleep", "9999")
    assert is_running(dock, "always")
    (WORK / "boot").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())


# -- the second boot --


def second_exactly_those_run_that_docker_would_run(dock: Docklock) -> None:
    assert (WORK / "boot").read_text() != Path("/proc/sys/kernel/random/boot_id").read_text()
    wanted = sorted([name for name, (_, _, runs) in BOOTED.items() if runs] + ["deaf"])
    dock.wait_for(lambda: show(AGENT, "ActiveState") == "active", LIMIT_S)

    def find() -> list[str]:
        return sorted(name for name in (*BOOTED, "deaf") if is_running(dock, name))

    dock.wait_for(lambda: find() == wanted, LIMIT_S)
    time.sleep(2)
    assert find() == wanted


def second_evidence_is_whole_across_the_reboot(dock: Docklock) -> None:
    dock("verify", "--all")
    assert dock.inspect("never")["State"]["ExitCode"] == 5  # type: ignore[index]
    text = dock("verify", "never").stdout
    assert "cut" not in text, f"the shutdown was no order: {text}"


def second_removal_leaves_only_the_evidence(dock: Docklock) -> None:
    guard = start_witness(dock)
    pids = [guard, dock.worker_pid("witness")]
    run("dpkg", "-r", "docklock")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not find_processes()
    assert not list_units("docklock*")
    assert not list(Path("/etc/systemd/system").glob("*.wants/docklock*"))
    assert not list(Path("/usr/lib/systemd/system").glob("docklock*"))
    assert not any("docklock/" in line for line in Path("/proc/mounts").read_text().splitlines())
    assert not (TREE / "docklock").exists()
    for path in (TOP, RUN, Path("/usr/bin/docklock")):
        assert not path.exists(), path
    assert (STATE / "evidence").is_dir() and (STATE / "keys").is_dir()


def second_a_purge_leaves_nothing(dock: Docklock) -> None:
    run("dpkg", "-P", "docklock")
    assert not STATE.exists()
    assert "docklock" not in Path("/etc/group").read_text()


def find_processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"/usr/bin/docklock" in words:
            found.append(b" ".join(words).decode())
    return found


# In one boot, for every day.
SHORT = (
    "first_the_package_installs_and_the_agent_runs",
    "first_output_is_the_same_with_and_without_the_agent",
    "first_the_end_of_whoever_started_it_is_not_its_own",
    "first_an_upgrade_leaves_containers_running",
    "second_removal_leaves_only_the_evidence",
    "second_a_purge_leaves_nothing",
)


def get_short_checks() -> dict[str, Callable[[Docklock], None]]:
    """The checks of a run that does not reboot."""
    return {name.partition("_")[2]: globals()[name] for name in SHORT}


def get_checks(
    stage: str, names: dict[str, Any] | None = None
) -> dict[str, Callable[[Docklock], None]]:
    """The checks of a boot, `first` or `second`, in their order; `names` are another module's."""
    return {
        name.removeprefix(f"{stage}_"): value
        for name, value in (names or globals()).items()
        if name.startswith(f"{stage}_")
    }


def main() -> None:
    sys.stdout = open(OUTPUT, "w")
    is_second = (WORK / "boot").exists()
    print(f"boot {1 + is_second} ({time.clock_gettime(time.CLOCK_BOOTTIME):.0f} s)", flush=True)
    dock = Installed()
    if os.environ["DOCKLOCK_TEST_FULL"] != "1":
        make_busybox_tree(WORK / "rootfs")
        run_checks(get_short_checks(), dock)
    elif not is_second:
        make_busybox_tree(WORK / "rootfs")
        run_checks(get_checks("first"), dock)
        run("systemctl", "reboot", "--no-block")
        return
    else:
        run_checks(get_checks("second"), dock)
    print("done", flush=True)
    run("systemctl", "poweroff", "--no-block")


if __name__ == "__main__":
    main()
