"""The guard's side of one run: events and attempts become signed, durable segments.

Not here: formats (chainlite), order and encoding (ledger), the journal's layout (journal,
attempts), what a crash leaves (recovery).
`append` records what this process does itself. What the gate saw comes through the journal: a
writer thread takes it from there, seals, signs and commits, and says which held calls may go on.
Invariants: an event whose index was returned, and an attempt that is in the journal, survive
kill -9 of this process; `durable_count` counts events that are both on disk and signed; a full disk
is waited for, and a receipt says how long; after any other failure to write nothing more is
accepted (fail closed). The thread starts with begin_commits, so a caller may fork before it.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _thread import get_native_id

from chainlite import receipt, segment
from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import deque
from docklock.evidence import attempts, container_store, counts, figures, journal, sealing
from docklock.evidence.database import sqlite3
from docklock.evidence.epochs import Epochs
from docklock.evidence.full_disk import Stalls
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.ledger import ATTEMPT_LABEL, Held, Ledger, Point
from docklock.evidence.run_start import RunStart, make_genesis
from docklock.evidence.unlogged import Unlogged
from docklock.evidence.waiting import Condition, Thread

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from docklock.paths import Paths

COMMIT_INTERVAL_S = 0.005
FSYNC_FACTOR = 4
QUEUED_BATCHES_MAX = 16
ATTEMPTS_AT_ONCE = 1024
SWITCH_INTERVAL_S = 0.0005
STALL_OP = "runtime.stall"
BUSY_EVENTS = 256  # in one commit
NICE = 5  # the thread's: where CPUs are few, answers to calls go before their signatures
_ROOM = 1024  # more than an event without values and labels takes in the journal, and a secret
_ROOM_FOR_SECRETS = 8192  # more than those of as many segments take as ATTEMPTS_AT_ONCE can fill


class RunRecorder:
    """One run's evidence while it lives. Made by `begin`, ended by `close`."""

    def __init__(
        self,
        paths: Paths,
        log: HostLog,
        file: journal.Journal,
        start: RunStart,
        rules: tuple[attempts.RuleText, ...],
        *,
        has_holds: bool,
    ) -> None:
        """For `begin` alone."""
        self._has_holds = has_holds
        genesis, self._epochs = start.genesis, Epochs(start.epoch)
        self._paths, self._log, self._journal = paths, log, file
        self._container, self._run = genesis.container, genesis.run
        self._sign_each = bool(genesis.sign_each)
        chain = segment.compute_genesis_hash(segment.encode_genesis(genesis))
        origin = Point(0, chain, receipt.ZERO_USAGE, genesis.time)
        self._ledger = Ledger(genesis, origin, rules, self._get_secret)
        self._reader = attempts.AttemptReader(file.map, attempts.begin_attempts(file.map, rules))
        self.counts = counts.Counts(rules)
        self._unlogged = Unlogged(log, genesis.container, genesis.run)
        self._held: deque[Held] = deque()
        self._aborted: deque[Held] = deque()
        self._flushes: deque[tuple[int, Callable[[], None]]] = deque()
        self._condition = Condition()
        self._thread: Thread | None = None
        self._now = self._closing = self._drained = self._may_commit = False
        self._work_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.durable_count = 0
        self.failure: BaseException | None = None
        self.wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stalls = Stalls(self._upon_stall)
        self.release: Callable[[Held], bool] = lambda _: True
        """Answers a held call whose receipt is durable; False if its caller has gone."""
        self.upon_stall: Callable[[str], None] = lambda _: None
        """Told, in the caller's thread, when evidence begins to wait for room on the disk."""

    @classmethod
    def begin(
        cls,
        paths: Paths,
        *,
        container_id: str,
        run: int,
        app: str,
        image_digest: str,
        policy_digest: bytes,
        closed: tuple[str, ...],
        sign_each: bool,
        rules: tuple[attempts.RuleText, ...] = (),
        has_holds: bool = False,
    ) -> RunRecorder:
        """Log the run's start durably, then record. StateError if its last run is not closed.

        `rules` are what attempts refer to by number; `has_holds`: calls will wait for commits.
        """
        key = ensure_host_key(paths)
        file = journal.create_journal(paths, container_id)
        log = None
        try:
            log = HostLog(paths, key)
            container = bytes.fromhex(container_id)
            genesis = make_genesis(log.host, container, run, policy_digest, image_digest, app)
            genesis = genesis._replace(sign_each=int(sign_each), closed=tuple(sorted(set(closed))))
            start = RunStart(file, key, genesis)
            with log.write():
                log.append_start(container, run, app, start.make_leaf)
            return cls(paths, log, file, start, rules, has_holds=has_holds)
        except BaseException:
            if log is not None:
                log.close()
            file.remove()
            raise

    def append(
        self,
        op: str,
        *,
        decision: int,
        plane: int,
        seen: int,
        pid: int = 0,
        tid: int = 0,
        arch: int = 0,
        nr: int = receipt.NR_NONE,
        args: tuple[int, ...] = (0,) * 6,
        values: tuple[tuple[str, bytes], ...] = (),
        errno: int = 0,
        ret: int = 0,
        mono_ns: int | None = None,
        time_ns: int | None = None,
        usage: tuple[int, ...] | None = None,
        labels: tuple[tuple[str, str], ...] = (),
    ) -> int:
        """Record one event; its index. When this returns, kill -9 does not lose it.

        `values` are sensitive and enter as commitments; one above its limit is cut and labelled
        `truncated`. `usage` is the vector without receipts_count; not given it repeats the last.
        """
        with self._condition:
            if self.failure is not None or self._closing or len(values) > receipt.VALUES_MAX:
                raise self._refuse()
            self._make_room(values)
            index, ledger = self._ledger.count, self._ledger
            if usage is not None:
                ledger.usage = (*usage, (index + 1) * receipt.USAGE_PARTS)
            frame = ledger.add(
                op,
                decision=decision,
                plane=plane,
                seen=seen,
                pid=pid,
                tid=tid,
                arch=arch,
                nr=nr,
                errno=errno,
                ret=ret,
                args=args,
                values=values,
                labels=labels,
                mono_ns=mono_ns,
                time_ns=time_ns,
            )
            check = ledger.chain_hash[: journal.CHECK_BYTES]
            self._journal.write(journal.EVENT, frame, check)
            self._wake_writer()
            while len(ledger.closed) >= QUEUED_BATCHES_MAX:
                self._wait_for_writer()
            return index

    @property
    def event_count(self) -> int:
        """Events appended or taken so far; `durable_count` of them are on disk and signed."""
        return self._ledger.count

    def request_commit(self, *, now: bool) -> None:
        """Commit what is pending: at once, or with the next group commit."""
        with self._condition:
            if self.failure is not None:
                raise self._refuse()
            self._now = self._now or now
            self._wake_writer()

    def begin_commits(self) -> None:
        """Start the thread that commits. Before this what is appended is in the journal alone."""
        with self._condition:
            self._may_commit = True
            self._wake_writer()

    def log_operation(self, name: str, labels: tuple[tuple[str, str], ...]) -> None:
        """Have the host log say at once what happened to the container: a name of OPERATIONS."""
        with self._condition:
            if self.failure is not None or self._closing:
                raise self._refuse()
            self._unlogged.add_operation(name, labels)
            self._wake_writer()

    def add_flush(self, upon_done: Callable[[], None]) -> None:
        """Have `upon_commit` call `upon_done` once all that was recorded so far is durable."""
        self.take_attempts()
        self._flushes.append((self._ledger.count, upon_done))
        self.begin_commits()
        self.request_commit(now=True)
        self.upon_commit()

    def upon_commit(self) -> None:
        """What is to be done after a commit, when wakeup_fd tells. StateError on a failure."""
        attempts.clear_eventfd(self.wakeup_fd)
        if self.failure is not None:
            raise self._refuse()
        while self._aborted:
            self.append_aborted(self._aborted.popleft())
        self._stalls.tell(self.upon_stall)
        for began_ns, ended_ns in self._stalls.take_ended():
            self.append(
                STALL_OP,
                decision=receipt.ALLOWED,
                plane=receipt.RUNTIME,
                seen=receipt.OBSERVED,
                labels=(("t1", str(began_ns)), ("t2", str(ended_ns))),
            )
        while self._flushes and self._flushes[0][0] <= self.durable_count:
            self._flushes.popleft()[1]()

    def append_aborted(self, held: Held) -> None:
        """The call that a receipt announced was interrupted before its answer."""
        self.append(
            held.op,
            decision=receipt.ABORTED,
            plane=receipt.GATE,
            seen=receipt.CLAIMED,
            pid=held.pid,
            tid=held.tid,
            arch=held.arch,
            nr=held.nr,
            labels=((ATTEMPT_LABEL, str(held.receipt_index)),),
        )

    # Attempts of the gate.

    def take_attempts(self) -> None:
        """Give every attempt that is in the journal its receipt now."""
        with self._condition:
            while self._take_some():
                while len(self._ledger.closed) >= QUEUED_BATCHES_MAX:
                    self._wait_for_writer()

    def open_ring(self) -> tuple[mmap.mmap, attempts.AttemptWriter]:
        """For this process itself, while it has no worker: the ring and its writer."""
        mapped = self._journal.map
        return mapped, attempts.AttemptWriter(
            mapped, self._journal.fd, self._work_fd, self._reader.place
        )

    def get_ring(self) -> tuple[attempts.Place, int, int]:
        """For a new worker: where it writes, in the file of which descriptor, and how it wakes us.

        Both descriptors stay ours.
        """
        return self._reader.place, self._journal.fd, self._work_fd

    def take_in_flight(self, listener: int) -> tuple[bytes, int | None]:
        """The notification a dead worker received last, and its receipt's index if it has one."""
        data = attempts.take_in_flight(self._journal.map, listener)
        notification, index = self._ledger.get_last_attempt(listener)
        known = notification == int.from_bytes(data[:8], sys.byteorder)
        return data, index if known else None

    def is_held(self, notification: int) -> bool:
        """Whether this call waits for its receipt to be durable."""
        return any(held.notification == notification for held in tuple(self._held))

    def close(
        self,
        exit_code: int,
        *,
        oom: bool = False,
        is_removed: bool = False,
        is_leaving: bool = False,
        upon_durable: Callable[[], None] | None = None,
    ) -> None:
        """Commit and sign all, log the exit, remove the journal. On an error the journal stays.

        No attempt is made any more. `is_removed` logs the container's removal, too.
        `upon_durable` is called as soon as the exit is logged: what follows is tidying, which the
        databases take their time for. `is_leaving`: this process ends soon (HostLog.leave).
        """
        is_closed = False
        try:
            self._drain()
            end = self._ledger.get_point()
            self._stalls.wait(
                lambda: self._unlogged.write_exit(end, exit_code, oom=oom, is_removed=is_removed),
                self.upon_stall,
            )
            if upon_durable is not None:
                upon_durable()
            is_closed = True
        finally:
            if self._thread is not None:
                self._thread.join()
            self._reader.close()
            self._epochs.current.key.erase()
            (self._log.leave if is_leaving else self._log.close)()
            os.close(self.wakeup_fd)
            os.close(self._work_fd)
            if not is_closed:
                self._journal.close()
        self._journal.remove()

    def _drain(self) -> None:
        """Have the thread commit all there is, and end."""
        if self.failure is None:
            self.upon_commit()
        with self._condition:
            if self._reader.has_more() or self._ledger.is_pending():
                self._may_commit = True
                self._wake_writer()
            self._closing = True
            os.eventfd_write(self._work_fd, 1)
            while self._thread is not None and not self._drained and self.failure is None:
                self._condition.wait()
                self._stalls.tell(self.upon_stall)
        if self.failure is not None:
            raise self._refuse()

    # Under the lock.

    def _make_room(self, values: tuple[tuple[str, bytes], ...]) -> None:
        """Go on in the journal's other half if this one might not do: first of all, as it waits."""
        size = sum([min(len(value), receipt.VALUE_LIMIT_BYTES) for _, value in values])
        has_room = self._journal.has_room(_ROOM + receipt.RECEIPT_LIMIT_BYTES + size)
        if has_room and not self._may_recycle():
            return
        while self.durable_count < self._journal.first_index:
            self._wait_for_writer()
        self._journal.switch(self._ledger.count)

    def _may_recycle(self) -> bool:
        return self._journal.is_worn() and self.durable_count == self._ledger.count

    def _get_secret(self, index: int, current: bytes) -> bytes:
        """The open batch's secret, which the journal knows before any event that uses it."""
        secret = current or os.urandom(receipt.SECRET_BYTES)
        self._journal.write_secret(index, secret)
        return secret

    def _take_some(self) -> bool:
        """Give some attempts their receipts; False when there were none, or a commit must come."""
        if not self._journal.has_room(_ROOM_FOR_SECRETS) or self._may_recycle():
            if self.durable_count < self._journal.first_index:
                return False
            self._journal.switch(self._ledger.count)
        found = self._reader.take(ATTEMPTS_AT_ONCE)
        add = self._ledger.add_attempt
        try:
            for attempt in found:
                held = add(attempt)
                if held is not None:
                    self._held.append(held)
                    self._now = True
        except DocklockError as error:
            self.failure = error
            os.eventfd_write(self.wakeup_fd, 1)
            raise
        figures.answers.observe_attempts(found)
        self.counts.count(found)
        return bool(found)

    def _upon_stall(self) -> None:
        """The disk has become full, or has room again: whoever waits for a commit looks."""
        with self._condition:
            self._condition.notify_all()
        os.eventfd_write(self.wakeup_fd, 1)

    def _wait_for_writer(self) -> None:
        self._now = True
        self._wake_writer()
        self._condition.wait()
        if self.failure is not None:
            raise self._refuse()

    def _wake_writer(self) -> None:
        if self._thread is None and self._may_commit:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._thread = Thread(self._write_loop)
        os.eventfd_write(self._work_fd, 1)

    def _refuse(self) -> StateError:
        why = self.failure or "the run is closed, or an event has too many values"
        return StateError(f"container {self._container.hex()[:12]}: evidence not written: {why}")

    # The writer thread.

    def _write_loop(self) -> None:
        try:
            name = self._container.hex()
            db = self._stalls.wait(lambda: container_store.create_store(self._paths, name))
            try:
                if self._has_holds:
                    container_store.reserve_log(self._paths, name)
                self._commit_until_closed(db)
                with self._condition:
                    self._drained = True
                    self._condition.notify_all()
            finally:
                db.close()
        except (OSError, sqlite3.Error, DocklockError, MemoryError) as error:
            with self._condition:
                self.failure = error
                self._condition.notify_all()
            os.eventfd_write(self.wakeup_fd, 1)

    def _commit_until_closed(self, db: sqlite3.Connection) -> None:
        poll = select.poll()
        poll.register(self._work_fd, select.POLLIN)
        commit_at = 0.0
        is_yielding = False  # not before it is busy: at the start others wait for what it holds
        while True:
            closing = self._wait_until_due(poll, commit_at)
            with self._condition:
                while self._take_some() and len(self._ledger.closed) < QUEUED_BATCHES_MAX:
                    pass
                self._now = False
                batches = self._ledger.take_batches()
            if batches:
                began = time.monotonic()
                self._commit(db, batches)
                ended = time.monotonic()
                figures.commits.observe(int((ended - began) * 1e9))
                if len(batches[0].frames) >= BUSY_EVENTS and not is_yielding:
                    os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
                    is_yielding = True
                commit_at = ended + max(COMMIT_INTERVAL_S, FSYNC_FACTOR * (ended - began))
            elif closing:
                return
            dues = self._unlogged.get_dues()
            if dues and not closing and time.monotonic() >= min(dues):
                self._stalls.wait(self._unlogged.write)

    def _wait_until_due(self, poll: select.poll, commit_at: float) -> bool:
        """Wait until there is something to commit or to log now; whether this is the end."""
        reader = self._reader
        while True:
            attempts.clear_eventfd(self._work_fd)  # before we look, so that no wake-up is lost
            if self._closing:
                break
            urgent = reader.take_urgent() or self._now
            pending = self._ledger.is_pending() or reader.has_more()
            now = time.monotonic()
            dues = [now if urgent else commit_at] * pending + self._unlogged.get_dues()
            if dues and min(dues) <= now:
                break
            reader.set_asleep(asleep=not pending)
            if pending or not reader.has_more():
                poll.poll((min(dues) - now) * 1000 if dues else None)
            reader.set_asleep(asleep=False)
        return self._closing

    def _commit(self, db: sqlite3.Connection, batches: list[sealing.Batch]) -> None:
        epochs = self._epochs.renew(batches[0].first_index, self._log.get_cosigned_hash)
        rows = [
            sealing.seal_batch(self._epochs.current, batch, sign_each=self._sign_each)
            for batch in batches
        ]
        self._stalls.wait(lambda: container_store.insert_segments(db, rows, epochs))
        self._unlogged.add_segments(rows)
        self._reader.set_durable(rows[-1].attempts_taken)
        with self._condition:
            self.durable_count = rows[-1].first_index + rows[-1].event_count
            self._condition.notify_all()
        self._reader.set_totals(self.durable_count, self.counts.count_refused())
        self._release_held()
        if self._aborted or self._flushes:  # else it would only take the processor from us
            os.eventfd_write(self.wakeup_fd, 1)

    def _release_held(self) -> None:
        """Let every held call go on, or die, whose receipt is durable and signed now."""
        while self._held and self._held[0].receipt_index < self.durable_count:
            held = self._held.popleft()
            if not self.release(held):
                self._aborted.append(held)
            figures.held.observe(time.monotonic_ns() - held.mono_ns)
