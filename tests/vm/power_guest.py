"""The job of the machine that loses its power: ./install, a sealed key, containers, and the cut.

Says what systemd_guest.py says, and between the boots `held N` again and again: N held calls have
returned in a container. After the second boot `kept N` says how many of those are in its evidence.
Functions `first_NAME` are the checks before the cut, `second_NAME` those after it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.conftest import Docklock, make_busybox_tree
from tests.vm.guest import run_checks
from tests.vm.systemd_guest import (
    AGENT,
    BOOTED,
    JOB,
    LIMIT_S,
    OUTPUT,
    SOCKET,
    STATE,
    TOP,
    TREE,
    WORK,
    Installed,
    find_processes,
    get_checks,
    is_running,
    run,
    show,
    start,
)

CREDENTIAL = Path("/etc/docklock/host-key.cred")
DROP_IN = "/etc/systemd/system/{}.d/credential.conf"
GIVEN = Path("/run/credentials/docklock.service")
SOURCE = Path("/root/source")
INSTALL_MAX_S = 600
POLICY = """
name: durable
description: one call waits for its receipt to be durable, one is recorded
default: {action: allow}
rules:
  - {syscalls: [fsync, fdatasync], action: hold}
  - {syscalls: [chroot], action: record}
"""
# busybox dd calls fsync once; the count is what the container has seen return.
HOLDS = (
    "i=0; while dd if=/dev/zero of=/x bs=1 count=1 conv=fsync 2>/dev/null; do"
    " i=$((i+1)); echo $i; done"
)
RECORDS = "while :; do chroot / true; done"
SEALED_AT = 20  # in host.key, after its magic and version


def install(*words: str) -> str:
    """./install of a copy of the checkout, with pip's files from the job disk."""
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels", "HOME": "/root"}
    done = subprocess.run(
        ["./install", *words],
        cwd=SOURCE,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_MAX_S,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return done.stderr


def first_install_from_a_checkout_starts_the_agent(_dock: Docklock) -> None:
    SOURCE.mkdir()
    run("tar", "-C", str(SOURCE), "-xf", str(JOB / "source.tar"))
    run("tar", "-C", "/root", "-xf", str(JOB / "wheels.tar"))
    assert "installed: docklock" in install()
    assert (show(AGENT, "ActiveState"), show(SOCKET, "ActiveState")) == ("active", "active")
    assert show(AGENT, "UnitFileState") == show(SOCKET, "UnitFileState") == "enabled"
    assert (TOP / "by-install").exists()


def first_a_key_is_sealed_by_a_credential_of_systemd(dock: Docklock) -> None:
    """Sealed with this machine's own key, as it has no TPM."""
    CREDENTIAL.parent.mkdir(exist_ok=True)
    words = "systemd-creds encrypt --with-key=host --name=docklock-host-key - "
    run("sh", "-c", f"head -c 32 /dev/urandom | {words}{CREDENTIAL}")
    load = f"[Service]\nLoadCredentialEncrypted=docklock-host-key:{CREDENTIAL}\n"
    given = f"[Service]\nEnvironment=CREDENTIALS_DIRECTORY={GIVEN}\n"
    for unit, text in ((AGENT, load), ("docklock-mend.service", given)):
        path = Path(DROP_IN.format(unit))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", AGENT)
    dock.environment["CREDENTIALS_DIRECTORY"] = str(GIVEN)
    dock("import", str(WORK / "rootfs"), "busybox")
    assert (STATE / "keys/host.key").read_bytes()[SEALED_AT] == 1
    dock("run", "--rm", "busybox", "true")
    without = Installed()("run", "--rm", "busybox", "true", code=125)
    assert "LoadCredentialEncrypted" in without.stderr


def first_a_container_goes_on_signing_when_the_agent_has_stopped(dock: Docklock) -> None:
    """Its guard was begun with the credential, which is gone with the unit."""
    start(dock, "outlives")
    run("systemctl", "stop", SOCKET, AGENT)
    assert not (GIVEN / "docklock-host-key").exists()
    os.kill(int(str(dock.inspect("outlives")["State"]["Pid"])), 9)  # type: ignore[index]
    dock.wait_for(lambda: not is_running(dock, "outlives"), LIMIT_S)
    assert "run 0 closed" in dock("verify", "outlives").stdout
    run("systemctl", "start", SOCKET, AGENT)
    dock("rm", "outlives")


def first_containers_run_when_the_power_goes(dock: Docklock) -> None:
    for name, (policy, is_stopped, _) in BOOTED.items():
        start(dock, name, "--restart", policy)
        if is_stopped:
            dock("stop", name)
    (WORK / "policy.yaml").write_text(POLICY)
    durable = ("--policy", str(WORK / "policy.yaml"), "busybox", "sh", "-c")
    dock("run", "-d", "--name", "records", *durable, RECORDS)
    dock("run", "-d", "--name", "holds", *durable, HOLDS)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    (WORK / "boot").write_text(boot)
    os.sync()  # what is asked for, which nobody promised to make durable; evidence is


def tell_held_until_the_end(dock: Docklock) -> None:
    while True:
        lines = dock("logs", "--tail", "1", "holds").stdout.split()
        print(f"held {lines[-1] if lines else 0}", flush=True)
        time.sleep(0.2)


def second_restart_policies_are_applied_after_the_cut(dock: Docklock) -> None:
    assert (WORK / "boot").read_text() != Path("/proc/sys/kernel/random/boot_id").read_text()
    wanted = sorted(name for name, (_, _, runs) in BOOTED.items() if runs)
    dock.wait_for(lambda: show(AGENT, "ActiveState") == "active", LIMIT_S)
    names = (*BOOTED, "records", "holds")

    def find() -> list[str]:
        return sorted(name for name in names if is_running(dock, name))

    dock.wait_for(lambda: find() == wanted, LIMIT_S)
    time.sleep(2)
    assert find() == wanted


def second_each_run_that_was_cut_has_one_signed_gap(dock: Docklock) -> None:
    for name in ("never", "always", "failing", "unless", "records", "holds"):
        ops = [one["op"] for one in dock.receipts(name) if one["run"] == 0]
        assert ops.count("gap") == 1 and ops[-1] == "gap", (name, ops[-3:])
    assert "gap" not in [one["op"] for one in dock.receipts("stopped-unless")]


def second_evidence_is_whole_up_to_the_last_durable_commit(dock: Docklock) -> None:
    dock("verify", "--all")
    held = [
        one for one in dock.receipts("holds") if one["op"] in ("syscall.fsync", "syscall.fdatasync")
    ]
    print(f"kept {len(held)}", flush=True)
    assert [one["op"] for one in dock.receipts("records")].count("syscall.chroot") > 0


def second_install_removes_what_it_installed(_dock: Docklock) -> None:
    install("--remove", "--purge")
    assert not find_processes()
    assert not list(Path("/usr/lib/systemd/system").glob("docklock*"))
    assert not (TREE / "docklock").exists()
    for path in (TOP, STATE, Path("/usr/bin/docklock")):
        assert not path.exists(), path


def main() -> None:
    sys.stdout = open(OUTPUT, "w")
    is_second = (WORK / "boot").exists()
    print(f"boot {1 + is_second}", flush=True)
    dock = Installed()
    if not is_second:
        make_busybox_tree(WORK / "rootfs")
        run_checks(get_checks("first", globals()), dock)
        tell_held_until_the_end(dock)
    dock.environment["CREDENTIALS_DIRECTORY"] = str(GIVEN)
    run_checks(get_checks("second", globals()), dock)
    print("done", flush=True)
    run("systemctl", "poweroff", "--no-block")


if __name__ == "__main__":
    main()
