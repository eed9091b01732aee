"""One run's receipts in order: encode each, chain it, put it into a batch. No I/O and no lock.

Used by whoever makes receipts: the guard while a run lives (recorder), and recovery after it.
Not here: which bytes a receipt has (chainlite.receipt), what survives a crash (journal, attempts),
signatures (sealing).
Invariant: the same events, secrets and attempts in the same order give the same receipts, so that
recovery comes to the chain hash that the guard had
(tests/evidence/test_recovery.py::test_attempts_and_events_are_put_together_as_they_were).
"""

from __future__ import annotations

import struct
import time

from blake3 import blake3

from chainlite import domains, receipt, segment
from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.receipt import ALLOWED, CLAIMED, DENIED, GATE, KILLED
from chainlite.sha2 import sha256
from docklock.evidence import attempts, sealing

if TYPE_CHECKING:
    from collections.abc import Callable

_DECISIONS = {
    attempts.RECORD: ALLOWED,
    attempts.HOLD: ALLOWED,
    attempts.DENY: DENIED,
    attempts.KILL: KILLED,
    attempts.ABORTED: receipt.ABORTED,
}
_LEAF_TAG, _CHAIN_TAG = domains.LEAF, domains.RECEIPT
_NO_LABELS = b"\x00"
_PACK = receipt.VARYING.pack
_FRAME = receipt.FRAME.pack
_U32 = struct.Struct(">I").pack

ATTEMPT_LABEL = "attempt"
MASKED_LABEL = "masked"


class Point(NamedTuple):
    """How far a run's receipts go: the next index, the chain's head, the last usage and time."""

    event_count: int
    chain_hash: bytes
    usage: tuple[int, ...]
    time: int


class Held(NamedTuple):
    """A call that waits until its receipt is durable; then it proceeds, or dies."""

    receipt_index: int
    listener: int
    notification: int
    op: str
    pid: int
    tid: int
    arch: int
    nr: int
    is_killed: bool
    mono_ns: int  # when the worker received it


class Ledger:
    """Appends to a run's receipts; `batch` takes them, `closed` are the full ones before it."""

    def __init__(
        self,
        genesis: segment.Genesis,
        point: Point,
        rules: tuple[attempts.RuleText, ...],
        get_secret: Callable[[int, bytes], bytes],
    ) -> None:
        """`get_secret` gives the secret for an index's values, from it and the batch's (or b"")."""
        self._constant = receipt.encode_constant(
            genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
        )
        self._app = genesis.app
        self._rules = rules
        self._get_secret = get_secret
        self._heads: dict[str, bytes] = {}
        self._names: dict[str, bytes] = {}
        self._last_attempts: dict[int, tuple[int, int]] = {}
        self._sha256 = sha256
        self.count, self.chain_hash, self.usage, self.time = point
        self.attempts_taken = 0
        self.batch = sealing.Batch(self.count)
        self.closed: list[sealing.Batch] = []

    def get_point(self) -> Point:
        """Where the run ends now."""
        return Point(self.count, self.chain_hash, self.usage, self.time)

    def get_last_attempt(self, listener: int) -> tuple[int, int]:
        """(notification, receipt's index) of a listener's newest attempt; (0, 0) if none."""
        return self._last_attempts.get(listener, (0, 0))

    def add(
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
        errno: int = 0,
        ret: int = 0,
        args: tuple[int, ...] = (0,) * 6,
        values: tuple[tuple[str, bytes], ...] = (),
        labels: tuple[tuple[str, str], ...] = (),
        mono_ns: int | None = None,
        time_ns: int | None = None,
    ) -> bytes:
        """Append one event; its frame. SpecError above a limit: then nothing was appended."""
        stamp = time.time_ns() if time_ns is None else time_ns
        mono = time.monotonic_ns() if mono_ns is None else mono_ns
        fixed = _PACK(
            self.count, mono, stamp, pid, tid, arch, nr, errno, ret,
            decision, plane, seen, *args, *self.usage, len(values),
        )  # fmt: skip
        head = self._heads.get(op) or self._add_head(op)
        tail, stored = self._encode_rest(labels, values)
        data = self._constant + fixed + head + tail
        return self._write(op, stamp, data, stored)

    def add_attempt(self, attempt: attempts.Attempt) -> Held | None:
        """Append what the gate saw; the call, if it waits for its receipt to be durable.

        StateError for a slot that no worker of ours writes.
        """
        fields, stored = attempt
        notification, tid, _, nr, arch = fields[:5]
        mono, stamp, sequence, pid, errno, listener, _, rule, done, _ = fields[12:]
        if rule >= len(self._rules) or done not in _DECISIONS:
            raise StateError(f"the journal holds an attempt under rule {rule}, done {done}")
        op, masked = self._rules[rule]
        index = self.count
        labels: tuple[tuple[str, str], ...] = ()
        if done == attempts.ABORTED:
            last, attempted = self.get_last_attempt(listener)
            if last == notification:
                labels = ((ATTEMPT_LABEL, str(attempted)),)
            stored = b""
        else:
            self._last_attempts[listener] = (notification, index)
            if masked:
                labels = ((MASKED_LABEL, masked),)
        values = attempts.decode_values(stored) if stored else ()
        fixed = _PACK(
            index, mono, stamp, pid, tid, arch, nr, errno, 0,
            _DECISIONS[done], GATE, CLAIMED, *fields[6:12], *self.usage, len(values),
        )  # fmt: skip
        data = self._constant + fixed + (self._heads.get(op) or self._add_head(op))
        if values or labels:
            tail, kept = self._encode_rest(labels, values)
            self._write(op, stamp, data + tail, kept)
        else:
            self._write(op, stamp, data + _NO_LABELS, b"")
        self.attempts_taken = self.batch.attempts_taken = sequence + 1
        if done == attempts.HOLD or done == attempts.KILL:
            is_killed = done == attempts.KILL
            return Held(index, listener, notification, op, pid, tid, arch, nr, is_killed, mono)
        return None

    def add_frame(self, event: receipt.Receipt, frame: bytes, secret: bytes) -> None:
        """Append an event that is encoded already: recovery, from a journal."""
        if event.commitments:
            self._use_secret(secret)
        data = frame[receipt.FRAME.size :][: receipt.FRAME.unpack_from(frame)[0]]
        self.usage = event.usage
        self._add_to_batch(event.op, event.time, data, frame)

    def take_batches(self) -> list[sealing.Batch]:
        """Every batch that holds an event; the ledger goes on with a new one."""
        batches, self.closed = self.closed, []
        if self.batch.frames:
            batches.append(self.batch)
            self._begin_batch()
        return batches

    def is_pending(self) -> bool:
        """Whether take_batches would give any."""
        return bool(self.batch.frames or self.closed)

    def _write(self, op: str, stamp: int, data: bytes, stored: bytes) -> bytes:
        frame = _FRAME(len(data), len(stored)) + data + stored
        self._add_to_batch(op, stamp, data, frame)
        return frame

    def _add_to_batch(self, op: str, stamp: int, data: bytes, frame: bytes) -> None:
        if self.batch.is_full():
            self._close_batch()
        batch = self.batch
        self.chain_hash = chain = blake3(_CHAIN_TAG + self.chain_hash + data).digest()
        self.count += 1
        self.time = stamp
        if not batch.frames:
            batch.time_first = stamp
        batch.frames.append(frame)
        batch.leaf_hashes.append(self._sha256(_LEAF_TAG + data).digest())
        batch.chain_hashes.append(chain)
        batch.ops.add(op)
        batch.size_bytes += len(frame)
        batch.time_last = stamp
        batch.usage = self.usage

    def _use_secret(self, secret: bytes) -> None:
        if self.batch.secret and self.batch.secret != secret:
            self._close_batch()
        self.batch.secret = secret

    def _close_batch(self) -> None:
        from hashlib import sha256 as faster  # much is written here: OpenSSL is worth its import

        self._sha256 = faster
        self.closed.append(self.batch)
        self._begin_batch()

    def _begin_batch(self) -> None:
        self.batch = sealing.Batch(self.count)
        self.batch.attempts_taken = self.attempts_taken

    def _add_head(self, op: str) -> bytes:
        head = receipt.encode_names(self._app, op)
        self._heads[op] = head
        return head

    def _encode_rest(
        self, labels: tuple[tuple[str, str], ...], values: tuple[tuple[str, bytes], ...]
    ) -> tuple[bytes, bytes]:
        """Labels and commitments, and the values that lie beside the receipt."""
        if not values:
            return receipt.encode_labels(labels), b""
        for _, value in values:
            if len(value) > receipt.VALUE_LIMIT_BYTES:
                labels, values = _cut(labels, values)
                break
        if self.batch.is_full():
            self._close_batch()  # now: the secret is the batch's
        known, count = self._names, self.count
        secret = self._get_secret(count, self.batch.secret)
        self._use_secret(secret)
        names = receipt.encode_labels(labels) if labels else _NO_LABELS
        digests = stored = b""
        for field, (name, value) in enumerate(values):
            names += known.get(name) or self._add_name(name)
            digests += receipt.compute_commitment(secret, count, field, value)
            stored += _U32(len(value)) + value
        return names + digests, stored

    def _add_name(self, name: str) -> bytes:
        data = self._names[name] = receipt.encode_name(name)
        return data


def _cut(
    labels: tuple[tuple[str, str], ...], values: tuple[tuple[str, bytes], ...]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, bytes], ...]]:
    """Values within their limit; those that were cut are named by a label."""
    limit = receipt.VALUE_LIMIT_BYTES
    cut = ",".join(name for name, value in values if len(value) > limit)
    return (*labels, ("truncated", cut)), tuple((name, value[:limit]) for name, value in values)
