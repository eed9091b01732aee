"""A seccomp profile of Docker's, or the OCI's `linux.seccomp`, in JSON -> canonical model.

Not here: the other way (export_seccomp.py), writing YAML (write.py). Pure.
Their rules have no order: what libseccomp does with two that differ on one call is kept where it is
certain (a rule without arguments wins; others must not meet), and is a SpecError where it is not.
Comparisons are made in the bits that the kernel reads, where libseccomp compares all 64: so
socket(1 << 32 | AF_VSOCK) is what it is to the kernel.

Source: moby profiles/seccomp/seccomp_linux.go (setupSeccomp); runc libcontainer/seccomp
(matchCall: several comparisons of one argument are alternatives); OCI runtime-spec,
config-linux.md#seccomp; libseccomp src/db.c.
"""

from __future__ import annotations

from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES
from docklock.document import Cursor
from docklock.policy.arguments import FULL_WIDTH, get_argument_count, get_width
from docklock.policy.compile import ALWAYS_CLOSED, make_check
from docklock.policy.decision import holds_all
from docklock.policy.diff import compute_probes
from docklock.policy.machines import is_syscall
from docklock.policy.model import ArgumentTest, Condition, Model, RuleModel
from docklock.policy.names import ERRNOS
from docklock.policy.parse_rules import MUST_ALLOW

ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_ERRNO": "deny",
    "SCMP_ACT_KILL": "kill",
    "SCMP_ACT_KILL_PROCESS": "kill",
    "SCMP_ACT_KILL_THREAD": "kill",
    "SCMP_ACT_LOG": "record",
}
HINTS = {
    "SCMP_ACT_NOTIFY": "docklock itself is the listener: use SCMP_ACT_LOG, which becomes record",
    "SCMP_ACT_TRACE": "docklock has no tracer: use SCMP_ACT_LOG, which becomes record",
    "SCMP_ACT_TRAP": "docklock sends no SIGSYS: use SCMP_ACT_ERRNO or SCMP_ACT_KILL_PROCESS",
}
OPERATORS = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_MASKED_EQ": "masked",
    "SCMP_CMP_NE": "!=",
}
GO_ARCHES = {"aarch64": "arm64", "x86_64": "amd64"}
EPERM = ERRNOS["EPERM"]
_VALUE_MAX = FULL_WIDTH


class Entry(NamedTuple):
    """One rule of theirs on one call, in our words, and its place."""

    action: str
    errno: int
    when: str  # a capability or nothing
    unless: str
    args: tuple[ArgumentTest, ...]
    is_conditional: bool  # had comparisons, even if these are always true
    place: str


class Imported(NamedTuple):
    """The model, and what is not as in the profile, one sentence each."""

    model: Model
    notes: tuple[str, ...]


def import_profile(root: Cursor, name: str, machine: str, kernel: tuple[int, int]) -> Imported:
    """The policy `name` that does what the profile does on this machine and kernel (major, minor).

    SpecError where it cannot: the message names the place in the document.
    """
    errno = root.get("defaultErrnoRet").as_int(0, 4095, EPERM)
    default = _parse_action(root.required("defaultAction"), errno)
    entries: dict[str, list[Entry]] = {}
    unknown: set[str] = set()
    for rule in root.get("syscalls").as_list():
        if _is_on(rule, machine, kernel):
            _read_rule(rule, default, entries, unknown)
    notes = []
    if unknown:
        names = " ".join(sorted(unknown))
        notes.append(f"Of no machine that docklock knows, so left out: {names}.")
    notes += _fix_needed(entries, default)
    rules = tuple(_group({call: _settle(call, found) for call, found in entries.items()}))
    return Imported(Model(name, "", *default, rules), tuple(notes))


def _parse_action(node: Cursor, errno: int) -> tuple[str, int]:
    word = node.as_str()
    if word in HINTS:
        raise node.error(f"{word} cannot be imported: {HINTS[word]}")
    action = ACTIONS[node.as_choice(tuple(ACTIONS))]
    if action != "deny":
        return action, 0
    if errno not in ERRNOS.values():
        raise node.error(f"errno {errno} has no name, so no policy can return it")
    return action, errno


def _is_on(rule: Cursor, machine: str, kernel: tuple[int, int]) -> bool:
    """Architectures and kernel versions, which are settled now; capabilities become conditions."""
    arch = GO_ARCHES[machine]
    includes, excludes = rule.get("includes"), rule.get("excludes")
    wanted = includes.get("arches").as_strings()
    if (wanted and arch not in wanted) or arch in excludes.get("arches").as_strings():
        return False
    least, below = _parse_kernel(includes), _parse_kernel(excludes)
    return (least is None or kernel >= least) and (below is None or kernel < below)


def _parse_kernel(filters: Cursor) -> tuple[int, int] | None:
    node = filters.get("minKernel")
    if not node.exists:
        return None
    major, _, minor = node.as_str().partition(".")
    if not (major.isdecimal() and minor.isdecimal() and major.isascii() and minor.isascii()):
        raise node.error("expected a version such as 4.8")
    return int(major[:6]), int(minor[:6])


def _parse_capability(filters: Cursor) -> str:
    node = filters.get("caps")
    names = node.as_strings()
    if len(names) > 1:
        raise node.error("a policy's condition has one capability; write a rule for each")
    if names and names[0] not in CAPABILITIES:
        raise node.error(f"no capability is called {names[0][:64]!r}")
    return names[0] if names else ""


def _read_rule(
    rule: Cursor, default: tuple[str, int], entries: dict[str, list[Entry]], unknown: set[str]
) -> None:
    """Add what the rule says to each call's entries."""
    errno = rule.get("errnoRet").as_int(0, 4095, EPERM)
    treatment = _parse_action(rule.required("action"), errno)
    if treatment == default:
        return  # as runc does
    when = _parse_capability(rule.get("includes"))
    unless = _parse_capability(rule.get("excludes"))
    names = [*rule.get("names").as_strings()]
    if rule.get("name").exists:
        names.append(rule.get("name").as_str())
    if not names:
        raise rule.error("names no system call")
    for name in dict.fromkeys(names):
        if not is_syscall(name):
            unknown.add(name)
            continue
        for tests in _read_args(rule.get("args"), name):
            is_conditional = bool(rule.get("args").as_list())
            entry = Entry(*treatment, when, unless, tests, is_conditional, rule.place)
            entries.setdefault(name, []).append(entry)


def _read_args(node: Cursor, name: str) -> list[tuple[ArgumentTest, ...]]:
    """Alternatives, each a conjunction; none if the rule can never apply to `name`."""
    tests = []
    for one in node.as_list():
        index = one.required("index").as_int(0, 5)
        if index >= get_argument_count(name):
            raise one.error(f"{name} has {get_argument_count(name)} arguments, from index 0")
        op = OPERATORS[one.required("op").as_choice(tuple(OPERATORS))]
        value = one.get("value").as_int(0, _VALUE_MAX, 0)
        second = one.get("valueTwo").as_int(0, _VALUE_MAX, 0)
        tests.append((index, simplify(op, value, second, get_width(name, index))))
    alternatives = [tests]
    if len({index for index, _ in tests}) < len(tests):
        alternatives = [[one] for one in tests]
    found = []
    for pairs in alternatives:
        if all(test is not False for _, test in pairs):
            kept = [ArgumentTest(i, *test) for i, test in pairs if not isinstance(test, bool)]
            found.append(tuple(kept))
    return found


def simplify(op: str, value: int, second: int, width: int) -> bool | tuple[str, int, int]:
    """(op, value, mask) in `width` bits; True or False if it is that for every argument."""
    if op == "masked":
        mask = value & width
        if second & ~value or second & ~width:
            return False
        return True if mask == 0 else ("masked", second, mask)
    if value > width and (value | width) == FULL_WIDTH:
        value &= width  # a negative number, written in 64 bits
    always = {">": value < 0, ">=": value == 0, "<": value > width, "<=": value >= width,
              "!=": value > width}  # fmt: skip
    never = {">": value >= width, ">=": value > width, "<": value == 0, "==": value > width}
    if always.get(op, False):
        return True
    return False if never.get(op, False) else (op, value, 0)


def _fix_needed(entries: dict[str, list[Entry]], default: tuple[str, int]) -> list[str]:
    """What every policy closes is dropped, what every policy allows is added."""
    notes = []
    dropped = [name for name in ALWAYS_CLOSED if entries.pop(name, None)]
    if dropped:
        notes.append(f"Closed in every policy of docklock: {' '.join(dropped)}.")
    allowed = Entry("allow", 0, "", "", (), False, "")
    added = []
    for name in MUST_ALLOW:
        found = {entry._replace(place="") for entry in entries.get(name, ())}
        if found == {allowed} or (not found and default[0] == "allow"):
            continue
        entries[name] = [allowed]
        added.append(name)
    if added:
        notes.append(f"Allowed in every policy of docklock: {' '.join(added)}.")
    return notes


def _settle(name: str, found: list[Entry]) -> tuple[Entry, ...]:
    """In the order in which the first that matches is what libseccomp does; SpecError if unsure."""
    ordered = sorted(found, key=lambda entry: entry.is_conditional)
    for position, one in enumerate(ordered):
        for other in ordered[position + 1 :]:
            if one[:2] != other[:2] and one.is_conditional == other.is_conditional:
                _check_apart(name, one, other)
    kept: list[Entry] = []
    for entry in (one._replace(place="", is_conditional=False) for one in ordered):
        if entry not in kept:
            kept.append(entry)
        if not entry.args and not entry.when and not entry.unless:
            break
    return tuple(kept)


def _check_apart(name: str, one: Entry, other: Entry) -> None:
    """Two rules that treat a call differently must not both apply to one call."""
    if {one.when, other.when} & ({one.unless, other.unless} - {""}):
        return
    ours, theirs = ([make_check(name, test) for test in entry.args] for entry in (one, other))
    probes = compute_probes(ours + theirs)
    tuples = [tuple(value or 0 for value in probe) for probe in probes or ()]
    both = tuple(ours + theirs)
    if probes is None or any(holds_all(both, args) for args in tuples):
        raise SpecError(
            f"{other.place}: {name} is treated otherwise in {one.place}, and both may apply:"
            " the profile does not say which wins; remove one"
        )


def _group(settled: dict[str, tuple[Entry, ...]]) -> list[RuleModel]:
    """Calls that are treated alike share their rules; calls that can never match have none."""
    groups: dict[tuple[Entry, ...], list[str]] = {}
    for name, entries in settled.items():
        groups.setdefault(entries, []).append(name)
    return [
        RuleModel(tuple(sorted(names)), entry.action, entry.errno, *_make_conditions(entry))
        for entries, names in groups.items()
        for entry in entries
    ]


def _make_conditions(entry: Entry) -> tuple[Condition | None, Condition | None]:
    when = Condition(entry.when, entry.args) if entry.when or entry.args else None
    return when, Condition(entry.unless, ()) if entry.unless else None
