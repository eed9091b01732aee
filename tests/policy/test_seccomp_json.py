"""Import and export: the kernel does the same with each call, by libseccomp's own program."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.cli.policy import run_policy
from docklock.cli.policy_questions import resolve_name
from docklock.document import Cursor
from docklock.paths import Paths
from docklock.policy.arguments import get_argument_count, get_width
from docklock.policy.compile import compile_policy
from docklock.policy.decision import Compiled
from docklock.policy.export_seccomp import export_profile, get_cubes
from docklock.policy.import_seccomp import OPERATORS, import_profile, simplify
from docklock.policy.inherit import parse_policy
from docklock.policy.machines import get_machine
from docklock.policy.write import format_policy
from tests.policy.bpf_interpreter import NOTIFY, load, run
from tests.policy.policies import EDGES, MACHINES, capability_sets, models, values_64
from tests.policy.seccomp_json import ACTIONS, KILL_PROCESS, LOG, compile_profile
from tests.policy.test_docker import docker  # noqa: F401

INSTRUCTIONS_MAX = 4096
PATHS = Paths("/nonexistent/state", "/nonexistent/run")
# What docklock decides for every policy, whatever a profile says.
OURS = frozenset(
    "io_uring_enter io_uring_register io_uring_setup seccomp exit exit_group restart_syscall"
    " rt_sigreturn".split()
)
RECORDED = {"hold": LOG, "kill": KILL_PROCESS, "record": LOG}


def get_effect(compiled: Compiled, lines: list, nr: int, args: tuple[int, ...]) -> int:
    """What becomes of the call, as libseccomp would write it."""
    verdict = run(lines, compiled.arch, nr, args)
    if verdict != NOTIFY:
        return verdict
    rule = compiled.decide(nr, args)
    return RECORDED.get(rule.action, 0x00050000 | rule.errno)


def get_tries(profile: dict[str, Any], name: str, chosen: random.Random) -> list[tuple[int, ...]]:
    """Registers near every value that the profile compares, in the bits that the kernel reads."""
    args = [one for rule in profile["syscalls"] if name in rule["names"]
            for one in rule.get("args") or ()]  # fmt: skip
    if not args:
        return [(0,) * 6]
    values = {0, 1, *(one.get(key, 0) for one in args for key in ("value", "valueTwo"))}
    values = {*chosen.sample(sorted(values), min(len(values), 12))}
    near = [value + step for value in sorted(values) for step in (-1, 0, 1)]
    near += [value ^ 1 << chosen.randrange(64) for value in sorted(values)]
    tries = [(value,) * 6 for value in near]
    tries += [tuple(chosen.choices((*near, *EDGES), k=6)) for _ in range(10)]
    return [tuple(value & get_width(name, i) for i, value in enumerate(one)) for one in tries]


def check_same(
    profile: dict[str, Any], compiled: Compiled, machine: str, held: tuple[str, ...], names: Any
) -> None:
    exported = compile_profile(profile, machine, held)
    if len(exported) > 8 * INSTRUCTIONS_MAX:
        return  # no kernel takes it
    ours, theirs = load(compiled.program), load(exported)
    numbers = get_machine(machine).numbers
    chosen = random.Random(7)
    for name in names:
        for args in get_tries(profile, name, chosen):
            got = get_effect(compiled, ours, numbers[name], args)
            wanted = run(theirs, compiled.arch, numbers[name], args)
            if got != wanted:
                wanted = decide_rule_by_rule(profile, machine, held, compiled.arch, name, args)
            assert got == wanted, (name, [hex(value) for value in args], hex(got), hex(wanted))


def decide_rule_by_rule(
    profile: dict[str, Any],
    machine: str,
    held: tuple[str, ...],
    arch: int,
    name: str,
    args: tuple[int, ...],
) -> int:
    """As libseccomp decides with each rule alone: it may merge two of one call's into a third.

    Without comparisons wins; of others no two apply, or the import would have been refused.
    """
    nr = get_machine(machine).numbers[name]
    verdict = default = run(
        load(compile_profile({**profile, "syscalls": []}, machine, held)), arch, nr, args
    )
    for rule in sorted(profile["syscalls"], key=lambda one: not one.get("args"), reverse=True):
        program = compile_profile({**profile, "syscalls": [rule]}, machine, held)
        alone = run(load(program), arch, nr, args)
        verdict = verdict if alone == default else alone
    return verdict


def compile_imported(profile: dict[str, Any], machine: str, held: Any) -> Compiled:
    """Imported, written, read again, compiled."""
    imported = import_profile(Cursor(profile, "p.json"), "p", machine, (6, 18))
    text = format_policy(imported.model, head=imported.notes)
    model = parse_policy(text.encode(), "p.yaml")
    assert model == imported.model
    return compile_policy(model, get_machine(machine), frozenset(held))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "held", [(), DEFAULT_CAPABILITIES, ("CAP_SYS_ADMIN",), CAPABILITIES], ids=len
)
def test_dockers_profile_does_the_same_when_imported(docker, machine, held) -> None:  # noqa: F811
    compiled = compile_imported(docker, machine, held)
    known = {name for rule in docker["syscalls"] for name in rule["names"]} - OURS
    numbers = get_machine(machine).numbers
    names = [name for name in numbers if name in known or numbers[name] < 440]
    check_same(docker, compiled, machine, held, [name for name in names if name not in OURS])


CALLS = ("mmap", "munmap", "brk", "lseek", "socket", "madvise", "fchmod", "getpid", "tgkill")
ACTION_NAMES = [name for name in ACTIONS if name != "KILL"]


@st.composite
def treatments(draw: st.DrawFn, action: str, errno: str) -> dict[str, Any]:
    name = draw(st.sampled_from([*ACTION_NAMES, "ERRNO", "ERRNO"]))
    found: dict[str, Any] = {action: f"SCMP_ACT_{name}"}
    if name == "ERRNO" and draw(st.booleans()):
        found[errno] = draw(st.sampled_from((1, 13, 38)))
    return found


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    """At most one comparison of each argument, as libseccomp refuses more; values in its width."""
    rules = []
    for _ in range(draw(st.integers(0, 6))):
        name = draw(st.sampled_from(CALLS))
        args = []
        indexes = st.sets(st.integers(0, max(get_argument_count(name) - 1, 0)), max_size=2)
        for index in sorted(draw(indexes)) if get_argument_count(name) else ():
            width = get_width(name, index)
            op = draw(st.sampled_from(sorted(OPERATORS)))
            one = {"index": index, "op": op, "value": draw(values_64) & width}
            if op == "SCMP_CMP_MASKED_EQ":
                one["valueTwo"] = draw(values_64) & one["value"]
            args.append(one)
        rule = {"names": [name], "args": args, **draw(treatments("action", "errnoRet"))}
        for key in ("includes", "excludes"):
            if draw(st.integers(0, 4)) == 0:
                rule[key] = {"caps": [draw(st.sampled_from(("CAP_SYS_ADMIN", "CAP_KILL")))]}
        rules.append(rule)
    return {**draw(treatments("defaultAction", "defaultErrnoRet")), "syscalls": rules}


@given(profiles(), st.sampled_from(MACHINES), st.sets(st.sampled_from(CAPABILITIES)))
def test_any_profile_does_the_same_when_imported_or_is_refused(profile, machine, held) -> None:
    held = tuple(sorted(held))
    try:
        compiled = compile_imported(profile, machine, held)
    except SpecError as error:
        assert "both may apply" in str(error) or "4096" in str(error)
        return
    check_same(profile, compiled, machine, held, CALLS)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["default", "strict", "network-service", "batch", "observe"])
@pytest.mark.parametrize("held", [DEFAULT_CAPABILITIES, CAPABILITIES], ids=len)
def test_a_shipped_policy_does_the_same_when_exported_and_imported(name, machine, held) -> None:
    model = resolve_name(name).model
    machine_table = get_machine(machine)
    compiled = compile_policy(model, machine_table, frozenset(held))
    profile = json.loads(json.dumps(export_profile(model, machine_table, frozenset(held))))
    names = [one for one, nr in machine_table.numbers.items() if one not in OURS and nr < 440]
    check_same(profile, compiled, machine, (), names)
    again = compile_imported(profile, machine, ())
    check_same(profile, again, machine, (), names)


@given(models(), st.sampled_from(MACHINES), capability_sets)
def test_any_policy_does_the_same_when_exported(model, machine, held) -> None:
    machine_table = get_machine(machine)
    try:
        profile = export_profile(model, machine_table, held)
    except SpecError as error:
        assert "comparisons" in str(error)
        return
    compiled = compile_policy(model, machine_table, held)
    names = [name for name in CALLS if name in machine_table.numbers]
    check_same(profile, compiled, machine, (), names)


@given(
    st.sampled_from(("eq", "ne", "lt", "le", "gt", "ge")), st.integers(0, 9), st.integers(0, 511)
)
def test_cubes_are_disjoint_and_hold_what_the_comparison_holds(op, bits, value) -> None:
    mask = (1 << bits) - 1
    value &= mask
    cubes = get_cubes(op, mask, value)
    for register in range(1024):
        got = register & mask
        wanted = {"eq": got == value, "ne": got != value, "lt": got < value, "le": got <= value,
                  "gt": got > value, "ge": got >= value}[op]  # fmt: skip
        assert sum(register & one == other for one, other in cubes) == wanted


@given(st.sampled_from(sorted(OPERATORS.values())), values_64, values_64, values_64)
def test_a_comparison_that_is_always_the_same_is_known(op, value, second, register) -> None:
    """Against the 64 bits of libseccomp, for registers that fit."""
    for width in (0xFFFF, 0xFFFFFFFF, (1 << 64) - 1):
        if value > width and (value | width) == (1 << 64) - 1:
            continue  # a negative number: meant in the width
        got = register & width
        wanted = {
            "==": got == value, "!=": got != value, "<": got < value, "<=": got <= value,
            ">": got > value, ">=": got >= value, "masked": got & value == second,
        }[op]  # fmt: skip
        found = simplify(op, value, second, width)
        if isinstance(found, bool):
            assert found == wanted
        elif op == "masked":
            assert (got & found[2] == found[1]) == wanted
        else:
            assert found == (op, value, 0)


REFUSED = {
    '{"syscalls": []}': "defaultAction: missing",
    '{"defaultAction": "SCMP_ACT_TRAP"}': "no SIGSYS: use SCMP_ACT_ERRNO",
    '{"defaultAction": "SCMP_ACT_NOTIFY"}': "docklock itself is the listener",
    '{"defaultAction": "SCMP_ACT_WHAT"}': "expected one of SCMP_ACT_ALLOW",
    '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0}': "errno 0 has no name",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}':
        "syscalls[0]: names no system call",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action":'
    ' "SCMP_ACT_ERRNO", "args": [{"index": 3, "op": "SCMP_CMP_EQ"}]}]}':
        "args[0]: read has 3 arguments",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action":'
    ' "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}}]}': "one capability",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action":'
    ' "SCMP_ACT_ERRNO"}, {"names": ["read"], "action": "SCMP_ACT_LOG"}]}':
        "syscalls[1]: read is treated otherwise in p.json: syscalls[0]",
    "[": "p.json",
    "{": "p.json",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_imported_is_named_with_its_place(text, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(SpecError) as raised:
        run_policy(["import", "--arch", "x86_64", "p.json"], PATHS)
    assert REFUSED[text] in str(raised.value)


def test_import_says_what_it_changed(tmp_path, capfd) -> None:
    rules = [
        {"names": ["read", "arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["exit", "io_uring_setup"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
    ]
    file = tmp_path / "My Profile.json"
    file.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}))
    assert run_policy(["import", "--arch", "x86_64", str(file)], PATHS) == 0
    out, err = capfd.readouterr()
    assert 'name: "my-profile"' in out
    assert "left out: arm_fadvise64_64." in out
    assert "left out: arm_fadvise64_64." in err
    assert "# Closed in every policy of docklock: io_uring_setup.\n" in out
    assert "# Allowed in every policy of docklock: exit_group restart_syscall rt_sigreturn." in out
    model = parse_policy(out.encode(), "a")
    named = {name for rule in model.rules for name in rule.syscalls}
    assert named == {"read", "exit", "exit_group", "restart_syscall", "rt_sigreturn", "ptrace"}


def test_export_writes_a_document_that_import_reads(tmp_path, capfd) -> None:
    file = tmp_path / "out.json"
    assert run_policy(["export", "strict", "--arch", "x86_64", "-o", str(file)], PATHS) == 0
    document = json.loads(file.read_text())
    assert document["defaultAction"] == "SCMP_ACT_ERRNO"
    assert document["architectures"] == ["SCMP_ARCH_X86_64"]
    out = str(tmp_path / "again.yaml")
    again = ["import", "--arch", "x86_64", str(file), "--name", "x", "-o", out]
    assert run_policy(again, PATHS) == 0
    assert run_policy(["check", out], PATHS) == 0
    capfd.readouterr()
    run_policy(["diff", "--arch", "x86_64", "strict", out], PATHS)
    assert "newly" not in capfd.readouterr().out
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nextends: default\narchitectures: [i386]\n")
    assert run_policy(["export", str(mine), "--arch", "x86_64"], PATHS) == 0
    assert "calls of i386 are left out, so they stay closed" in capfd.readouterr().err


def import_rules(*rules: dict[str, Any]) -> Compiled:
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules)}
    return compile_imported(profile, "x86_64", ())


def test_several_comparisons_of_one_argument_are_alternatives() -> None:
    """As runc adds them: libseccomp takes one comparison of an argument in a rule."""
    args = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (1, 2)]
    rule = {"names": ["socket"], "action": "SCMP_ACT_LOG", "args": args}
    compiled = import_rules(rule)
    actions = [compiled.decide(41, (family, 0, 0, 0, 0, 0)).action for family in range(4)]
    assert actions == ["deny", "record", "record", "deny"]


def test_rules_hold_that_libseccomp_merges_wrongly() -> None:
    """2.5.4 takes `index 1 <= 0 and index 2 == 0`, else `index 1 >= 1`, for always."""
    first = [{"index": 1, "op": "SCMP_CMP_LE", "value": 0}]
    first.append({"index": 2, "op": "SCMP_CMP_EQ", "value": 0})
    second = [{"index": 1, "op": "SCMP_CMP_GE", "value": 1}]
    rules = [
        {"names": ["lseek"], "action": "SCMP_ACT_ALLOW", "args": args} for args in (first, second)
    ]
    compiled = import_rules(*rules)
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    check_same(profile, compiled, "x86_64", (), ["lseek"])
    actions = [compiled.decide(8, (2, *pair, 0, 0, 0)).action for pair in ((0, 0), (0, 1), (1, 1))]
    assert actions == ["allow", "deny", "allow"]


def test_a_rule_without_comparisons_wins_wherever_it_stands() -> None:
    """As in libseccomp's tree: it replaces those with comparisons, before or after it."""
    test = {"index": 0, "op": "SCMP_CMP_EQ", "value": 1}
    rules = [
        {"names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS", "args": [test]},
        {"names": ["socket"], "action": "SCMP_ACT_LOG"},
    ]
    for one in (rules, rules[::-1]):
        compiled = import_rules(*one)
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": one}
        check_same(profile, compiled, "x86_64", (), ["socket"])
        assert compiled.decide(41, (1, 0, 0, 0, 0, 0)).action == "record"
