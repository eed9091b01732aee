"""The Policy screen: what was denied, in plain words, and the rule that would allow it. Pure.

Not here: where denials come from and how a rule is proposed (PolicyDesk). Invariant: the newest
denial is first; what is said in words is in the facts or in the tables here, nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.cells import Cell, Column
from tui.view.event_text import shorten_op, write_values
from tui.view.lines import wrap
from tui.view.moments import format_age, format_clock
from tui.view.text import make_harmless
from tui.view.units import write_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.facts import Denial, Done, Event, Proposal
    from tui.view.flowing import Line

DENIALS_MAX = 2_000
"""Groups that are listed: more are said, not listed."""
DIFF_LINES_MAX = 2_000
LINE_CHARS_MAX = 400
PROGRAM_CHARS_MAX = 100

ASK = "y writes this change, on record (asks first); esc leaves the policy as it is."

DENIAL_COLUMNS = (
    Column("container", "CONTAINER", 12, 1, grow=1, widest=30),
    Column("op", "OP", 12, grow=1, widest=24),
    Column("errno", "ERROR", 8),
    Column("times", "TIMES", 7, is_right=True),
    Column("last", "LAST", 8, is_right=True),
    Column("policy", "POLICY", 10, 3, grow=1, widest=24),
    Column("rule", "RULE", 12, 4, grow=2, widest=60),
    Column("example", "EXAMPLE", 14, 2, grow=4),
)
DENIAL_FIELDS = ("container", "op", "errno", "policy", "rule", "value", "times")
ERRNOS = {
    "EPERM": "operation not permitted",
    "EACCES": "permission denied",
    "ENOSYS": "function not implemented",
    "EAFNOSUPPORT": "address family not supported",
    "ENOENT": "no such file or directory",
    "EINVAL": "invalid argument",
}
ASKED = {
    "connect": "reach a peer",
    "sendto": "send to a peer",
    "sendmsg": "send to a peer",
    "bind": "take an address to listen at",
    "socket": "open a socket",
    "execve": "run a program",
    "execveat": "run a program",
    "mount": "mount a file system",
    "umount2": "unmount a file system",
    "chroot": "change its root directory",
    "unshare": "make namespaces of its own",
    "setns": "enter a namespace",
    "clone": "make a process with namespaces of its own",
    "ptrace": "look into another process",
    "bpf": "load a program into the kernel",
    "keyctl": "use the kernel's keys",
    "init_module": "load a kernel module",
    "finit_module": "load a kernel module",
    "reboot": "restart the host",
    "sethostname": "rename the host",
    "ioctl": "control a device",
    "openat": "open a file",
    "open": "open a file",
    "mkdirat": "make a directory",
    "unlinkat": "remove a file",
    "setuid": "change its user",
    "setgid": "change its group",
}


def sort_denials(denials: Sequence[Denial]) -> tuple[Denial, ...]:
    """The newest first; of those of one moment the most frequent."""
    ordered = sorted(denials, key=lambda one: (-one.last_ns, -one.times, one.op, one.container))
    return tuple(ordered[:DENIALS_MAX])


def get_key(denial: Denial) -> str:
    """What stays the same of a group from one look to the next."""
    return f"{denial.container}\n{denial.op}\n{denial.errno}\n{denial.rule}"


def get_field(denial: Denial, field: str) -> str | float:
    """What `/` compares."""
    if field == "container":
        return f"{denial.container_name} {denial.container}"
    if field == "value":
        return write_values(denial.example)
    found: str | int = getattr(denial, field)
    return found


def write_denial(denial: Denial, now_ns: int) -> dict[str, Cell]:
    """A cell for each of DENIAL_COLUMNS."""
    name = denial.container_name or denial.container[:12]
    return {
        "container": Cell(make_harmless(name, 64)),
        "op": Cell(shorten_op(denial.op), "accent"),
        "errno": Cell(make_harmless(denial.errno, 20), "warn"),
        "times": Cell(write_count(denial.times)),
        "last": Cell(format_age(denial.last_ns, now_ns)),
        "policy": Cell(make_harmless(denial.policy.rpartition("/")[2], 64)),
        "rule": Cell(make_harmless(denial.rule, 200)),
        "example": Cell(write_values(denial.example)),
    }


def describe_list(denials: Sequence[Denial], shown: int, name: str) -> str:
    """How many groups, and of how many calls."""
    where = f"of {make_harmless(name, 60)}" if name else "of all containers"
    calls = sum(denial.times for denial in denials)
    words = f"{write_count(shown)} of {write_count(len(denials))} kinds of denied calls {where}"
    return f"{words}, {write_count(calls)} calls"


def explain_denial(denial: Denial, now_ns: int, width: int, program: str = "") -> tuple[Line, ...]:
    """What happened, in plain words, and what can be done; `program` is what the caller ran."""
    op = shorten_op(denial.op)
    name = make_harmless(denial.container_name or denial.container[:12], 60)
    rule = f"by rule {make_harmless(denial.rule, 200)} " if denial.rule else ""
    policy = f"of policy {make_harmless(denial.policy, 60)}" if denial.policy else ""
    times = f"{write_count(denial.times)} time{'' if denial.times == 1 else 's'}"
    last = f"last {format_age(denial.last_ns, now_ns)} ago by pid {denial.example.pid}"
    errno = make_harmless(denial.errno, 20)
    with_ = f" with {errno}" if errno else ""
    first = f"{op} was refused{with_} {rule}{policy}".rstrip() + f": {times}, {last}"
    first += f" ({make_harmless(program, PROGRAM_CHARS_MAX)})." if program else "."
    lines = wrap(first, width)
    asked = ASKED.get(op)
    if asked:
        lines += wrap(f"A program in {name} asked the kernel to {asked}; it was not done.", width)
    if meaning := ERRNOS.get(errno):
        lines += wrap(f"The program was told {errno}: {meaning}.", width)
    at = f"{format_clock(denial.example.time_ns)} UTC"
    values = write_values(denial.example) or "no values"
    index = f"receipt {denial.example.run}:{denial.example.event_index}"
    lines += [(), *wrap(f"Newest example, {index} at {at}: {values}", width)]
    lines.append(())
    if denial.unproposable:
        lines += wrap(f"No rule is proposed: {denial.unproposable}", width, "warn")
    else:
        lines += wrap(
            "a proposes the rule that would allow it, and shows what that changes.", width
        )
    return tuple(lines)


def write_proposal(proposal: Proposal, width: int) -> tuple[Line, ...]:
    """What the policy would newly allow, the change itself, and when it begins to hold."""
    title = f"Policy {make_harmless(proposal.policy, 60)}, {make_harmless(proposal.path, 200)}"
    if proposal.is_looser:
        verdict = Cell("LOOSER: the container may do more than before", "warn")
    else:
        verdict = Cell("not looser: the container may do nothing more than before", "good")
    lines: list[Line] = [*wrap(title, width, "accent"), (verdict,)]
    for effect in proposal.effects:
        lines += wrap(f"  {effect}", width)
    lines.append(())
    for text in proposal.diff[:DIFF_LINES_MAX]:
        lines.append((Cell(make_harmless(text, LINE_CHARS_MAX), _get_diff_tone(text)),))
    if len(proposal.diff) > DIFF_LINES_MAX:
        more = f"{write_count(len(proposal.diff) - DIFF_LINES_MAX)} lines more"
        lines.append((Cell(more, "warn"),))
    if proposal.note:
        lines += [(), *wrap(proposal.note, width)]
    return (*lines, (), *wrap(ASK, width, "accent"))


def _get_diff_tone(text: str) -> str:
    if text.startswith(("---", "+++", "@@")):
        return "dim"
    return {"+": "accent", "-": "warn"}.get(text[:1], "")


def find_program(events: Sequence[Event], pid: int) -> str:
    """What a process ran last, of the receipts before its call; empty if none of them says it."""
    for event in reversed(events):
        if event.pid == pid and shorten_op(event.op) in ("execve", "execveat"):
            values = dict(event.values)
            return values.get("argv") or values.get("path", "")
    return ""


def write_outcome(outcome: Done, proposal: Proposal, width: int) -> tuple[Line, ...]:
    """What came of applying it, when it holds, and what to do then."""
    if not outcome.is_done:
        return tuple(wrap(f"✗ not applied: {outcome.text}", width, "bad"))
    lines = wrap(f"✓ applied. {outcome.text}", width, "good")
    if proposal.note:
        lines += wrap(f"When it holds: {proposal.note}", width)
    lines += wrap("r restarts the container, so that it holds now (asks first).", width, "accent")
    return tuple(lines)
