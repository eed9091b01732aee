"""The gate: answer seccomp notifications, each after its receipt.

One Gate serves one listener; all listeners of a container share a recorder and a holds queue.
What is read from the caller's memory is labelled claimed: it decides nothing (policy refuses rules
that would need it to).

Invariants:
- no call is answered before its receipt is in the journal
  (tests/e2e/test_gate.py::test_record_writes_the_receipt_before_the_call_proceeds);
- a held or killed call is answered only when its receipt is durable and signed
  (tests/e2e/test_gate.py::test_hold_waits_for_a_durable_receipt).

Source: seccomp_unotify(2); linux/seccomp.h. Facts measured: see this room's README.
"""

from __future__ import annotations

import os
from fcntl import ioctl
from select import EPOLLIN
from time import monotonic_ns

from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.receipt import ABORTED, ALLOWED, CLAIMED, DENIED, GATE, KILLED
from docklock.bare import deque, signal
from docklock.capture.arguments import read_values
from docklock.kernel.memory import tgkill
from docklock.kernel.seccomp import (
    NOTIF,
    NOTIF_ID,
    NOTIF_ID_VALID,
    NOTIF_RECV,
    NOTIF_RESP,
    NOTIF_SEND,
    NOTIF_SET_FLAGS,
    NOTIF_SIZE_BYTES,
    USER_NOTIF_FD_SYNC_WAKE_UP,
)
from docklock.kernel.seccomp import USER_NOTIF_FLAG_CONTINUE as CONTINUE

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.evidence.recorder import RunRecorder
    from docklock.policy.load import Compiled, Rule

THREADS_KNOWN_MAX = 4096  # then the tid -> pid notes are dropped and learnt again

# How long the process of a thread needs no new look: a number is not given again before every
# other free one has been, and a millisecond is enough for some 50 forks.
KNOWN_NS = 1_000_000

_UNKNOWN = (0, -KNOWN_NS)
_ZERO = bytes(NOTIF_SIZE_BYTES)
_UNPACK = NOTIF.unpack_from
_PACK = NOTIF_RESP.pack


def set_sync_wake_up(listener: int) -> bool:
    """Have the kernel hand the CPU straight to the answered caller; False before Linux 6.6."""
    try:
        ioctl(listener, NOTIF_SET_FLAGS, USER_NOTIF_FD_SYNC_WAKE_UP)
    except OSError:
        return False
    return True


class Call(NamedTuple):
    """Who called what: the fields of a receipt that the notification gives."""

    op: str
    pid: int
    tid: int
    arch: int
    nr: int


class Held(NamedTuple):
    """A call that waits until its receipt is durable, then proceeds, or dies if `is_killed`."""

    receipt_index: int
    listener: int
    notification: int
    call: Call
    is_killed: bool


class Holds:
    """Calls that wait for durability, in index order. Shared by a container's gates."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder
        self._waiting: deque[Held] = deque()
        self._flushes: deque[tuple[int, Callable[[], None]]] = deque()

    def add(self, held: Held) -> None:
        """Queue `held` and ask for a commit at once."""
        self._waiting.append(held)
        self._recorder.request_commit(now=True)

    def add_flush(self, upon_done: Callable[[], None]) -> None:
        """Call `upon_done` once every receipt written so far is durable and signed."""
        self._flushes.append((self._recorder.event_count, upon_done))
        self._recorder.request_commit(now=True)
        self.release_durable()

    def release_durable(self) -> None:
        """Answer every call whose receipt has become durable and signed."""
        durable_count = self._recorder.durable_count
        while self._waiting and self._waiting[0].receipt_index < durable_count:
            self._release(self._waiting.popleft())
        while self._flushes and self._flushes[0][0] <= durable_count:
            self._flushes.popleft()[1]()

    def _release(self, held: Held) -> None:
        if held.is_killed:
            if is_valid(held.listener, held.notification):  # so the pid is still the caller's
                kill_process(held.call.pid)
        elif not respond(held.listener, NOTIF_RESP.pack(held.notification, 0, 0, CONTINUE)):
            record_aborted(self._recorder, held.call, held.receipt_index)


def record_aborted(recorder: RunRecorder, call: Call, attempt: int) -> None:
    """The call that receipt `attempt` announced was interrupted before its answer."""
    recorder.append(
        call.op,
        decision=ABORTED,
        plane=GATE,
        seen=CLAIMED,
        pid=call.pid,
        tid=call.tid,
        arch=call.arch,
        nr=call.nr,
        labels=(("attempt", str(attempt)),),
    )


def kill_process(pid: int) -> None:
    """SIGKILL by pidfd; a process that is gone already is as good as killed."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


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


class Gate:
    """Serves one listener descriptor, which it owns."""

    def __init__(
        self,
        listener: int,
        policy: Compiled,
        recorder: RunRecorder,
        holds: Holds,
        upon_closed: Callable[[Gate], None],
    ) -> None:
        self.listener = listener
        self._decide = policy.decide
        self._recorder = recorder
        self._append_call = recorder.append_call
        self._holds = holds
        self._upon_closed = upon_closed
        self._notification = bytearray(NOTIF_SIZE_BYTES)
        self._process_of: dict[int, tuple[int, int]] = {}  # tid -> pid, when that was sure
        set_sync_wake_up(listener)

    def serve(self, mask: int) -> None:
        """Receive one notification, record it, answer it; the path of every gated call.

        RECV may report a spurious ENOENT (the caller died meanwhile): nothing was delivered then.
        Without EPOLLIN the filter has no task left: the listener is closed.
        """
        if not mask & EPOLLIN:
            self._upon_closed(self)
            return
        buffer, listener = self._notification, self.listener
        buffer[:] = _ZERO  # the kernel refuses a buffer that is not zero
        try:
            ioctl(listener, NOTIF_RECV, buffer)
        except (FileNotFoundError, InterruptedError):
            return
        notification, tid, _, nr, arch, _, *words = _UNPACK(buffer)
        args = tuple(words)
        rule = self._decide(nr, args)
        values: tuple[tuple[str, bytes], ...] = ()
        if rule.strings:
            values = read_values(rule.strings, tid, args)
            if not is_valid(listener, notification):
                return  # the caller is gone, so what was read may be another process's
        now_ns = monotonic_ns()
        pid, known_ns = self._process_of.get(tid, _UNKNOWN)
        if now_ns - known_ns > KNOWN_NS:
            pid = self._learn_process(tid, pid, now_ns)
        if rule.action == "record":
            index = self._append_call(
                rule.op, ALLOWED, pid, tid, arch, nr, args, 0, values, mono_ns=now_ns
            )
            try:
                ioctl(listener, NOTIF_SEND, _PACK(notification, 0, 0, CONTINUE))
            except FileNotFoundError:
                record_aborted(self._recorder, Call(rule.op, pid, tid, arch, nr), index)
            return
        call = Call(rule.op, pid, tid, arch, nr)
        self._refuse_or_hold(rule, call, notification, args, values)

    def _refuse_or_hold(
        self,
        rule: Rule,
        call: Call,
        notification: int,
        args: tuple[int, ...],
        values: tuple[tuple[str, bytes], ...],
    ) -> None:
        """Deny at once; hold and kill when the receipt is durable."""
        if rule.action == "deny":
            self._append_call(*_order(call, DENIED), args, rule.errno, values)
            respond(self.listener, NOTIF_RESP.pack(notification, 0, -rule.errno, 0))
            return
        is_killed = rule.action == "kill"
        decision = KILLED if is_killed else ALLOWED
        index = self._append_call(*_order(call, decision), args, 0, values)
        self._holds.add(Held(index, self.listener, notification, call, is_killed))

    def _learn_process(self, tid: int, pid: int, now_ns: int) -> int:
        """The process of thread `tid`: `pid`, if the kernel says that it still is, or by /proc."""
        if not pid or tgkill(pid, tid, 0):
            if len(self._process_of) >= THREADS_KNOWN_MAX:
                self._process_of.clear()
            pid = read_process(tid)
        self._process_of[tid] = (pid, now_ns)
        return pid


def _order(call: Call, decision: int) -> tuple[str, int, int, int, int, int]:
    """The first arguments of append_call."""
    return call.op, decision, call.pid, call.tid, call.arch, call.nr


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
