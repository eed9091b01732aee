"""The writer side of one run: receipts into the journal at once, signed segments soon after.

Not here: formats (chainlite), the journal's layout (journal), what a crash leaves (recovery).
`append` encodes, chains and journals under one lock; a writer thread seals, signs and commits.
Invariants: an event whose index was returned survives kill -9 of this process; `durable_count`
counts events that are both on disk and signed; after any failure to write nothing more is
accepted (fail closed). The thread starts with the first event, so a caller may fork before it.
"""

from __future__ import annotations

import os
import struct
import sys
import time

from blake3 import blake3

from chainlite import domains, hostlog, receipt, segment
from chainlite.errors import DocklockError, StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.sha2 import sha256
from docklock.evidence import boot, container_store, journal, sealing
from docklock.evidence.database import sqlite3
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.run_start import RunStart, make_genesis
from docklock.evidence.waiting import Condition, Thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.paths import Paths

COMMIT_INTERVAL_S = 0.005
FSYNC_FACTOR = 4
LOG_INTERVAL_S = 0.05
QUEUED_BATCHES_MAX = 16
SWITCH_INTERVAL_S = 0.0005
_ARGS = struct.Struct("=6Q")
_ROOM = 1024
"""More than a receipt without values and labels takes in the journal, and a secret."""
_LEAF_TAG, _CHAIN_TAG = domains.LEAF, domains.RECEIPT
_NO_LABELS = b"\x00"
_PACK = receipt.VARYING.pack
_time_ns = time.time_ns
_monotonic_ns = time.monotonic_ns
_FRAME = receipt.FRAME.pack


class RunRecorder:
    """One run's evidence while it lives. Made by `begin`, ended by `close`."""

    def __init__(self, paths: Paths, log: HostLog, file: journal.Journal, start: RunStart) -> None:
        """For `begin` alone."""
        genesis, self._epoch = start.genesis, start.epoch
        self._paths, self._log, self._journal = paths, log, file
        self._container, self._run = genesis.container, genesis.run
        self._app = genesis.app
        self._sign_each = bool(genesis.sign_each)
        self._constant = receipt.encode_constant(
            genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
        )
        self._chain = segment.compute_genesis_hash(segment.encode_genesis(genesis))
        self._heads: dict[str, bytes] = {}
        self._names: dict[str, bytes] = {}
        self._usage: tuple[int, ...] = receipt.ZERO_USAGE
        self._count = 0
        self._switched_at = 0
        self._secret_journaled = False
        self._batch = sealing.Batch(0)
        self._closed: list[sealing.Batch] = []
        self._unlogged: list[bytes] = []
        self._condition = Condition()
        self._lock = self._condition.lock  # itself, where nobody waits: 0.1 us less
        self._thread: Thread | None = None
        self._sha256 = sha256
        self._now = self._closing = self._drained = False
        self._epoch_began = time.monotonic_ns()
        self.durable_count = 0
        self.failure: BaseException | None = None
        self.wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

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
    ) -> RunRecorder:
        """Log the run's start durably, then record. StateError if its last run is not closed."""
        key = ensure_host_key(paths)
        file = journal.create_journal(paths, container_id)
        log = None
        try:
            log = HostLog(paths, key)
            container = bytes.fromhex(container_id)
            genesis = make_genesis(log.host, container, run, policy_digest, image_digest, app)
            start = RunStart(
                file,
                key,
                genesis._replace(sign_each=int(sign_each), closed=tuple(sorted(set(closed)))),
            )
            with log.write():
                log.append_start(container, run, app, start.make_leaf)
            return cls(paths, log, file, start)
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
        args: bytes = receipt.ZERO_ARGS,
        values: tuple[tuple[str, bytes], ...] = (),
        errno: int = 0,
        ret: int = 0,
        mono_ns: int | None = None,
        time_ns: int | None = None,
        usage: tuple[int, ...] | None = None,
        labels: tuple[tuple[str, str], ...] = (),
    ) -> int:
        """Record one event; its index. When this returns, kill -9 does not lose it.

        `args` are six u64 in host order; `values` are sensitive and enter as commitments; one above
        its limit is cut and labelled `truncated`. `usage` not given repeats the last one.
        """
        if usage is not None:
            with self._condition:
                self._usage = usage
        return self.append_call(
            op,
            decision,
            pid,
            tid,
            arch,
            nr,
            _ARGS.unpack(args),
            errno,
            values,
            plane,
            seen,
            ret,
            labels,
            mono_ns,
            time_ns,
        )

    def append_call(
        self,
        op: str,
        decision: int,
        pid: int,
        tid: int,
        arch: int,
        nr: int,
        args: tuple[int, ...],
        errno: int,
        values: tuple[tuple[str, bytes], ...],
        plane: int = receipt.GATE,
        seen: int = receipt.CLAIMED,
        ret: int = 0,
        labels: tuple[tuple[str, str], ...] = (),
        mono_ns: int | None = None,
        time_ns: int | None = None,
    ) -> int:
        """`append` for the gate, which makes 70,000 calls a second: by position, args unpacked."""
        with self._lock:
            if self.failure is not None or self._closing or len(values) > receipt.VALUES_MAX:
                raise self._refuse()
            if not self._journal.has_room(_ROOM) or values or labels:
                self._make_room(values)
            index = self._count
            stamp = _time_ns() if time_ns is None else time_ns
            data = (
                self._constant
                + _PACK(
                    index,
                    _monotonic_ns() if mono_ns is None else mono_ns,
                    stamp,
                    pid,
                    tid,
                    arch,
                    nr,
                    errno,
                    ret,
                    decision,
                    plane,
                    seen,
                    *args,
                    *self._usage,
                    len(values),
                )
                + (self._heads.get(op) or self._add_head(op))
            )
            if values or labels:
                tail, stored = self._encode_rest(index, labels, values)
                self._write(op, stamp, data + tail, stored)
            else:
                self._write(op, stamp, data + _NO_LABELS, b"")
            return index

    @property
    def event_count(self) -> int:
        """Events appended so far; `durable_count` of them are on disk and signed."""
        return self._count

    def request_commit(self, *, now: bool) -> None:
        """Commit what is pending: at once, or with the next group commit."""
        with self._condition:
            if self.failure is not None:
                raise self._refuse()
            self._now = self._now or now
            self._wake_writer()

    def end(self) -> None:
        """Take no more events and begin to commit what there is; `close` must follow."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def close(
        self, exit_code: int, *, oom: bool = False, upon_durable: Callable[[], None] | None = None
    ) -> None:
        """Commit and sign all, log the exit, remove the journal. On an error the journal stays.

        `upon_durable` is called as soon as the exit is logged: what follows is tidying, which the
        databases take their time for.
        """
        self.end()
        try:
            with self._condition:
                while self._thread is not None and not self._drained and self.failure is None:
                    self._condition.wait()
            if self.failure is not None:
                raise self._refuse()
            self._log_exit(exit_code, oom=oom)
            if upon_durable is not None:
                upon_durable()
        except BaseException:
            self._journal.close()
            raise
        finally:
            if self._thread is not None:
                self._thread.join()
            self._log.close()
            os.close(self.wakeup_fd)
        self._journal.remove()

    # The rest of append, under the lock.

    def _make_room(self, values: tuple[tuple[str, bytes], ...]) -> None:
        """Go on in the journal's other half if this one might not do: first of all, as it waits."""
        size = sum([min(len(value), receipt.VALUE_LIMIT_BYTES) for _, value in values])
        if self._journal.has_room(_ROOM + receipt.RECEIPT_LIMIT_BYTES + size):
            return
        while self.durable_count < self._switched_at:
            self._wait_for_writer()
        self._journal.switch(self._count)
        self._switched_at = self._count
        self._secret_journaled = False

    def _add_head(self, op: str) -> bytes:
        head = receipt.encode_names(self._app, op)
        self._heads[op] = head
        return head

    def _encode_rest(
        self,
        index: int,
        labels: tuple[tuple[str, str], ...],
        values: tuple[tuple[str, bytes], ...],
    ) -> tuple[bytes, bytes]:
        """Labels and commitments, and the values that lie beside the receipt."""
        secret = self._get_secret() if values else b""
        labels, values = _cut(labels, values)
        names, digests, stored = [receipt.encode_labels(labels)], [], []
        for field, (name, value) in enumerate(values):
            known = self._names.get(name)
            if known is None:
                known = self._names[name] = receipt.encode_name(name)
            names.append(known)
            digests.append(receipt.compute_commitment(secret, index, field, value))
            stored.append(len(value).to_bytes(4, "big") + value)
        return b"".join(names + digests), b"".join(stored)

    def _get_secret(self) -> bytes:
        """The open batch's secret, which the journal knows before any event that uses it."""
        batch = self._batch
        if not batch.secret:
            batch.secret = os.urandom(receipt.SECRET_BYTES)
            self._secret_journaled = False
        if not self._secret_journaled:
            check = blake3(batch.secret).digest(journal.CHECK_BYTES)
            self._journal.write(journal.SECRET, batch.secret, check)
            self._secret_journaled = True
        return batch.secret

    def _write(self, op: str, stamp: int, data: bytes, stored: bytes) -> None:
        """Chain the receipt, journal it, and add it to the open batch."""
        self._chain = chain = blake3(_CHAIN_TAG + self._chain + data).digest()
        frame = _FRAME(len(data), len(stored)) + data + stored
        self._journal.write(journal.EVENT, frame, chain[:8])
        self._count += 1
        batch = self._batch
        if not batch.frames:
            batch.time_first = stamp
            self._wake_writer()
        batch.frames.append(frame)
        batch.leaf_hashes.append(self._sha256(_LEAF_TAG + data).digest())
        batch.chain_hashes.append(chain)
        batch.ops.add(op)
        batch.size_bytes += len(frame)
        batch.time_last = stamp
        batch.usage = self._usage
        if len(batch.frames) >= segment.EVENTS_MAX or batch.is_full():
            self._close_batch()

    def _close_batch(self) -> None:
        from hashlib import sha256 as faster  # much is written here: OpenSSL is worth its import

        self._sha256 = faster
        self._closed.append(self._batch)
        self._batch = sealing.Batch(self._count)
        self._wake_writer()
        while len(self._closed) >= QUEUED_BATCHES_MAX:
            self._wait_for_writer()

    def _wait_for_writer(self) -> None:
        self._now = True
        self._wake_writer()
        self._condition.wait()
        if self.failure is not None:
            raise self._refuse()

    def _wake_writer(self) -> None:
        if self._thread is None:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._thread = Thread(self._write_loop)
        self._condition.notify_all()

    def _refuse(self) -> StateError:
        why = self.failure or "the run is closed, or an event has too many values"
        return StateError(f"container {self._container.hex()[:12]}: evidence not written: {why}")

    # The writer thread.

    def _write_loop(self) -> None:
        try:
            db = container_store.create_store(self._paths, self._container.hex())
            try:
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
        commit_at = log_at = 0.0
        while True:
            batches, closing = self._take_batches(commit_at, log_at)
            if batches:
                began = time.monotonic()
                self._commit(db, batches)
                ended = time.monotonic()
                commit_at = ended + max(COMMIT_INTERVAL_S, FSYNC_FACTOR * (ended - began))
            if closing:
                return
            if self._unlogged and time.monotonic() >= log_at:
                self._log_segments()
                log_at = time.monotonic() + LOG_INTERVAL_S

    def _take_batches(self, commit_at: float, log_at: float) -> tuple[list[sealing.Batch], bool]:
        """Wait until something is due; all pending batches, and whether these are the last."""
        with self._condition:
            while not self._closing:
                now = time.monotonic()
                pending = bool(self._batch.frames or self._closed)
                full = len(self._closed) * 2 >= QUEUED_BATCHES_MAX
                if pending and (self._now or full or now >= commit_at):
                    break
                dues = [commit_at] * pending + [log_at] * bool(self._unlogged)
                if self._unlogged and now >= log_at:
                    return [], False
                self._condition.wait(min(dues) - now if dues else None)
            self._now = False
            batches = self._closed
            self._closed = []
            if self._batch.frames:
                batches.append(self._batch)
                self._batch = sealing.Batch(self._count)
            return batches, self._closing

    def _commit(self, db: sqlite3.Connection, batches: list[sealing.Batch]) -> None:
        epochs = self._renew_epoch(batches[0].first_index)
        rows = [
            sealing.seal_batch(self._epoch, batch, sign_each=self._sign_each) for batch in batches
        ]
        container_store.insert_segments(db, rows, epochs)
        self._unlogged += [
            hostlog.encode_segment(hostlog.Segment(row.header, row.signature)) for row in rows
        ]
        with self._condition:
            self.durable_count = rows[-1].first_index + rows[-1].event_count
            self._condition.notify_all()
        os.eventfd_write(self.wakeup_fd, 1)

    def _renew_epoch(self, first_index: int) -> list[container_store.EpochRow]:
        now = time.monotonic_ns()
        if now - self._epoch_began < segment.EPOCH_NS:
            return []
        old = self._epoch
        certificate = old.certificate._replace(
            epoch=old.certificate.epoch + 1,
            first_index=first_index,
            issuer=segment.BY_EPOCH,
            boottime=boot.get_boottime_ns(),
            time=time.time_ns(),
        )
        self._epoch = sealing.make_epoch(certificate, os.urandom(32), old.key)
        self._epoch_began = now
        return [sealing.get_epoch_row(self._epoch)]

    def _log_segments(self) -> None:
        if self._unlogged:
            with self._log.write():
                self._append_segment_leaves()
            self._unlogged = []

    def _append_segment_leaves(self) -> None:
        for leaf in self._unlogged:
            self._log.append(leaf, container=self._container, run=self._run)

    def _log_exit(self, exit_code: int, *, oom: bool) -> None:
        leaf = hostlog.Exit(
            self._log.host,
            self._container,
            self._run,
            self._count,
            self._chain,
            exit_code,
            int(oom),
            0,
            time.time_ns(),
        )
        with self._log.write():
            self._append_segment_leaves()
            self._log.append_exit(leaf)


def _cut(
    labels: tuple[tuple[str, str], ...], values: tuple[tuple[str, bytes], ...]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, bytes], ...]]:
    """Values within their limit; those that were cut are named by a label."""
    limit = receipt.VALUE_LIMIT_BYTES
    cut = ",".join(name for name, value in values if len(value) > limit)
    if not cut:
        return labels, values
    return (*labels, ("truncated", cut)), tuple((name, value[:limit]) for name, value in values)
