"""Close the runs of dead supervisors: sign what their journals hold, then the gap, then the exit.

Not here: the journal's layout (journal) and what else a crash leaves (docklock.repair).
Invariants: every event whose index `append` returned is in the signed evidence; events are never
invented: one is taken only if it decodes, is next in index and has the chain's check; two commands
at once do it once (the journal's lock); interrupted anywhere, the next command goes on from there
(the segments with the gap are one transaction, the log's leaves another, the journal goes last).
The dead epoch's key is gone by design: the host's key certifies the one that signs here.
"""

from __future__ import annotations

import os
import time

from blake3 import blake3

from chainlite import hostlog, receipt, segment
from chainlite.errors import DocklockError, SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import deque
from docklock.evidence import attempts, boot, container_store, journal, sealing
from docklock.evidence.host_log import HostLog, RunRecord, has_host_log
from docklock.evidence.keyring import ensure_host_key, make_epoch_key
from docklock.evidence.ledger import Ledger, Point

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from chainlite.keys import Signer
    from docklock.paths import Paths

GAP_OP = "gap"
EXIT_CODE_UNKNOWN = -1


class RecoveredRun(NamedTuple):
    """A run that was closed here; `event_count` includes the gap, which is its last receipt."""

    container: str
    run: int
    event_count: int


def recover_runs(paths: Paths, is_alive: Callable[[str], bool]) -> list[RecoveredRun]:
    """Close every run that is open and whose supervisor is dead; a boot takes its journal away."""
    recovered = []
    for container in sorted({*find_journals(paths), *_find_open_runs(paths)}):
        path = journal.get_journal_path(paths, container)
        # Asked before the lock: a journal in the making must not meet a lock of ours.
        fd = None if is_alive(container) else journal.lock_journal(path)
        if fd is None:
            continue
        try:
            run = _recover(paths, container, path)
        finally:
            os.close(fd)
        if run is not None:
            recovered.append(run)
    return recovered


def find_last_run(paths: Paths, container: str) -> int:
    """The number of the container's last run that the log has the start of; -1 if there is none."""
    if not has_host_log(paths):
        return -1
    with HostLog(paths, None) as log:
        return max([run.run for run in log.get_runs(container)], default=-1)


def find_journals(paths: Paths) -> list[str]:
    """The containers whose journal is there, alive or not."""
    try:
        names = os.listdir(paths.run)
    except FileNotFoundError:
        return []
    suffix = journal.SUFFIX
    return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))


def _find_open_runs(paths: Paths) -> list[str]:
    if not has_host_log(paths):
        return []
    with HostLog(paths, None) as log:
        return [run.container for run in log.get_runs() if run.exit_leaf is None]


def _recover(paths: Paths, container: str, path: str) -> RecoveredRun | None:
    with open(path, "rb") as file:
        data = file.read(journal.JOURNAL_BYTES)
    closed = None
    if has_host_log(paths):
        key = ensure_host_key(paths)
        with HostLog(paths, key) as log:
            # None is open: it never began, or only its journal was left.
            for run in log.get_runs(container):
                if run.exit_leaf is None:
                    closed = _close_run(paths, log, key, run, data)
    os.unlink(path)
    return closed


def _close_run(
    paths: Paths, log: HostLog, key: Signer, run: RunRecord, data: bytes
) -> RecoveredRun:
    start = hostlog.decode_leaf(log.get_leaf(run.start_leaf))
    if not isinstance(start, hostlog.Start):
        raise TamperError(f"container {run.container[:12]}: its start leaf is something else")
    db = container_store.create_store(paths, run.container)
    try:
        chain = _sign_journal(db, key, start, data, log.get_cosigned_hash())
        known = log.count_segment_leaves(bytes.fromhex(run.container), run.run)
        rows = list(container_store.iterate_segments(db, run.run))[known:]
    finally:
        db.close()
    _log_exit(log, run, rows, chain)
    return RecoveredRun(run.container, run.run, chain.event_count)


def _sign_journal(
    db: sqlite3.Connection, key: Signer, start: hostlog.Start, data: bytes, cosigned_hash: bytes
) -> Point:
    """Sign what the journal has beyond the store, and the gap; where the run now ends."""
    genesis = segment.decode_genesis(start.genesis)
    certificate = segment.decode_certificate(start.certificate)
    for row in container_store.iterate_epochs(db, genesis.run):
        certificate = segment.decode_certificate(row.certificate)
    if certificate.issuer == segment.BY_RECOVERY:
        return get_end(db, start, genesis)[0]
    point, taken = get_end(db, start, genesis)
    ledger = _read_journal(genesis, point, taken, data)
    _add_gap(ledger)
    epoch = sealing.make_epoch(
        certificate._replace(
            epoch=certificate.epoch + 1,
            first_index=point.event_count,
            issuer=segment.BY_RECOVERY,
            boot=boot.get_boot_id(),
            boottime=boot.get_boottime_ns(),
            time=time.time_ns(),
            checkpoint=cosigned_hash,
        ),
        make_epoch_key(),
        key,
    )
    each = bool(genesis.sign_each)
    rows = [sealing.seal_batch(epoch, batch, sign_each=each) for batch in ledger.take_batches()]
    epoch.key.erase()
    container_store.insert_segments(db, rows, [sealing.get_epoch_row(epoch)])
    return ledger.get_point()


def get_end(
    db: sqlite3.Connection, start: hostlog.Start, genesis: segment.Genesis
) -> tuple[Point, int]:
    """Where the committed segments of a run end, and how many attempts they took."""
    data, taken = container_store.get_end(db, genesis.run)
    if not data:
        chain = segment.compute_genesis_hash(start.genesis)
        return Point(0, chain, receipt.ZERO_USAGE, genesis.time), 0
    header = segment.decode_header(data)
    count = header.first_index + header.event_count
    return Point(count, header.head, header.usage, header.time_last), taken


class Secrets:
    """The secrets that a journal names, each from an index on."""

    def __init__(self) -> None:
        self._found: list[tuple[int, bytes]] = []

    def add(self, index: int, secret: bytes) -> None:
        """From the receipt `index` on values are under `secret`."""
        self._found.append((index, secret))

    def get(self, index: int, current: bytes) -> bytes:
        """The one for `index`; a new one if no chain depends on it."""
        known = [secret for first, secret in self._found if first <= index]
        return known[-1] if known else current or os.urandom(receipt.SECRET_BYTES)


def _read_journal(genesis: segment.Genesis, point: Point, taken: int, data: bytes) -> Ledger:
    """A ledger with everything that the journal holds after `point`, in the guard's order.

    The guard's own events have their index; attempts fill what lies between, and what follows.
    The first event that does not chain ends it. Of another boot's journal nothing is taken: its
    pages may be of any age. Nor is anything of one that names another run, or none.
    """
    secrets = Secrets()
    head = journal.read_file_head(data)
    if head != journal.FileHead(genesis.container, genesis.run, boot.get_boot_id()):
        return Ledger(genesis, point, (), secrets.get)
    ledger = Ledger(genesis, point, attempts.read_rules(data), secrets.get)
    waiting = deque(attempts.find_attempts(data, taken))
    records = list(journal.iterate_records(data))
    for record in records:
        if record.kind == journal.SECRET:
            if blake3(record.payload).digest(journal.CHECK_BYTES) != record.check:
                return ledger
            secrets.add(*journal.SECRET_RECORD.unpack(record.payload))
    constant = receipt.encode_constant(
        genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
    )
    for record in records:
        if record.kind == journal.EVENT and not _take_event(
            ledger, secrets, waiting, record, constant
        ):
            return ledger
    _take_attempts(ledger, waiting, None)
    return ledger


def _take_attempts(ledger: Ledger, waiting: deque[attempts.Attempt], end: int | None) -> None:
    """Append attempts until the index `end`, or all; a damaged one is the last."""
    while waiting and (end is None or ledger.count < end):
        try:
            ledger.add_attempt(waiting.popleft())
        except DocklockError:
            waiting.clear()


def _take_event(
    ledger: Ledger,
    secrets: Secrets,
    waiting: deque[attempts.Attempt],
    record: journal.Record,
    constant: bytes,
) -> bool:
    """Append one of the guard's events, after the attempts before it; False if it does not fit."""
    payload = record.payload
    size, values_size = receipt.FRAME.unpack_from(payload.ljust(receipt.FRAME.size, b"\0"))
    raw = payload[receipt.FRAME.size : receipt.FRAME.size + size]
    try:
        event = receipt.decode_receipt(raw)
    except SpecError:
        return False
    if event.event_index < ledger.count:
        return True  # committed
    whole = len(payload) == receipt.FRAME.size + size + values_size and raw.startswith(constant)
    secret = secrets.get(event.event_index, b"")
    if not whole or not _has_its_values(event, payload[receipt.FRAME.size + size :], secret):
        return False
    _take_attempts(ledger, waiting, event.event_index)
    chain_hash = receipt.compute_chain_hash(ledger.chain_hash, raw)
    if ledger.count != event.event_index or record.check != chain_hash[: journal.CHECK_BYTES]:
        return False
    ledger.add_frame(event, payload, secret)
    return True


def _has_its_values(event: receipt.Receipt, data: bytes, secret: bytes) -> bool:
    """Whether the values beside an event are those it commits to."""
    try:
        values = receipt.decode_values(data, len(event.commitments), "values")
    except SpecError:
        return False
    return all(
        value is not None
        and len(secret) == receipt.SECRET_BYTES
        and receipt.compute_commitment(secret, event.event_index, field, value) == digest
        for field, (value, (_, digest)) in enumerate(zip(values, event.commitments, strict=True))
    )


def _add_gap(ledger: Ledger) -> None:
    now = time.time_ns()
    ledger.add(
        GAP_OP,
        decision=receipt.ABORTED,
        plane=receipt.RUNTIME,
        seen=receipt.OBSERVED,
        time_ns=now,
        labels=(("count", "unknown"), ("t1", str(ledger.time)), ("t2", str(now))),
    )


def _log_exit(
    log: HostLog, run: RunRecord, rows: list[container_store.SegmentRow], chain: Point
) -> None:
    container = bytes.fromhex(run.container)
    with log.write():
        for row in rows:
            leaf = hostlog.encode_segment(hostlog.Segment(row.header, row.signature))
            log.append(leaf, container=container, run=run.run)
        log.append_exit(
            hostlog.Exit(
                log.host,
                container,
                run.run,
                chain.event_count,
                chain.chain_hash,
                EXIT_CODE_UNKNOWN,
                0,
                1,
                time.time_ns(),
            )
        )
