"""A policy document -> canonical model, or SpecError naming file, line, column and the right word.

Not here: YAML itself (yaml_nodes.py), BPF (compile.py), inheritance between documents (a later
issue). Pure. What is refused beside mistakes: what could not be enforced without a race, what no
profile may open, what would stop a program from ending, and rules that can never apply.
"""

from __future__ import annotations

from typing import NoReturn

from docklock.capability import CAPABILITIES
from docklock.policy.arguments import get_argument_count, get_width
from docklock.policy.compile import ALWAYS_CLOSED
from docklock.policy.machines import MACHINES, is_syscall
from docklock.policy.model import (
    ACTIONS,
    OPERATORS,
    ArgumentTest,
    Condition,
    Model,
    RuleModel,
)
from docklock.policy.names import ERRNOS, FLAGS
from docklock.policy.yaml_nodes import INTEGER, Node, Source, get_integer, get_text, parse_nodes

RULES_MAX = 1000
TESTS_MAX = 16  # in one condition
DESCRIPTION_CHARS_MAX = 1000
MUST_ALLOW = ("exit", "exit_group", "restart_syscall", "rt_sigreturn")
ERRNO_DEFAULTS = {"closed": "ENOSYS", "deny": "EPERM"}
RACY = ("address", "addresses", "argv", "env", "filename", "host", "path", "paths", "port", "ports")
NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_."


def parse_policy(data: bytes, where: str) -> Model:
    """The model of one document. `where` is the file's name in messages."""
    source = Source(where)
    root = parse_nodes(data, source)
    fields = _get_fields(root, source, ("name", "description", "default", "rules"), "policy")
    for needed in ("name", "default"):
        if needed not in fields:
            source.fail(root, f"a policy needs the key {needed}")
    action, errno = _parse_default(fields["default"], source)
    rules_node = fields.get("rules")
    reader = _RuleReader(source)
    rules = () if rules_node is None else reader.read(rules_node)
    reader.check_must_allow(fields["default"], action)
    return Model(
        _parse_name(fields["name"], source),
        _parse_description(fields.get("description"), source),
        action,
        errno,
        rules,
    )


class _RuleReader:
    """Reads rules in order and knows which calls are decided already."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.decided: dict[str, tuple[int, str]] = {}  # call -> line and action of its last word
        self.allowed: set[str] = set()

    def read(self, node: Node) -> tuple[RuleModel, ...]:
        if node.kind != "sequence":
            self.source.fail(node, f"rules must be a sequence, not a {node.kind}")
        if len(node.value) > RULES_MAX:
            self.source.fail(node, f"{len(node.value)} rules; at most {RULES_MAX}")
        return tuple(self._read_rule(one) for one in node.value)

    def check_must_allow(self, default: Node, default_action: str) -> None:
        """Programs cannot end or return from a signal without these; every profile allows them."""
        missing = [name for name in MUST_ALLOW if name not in self.decided]
        if missing and default_action != "allow":
            names = ", ".join(missing)
            self.source.fail(default, f"add a rule that allows {names}: every program needs them")

    def _read_rule(self, node: Node) -> RuleModel:
        source = self.source
        known = ("syscalls", "action", "errno", "when", "unless")
        fields = _get_fields(node, source, known, "rule")
        for needed in ("syscalls", "action"):
            if needed not in fields:
                source.fail(node, f"a rule needs the key {needed}")
        action = _parse_word(fields["action"], source, "action", ACTIONS)
        errno = _parse_errno(fields.get("errno"), source, action)
        names = _parse_syscalls(fields["syscalls"], source)
        when = self._read_condition(fields.get("when"), names)
        unless = self._read_condition(fields.get("unless"), names)
        words = tuple(name.value for name in names)
        for name in names:
            self._check_call(name, action, conditional=bool(when or unless))
        return RuleModel(words, action, errno, when, unless)

    def _read_condition(self, node: Node | None, names: tuple[Node, ...]) -> Condition | None:
        return None if node is None else _parse_condition(node, self.source, names)

    def _check_call(self, name: Node, action: str, *, conditional: bool) -> None:
        call = name.value
        if call in self.decided:
            line, before = self.decided[call]
            self.source.fail(name, f"{call} never gets here: line {line} says {before} to all")
        if call in ALWAYS_CLOSED and action != "closed":
            self.source.fail(name, f"{call} is closed in every policy: it acts past the filter")
        if call in MUST_ALLOW and (action != "allow" or conditional):
            self.source.fail(
                name, f"{call} must be allowed, without condition: every program needs it"
            )
        if not conditional:
            self.decided[call] = (name.line, action)


def _get_fields(node: Node, source: Source, known: tuple[str, ...], what: str) -> dict[str, Node]:
    if node.kind != "mapping":
        source.fail(node, f"a {what} must be a mapping ({', '.join(known)}), not a {node.kind}")
    fields = {}
    for key, value in node.value:
        if key.value in RACY:
            _fail_racy(key, source)
        if key.value not in known:
            source.fail(key, f"a {what} has no key {key.value!r}{suggest(key.value, known)}")
        fields[key.value] = value
    return fields


def _fail_racy(key: Node, source: Source) -> NoReturn:
    source.fail(
        key,
        f"a rule cannot decide on {key.value} yet: the container can change that memory between"
        " the check and the call, so the rule could be passed by; decide on numbers and flags in"
        " registers (args), or keep the path or peer out by mounts and networks",
    )


def suggest(word: str, known: tuple[str, ...]) -> str:
    """The tail of a message: the nearest of `known`, else all of them where they are few."""
    import difflib

    near = difflib.get_close_matches(word[:64], known, n=1, cutoff=0.6) if len(word) > 1 else []
    if near:
        return f"; the nearest is {near[0]}"
    return f"; choose one of {', '.join(known)}" if len(known) <= 12 else ""


def _parse_word(node: Node, source: Source, what: str, known: tuple[str, ...]) -> str:
    word = get_text(node, source, what)
    if word not in known:
        source.fail(node, f"no {what} is called {word[:64]!r}{suggest(word, known)}")
    return word


def _parse_name(node: Node, source: Source) -> str:
    name = get_text(node, source, "name")
    if not 1 <= len(name) <= 64 or any(letter not in NAME_LETTERS for letter in name):
        source.fail(node, "name must be 1 to 64 of a-z, 0-9, '-', '_' and '.'")
    return name


def _parse_description(node: Node | None, source: Source) -> str:
    if node is None:
        return ""
    if node.kind != "scalar":
        source.fail(node, f"description must be text, not a {node.kind}")
    text: str = node.value.strip()
    if len(text) > DESCRIPTION_CHARS_MAX or not text.replace("\n", " ").isprintable():
        source.fail(node, f"description must be at most {DESCRIPTION_CHARS_MAX} printable letters")
    return text


def _parse_default(node: Node, source: Source) -> tuple[str, int]:
    fields = _get_fields(node, source, ("action", "errno"), "default")
    if "action" not in fields:
        source.fail(node, "default needs the key action")
    action = _parse_word(fields["action"], source, "action", ACTIONS)
    return action, _parse_errno(fields.get("errno"), source, action)


def _parse_errno(node: Node | None, source: Source, action: str) -> int:
    if action not in ERRNO_DEFAULTS:
        if node is not None:
            source.fail(node, f"errno goes with closed and deny; {action} returns none")
        return 0
    if node is None:
        return ERRNOS[ERRNO_DEFAULTS[action]]
    return ERRNOS[_parse_word(node, source, "errno", tuple(ERRNOS))]


def _parse_syscalls(node: Node, source: Source) -> tuple[Node, ...]:
    if node.kind != "sequence" or not node.value:
        source.fail(node, "syscalls must be a sequence of at least one name, as [openat, read]")
    seen: set[str] = set()
    for one in node.value:
        name = get_text(one, source, "system call")
        if not is_syscall(name):
            known = tuple(sorted({call for machine in MACHINES for call in machine.numbers}))
            source.fail(one, f"no system call is called {name[:64]!r}{suggest(name, known)}")
        if name in seen:
            source.fail(one, f"{name} twice in one rule")
        seen.add(name)
    names: tuple[Node, ...] = node.value
    return names


def _parse_condition(node: Node, source: Source, names: tuple[Node, ...]) -> Condition:
    fields = _get_fields(node, source, ("capability", "args"), "condition")
    if not fields:
        source.fail(node, "a condition needs capability, args or both")
    capability = ""
    if "capability" in fields:
        capability = _parse_word(fields["capability"], source, "capability", CAPABILITIES)
    tests: tuple[ArgumentTest, ...] = ()
    if "args" in fields:
        args = fields["args"]
        if args.kind != "sequence" or not 1 <= len(args.value) <= TESTS_MAX:
            source.fail(args, f"args must be a sequence of 1 to {TESTS_MAX} comparisons")
        tests = tuple(_parse_test(one, source, names) for one in args.value)
    return Condition(capability, tests)


def _parse_test(node: Node, source: Source, names: tuple[Node, ...]) -> ArgumentTest:
    fields = _get_fields(node, source, ("index", "op", "mask", "value"), "comparison")
    for needed in ("index", "op", "value"):
        if needed not in fields:
            source.fail(node, f"a comparison needs the key {needed}")
    index = get_integer(fields["index"], source, "index")
    op = _parse_word(fields["op"], source, "op", OPERATORS)
    value = _parse_number(fields["value"], source)
    mask = 0
    if (op == "masked") != ("mask" in fields):
        source.fail(node, "op masked, and no other, needs the key mask")
    if op == "masked":
        mask = _parse_number(fields["mask"], source)
    for name in names:
        count = get_argument_count(name.value)
        if index >= count:
            source.fail(fields["index"], f"{name.value} has {count} arguments, from index 0")
        _check_width(fields["value"], source, ArgumentTest(index, op, value, mask), name.value)
    return ArgumentTest(index, op, value, mask)


def _check_width(node: Node, source: Source, test: ArgumentTest, name: str) -> None:
    """Refuse a comparison that is always or never true, as it is not what was meant."""
    width = get_width(name, test.argument)
    bits = width.bit_length()
    if test.value > width or test.mask > width:
        source.fail(
            node, f"argument {test.argument} of {name} has {bits} bits: it fits in {width:#x}"
        )
    if test.op == "masked" and (test.mask == 0 or test.value & ~test.mask):
        source.fail(node, "value must lie within mask, and mask must not be 0")
    if test.op == "any_bits" and test.value == 0:
        source.fail(node, "any_bits of 0 is never true")
    constant = {(">", width), ("<", 0), (">=", 0), ("<=", width)}
    if (test.op, test.value) in constant:
        source.fail(node, f"argument {test.argument} {test.op} {test.value:#x} is always the same")


def _parse_number(node: Node, source: Source) -> int:
    if node.kind == "scalar" and node.plain and not INTEGER.fullmatch(node.value):
        if node.value in FLAGS:
            return FLAGS[node.value]
        if node.value[:1].isalpha():
            known = tuple(FLAGS)
            source.fail(node, f"no flag is called {node.value[:64]!r}{suggest(node.value, known)}")
    return get_integer(node, source, "value")
