"""Policies for tests: the shipped ones, and a hypothesis strategy for whole documents."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.policy.arguments import get_argument_count, get_strings, get_width
from docklock.policy.decision import Compiled
from docklock.policy.load import compile_source, read_source
from docklock.policy.model import GATED, ArgumentTest, Condition, Model, RuleModel
from docklock.policy.shipped import find_policy

MACHINES = ("aarch64", "x86_64")
MUST_ALLOW_CALLS = ("exit", "exit_group", "restart_syscall", "rt_sigreturn")
MUST_ALLOW = b"  - {syscalls: [exit, exit_group, restart_syscall, rt_sigreturn], action: allow}\n"
EDGES = (0, 1, 2, 8, 40, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 32) + 40)
EDGES += ((1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x0000_0005_0000_0003, 0x0000_0003_0000_0005)
# Wide and narrow arguments, none and six of them, on both machines or on one only.
CALLS = "mmap socket lseek fchmod getpid open madvise prctl ioctl tgkill".split()
values_64 = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1), st.integers(0, 255))
registers = st.tuples(*[values_64] * 6)


def compile_text(text: bytes, machine: str = "x86_64", capabilities: Any = ()) -> Compiled:
    """A document that lacks only what every policy needs."""
    head = b"name: test\ndefault: {action: deny, errno: EPERM}\nrules:\n"
    return compile_source(head + text + MUST_ALLOW, "test.yaml", machine, capabilities)


def compile_shipped(
    name: str, machine: str = "x86_64", capabilities: Any = DEFAULT_CAPABILITIES
) -> Compiled:
    path = find_policy(name)
    return compile_source(read_source(path), path, machine, capabilities)


@st.composite
def argument_tests(draw: st.DrawFn, names: tuple[str, ...]) -> ArgumentTest:
    index = draw(st.integers(0, min(get_argument_count(name) for name in names) - 1))
    width = min(get_width(name, index) for name in names)
    op = draw(st.sampled_from(("==", "!=", "<", "<=", ">", ">=", "masked", "any_bits")))
    value = draw(values_64) & width
    if op == "masked":
        mask = (draw(values_64) & width) or 1
        return ArgumentTest(index, op, value & mask, mask)
    return ArgumentTest(index, op, value or (op == "any_bits"), 0)


@st.composite
def conditions(draw: st.DrawFn, names: tuple[str, ...]) -> Condition:
    takes = all(get_argument_count(name) for name in names)
    args = draw(st.lists(argument_tests(names), max_size=3)) if takes else []
    capability = draw(st.sampled_from(("", "", "CAP_SYS_ADMIN", "CAP_CHOWN")))
    if not args and not capability:
        capability = "CAP_CHOWN"
    return Condition(capability, tuple(args))


@st.composite
def rules(draw: st.DrawFn) -> RuleModel:
    names = tuple(draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=3, unique=True)))
    action = draw(st.sampled_from(("allow", "closed", "deny", "hold", "kill", "record")))
    errno = draw(st.sampled_from((1, 38, 133))) if action in ("closed", "deny") else 0
    when = draw(st.none() | conditions(names))
    unless = draw(st.none() | conditions(names))
    return RuleModel(names, action, errno, when, unless)


@st.composite
def models(draw: st.DrawFn) -> Model:
    action, errno = draw(st.sampled_from((("allow", 0), ("deny", 1), ("closed", 38), ("kill", 0))))
    return Model("random", "", action, errno, tuple(draw(st.lists(rules(), max_size=8))))


@st.composite
def readable_models(draw: st.DrawFn) -> Model:
    """Models that some document means: every rule may apply, no comparison is always the same."""
    model = draw(models())
    kept, decided = [], set()
    for rule in model.rules:
        names = tuple(name for name in rule.syscalls if name not in decided)
        tests = [one for part in (rule.when, rule.unless) if part for one in part.args]
        if not names or any(is_constant(test, name) for test in tests for name in rule.syscalls):
            continue
        if rule.when is None and rule.unless is None:
            decided.update(names)
        known = sorted({value for name in names for value in get_strings(name)})
        masks: tuple[str, ...] = ()
        if known and rule.action in GATED:
            masks = tuple(sorted(draw(st.sets(st.sampled_from(known)))))
        kept.append(rule._replace(syscalls=names, masks=masks))
    if model.default_action != "allow":
        kept.append(RuleModel(MUST_ALLOW_CALLS, "allow", 0, None, None))
    return model._replace(
        rules=tuple(kept),
        architectures=draw(st.sampled_from(((), ("i386",)))),
        on_worker_death=draw(st.sampled_from(("kill", "restart"))),
    )


def is_constant(test: ArgumentTest, name: str) -> bool:
    """Whether the parser refuses the comparison as always the same."""
    width = get_width(name, test.argument)
    edges = ((">", width), ("<", 0), (">=", 0), ("<=", width))
    return (test.op, test.value) in edges


capability_sets = st.frozensets(st.sampled_from(CAPABILITIES), max_size=41)
