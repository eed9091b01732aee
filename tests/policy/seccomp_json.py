"""What runc makes of a profile in JSON, with libseccomp: an oracle for import and export."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest

from tests.policy.test_docker import is_rule_on

pyseccomp = pytest.importorskip("pyseccomp", reason="libseccomp is the oracle")
ARCHES = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}
GO_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
KILL_PROCESS, LOG = 0x80000000, 0x7FFC0000
OPERATORS = {
    "SCMP_CMP_EQ": pyseccomp.EQ,
    "SCMP_CMP_GE": pyseccomp.GE,
    "SCMP_CMP_GT": pyseccomp.GT,
    "SCMP_CMP_LE": pyseccomp.LE,
    "SCMP_CMP_LT": pyseccomp.LT,
    "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ,
    "SCMP_CMP_NE": pyseccomp.NE,
}
ACTIONS = {"ALLOW": 0x7FFF0000, "LOG": LOG, "KILL_PROCESS": KILL_PROCESS, "KILL": 0}


def get_action(document: dict[str, Any], key: str, errno_key: str) -> int:
    name = document[key].removeprefix("SCMP_ACT_")
    if name == "ERRNO":
        return int(0x00050000 | document.get(errno_key, 1))
    return ACTIONS[name]


def compile_profile(profile: dict[str, Any], machine: str, held: tuple[str, ...]) -> bytes:
    """Docker's selection of rules, runc's way of adding them, libseccomp's program."""
    default = get_action(profile, "defaultAction", "defaultErrnoRet")
    chain = pyseccomp.SyscallFilter(default)
    if pyseccomp.system_arch() != ARCHES[machine]:
        chain.add_arch(ARCHES[machine])
        chain.remove_arch(pyseccomp.system_arch())
    for rule in profile["syscalls"]:
        action = get_action(rule, "action", "errnoRet")
        if action == default or not is_rule_on(rule, GO_ARCHES[machine], held):
            continue
        args = [make_arg(one) for one in rule.get("args") or ()]
        indexes = {one["index"] for one in rule.get("args") or ()}
        alternatives = [args] if len(indexes) == len(args) else [[one] for one in args]
        for name in rule["names"]:
            try:
                if pyseccomp.resolve_syscall(ARCHES[machine], name) < 0:
                    continue
            except (OSError, ValueError):
                continue
            for one in alternatives:
                chain.add_rule_exactly(action, name, *one)
    with tempfile.TemporaryFile() as file:
        chain.export_bpf(file)
        file.seek(0)
        return file.read()


def make_arg(one: dict[str, Any]) -> Any:
    values = [one["value"]]
    if one["op"] == "SCMP_CMP_MASKED_EQ":
        values.append(one.get("valueTwo", 0))
    return pyseccomp.Arg(one["index"], OPERATORS[one["op"]], *values)
