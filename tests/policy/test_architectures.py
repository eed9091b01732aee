"""i386 beside x86_64: the same rules, whatever a call is called there and however it is made."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES
from docklock.policy.arguments import SIGNATURES
from docklock.policy.compile import compile_policy
from docklock.policy.decision import Compiled, compute_key
from docklock.policy.i386 import MULTIPLEXERS, SAME, get_counterpart
from docklock.policy.inherit import parse_policy
from docklock.policy.load import encode_cache, parse_cache
from docklock.policy.machines import ARCHITECTURES, get_machine
from docklock.policy.model import GATED
from tests.policy.bpf_interpreter import ALLOW, ERRNO, NOTIFY, X86_64, load, run
from tests.policy.policies import EDGES, capability_sets, compile_text, models, registers

I386 = 0x40000003
NUMBERS = ARCHITECTURES["i386"][1].numbers
NATIVE = get_machine("x86_64").numbers
HEAD = "name: test\narchitectures: [native, i386]\ndefault: {action: allow}\n"


def compile_i386(rules: str, machine: str = "x86_64", capabilities: object = ()) -> Compiled:
    model = parse_policy(f"{HEAD}rules: [{rules}]\n".encode(), "test.yaml")
    return compile_policy(model, get_machine(machine), frozenset(capabilities))  # type: ignore


def decide(compiled: Compiled, name: str, *args: int) -> str:
    """What the program says; for a gated call, what decide() says."""
    registers = (*args, *(0,) * (6 - len(args)))
    verdict = run(load(compiled.program), I386, NUMBERS[name], registers)
    if verdict == NOTIFY:
        rule = compiled.decide(NUMBERS[name], registers, I386)
        assert (rule.name, rule.op) == (name, f"syscall.{name}")
        return rule.action
    return "allow" if verdict == ALLOW else "closed"


def test_other_architectures_are_closed_unless_asked_for() -> None:
    plain = compile_text(b"")
    asked = compile_i386("")
    assert run(load(plain.program), I386, NUMBERS["getpid"]) == ERRNO | 38
    assert run(load(asked.program), I386, NUMBERS["getpid"]) == ALLOW
    assert run(load(asked.program), 0x40000028, NUMBERS["getpid"]) == ERRNO | 38
    on_arm = compile_i386("", "aarch64")
    assert run(load(on_arm.program), I386, NUMBERS["getpid"]) == ERRNO | 38


def test_the_machines_own_calls_are_decided_as_without_i386() -> None:
    rule = "{syscalls: [connect, setuid], action: record}"
    with_i386 = compile_i386(rule)
    text = f"name: test\ndefault: {{action: allow}}\nrules: [{rule}]\n".encode()
    without = compile_policy(parse_policy(text, "t"), get_machine("x86_64"), frozenset())
    for nr in range(470):
        args = (nr,) * 6
        assert run(load(with_i386.program), X86_64, nr, args) == run(
            load(without.program), X86_64, nr, args
        )
        for arch in (0, X86_64):
            assert with_i386.decide(nr, args, arch) == without.decide(nr, args)
    assert with_i386.digest != without.digest


def test_the_same_number_is_another_call_on_each_architecture() -> None:
    """11 is munmap on x86_64 and execve on i386."""
    compiled = compile_i386("{syscalls: [execve], action: record}")
    assert NUMBERS["execve"] == NATIVE["munmap"] == 11
    assert compiled.decide(11, (0,) * 6, I386).action == "record"
    assert compiled.decide(11, (0,) * 6).name == "unknown"
    assert compute_key(I386, 11, X86_64) in compiled.rules
    assert compute_key(X86_64, 59, X86_64) == 59
    assert 59 in compiled.rules
    assert compiled.decide(11, (0,) * 6, I386).strings == ((0, "path"), (1, "argv32"))


OTHER_NAMES = {
    "setuid": ["setuid", "setuid32"], "chown": ["chown", "chown32"], "clone": ["clone"],
    "umount2": ["umount", "umount2"], "stat": ["oldstat", "stat", "stat64"],
    "clock_settime": ["clock_settime", "clock_settime64"], "mmap": ["mmap", "mmap2"],
    "settimeofday": ["settimeofday", "stime"],
    "rt_sigprocmask": ["rt_sigprocmask", "sgetmask", "sigprocmask", "ssetmask"],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_rule_decides_a_call_under_all_its_names(name) -> None:
    compiled = compile_i386(f"{{syscalls: [{name}], action: deny}}")
    assert [one for one in sorted(NUMBERS) if decide(compiled, one) == "deny"] == OTHER_NAMES[name]


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
def test_a_multiplexer_is_decided_as_what_it_does(multiplexer) -> None:
    mask, calls = MULTIPLEXERS[multiplexer]
    for call in sorted(set(calls.values())):
        compiled = compile_i386(f"{{syscalls: [{call}], action: record}}")
        for value in range(30):
            wanted = "record" if calls.get(value) == call else "allow"
            wanted = wanted if value in calls else "closed"
            assert decide(compiled, multiplexer, value) == wanted, (call, value)
            assert decide(compiled, multiplexer, value | (~mask & 0xFFFFFFFF)) == wanted
        rule = compiled.decide(NUMBERS[multiplexer], (min(calls), 0, 0, 0, 0, 0), I386)
        assert rule.strings == (), "its arguments are in memory of another shape"


def test_what_cannot_be_compared_is_decided_by_the_strictest_rule() -> None:
    """socketcall has its arguments in memory; setuid takes 16 bits there; lseek's are signed."""
    family = "when: {args: [{index: 0, op: '==', value: AF_VSOCK}]}"
    compiled = compile_i386(f"{{syscalls: [socket], action: deny, {family}}}")
    assert decide(compiled, "socketcall", 1) == "deny"
    assert decide(compiled, "socketcall", 3) == "allow"
    assert decide(compiled, "socket", 2) == "allow"
    assert decide(compiled, "socket", 40) == "deny"
    test = "{args: [{index: 0, op: '==', value: 5}]}"
    compiled = compile_i386(f"{{syscalls: [setuid], action: kill, when: {test}}}")
    assert decide(compiled, "setuid", 0x10005) == decide(compiled, "setuid", 4) == "kill"
    assert decide(compiled, "setuid32", 5) == "kill"
    assert decide(compiled, "setuid32", 4) == "allow"


def test_a_rule_may_name_a_call_of_i386_itself() -> None:
    rules = "{syscalls: [socketcall], action: record}, {syscalls: [setuid32], action: hold},"
    compiled = compile_i386(rules + "{syscalls: [setuid, socket], action: deny}")
    assert decide(compiled, "socketcall", 1) == "record"
    assert decide(compiled, "setuid32") == "hold"
    assert decide(compiled, "setuid") == "deny"
    earlier = "{syscalls: [setuid], action: deny}, {syscalls: [setuid32], action: hold}"
    assert decide(compile_i386(earlier), "setuid32") == "deny", "the first that matches wins"


REFUSED = {
    "{syscalls: [setuid32], action: deny}": "setuid32 is of i386: add architectures: [i386], or"
    " name setuid, which decides for it",
    "{syscalls: [socketcall], action: deny}": "socketcall is of i386: add architectures: [i386]",
    "{syscalls: [umount], action: deny}": "or name umount2",
}


@pytest.mark.parametrize("rule", REFUSED)
def test_a_call_of_i386_needs_the_architecture(rule) -> None:
    text = f"name: a\ndefault: {{action: allow}}\nrules: [{rule}]\n"
    with pytest.raises(SpecError) as raised:
        parse_policy(text.encode(), "a")
    assert REFUSED[rule] in str(raised.value)
    parse_policy((text + "architectures: [i386]\n").encode(), "a")


MISTAKES = {
    "[i368]": "nearest is i386", "[]": "at least one", "i386": "a sequence",
    "[i386, i386]": "twice", "[x32]": "choose one of native, i386",
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_in_architectures_is_named(words) -> None:
    with pytest.raises(SpecError, match=MISTAKES[words]):
        parse_policy(f"name: a\ndefault: {{action: allow}}\narchitectures: {words}\n".encode(), "a")


def test_no_policy_opens_io_uring_or_a_second_listener_to_i386() -> None:
    compiled = compile_i386("{syscalls: [seccomp], action: allow}", "x86_64", CAPABILITIES)
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert decide(compiled, name) == "closed"
        assert f"i386.{name}" in compiled.closed
    assert decide(compiled, "seccomp", 1, 8) == "closed"
    assert decide(compiled, "seccomp", 1, 1) == "allow"


def test_ending_and_returning_from_a_signal_stay_allowed() -> None:
    text = "name: a\narchitectures: [i386]\ndefault: {action: kill}\nrules:\n"
    text += "  - {syscalls: [exit, exit_group, restart_syscall, rt_sigreturn], action: allow}\n"
    compiled = compile_policy(parse_policy(text.encode(), "a"), get_machine("x86_64"), frozenset())
    for name in ("exit", "exit_group", "restart_syscall", "rt_sigreturn", "sigreturn"):
        assert decide(compiled, name) == "allow"
    with pytest.raises(SpecError, match="sigreturn must be allowed"):
        parse_policy(text.encode() + b"  - {syscalls: [sigreturn], action: deny}\n", "a")


def test_the_table_names_calls_that_exist() -> None:
    known = SIGNATURES.keys() | NATIVE.keys()
    for name in NUMBERS:
        other, changed = get_counterpart(name)
        assert other in known or other == name, name
        assert 0 <= changed <= SAME
        assert other in NATIVE or other == name
    left = {name for name in NUMBERS if name not in NATIVE and get_counterpart(name).name == name}
    assert left == {
        "bdflush", "break", "gtty", "idle", "ipc", "lock", "mpx", "prof", "profil", "socketcall",
        "stty", "ulimit", "vm86", "vm86old",
    }  # fmt: skip


@given(models(), capability_sets, st.data())
def test_program_and_decide_agree_on_i386(model, held, data) -> None:
    model = model._replace(architectures=("i386",))
    compiled = compile_policy(model, get_machine("x86_64"), held)
    program = load(compiled.program)
    args = data.draw(registers)
    args = tuple(value & 0xFFFFFFFF for value in args)
    for nr in range(463):
        verdict = run(program, I386, nr, args)
        key = compute_key(I386, nr, X86_64)
        rule = compiled.decide(nr, args, I386)
        assert (verdict == NOTIFY) == (key in compiled.rules and rule.action in GATED)
    assert parse_cache(encode_cache(compiled, [])) == (compiled, [])


@given(models(), capability_sets, st.lists(registers, min_size=1, max_size=4))
def test_a_call_with_the_same_registers_is_decided_as_on_x86_64(model, held, tries) -> None:
    model = model._replace(architectures=("i386",))
    program = load(compile_policy(model, get_machine("x86_64"), held).program)
    names = ("socket", "madvise", "prctl", "ioctl", "tgkill", "fchmod", "open")
    for args in [*tries, *(tuple(random.Random(1).choices(EDGES, k=6)) for _ in range(3))]:
        narrow = tuple(value & 0xFFFFFFFF for value in args)
        for name in names:
            assert run(program, I386, NUMBERS[name], narrow) == run(
                program, X86_64, NATIVE[name], narrow
            )
