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

from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.receipt import ABORTED, ALLOWED, CLAIMED, DENIED, GATE, KILLED
from docklock.bare import deque, signal
from docklock.capture.arguments import read_values
from docklock.kernel.memory import is_thread_of
from docklock.kernel.seccomp import (
    NOTIF,
    NOTIF_ARGS_OFFSET,
    NOTIF_ID,
    NOTIF_ID_VALID,
    NOTIF_RECV,
    NOTIF_RESP,
    NOTIF_SEND,
    NOTIF_SET_FLAGS,
    NOTIF_SIZE_BYTES,
    USER_NOTIF_FD_SYNC_WAKE_UP,
    USER_NOTIF_FLAG_CONTINUE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.evidence.recorder import RunRecorder
    from docklock.policy.load import Compiled, Rule

THREADS_KNOWN_MAX = 4096  # then the tid -> pid notes are dropped and learnt again


def set_sync_wake_up(listener: int) -> bool:
    """Have the kernel hand the CPU straight to the answered caller; False before Linux 6.6."""
    try:
        ioctl(listener, NOTIF_SET_FLAGS, USER_NOTIF_FD_SYNC_WAKE_UP)
    except OSError:
        return False
    return True


class Held(NamedTuple):
    """A call that waits until its receipt is durable; `kill_pid` is 0 when it may then proceed."""

    receipt_index: int
    listener: int
    notification: int
    kill_pid: int
    tid: int


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
            held = self._waiting.popleft()
            if held.kill_pid:
                kill_process(held.kill_pid)
            else:
                respond_continue(held.listener, held.notification)
        while self._flushes and self._flushes[0][0] <= durable_count:
            self._flushes.popleft()[1]()


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


def respond_continue(listener: int, notification: int) -> bool:
    """Let the call run; False when its caller has died or was interrupted."""
    return _respond(listener, NOTIF_RESP.pack(notification, 0, 0, USER_NOTIF_FLAG_CONTINUE))


def _respond(listener: int, response: bytes) -> bool:
    try:
        ioctl(listener, NOTIF_SEND, response)
    except FileNotFoundError:
        return False
    return True


class Gate:
    """Serves one listener descriptor, which it owns."""

    def __init__(
        self, listener: int, policy: Compiled, recorder: RunRecorder, holds: Holds
    ) -> None:
        self.listener = listener
        self._policy = policy
        self._append = recorder.append
        self._holds = holds
        self._notification = bytearray(NOTIF_SIZE_BYTES)
        self._zero = bytes(NOTIF_SIZE_BYTES)
        self._process_of: dict[int, int] = {}
        set_sync_wake_up(listener)

    def serve_one(self, _mask: int = 0) -> None:
        """Receive one notification, record it, answer it.

        RECV may report a spurious ENOENT (the caller died meanwhile): nothing was delivered then.
        """
        buffer = self._notification
        buffer[:] = self._zero  # the kernel refuses a buffer that is not zero
        try:
            ioctl(self.listener, NOTIF_RECV, buffer)
        except (FileNotFoundError, InterruptedError):
            return
        notification, tid, _, nr, arch, _, *args = NOTIF.unpack_from(buffer)
        rule = self._policy.decide(nr, tuple(args))
        values = read_values(rule.strings, tid, args) if rule.strings else ()
        if values and not self._is_valid(notification):
            return  # the caller is gone, so what was read may be another process's
        pid = self._get_process(tid)
        action = rule.action
        if action == "record":
            index = self._record(rule, ALLOWED, pid, tid, nr, arch, values)
            if not respond_continue(self.listener, notification):
                self._record_aborted(rule, pid, tid, nr, arch, index)
        elif action == "deny":
            self._record(rule, DENIED, pid, tid, nr, arch, values, rule.errno)
            _respond(self.listener, NOTIF_RESP.pack(notification, 0, -rule.errno, 0))
        else:
            decision = KILLED if action == "kill" else ALLOWED
            index = self._record(rule, decision, pid, tid, nr, arch, values)
            victim = pid if action == "kill" else 0
            self._holds.add(Held(index, self.listener, notification, victim, tid))

    def _record(
        self,
        rule: Rule,
        decision: int,
        pid: int,
        tid: int,
        nr: int,
        arch: int,
        values: tuple[tuple[str, bytes], ...],
        errno: int = 0,
    ) -> int:
        args = bytes(self._notification[NOTIF_ARGS_OFFSET:])
        return self._append(
            rule.op,
            decision=decision,
            plane=GATE,
            seen=CLAIMED,
            pid=pid,
            tid=tid,
            arch=arch,
            nr=nr,
            args=args,
            values=values,
            errno=errno,
        )

    def _record_aborted(
        self, rule: Rule, pid: int, tid: int, nr: int, arch: int, index: int
    ) -> None:
        self._append(
            rule.op,
            decision=ABORTED,
            plane=GATE,
            seen=CLAIMED,
            pid=pid,
            tid=tid,
            arch=arch,
            nr=nr,
            labels=(("attempt", str(index)),),
        )

    def _is_valid(self, notification: int) -> bool:
        try:
            ioctl(self.listener, NOTIF_ID_VALID, NOTIF_ID.pack(notification))
        except FileNotFoundError:
            return False
        return True

    def _get_process(self, tid: int) -> int:
        """The process of thread `tid`: what was noted, if the kernel says that it still holds."""
        pid = self._process_of.get(tid)
        if pid is not None and is_thread_of(pid, tid):
            return pid
        if len(self._process_of) >= THREADS_KNOWN_MAX:
            self._process_of.clear()
        pid = read_process(tid)
        self._process_of[tid] = pid
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
