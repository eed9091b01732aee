"""diff says what another policy changes, exits 1 for a looser one, and misses nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docklock.capability import CAPABILITIES
from docklock.cli.policy import run_policy
from docklock.cli.policy_questions import resolve_name
from docklock.paths import Paths
from docklock.policy.compile import compute_arms
from docklock.policy.decision import Check, Compiled, holds_all
from docklock.policy.diff import compare_policies, compute_probes, is_looser
from docklock.policy.inherit import parse_policy
from docklock.policy.machines import get_machine
from tests.policy.policies import MACHINES, capability_sets, models, registers

PATHS = Paths("/nonexistent/state", "/nonexistent/run")
X86_64 = get_machine("x86_64")
HEAD = "name: a\ndefault: {action: allow}\n"


def compare(before: str, after: str):
    texts = [f"{HEAD}rules: [{rules}]\n".encode() for rules in (before, after)]
    old, new = (parse_policy(text, "a") for text in texts)
    return compare_policies(old, new, X86_64, frozenset())


def test_a_policy_does_not_differ_from_itself() -> None:
    for name in ("default", "strict", "observe"):
        model = resolve_name(name).model
        assert compare_policies(model, model, X86_64, frozenset(CAPABILITIES)) == ()


READ = "{{syscalls: [read], action: {}}}"
KINDS = {
    # before, after -> the kind of change
    ("deny", "allow"): "allows", ("closed", "record"): "allows", ("kill", "hold"): "allows",
    ("allow", "deny"): "refuses", ("hold", "closed"): "refuses", ("allow", "kill"): "refuses",
    ("record", "allow"): "hides", ("hold", "record"): "hides", ("deny", "closed"): "hides",
    ("kill", "deny"): "hides", ("allow", "record"): "records", ("record", "hold"): "records",
    ("closed", "deny"): "records", ("deny", "kill"): "records",
    ("deny", "deny, errno: EIO"): "other",
}  # fmt: skip
LOOSER = ("allows", "hides")


@pytest.mark.parametrize("pair", KINDS, ids="->".join)
def test_each_change_is_of_one_kind(pair) -> None:
    [change] = compare(*(READ.format(action) for action in pair))
    assert (change.kind, change.syscall) == (KINDS[pair], "read")
    assert is_looser((change,)) == (KINDS[pair] in LOOSER)


def test_masking_a_value_hides_it() -> None:
    plain = "{syscalls: [execve], action: record}"
    masking = "{syscalls: [execve], action: record, masks: [argv]}"
    assert [change.kind for change in compare(plain, masking)] == ["hides"]
    assert [change.kind for change in compare(masking, plain)] == ["records"]


def test_how_it_is_written_makes_no_difference() -> None:
    def test(op: str, value: str, more: str = "") -> str:
        return f"{{args: [{{index: 0, op: '{op}', value: {value}{more}}}]}}"

    one = f"{{syscalls: [socket], action: deny, when: {test('==', 'AF_VSOCK')}}}"
    other = (
        f"{{syscalls: [socket], action: allow, unless: {test('==', '40')}}},"
        "{syscalls: [socket], action: deny}"
    )
    assert compare(one, other) == ()
    wider = f"{{syscalls: [socket], action: deny, when: {test('>=', '40')}}}"
    [change] = compare(one, wider)
    assert (change.kind, change.args[0]) == ("refuses", 41)
    bits = f"{{syscalls: [socket], action: deny, when: {test('masked', '40', ', mask: 0xff')}}}"
    assert [change.kind for change in compare(one, bits)] == ["refuses"]
    mixed = f"{{syscalls: [socket], action: deny, when: {test('any_bits', '40')}}}"
    assert [change.kind for change in compare(wider, mixed)] == ["unclear"]
    assert is_looser(compare(wider, mixed))


def test_an_architecture_more_is_every_call_more() -> None:
    model = parse_policy(HEAD.encode(), "a")
    more = model._replace(architectures=("i386",))
    [change] = compare_policies(model, more, X86_64, frozenset())
    assert (change.kind, change.architecture, change.syscall) == ("allows", "i386", "*")
    [change] = compare_policies(more, model, X86_64, frozenset())
    assert change.kind == "refuses"
    assert compare_policies(model, more, get_machine("aarch64"), frozenset()) == ()
    [change] = compare_policies(model, model._replace(on_worker_death="kill"), X86_64, frozenset())
    assert (change.kind, change.syscall) == ("other", "on-worker-death")


@given(models(), models(), st.sampled_from(MACHINES), capability_sets, st.lists(registers))
def test_what_differs_anywhere_is_found(before, after, machine, held, tries) -> None:
    """For any registers: a difference has a change of its two treatments, or an unclear one."""
    machine = get_machine(machine)
    changes = compare_policies(before, after, machine, held)
    known = {(one.syscall, one.before, one.after) for one in changes}
    unclear = {one.syscall for one in changes if one.kind == "unclear"}
    old, new = compute_arms(before, machine, held), compute_arms(after, machine, held)
    for nr, arms in old.items():
        for args in tries:
            sides = []
            for one in (arms, new[nr]):
                rule = Compiled("", b"", b"", 0, {}, {0: one}, ()).decide(0, args)
                sides.append((rule.action, rule.errno, rule.masks))
            call = arms[-1].rule.name
            if sides[0] != sides[1] and call not in unclear:
                assert (call, *sides) in known


SMALL_CHECKS = st.builds(
    lambda op, mask, value: Check(0, op, mask, value & mask),
    st.sampled_from(("eq", "ne", "any")), st.integers(1, 255), st.integers(0, 255),
)  # fmt: skip
SIZE_CHECKS = st.builds(
    lambda op, value: Check(0, op, 0xFFFF, value),
    st.sampled_from(("eq", "ne", "lt", "le", "gt", "ge")), st.integers(0, 300),
)  # fmt: skip


@given(st.one_of(st.lists(SMALL_CHECKS, max_size=5), st.lists(SIZE_CHECKS, max_size=5)))
def test_probes_reach_every_combination_of_answers(checks) -> None:
    """Against every value of nine or ten bits."""
    probes = compute_probes(checks)
    assert probes is not None

    def answer(value: int) -> tuple[bool, ...]:
        return tuple(holds_all((check,), (value,)) for check in checks)

    reached = {answer(args[0] or 0) for args in probes}
    assert {answer(value) for value in range(1024)} <= reached


def run_diff(capsys, *argv: str) -> tuple[int, str]:
    code = run_policy(["diff", "--arch", "x86_64", *argv], PATHS)
    return code, capsys.readouterr().out


def test_the_exit_code_says_whether_the_second_is_looser(capsys) -> None:
    code, text = run_diff(capsys, "default", "strict")
    assert code == 0
    assert text.startswith("newly refused:\n")
    assert "  x86_64  sendto(_, _, _, _, 0x1): allow -> record\n" in text
    code, text = run_diff(capsys, "strict", "default")
    assert code == 1
    assert text.startswith("newly allowed:\n")
    assert "  x86_64  ptrace: deny EPERM -> record\n" in text
    assert run_diff(capsys, "default", "default") == (0, "no difference\n")
    code, text = run_diff(capsys, "--format", "json", "default", "observe")
    found = json.loads(text)
    assert (code, found["looser"]) == (1, True)
    assert {"kind": "allows", "architecture": "x86_64", "syscall": "mount", "example": "mount",
            "before": "deny EPERM", "after": "record"} in found["changes"]  # fmt: skip


def test_probes_include_a_pattern_that_no_comparison_asks_for() -> None:
    probes = compute_probes([Check(0, "eq", 3, 0), Check(0, "eq", 3, 3)])
    assert probes is not None
    assert {args[0] for args in probes} & {1, 2}
