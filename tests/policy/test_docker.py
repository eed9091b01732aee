"""Every call that Docker's default profile denies is denied by ours.

The profile is Docker's own default.json as Debian packages it; it is not copied into this tree.
Another version can be named: DOCKLOCK_DOCKER_PROFILE=FILE.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from docklock.capability import CAPABILITIES
from docklock.policy.arguments import get_width
from docklock.policy.machines import get_machine
from docklock.policy.model import GATED
from docklock.policy.names import FLAGS
from tests.policy.bpf_interpreter import ALLOW, NOTIFY, load, run
from tests.policy.policies import MACHINES, compile_shipped

PACKAGE = "golang-github-docker-docker-dev"
INSTALLED = "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
CI = os.environ.get("CI") == "true"
# Younger than the profile of Docker 20.10 that Debian 12 has, and allowed by Docker's of 2026; a
# profile that names one of them, or one of these capabilities, is the judge of it again.
YOUNGER = frozenset(
    "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake landlock_add_rule"
    " landlock_create_ruleset landlock_restrict_self listmount map_shadow_stack memfd_secret mseal"
    " pkey_alloc pkey_free pkey_mprotect process_mrelease set_mempolicy_home_node statmount".split()
)
YOUNGER_CAPABILITIES = {"CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open"}
# Docker's since 25: not in Debian's file, so named here.
ALSO_DENIED = ("io_uring_enter", "io_uring_register", "io_uring_setup")


def find_profile(directory: Path) -> Path:
    named = os.environ.get("DOCKLOCK_DOCKER_PROFILE")
    for path in (Path(named) if named else None, Path("/") / INSTALLED, directory / INSTALLED):
        if path is not None and path.exists():
            return path
    try:
        get = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
        subprocess.run(get, cwd=directory, check=True, capture_output=True, timeout=120)
        deb = next(directory.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", deb, directory], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        if CI:
            raise
        pytest.skip(f"Docker's profile: {PACKAGE} cannot be had from Debian's archive: {error}")
    return directory / INSTALLED


@pytest.fixture(scope="session")
def docker(pytestconfig: pytest.Config) -> dict[str, Any]:
    assert pytestconfig.cache is not None
    path = find_profile(pytestconfig.cache.mkdir("docker-profile"))
    profile: dict[str, Any] = json.loads(path.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    return profile


def is_rule_on(rule: dict[str, Any], arch: str, held: tuple[str, ...]) -> bool:
    """Docker's includes and excludes (profiles/seccomp/seccomp_linux.go, setupSeccomp)."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if arch in excludes.get("arches", ()) or set(excludes.get("caps", ())) & set(held):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    return set(includes.get("caps", ())) <= set(held)


def is_argument_met(name: str, test: dict[str, Any], args: tuple[int, ...]) -> bool:
    """Of the bits at which the kernel looks: personality(1 << 40) is personality(0) to it."""
    got, value = args[test["index"]] & get_width(name, test["index"]), test["value"]
    return {
        "SCMP_CMP_EQ": got == value,
        "SCMP_CMP_GE": got >= value,
        "SCMP_CMP_GT": got > value,
        "SCMP_CMP_LE": got <= value,
        "SCMP_CMP_LT": got < value,
        "SCMP_CMP_MASKED_EQ": got & value == test.get("valueTwo", 0),
        "SCMP_CMP_NE": got != value,
    }[test["op"]]


def get_docker_rules(
    docker: dict[str, Any], arch: str, held: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]]:
    rules: dict[str, list[dict[str, Any]]] = {}
    for rule in docker["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and is_rule_on(rule, arch, held):
            for name in rule["names"]:
                rules.setdefault(name, []).append(rule)
    return rules


def get_younger(docker: dict[str, Any], held: tuple[str, ...]) -> set[str]:
    """Calls of which this version of Docker's profile knows too little to judge."""
    named = {name for rule in docker["syscalls"] for name in rule["names"]}
    includes = [rule.get("includes") or {} for rule in docker["syscalls"]]
    capabilities = {name for one in includes for name in one.get("caps", ())}
    younger = set(YOUNGER - named)
    for capability, call in YOUNGER_CAPABILITIES.items():
        if capability in held and capability not in capabilities:
            younger.add(call)
    return younger


CAPABILITY_SETS = [(), CAPABILITIES, *((name,) for name in CAPABILITIES)]
VALUES = (0, 1, 2, 8, 16, 40, 0x20000, 0x20008, 0xFFFFFFFF, 0x7E020000, 1 << 40, *FLAGS.values())


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("held", CAPABILITY_SETS, ids=lambda held: "+".join(held)[:40] or "none")
def test_what_docker_denies_is_denied(docker, machine, held) -> None:
    skipped = get_younger(docker, held)
    rules = get_docker_rules(docker, ARCHES[machine], held)
    compiled = compile_shipped("default", machine, held)
    program = load(compiled.program)
    for name, nr in get_machine(machine).numbers.items():
        if name in skipped:
            continue
        ours = rules.get(name, [])
        for value in VALUES if any(rule.get("args") for rule in ours) else VALUES[:1]:
            args = (value, 0, 0, 0, 0, 0)
            allowed = name not in ALSO_DENIED and any(
                all(is_argument_met(name, test, args) for test in rule.get("args") or ())
                for rule in ours
            )
            verdict = run(program, compiled.arch, nr, args)
            if allowed or (verdict not in (ALLOW, NOTIFY)):
                continue
            assert verdict == NOTIFY, f"Docker denies {name}{args[:1]}, default allows it"
            assert compiled.decide(nr, args).action in ("deny", "kill"), name


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_ALG"])
def test_sockets_that_younger_profiles_of_docker_deny_are_denied(family) -> None:
    compiled = compile_shipped("default")
    assert compiled.decide(41, (FLAGS[family], 1, 0, 0, 0, 0)).action == "deny"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_critical_set_has_a_receipt_or_is_closed(machine) -> None:
    critical = (
        "execve execveat ptrace mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick"
        " mount_setattr setns unshare pivot_root chroot init_module finit_module delete_module bpf"
        " connect setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid capset"
        " keyctl userfaultfd process_vm_writev pidfd_getfd open_by_handle_at kexec_load"
        " kexec_file_load perf_event_open seccomp"
    ).split()
    numbers = get_machine(machine).numbers
    for profile in ("default", "observe"):
        for held in ((), CAPABILITIES):
            compiled = compile_shipped(profile, machine, held)
            for name in critical:
                rule = compiled.decide(numbers[name], (0,) * 6)
                assert rule.action in GATED, (profile, name)
                if profile == "observe":
                    assert rule.action == "record"
            new = (FLAGS["CLONE_NEWUSER"], 0, 0, 0, 0, 0)
            assert compiled.decide(numbers["clone"], new).action in ("record", "deny")
            for name in ("clone3", "io_uring_setup"):
                assert name in compiled.closed
