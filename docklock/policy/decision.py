"""What the supervisor holds of a policy: the program and the decision made again from registers.

Not here: making it (compile.py), the cache (load.py), the answer to the kernel (capture). This is
the run path: it imports nothing that costs.
Invariant: for every number and registers, decide() agrees with the program: a call that reaches
the supervisor gets the rule for which the program sent it (tests/policy/test_compile.py).
"""

from __future__ import annotations

from chainlite.lean import NamedTuple


class Rule(NamedTuple):
    """What happens to one system call. `strings` are (argument, kind) to read from memory.

    `masks` names the values that the policy keeps out of the receipt; they are not in `strings`.
    """

    name: str
    op: str
    action: str
    errno: int
    strings: tuple[tuple[int, str], ...]
    masks: tuple[str, ...] = ()


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
    arch: int  # AUDIT_ARCH_* of the machine's own calls
    rules: dict[int, Rule]  # by key, every call that can reach the supervisor
    arms: dict[int, tuple[Arm, ...]]  # by key, calls whose registers decide; first match wins
    closed: tuple[str, ...]  # what fails without a receipt
    kills_on_worker_death: bool = False
    architectures: tuple[str, ...] = ()  # those beside the machine's own

    def decide(self, nr: int, args: tuple[int, ...], arch: int = 0) -> Rule:
        """The rule for one trapped call of `arch` (AUDIT_ARCH_*; 0 is the machine's own).

        A call that the program never sends here is denied ENOSYS. The key is the number for the
        machine's own calls, compute_key() for those of another architecture.
        """
        if arch and arch != self.arch:
            nr |= arch << ARCH_SHIFT
        arms = self.arms.get(nr)
        if arms is None:
            rule = self.rules.get(nr)
            return UNEXPECTED if rule is None else rule
        for arm in arms:
            if holds_all(arm.when, args) and not (arm.unless and holds_all(arm.unless, args)):
                return arm.rule
        return UNEXPECTED


ARCH_SHIFT = 32  # numbers have 32 bits


def compute_key(arch: int, nr: int, native: int) -> int:
    """The key of call `nr` of `arch` in a policy for the machine whose own is `native`."""
    return nr if arch == native else arch << ARCH_SHIFT | nr


UNEXPECTED = Rule("unknown", "syscall.unknown", "deny", 38, ())


def holds_all(checks: tuple[Check, ...], args: tuple[int, ...]) -> bool:
    """Whether every check is true of these registers."""
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
