"""What the supervisor holds of a policy: the program and the decision made again from registers.

Not here: making it (compile.py), the cache (load.py), the answer to the kernel (capture). This is
the run path: it imports nothing that costs.
Invariant: for every number and registers, decide() agrees with the program: a call that reaches
the supervisor gets the rule for which the program sent it (tests/policy/test_decide.py).
"""

from __future__ import annotations

from chainlite.lean import NamedTuple


class Rule(NamedTuple):
    """What happens to one system call. `strings` are (argument, kind) to read from memory."""

    name: str
    op: str
    action: str
    errno: int
    strings: tuple[tuple[int, str], ...]


class Check(NamedTuple):
    """One comparison of a register: (argument & mask) `op` value, unsigned."""

    argument: int  # 0..5
    op: str  # eq ne lt le gt ge any
    mask: int
    value: int


class Arm(NamedTuple):
    """`rule` applies where every check of `when` is true and not every one of `unless`."""

    when: tuple[Check, ...]
    unless: tuple[Check, ...]
    rule: Rule


class Compiled(NamedTuple):
    """A policy for one machine and one set of capabilities."""

    name: str
    digest: bytes  # compute_digest() of compile.py: canonical model and program
    program: bytes  # array of struct sock_filter
    arch: int  # AUDIT_ARCH_*
    rules: dict[int, Rule]  # by number, every call that can reach the supervisor
    arms: dict[int, tuple[Arm, ...]]  # by number, calls whose registers decide; first match wins
    closed: tuple[str, ...]  # what fails without a receipt

    def decide(self, nr: int, args: tuple[int, ...]) -> Rule:
        """The rule for one trapped call. A number the program never sends here is denied ENOSYS."""
        arms = self.arms.get(nr)
        if arms is None:
            rule = self.rules.get(nr)
            return UNEXPECTED if rule is None else rule
        for arm in arms:
            if _holds_all(arm.when, args) and not (arm.unless and _holds_all(arm.unless, args)):
                return arm.rule
        return UNEXPECTED


UNEXPECTED = Rule("unknown", "syscall.unknown", "deny", 38, ())


def _holds_all(checks: tuple[Check, ...], args: tuple[int, ...]) -> bool:
    for argument, op, mask, value in checks:
        got = args[argument] & mask
        if op == "eq":
            held = got == value
        elif op == "any":
            held = got & value != 0
        elif op == "ne":
            held = got != value
        elif op == "gt":
            held = got > value
        elif op == "ge":
            held = got >= value
        elif op == "lt":
            held = got < value
        else:
            held = got <= value
        if not held:
            return False
    return True
