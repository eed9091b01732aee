"""The rules of a policy document -> RuleModels, or SpecError at the mistake.

Not here: the document around them (parse.py), what inherited rules add (inherit.py). Pure. What is
refused beside mistakes: what could not be enforced without a race, what no profile may open, what
would stop a program from ending, and rules that can never apply.
"""

from __future__ import annotations

from typing import NoReturn

from docklock.capability import CAPABILITIES
from docklock.policy.arguments import get_argument_count, get_strings, get_width
from docklock.policy.compile import ALWAYS_CLOSED
from docklock.policy.i386 import get_counterpart
from docklock.policy.machines import MACHINES, find_architecture, is_syscall
from docklock.policy.model import ACTIONS, GATED, OPERATORS, ArgumentTest, Condition, RuleModel
from docklock.policy.names import ERRNOS, FLAGS
from docklock.policy.parse_words import get_fields, parse_word, suggest
from docklock.policy.yaml_nodes import INTEGER, Node, Source, get_integer, get_text

RULES_MAX = 1000
TESTS_MAX = 16  # in one condition
MUST_ALLOW = ("exit", "exit_group", "restart_syscall", "rt_sigreturn")
ERRNO_DEFAULTS = {"closed": "ENOSYS", "deny": "EPERM"}


class RuleReader:
    """Reads rules in order and knows which calls are decided already."""

    def __init__(self, source: Source, architectures: tuple[str, ...]) -> None:
        self.source = source
        self.architectures = architectures
        self.lines: list[int] = []  # of each rule read
        self.decided: dict[str, tuple[int, str]] = {}  # call -> line and action of its last word
        self.allowed: set[str] = set()

    def read(self, node: Node) -> tuple[RuleModel, ...]:
        if node.kind != "sequence":
            self.source.fail(node, f"rules must be a sequence, not a {node.kind}")
        if len(node.value) > RULES_MAX:
            self.source.fail(node, f"{len(node.value)} rules; at most {RULES_MAX}")
        return tuple(self._read_rule(one) for one in node.value)

    def _read_rule(self, node: Node) -> RuleModel:
        source = self.source
        known = ("syscalls", "action", "errno", "masks", "when", "unless")
        fields = get_fields(node, source, known, "rule")
        for needed in ("syscalls", "action"):
            if needed not in fields:
                source.fail(node, f"a rule needs the key {needed}")
        action = parse_word(fields["action"], source, "action", ACTIONS)
        errno = parse_errno(fields.get("errno"), source, action)
        names = _parse_syscalls(fields["syscalls"], source, self.architectures)
        words = tuple(name.value for name in names)
        masks = _parse_masks(fields.get("masks"), source, action, words)
        when = self._read_condition(fields.get("when"), names)
        unless = self._read_condition(fields.get("unless"), names)
        for name in names:
            self._check_call(name, action, conditional=bool(when or unless))
        self.lines.append(node.line)
        return RuleModel(words, action, errno, when, unless, masks)

    def _read_condition(self, node: Node | None, names: tuple[Node, ...]) -> Condition | None:
        return None if node is None else _parse_condition(node, self.source, names)

    def _check_call(self, name: Node, action: str, *, conditional: bool) -> None:
        call = name.value
        if call in self.decided:
            line, before = self.decided[call]
            self.source.fail(name, f"{call} never gets here: line {line} says {before} to all")
        if call in ALWAYS_CLOSED and action != "closed":
            self.source.fail(name, f"{call} is closed in every policy: it acts past the filter")
        if get_counterpart(call).name in MUST_ALLOW and (action != "allow" or conditional):
            self.source.fail(
                name, f"{call} must be allowed, without condition: every program needs it"
            )
        if not conditional:
            self.decided[call] = (name.line, action)


def parse_errno(node: Node | None, source: Source, action: str) -> int:
    """The errno that goes with `action`, and its default; 0 for actions that return none."""
    if action not in ERRNO_DEFAULTS:
        if node is not None:
            source.fail(node, f"errno goes with closed and deny; {action} returns none")
        return 0
    if node is None:
        return ERRNOS[ERRNO_DEFAULTS[action]]
    return ERRNOS[parse_word(node, source, "errno", tuple(ERRNOS))]


def _parse_syscalls(node: Node, source: Source, architectures: tuple[str, ...]) -> tuple[Node, ...]:
    if node.kind != "sequence" or not node.value:
        source.fail(node, "syscalls must be a sequence of at least one name, as [openat, read]")
    seen: set[str] = set()
    for one in node.value:
        name = get_text(one, source, "system call")
        if not is_syscall(name) and find_architecture(name) not in architectures:
            _fail_syscall(one, name, source)
        if name in seen:
            source.fail(one, f"{name} twice in one rule")
        seen.add(name)
    names: tuple[Node, ...] = node.value
    return names


def _fail_syscall(node: Node, name: str, source: Source) -> NoReturn:
    architecture = find_architecture(name)
    if architecture:
        other = get_counterpart(name).name
        hint = f", or name {other}, which decides for it" if other != name else ""
        source.fail(node, f"{name} is of {architecture}: add architectures: [{architecture}]{hint}")
    known = tuple(sorted({call for machine in MACHINES for call in machine.numbers}))
    source.fail(node, f"no system call is called {name[:64]!r}{suggest(name, known)}")


def _parse_masks(
    node: Node | None, source: Source, action: str, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Sorted names of values that receipts of these calls would hold."""
    if node is None:
        return ()
    if action not in GATED:
        source.fail(node, f"masks goes with {', '.join(GATED)}; {action} leaves no receipt")
    if node.kind != "sequence" or not node.value:
        source.fail(node, "masks must be a sequence of at least one name, as [argv]")
    known = tuple(sorted({value for name in names for value in get_strings(name)}))
    if not known:
        source.fail(node, "none of these calls has a path, string, argv or address to mask")
    masks = [parse_word(one, source, "value to mask", known) for one in node.value]
    if len(set(masks)) < len(masks):
        source.fail(node, "a name twice in masks")
    return tuple(sorted(masks))


def _parse_condition(node: Node, source: Source, names: tuple[Node, ...]) -> Condition:
    fields = get_fields(node, source, ("capability", "args"), "condition")
    if not fields:
        source.fail(node, "a condition needs capability, args or both")
    capability = ""
    if "capability" in fields:
        capability = parse_word(fields["capability"], source, "capability", CAPABILITIES)
    tests: tuple[ArgumentTest, ...] = ()
    if "args" in fields:
        args = fields["args"]
        if args.kind != "sequence" or not 1 <= len(args.value) <= TESTS_MAX:
            source.fail(args, f"args must be a sequence of 1 to {TESTS_MAX} comparisons")
        tests = tuple(_parse_test(one, source, names) for one in args.value)
    return Condition(capability, tests)


def _parse_test(node: Node, source: Source, names: tuple[Node, ...]) -> ArgumentTest:
    fields = get_fields(node, source, ("index", "op", "mask", "value"), "comparison")
    for needed in ("index", "op", "value"):
        if needed not in fields:
            source.fail(node, f"a comparison needs the key {needed}")
    index = get_integer(fields["index"], source, "index")
    op = parse_word(fields["op"], source, "op", OPERATORS)
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
