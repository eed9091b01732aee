from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.policy.inherit import parse_policy, resolve_policy
from docklock.policy.load import compile_source, read_base, read_source
from docklock.policy.model import encode_model
from docklock.policy.shipped import find_policy, list_profiles

HEAD = "name: test\ndefault: {action: deny}\nrules:\n"
TAIL = "  - {syscalls: [exit, exit_group, restart_syscall, rt_sigreturn], action: allow}\n"


def get_error(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(SpecError) as raised:
        parse_policy(data, "my.yaml")
    return str(raised.value)


def get_rule_error(rule: str) -> str:
    return get_error(f"{HEAD}  - {rule}\n{TAIL}")


RULES = {
    "{syscalls: [opennat], action: allow}": ("4:17", "nearest is openat"),
    "{syscalls: [read], action: alow}": ("4:32", "nearest is allow"),
    "{syscals: [read], action: allow}": ("4:6", "nearest is syscalls"),
    "{syscalls: [read], action: deny, errno: EPREM}": ("4:45", "nearest is EPERM"),
    "{syscalls: [read], action: allow, errno: EPERM}": ("4:46", "closed and deny"),
    "{syscalls: [read], action: record, errno: EPERM}": ("4:47", "closed and deny"),
    "{syscalls: [read], action: allow, when: {capability: CAP_SYS_ADMN}}": (
        "4:58",
        "CAP_SYS_ADMIN",
    ),
    "{syscalls: [read], action: allow, when: {}}": ("4:45", "capability, args or both"),
    "{syscalls: [], action: allow}": ("4:16", "at least one name"),
    "{syscalls: read, action: allow}": ("4:16", "sequence"),
    "{syscalls: [read, read], action: allow}": ("4:23", "twice"),
    "{syscalls: [no], action: allow}": ("4:17", "true or false"),
    "{syscalls: [010], action: allow}": ("4:17", "base 8"),
    "{syscalls: [12:30:45], action: allow}": ("4:17", "base 60"),
    "{syscalls: [1_000], action: allow}": ("4:17", "underscores"),
    "{syscalls: [2026-11-22], action: allow}": ("4:17", "date"),
    "{syscalls: [~], action: allow}": ("4:17", "null"),
    "{syscalls: [1.5], action: allow}": ("4:17", "number"),
    "{syscalls: [openat], action: deny, path: /etc/shadow}": ("4:40", "cannot decide on path"),
    "{syscalls: [openat], action: deny, when: {path: /etc}}": ("4:47", "the container can change"),
    "{syscalls: [connect], action: deny, address: 10.0.0.1}": ("4:41", "cannot decide on address"),
    "{syscalls: [io_uring_setup], action: allow}": ("4:17", "closed in every policy"),
    "{syscalls: [exit_group], action: deny}": ("4:17", "must be allowed"),
    "{syscalls: [rt_sigreturn], action: allow, when: {capability: CAP_KILL}}": ("4:17", "must be"),
    "{syscalls: [exit], action: record}": ("4:17", "must be allowed"),
    "&a {syscalls: [read], action: allow}": ("4:5", "anchors"),
    "!x {syscalls: [read], action: allow}": ("4:5", "tags"),
    "{syscalls: [read], action: allow, action: deny}": ("4:39", "line 4 already"),
    "{[a]: b}": ("4:6", "a key must be a word"),
    "[read]": ("4:5", "must be a mapping"),
}
ARGS = {
    "{index: 6, op: '==', value: 0}": "arguments, from index 0",
    "{index: 0, op: '=', value: 0}": "choose one of ==",
    "{index: 0, op: '==', value: -1}": "write 0xffffffff",
    "{index: 0, op: '==', value: 010}": "base 8",
    "{index: 0, op: '==', value: 1_000}": "write 1000",
    "{index: 0, op: '==', value: 12:30:45}": "base 60",
    "{index: 0, op: '==', value: '1'}": "must be a number",
    "{index: 0, op: '==', value: 0x1ffffffffffffffff}": "below 2**64",
    "{index: 0, op: '==', value: 0x100000000}": "has 32 bits",
    "{index: 0, op: '==', value: AF_VSOK}": "nearest is AF_VSOCK",
    "{index: 0, op: '==', value: 1, mask: 1}": "needs the key mask",
    "{index: 0, op: masked, value: 1}": "needs the key mask",
    "{index: 0, op: masked, value: 2, mask: 1}": "within mask",
    "{index: 0, op: any_bits, value: 0}": "never true",
    "{index: 0, op: '>=', value: 0}": "always the same",
    "{index: 0, op: '<=', value: 0xffffffff}": "always the same",
    "{index: 0, op: '=='}": "needs the key value",
    "{index: true, op: '==', value: 0}": "must be a number",
}


@pytest.mark.parametrize("rule", RULES)
def test_a_mistake_in_a_rule_is_named_with_its_place(rule) -> None:
    place, words = RULES[rule]
    error = get_rule_error(rule)
    assert error.startswith(f"my.yaml:{place}: "), error
    assert words in error


@pytest.mark.parametrize("test", ARGS)
def test_a_mistake_in_a_comparison_is_named(test) -> None:
    error = get_rule_error(f"{{syscalls: [socket], action: deny, when: {{args: [{test}]}}}}")
    assert error.startswith("my.yaml:4:")
    assert ARGS[test] in error


def test_a_rule_that_can_never_apply_names_the_one_before() -> None:
    rules = [f"  - {{syscalls: [read], action: {action}}}\n" for action in ("deny", "allow")]
    error = get_error(HEAD + "".join(rules) + TAIL)
    assert error.startswith("my.yaml:5:17: ")
    assert "line 4 says deny" in error


DOCUMENTS = {
    "": "empty",
    "# nothing\n": "empty",
    "[]": "must be a mapping",
    "name: a\n": "needs the key default",
    "default: {action: allow}\n": "needs the key name",
    "name: a\ndefault: {action: deny}\n": "2:10: add a rule that allows exit",
    "name: A B\ndefault: {action: allow}\n": "a-z",
    "name: no\ndefault: {action: allow}\n": "quote it",
    "name: a\ndefault: allow\n": "2:10: a default must be a mapping",
    "name: a\nname: b\n": "2:1: key 'name' again",
    "name: a\ndefault: {action: allow}\nrules: {}\n": "must be a sequence",
    "name: a\ndefault: {action: allow}\nnmae: b\n": "nearest is name",
    "a: *b\n": "aliases",
    "a: 1\n---\nb: 2\n": "second document",
    "a: [1\n": "",
    "a: 'b\n": "",
    "\tname: a": "",
    "name: a\x00": "",
    "%YAML 9.9\n---\na: 1\n": "",
}


@pytest.mark.parametrize("text", DOCUMENTS)
def test_a_mistake_in_a_document_is_named(text) -> None:
    assert DOCUMENTS[text] in get_error(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "&a [", "!!a "])
def test_deep_nesting_ends_in_an_error_and_not_in_the_process(opening) -> None:
    """compose() of PyYAML 6.0.3 recurses in C: this document ends the process with SIGSEGV."""
    assert "my.yaml" in get_error("a: " + opening * 60_000)


def test_nesting_has_a_limit() -> None:
    assert "1:19: nested deeper than 16 levels" in get_error("a: " + "[" * 17 + "]" * 17)
    assert "nested deeper" not in get_error("a: " + "[" * 15 + "]" * 15)


def test_documents_over_the_limits_are_refused() -> None:
    assert "bytes" in get_error(b"#" * 262_145)
    assert "UTF-8" in get_error(b"name: \xff")
    assert "rules; at most 1000" in get_error(f"{HEAD}{'  - {}' + chr(10):s}" + "  - {}\n" * 1000)
    assert "more than 20000 values" in get_error("a: [" + "b," * 20_000 + "]")


def test_the_order_of_keys_comments_and_spelling_do_not_reach_the_model() -> None:
    one = parse_policy(
        (HEAD + "  - {syscalls: [read], action: deny, errno: EPERM}\n" + TAIL).encode(), "a"
    )
    other = parse_policy(
        (
            "# comment\ndefault:\n  errno: EPERM\n  action: 'deny'\nrules:\n"
            '  - action: deny\n    syscalls:\n      - "read"\n' + TAIL + "name: test\n"
        ).encode(),
        "b",
    )
    assert encode_model(one) == encode_model(other)
    with_hex = (
        "  - {syscalls: [lseek], action: deny, when: {args: [{index: 1, op: '>', value: %s}]}}\n"
    )
    models = [
        parse_policy((HEAD + with_hex % n + TAIL).encode(), "a") for n in ("255", "0xff", "0xFF")
    ]
    assert len({encode_model(model) for model in models}) == 1


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_policies_bear_their_files_names(name) -> None:
    path = find_policy(name)
    model = resolve_policy(read_source(path), path, read_base).model
    assert model.name == name
    assert model.description


MASKS = {
    "{syscalls: [execve], action: record, masks: [argv]}": "",
    "{syscalls: [execve, connect], action: hold, masks: [sockaddr, argv]}": "",
    "{syscalls: [execve], action: record, masks: [args]}": "4:50: no value to mask is called",
    "{syscalls: [connect], action: record, masks: [path]}": "choose one of sockaddr",
    "{syscalls: [execve], action: allow, masks: [argv]}": "allow leaves no receipt",
    "{syscalls: [getpid], action: record, masks: [path]}": "none of these calls has a path",
    "{syscalls: [execve], action: record, masks: []}": "at least one name",
    "{syscalls: [execve], action: record, masks: argv}": "must be a sequence",
    "{syscalls: [execve], action: record, masks: [argv, argv]}": "twice",
}


@pytest.mark.parametrize("rule", MASKS)
def test_masks_name_values_that_the_calls_have(rule) -> None:
    if MASKS[rule]:
        assert MASKS[rule] in get_rule_error(rule)
    else:
        parse_policy(f"{HEAD}  - {rule}\n{TAIL}".encode(), "a")


def test_a_masked_value_is_not_among_those_to_read() -> None:
    rule = "  - {syscalls: [execve, rename, connect], action: record, masks: [argv, path1]}\n"
    compiled = compile_source((HEAD + rule + TAIL).encode(), "a", "x86_64", ())
    execve, rename, connect = (compiled.rules[nr] for nr in (59, 82, 42))
    assert (execve.strings, execve.masks) == (((0, "path"),), ("argv",))
    assert (rename.strings, rename.masks) == (((0, "path"),), ("path1",))
    assert (connect.strings, connect.masks) == (((1, "sockaddr"),), ())


def test_on_worker_death_is_restart_or_kill() -> None:
    head = "name: a\ndefault: {action: allow}\n"
    assert parse_policy(head.encode(), "a").on_worker_death == "restart"
    text = head + "on-worker-death: kill\n"
    assert parse_policy(text.encode(), "a").on_worker_death == "kill"
    assert "choose one of kill, restart" in get_error(head + "on-worker-death: freeze\n")
