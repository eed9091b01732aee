"""The guard's answers: to calls whose receipts have become durable, and for a dead worker.

Not here: when a receipt is durable (evidence.recorder), all other answers (gate).
Invariants: a held call proceeds, and a killed one dies, only when its receipt is durable and signed
(tests/e2e/test_gate.py::test_hold_waits_for_a_durable_receipt); a call that a dead worker had
received is answered EINTR, and a receipt says so
(tests/e2e/test_worker.py::test_a_killed_worker_loses_no_call_and_no_receipt).
"""

from __future__ import annotations

import errno
import os

from chainlite.lean import TYPE_CHECKING
from chainlite.receipt import ABORTED, CLAIMED, GATE
from docklock.bare import signal
from docklock.capture.gate import is_valid, read_process, respond
from docklock.evidence.ledger import ATTEMPT_LABEL
from docklock.kernel.seccomp import NOTIF, NOTIF_RESP, USER_NOTIF_FLAG_CONTINUE

if TYPE_CHECKING:
    from docklock.evidence.ledger import Held
    from docklock.evidence.recorder import RunRecorder
    from docklock.policy.load import Compiled

WORKER_LABEL = ("worker", "died")


def release(listener: int, held: Held) -> bool:
    """Let the call go on, or kill its process; False if the caller has gone."""
    if not held.is_killed:
        return respond(listener, NOTIF_RESP.pack(held.notification, 0, 0, USER_NOTIF_FLAG_CONTINUE))
    if is_valid(listener, held.notification):  # so the pid is still the caller's
        kill_process(held.pid)
    return True


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


def interrupt_in_flight(
    recorder: RunRecorder, number: int, listener: int, policy: Compiled
) -> None:
    """Answer EINTR to what a dead worker had received from listener `number` and not answered.

    Its attempts have been taken. A held call waits for its commit, as ever.
    """
    data, index = recorder.take_in_flight(number)
    notification, tid, _, nr, arch, _, *words = NOTIF.unpack(data)
    if not notification or recorder.is_held(notification):
        return
    pid, args = read_process(tid), tuple(words)
    if not respond(listener, NOTIF_RESP.pack(notification, 0, -errno.EINTR, 0)):
        return
    attempt = () if index is None else ((ATTEMPT_LABEL, str(index)),)
    recorder.append(
        policy.decide(nr, args, arch).op,
        decision=ABORTED,
        plane=GATE,
        seen=CLAIMED,
        pid=pid,
        tid=tid,
        arch=arch,
        nr=nr,
        args=args,
        errno=errno.EINTR,
        labels=(WORKER_LABEL, *attempt),
    )
