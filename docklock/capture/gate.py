"""The gate: answer seccomp notifications, each after its attempt is in the journal.

One Gate serves one listener, in a thread of the worker. What is read from the caller's memory is
labelled claimed: it decides nothing (policy refuses rules that would need it to). Held and killed
calls are left to the guard (holds.py), which knows when their receipts are durable.

Invariants:
- no call is answered before its attempt is in the journal, whence it gets its receipt
  (tests/e2e/test_gate.py::test_record_writes_the_receipt_before_the_call_proceeds).

Source: seccomp_unotify(2); linux/seccomp.h. Facts measured: see this room's README.
"""

from __future__ import annotations

import select
from errno import ENOSYS
from fcntl import ioctl
from time import monotonic_ns

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.capture.arguments import make_reader
from docklock.evidence.attempts import (
    ABORTED,
    DENY,
    HOLD,
    KILL,
    RECORD,
    RuleText,
    get_in_flight_offset,
)
from docklock.kernel.memory import CallerMemory, tgkill
from docklock.kernel.numbers import get_number
from docklock.kernel.seccomp import (
    NOTIF,
    NOTIF_ID,
    NOTIF_ID_VALID,
    NOTIF_RESP,
    NOTIF_SEND,
    NOTIF_SET_FLAGS,
    NOTIF_SIZE_BYTES,
    USER_NOTIF_FD_SYNC_WAKE_UP,
    make_receiver,
)
from docklock.kernel.seccomp import USER_NOTIF_FLAG_CONTINUE as CONTINUE
from docklock.policy.decision import UNEXPECTED

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from docklock.evidence.attempts import AttemptWriter
    from docklock.policy.load import Compiled, Rule

THREADS_KNOWN_MAX = 4096  # then the tid -> pid notes are dropped and learnt again

# How long the process of a thread needs no new look: a number is not given again before every
# other free one has been, and a millisecond is enough for some 50 forks.
KNOWN_NS = 1_000_000

EXEC_CALLS = ("execve", "execveat")
FAILURES_MAX = 10_000  # in a row: not callers that die, but a defect, which must not spin

_UNKNOWN = (0, -KNOWN_NS)
_ZERO = bytes(NOTIF_SIZE_BYTES)
_UNPACK = NOTIF.unpack_from
_PACK = NOTIF_RESP.pack
_DONE = {"record": RECORD, "hold": HOLD, "deny": DENY, "kill": KILL}


def set_sync_wake_up(listener: int) -> bool:
    """Have the kernel hand the CPU straight to the answered caller; False before Linux 6.6."""
    try:
        ioctl(listener, NOTIF_SET_FLAGS, USER_NOTIF_FD_SYNC_WAKE_UP)
    except OSError:
        return False
    return True


def respond(listener: int, response: bytes) -> bool:
    """Answer a notification; False when its caller has died or was interrupted."""
    try:
        ioctl(listener, NOTIF_SEND, response)
    except FileNotFoundError:
        return False
    return True


def is_valid(listener: int, notification: int) -> bool:
    """True while the caller still waits for this answer."""
    try:
        ioctl(listener, NOTIF_ID_VALID, NOTIF_ID.pack(notification))
    except FileNotFoundError:
        return False
    return True


def is_closed(listener: int) -> bool:
    """True when the filter has no task left."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return any(mask & select.POLLHUP for _, mask in poll.poll(0))


def list_rules(policy: Compiled) -> tuple[Rule, ...]:
    """Every rule that a call may come under; its place is its number in attempts."""
    arms = [arm.rule for found in policy.arms.values() for arm in found]
    return (UNEXPECTED, *policy.rules.values(), *arms)


def get_rule_texts(policy: Compiled) -> tuple[RuleText, ...]:
    """What receipts say of each of list_rules."""
    return tuple(RuleText(rule.op, ",".join(rule.masks)) for rule in list_rules(policy))


def has_holds(policy: Compiled) -> bool:
    """Whether there are calls that wait until their receipt is durable."""
    return any(rule.action in ("hold", "kill") for rule in list_rules(policy))


def is_recorded(policy: Compiled, nr: int) -> bool:
    """Whether each call `nr` of the machine's own comes here and proceeds when it is recorded."""
    rule = policy.rules.get(nr)
    return rule is not None and nr not in policy.arms and rule.action == "record"


def sees_every_exec(policy: Compiled) -> bool:
    """Whether no program is executed without a notification before."""
    numbers = [get_number(name) for name in EXEC_CALLS]
    always = all(number in policy.rules and number not in policy.arms for number in numbers)
    return always and not policy.architectures


class Plan(NamedTuple):
    """What the gate does under one rule; `number` is the rule's in attempts."""

    number: int
    done: int
    errno: int
    read: Callable[[int, tuple[int, ...]], bytes] | None
    is_exec: bool


class Gate:
    """Serves one listener descriptor, which it owns; `number` is the listener's in the journal."""

    def __init__(
        self,
        listener: int,
        number: int,
        policy: Compiled,
        mapped: mmap.mmap,
        writer: AttemptWriter,
    ) -> None:
        self.listener = listener
        self._number = number
        self._policy, self._arch = policy, policy.arch
        self._sure: dict[int, Plan] = {}  # by number: calls of the machine's own without arms
        # By identity: a rule's hash would cost more than the rest of the decision.
        self._numbers = {id(rule): place for place, rule in enumerate(list_rules(policy))}
        self._plans: dict[int, Plan] = {}
        self._memory = CallerMemory(may_keep=sees_every_exec(policy))
        self._map = mapped
        self._start = get_in_flight_offset(number)
        self._receive = make_receiver(listener, mapped, self._start)
        self._write = writer.write
        self._writer = writer
        self._process_of: dict[int, tuple[int, int]] = {}  # tid -> pid, when that was sure

    def serve(self) -> None:
        """Receive, record, answer, until the filter has no task left.

        RECV may report a spurious ENOENT (the caller died meanwhile): nothing was delivered then.
        Before Linux 6.11 it waits for ever when the last task is gone: a signal ends it.
        """
        serve_one, failures = self.serve_one, 0
        while True:
            if serve_one():
                failures = 0
                continue
            failures += 1
            if is_closed(self.listener):
                return
            if failures > FAILURES_MAX:
                raise StateError("the kernel gives no notification, and does not say why")

    def serve_one(self) -> bool:
        """Wait for one notification, record and answer it; False if none was given."""
        mapped, start = self._map, self._start
        mapped[start : start + NOTIF_SIZE_BYTES] = _ZERO  # the kernel refuses what is not zero
        if self._receive():
            return False
        fields = _UNPACK(mapped, start)
        self._answer(fields[0], fields[1], fields[3], fields[4], fields[6:])
        return True

    def _answer(
        self, notification: int, tid: int, nr: int, arch: int, args: tuple[int, ...]
    ) -> None:
        """Record one notification and answer it; the path of every gated call.

        That the answer is taken proves that the caller has waited all the while, so that what was
        read was its own; if it is not, the receipt `aborted` says so.
        """
        plan = self._sure.get(nr) if arch == self._arch else None
        number, done, errno, read, is_exec = plan or self._find_plan(nr, args, arch)
        now_ns, values = monotonic_ns(), b""
        if read is not None:
            self._memory.look_at(tid, now_ns)
            values = read(tid, args)
        if is_exec:
            self._memory.forget()
        pid, known_ns = self._process_of.get(tid, _UNKNOWN)
        if now_ns - known_ns > KNOWN_NS:
            pid = self._learn_process(tid, pid, now_ns)
        refused = errno if done == DENY else 0
        self._write(self._number, now_ns, pid, number, done, refused, values)
        if done == RECORD:
            answer = _PACK(notification, 0, 0, CONTINUE)
        elif done == DENY:
            answer = _PACK(notification, 0, -errno, 0)
        else:
            self._writer.ask_for_commit()  # the guard answers
            return
        try:
            ioctl(self.listener, NOTIF_SEND, answer)
        except FileNotFoundError:
            self._write(self._number, monotonic_ns(), pid, number, ABORTED)
        self._writer.wake_if_asleep()

    def _find_plan(self, nr: int, args: tuple[int, ...], arch: int) -> Plan:
        rule = self._policy.decide(nr, args, arch)
        plan = self._plans.get(id(rule)) or self._make_plan(rule)
        if arch == self._arch and nr not in self._policy.arms and rule is not UNEXPECTED:
            self._sure[nr] = plan
        return plan

    def _make_plan(self, rule: Rule) -> Plan:
        """At a rule's first call: few of a policy's rules are ever called."""
        plan = self._plans[id(rule)] = Plan(
            self._numbers[id(rule)],
            # The kernel keeps the other actions (allow, closed): here they would be a defect.
            _DONE.get(rule.action, DENY),
            rule.errno or ENOSYS,
            make_reader(self._memory, rule.strings, rule.masks) if rule.strings else None,
            rule.name in EXEC_CALLS,
        )
        return plan

    def _learn_process(self, tid: int, pid: int, now_ns: int) -> int:
        """The process of thread `tid`: `pid`, if the kernel says that it still is, or by /proc."""
        if not pid or tgkill(pid, tid, 0):
            if len(self._process_of) >= THREADS_KNOWN_MAX:
                self._process_of.clear()
            pid = read_process(tid)
        self._process_of[tid] = (pid, now_ns)
        return pid


def read_process(tid: int) -> int:
    """The thread-group id of `tid` from /proc; `tid` itself when it has just died."""
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Tgid:"):
                    return int(line[5:])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return tid
