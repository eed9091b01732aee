"""explain names the rule that decides, and its answer is decide()'s."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.capability import DEFAULT_CAPABILITIES
from docklock.cli.policy import run_policy
from docklock.cli.policy_questions import resolve_name
from docklock.paths import Paths
from docklock.policy.compile import compile_policy, compute_sections
from docklock.policy.explain import explain_call
from docklock.policy.inherit import Origin, Resolved
from docklock.policy.machines import ARCHITECTURES, get_machine
from docklock.policy.model import GATED
from tests.policy.bpf_interpreter import ALLOW, ERRNO, NOTIFY, load, run
from tests.policy.policies import CALLS, MACHINES, capability_sets, models, registers

PATHS = Paths("/nonexistent/state", "/nonexistent/run")
I386 = 0x40000003


def wrap(model) -> Resolved:
    origin = Origin("a.yaml", "random", 1)
    return Resolved(model, (origin,) * len(model.rules), origin, ())


def get_truth(compiled, machine: str, arch: int, nr: int, args) -> tuple[str, int]:
    verdict = run(load(compiled.program), arch, nr, args)
    if verdict == NOTIFY:
        rule = compiled.decide(nr, args, arch)
        return rule.action, rule.errno
    return ("allow", 0) if verdict == ALLOW else ("closed", verdict & ~ERRNO)


@given(models(), st.sampled_from(MACHINES), capability_sets, st.lists(registers, max_size=4))
def test_the_answer_is_what_happens(model, machine, held, tries) -> None:
    compiled = compile_policy(model, get_machine(machine), held)
    numbers = get_machine(machine).numbers
    names = [name for name in (*CALLS, "seccomp", "io_uring_setup", "clone") if name in numbers]
    for args in [*tries, (0,) * 6, (1, 8, 0, 0, 0, 0)]:
        for name in names:
            found = explain_call(wrap(model), name, args, held, is_i386=False)
            truth = get_truth(compiled, machine, compiled.arch, numbers[name], args)
            assert found.answers == (truth,), name
            assert (found.steps[-1].action, found.steps[-1].errno) == truth
            assert found.steps[-1].applies


@given(models(), capability_sets, st.lists(registers, max_size=3))
def test_the_answer_is_what_happens_on_i386(model, held, tries) -> None:
    model = model._replace(architectures=("i386",))
    compiled = compile_policy(model, get_machine("x86_64"), held)
    numbers = ARCHITECTURES["i386"][1].numbers
    for args in [*tries, (1, 8, 0, 0, 0, 0)]:
        narrow = tuple(value & 0xFFFFFFFF for value in args)
        for name in (*CALLS, "mmap2", "socketcall", "_llseek", "ipc", "setuid32", "getpid"):
            found = explain_call(wrap(model), name, narrow, held, is_i386=True)
            truth = get_truth(compiled, "x86_64", I386, numbers[name], narrow)
            assert found.answers == (truth,), name


@given(models(), capability_sets, registers, st.sets(st.integers(0, 5)))
def test_with_arguments_unknown_the_truth_is_among_the_answers(model, held, args, hidden) -> None:
    compiled = compile_policy(model, get_machine("x86_64"), held)
    shown = tuple(None if i in hidden else value for i, value in enumerate(args))
    for name in CALLS:
        found = explain_call(wrap(model), name, shown, held, is_i386=False)
        nr = get_machine("x86_64").numbers[name]
        assert get_truth(compiled, "x86_64", compiled.arch, nr, args) in found.answers


@given(models(), capability_sets)
def test_one_answer_means_that_nothing_depends_on_arguments(model, held) -> None:
    sections = compute_sections(model, get_machine("x86_64"), held)
    for name in CALLS:
        arms = sections[0][1][get_machine("x86_64").numbers[name]]
        found = explain_call(wrap(model), name, (None,) * 6, held, is_i386=False)
        assume(len(arms) == 1)
        assert found.answers == ((arms[0].rule.action, arms[0].rule.errno),)


def explain(capsys, *argv: str) -> str:
    assert run_policy(["explain", "--arch", "x86_64", *argv], PATHS) == 0
    return capsys.readouterr().out


def test_it_names_file_line_and_each_condition(capsys) -> None:
    text = explain(capsys, "clone", "CLONE_NEWUSER|17")
    head, first, *rest = text.splitlines()
    assert head == "clone(CLONE_NEWUSER|17) under default on x86_64: deny EPERM, with a receipt"
    assert "default.yaml:" in first
    assert first.endswith(": record (default): does not apply")
    assert rest[0].strip() == "when the container has CAP_SYS_ADMIN: no"
    assert rest[-1].strip() == "when arg0 has any bit of 0x7e020000: yes"
    assert "record, with a receipt" in explain(
        capsys, "--cap-add", "sys_admin", "clone", "CLONE_NEWUSER"
    )


def test_it_names_the_policy_that_a_rule_is_inherited_from(capsys) -> None:
    text = explain(capsys, "--policy", "batch", "sendto", "_", "_", "_", "_", "0")
    assert text.startswith("sendto(_, _, _, _, 0) under batch on x86_64: allow, without a receipt")
    assert "strict.yaml:" in text
    assert "(strict): does not apply" in text
    assert "(default): applies" in text


def test_an_argument_that_is_not_given_may_change_the_answer(capsys) -> None:
    text = explain(capsys, "socket")
    assert "deny EPERM or allow: it depends on arguments that are not given" in text
    assert "when arg0 == 0x28: unknown" in text


def test_calls_that_do_not_exist_and_other_architectures(capsys) -> None:
    assert "closed ENOSYS" in explain(capsys, "io_uring_setup")
    assert "every policy" in explain(capsys, "io_uring_setup")
    on_arm = ["explain", "--arch", "aarch64", "open"]
    assert run_policy(on_arm, PATHS) == 0
    assert "closed ENOSYS, without a receipt\n  (aarch64 lacks it)" in capsys.readouterr().out
    assert run_policy(["explain", "--arch", "i386", "setuid32"], PATHS) == 0
    assert "the policy has no architectures: [i386]" in capsys.readouterr().out
    assert explain(capsys, "59").startswith("execve(")
    for argv, words in (
        (["opne"], "nearest is open"), (["socket", "AF_VSOK"], "nearest is AF_VSOCK"),
        (["read", *"1234567"], "at most 6"), (["9999"], "ENOSYS in every policy"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=words):
            run_policy(["explain", "--arch", "x86_64", *argv], PATHS)


def test_json_says_the_same(capsys) -> None:
    found = json.loads(explain(capsys, "--format", "json", "mount"))
    assert found["answers"] == ["deny EPERM"]
    assert [rule["applies"] for rule in found["rules"]] == ["no", "yes"]
    assert found["rules"][0]["conditions"] == [
        {"text": "when the container has CAP_SYS_ADMIN", "holds": "no"}
    ]


def test_every_call_of_a_shipped_policy_has_an_answer() -> None:
    held = frozenset(DEFAULT_CAPABILITIES)
    for policy in ("default", "strict"):
        resolved = resolve_name(policy)
        for name in get_machine("x86_64").numbers:
            found = explain_call(resolved, name, (0,) * 6, held, is_i386=False)
            assert len(found.answers) == 1
            assert found.steps[-1].origin.line > 0 or found.answers[0][0] not in GATED
