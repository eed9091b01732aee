"""A proposed rule opens the refused call with a receipt, that call alone, and keeps the file."""

from __future__ import annotations

import random
from functools import cache

import pytest

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.policy.diff import compare_policies
from docklock.policy.explain import explain_call
from docklock.policy.inherit import Resolved, resolve_policy
from docklock.policy.load import read_base
from docklock.policy.machines import get_machine
from docklock.policy.names import FLAGS
from docklock.policy.propose import (
    find_refusal,
    find_tests,
    insert_rule,
    is_opened,
    make_document,
    make_rule,
)

HELD = frozenset(DEFAULT_CAPABILITIES)
X86 = get_machine("x86_64")
WHERE = "/p/mine.yaml"
MINE = b"""# Ours; hands off.
name: mine
extends: strict   # the strict one

rules:
    # No peers at all.
    - {syscalls: [connect], action: deny, errno: EACCES}   # why: ticket 12

    - syscalls: [socket]
      action: deny
      when: {args: [{index: 0, op: "==", value: AF_UNIX}]}
"""


def resolve(data: bytes) -> Resolved:
    return resolve_policy(data, WHERE, read_base)


@cache
def get(name: str) -> Resolved:
    return resolve(f"name: x\nextends: {name}\n".encode())


def call(*args: int) -> tuple[int, ...]:
    return (*args, *[0] * (6 - len(args)))


def refuse(policy: Resolved, name: str, args: tuple[int, ...]) -> str:
    return find_refusal(policy, get("default"), name, args, HELD).why_not


def propose(base: str, name: str, args: tuple[int, ...]) -> Resolved:
    """The policy with the rule in a document of its own."""
    tests = find_tests(get(base), name, args, HELD)
    data = make_document("new", base, make_rule(name, tests), ("why",))
    assert is_opened(data, WHERE, read_base, name, args, HELD)
    return resolve(data)


def test_a_call_that_no_register_decides_is_opened_as_a_whole() -> None:
    base = resolve(b"name: x\nextends: strict\nrules:\n  - {syscalls: [connect], action: deny}\n")
    assert find_tests(base, "connect", call(3, 0xFFFF, 16), HELD) == ()
    found = find_refusal(base, get("default"), "connect", call(3, 0xFFFF, 16), HELD)
    assert found.why_not == ""
    assert found.step is not None
    assert (found.step.action, found.step.origin.line) == ("deny", 4)


def test_where_registers_decide_no_other_value_is_opened() -> None:
    """strict: sockets of the common families; a raw packet socket is refused twice over."""
    args = call(17, FLAGS["SOCK_RAW"] | FLAGS.get("SOCK_CLOEXEC", 0o2000000), 3)
    after = propose("strict", "socket", args)
    changes = compare_policies(get("strict").model, after.model, X86, HELD)
    assert {(one.syscall, one.kind) for one in changes} == {("socket", "allows")}
    for family, kind in ((17, 2), (2, 3), (38, 3), (16, 3)):
        (answer,) = explain_call(after, "socket", call(family, kind), HELD, is_i386=False).answers
        assert answer[0] == ("deny" if (family, kind) != (2, 2) else "allow")


def test_only_the_call_that_was_asked_for_changes_whatever_it_is() -> None:
    """Every call of the machine under the profiles, with registers at random."""
    chance = random.Random(8)
    proposed = 0
    for base in ("default", "strict", "batch", "network-service"):
        policy = get(base)
        names = chance.sample(sorted(X86.numbers), 25)
        for name in (*names, "socket", "clone", "personality", "ioctl"):
            args = tuple(
                chance.choice((0, 1, 2, 3, 17, 0x5412, 0x10000000, 2**64 - 1)) for _ in range(6)
            )
            if refuse(policy, name, args):
                continue
            proposed += 1
            after = propose(base, name, args)
            changes = compare_policies(policy.model, after.model, X86, HELD)
            assert {one.syscall for one in changes} == {name}, (base, name, args)
            assert {one.kind for one in changes} == {"allows"}
            assert all(one.after[0] == "record" for one in changes)
    assert proposed > 10


@pytest.mark.parametrize(
    ("base", "name", "args", "why"),
    [
        ("strict", "io_uring_setup", call(), "closed in every policy"),
        ("default", "seccomp", call(1, 8), "closed in every policy"),
        ("default", "mount", call(), "docklock run --cap-add SYS_ADMIN"),
        ("strict", "mount", call(), "docklock run --cap-add SYS_ADMIN"),
        ("default", "reboot", call(), "docklock run --cap-add SYS_BOOT"),
        ("default", "openat", call(), "lets it through by now"),
        ("default", "no_such_call", call(), "no table knows"),
    ],
)
def test_what_no_rule_should_open_says_why(
    base: str, name: str, args: tuple[int, ...], why: str
) -> None:
    assert why in refuse(get(base), name, args)


def test_with_the_capability_it_is_the_policys_word_again() -> None:
    found = find_refusal(get("strict"), get("default"), "mount", call(), frozenset(CAPABILITIES))
    assert found.why_not == ""


def test_an_insertion_keeps_every_other_byte() -> None:
    rule = make_rule("mount", ())
    new = insert_rule(MINE, WHERE, rule)
    assert new is not None
    added = b"    - syscalls: [mount]\n      action: record\n"
    assert new.replace(added, b"", 1) == MINE
    assert new.index(added) < new.index(b"# No peers")
    assert resolve(new).model.rules[0].syscalls == ("mount",)
    for data in (
        b"name: x\nextends: strict\n",
        b"name: x\nextends: strict",
        b"# c\nname: x\nextends: strict\n# end",
    ):
        again = insert_rule(data, WHERE, rule)
        assert again is not None
        assert again.startswith(data)
        assert resolve(again).model.rules[0].action == "record"


def test_rules_on_one_line_and_calls_decided_by_the_file_are_left_to_a_new_document() -> None:
    flow = b"name: x\nextends: strict\nrules: [{syscalls: [bind], action: deny}]\n"
    assert insert_rule(flow, WHERE, make_rule("mount", ())) is None
    assert (
        insert_rule(b"name: x\nextends: strict\nrules: []\n", WHERE, make_rule("mount", ())) is None
    )
    new = insert_rule(MINE, WHERE, make_rule("connect", ()))
    assert new is not None
    assert not is_opened(new, WHERE, read_base, "connect", call(), HELD)  # `never gets here`
    with pytest.raises(SpecError, match="connect never gets here"):
        resolve(new)
