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

from chainlite import hostlog, merkle, receipt, segment
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import boot, container_store, journal, sealing
from docklock.evidence.host_log import HostLog, RunRecord
from docklock.evidence.keyring import ensure_host_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from chainlite.keys import KeyPair
    from docklock.paths import Paths

GAP_OP = "gap"
EXIT_CODE_UNKNOWN = -1
SUFFIX = ".journal"


class RecoveredRun(NamedTuple):
    """A run that was closed here; `event_count` includes the gap, which is its last receipt."""

    container: str
    run: int
    event_count: int


class Chain(NamedTuple):
    """How far a run's receipts go."""

    event_count: int
    chain_hash: bytes
    usage: tuple[int, ...]
    time: int


def recover_runs(paths: Paths, is_alive: Callable[[str], bool]) -> list[RecoveredRun]:
    """Close every run whose journal is left and whose supervisor is dead."""
    recovered = []
    for container in find_journals(paths):
        path = journal.get_journal_path(paths, container)
        # Asked before the lock: a journal in the making must not meet a lock of ours.
        fd = None if is_alive(container) else journal.lock_journal(path)
        if fd is None:
            continue
        try:
            run = _recover(paths, path)
        finally:
            os.close(fd)
        if run is not None:
            recovered.append(run)
    return recovered


def find_journals(paths: Paths) -> list[str]:
    """The containers whose journal is there, alive or not."""
    try:
        names = os.listdir(paths.evidence)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def _recover(paths: Paths, path: str) -> RecoveredRun | None:
    with open(path, "rb") as file:
        data = file.read(journal.JOURNAL_BYTES)
    named = journal.read_file_head(data)
    closed = None
    if named is not None and os.path.exists(paths.host_db):
        key = ensure_host_key(paths)
        with HostLog(paths, key) as log:
            runs = [run for run in log.get_runs(named[0].hex()) if run.run == named[1]]
            # No start leaf: the run never began. An exit leaf: only the journal was left.
            if runs and runs[0].exit_leaf is None:
                closed = _close_run(paths, log, key, runs[0], data)
    os.unlink(path)
    return closed


def _close_run(
    paths: Paths, log: HostLog, key: KeyPair, run: RunRecord, data: bytes
) -> RecoveredRun:
    start = hostlog.decode_leaf(log.get_leaf(run.start_leaf))
    if not isinstance(start, hostlog.Start):
        raise TamperError(f"container {run.container[:12]}: its start leaf is something else")
    db = container_store.create_store(paths, run.container)
    try:
        chain = _sign_journal(db, key, start, data)
        known = log.count_segment_leaves(bytes.fromhex(run.container), run.run)
        rows = list(container_store.iterate_segments(db, run.run))[known:]
    finally:
        db.close()
    _log_exit(log, run, rows, chain)
    return RecoveredRun(run.container, run.run, chain.event_count)


def _sign_journal(db: sqlite3.Connection, key: KeyPair, start: hostlog.Start, data: bytes) -> Chain:
    """Sign what the journal has beyond the store, and the gap; where the run now ends."""
    genesis = segment.decode_genesis(start.genesis)
    certificate = segment.decode_certificate(start.certificate)
    for row in container_store.iterate_epochs(db, genesis.run):
        certificate = segment.decode_certificate(row.certificate)
    chain = Chain(0, segment.compute_genesis_hash(start.genesis), receipt.ZERO_USAGE, genesis.time)
    last = container_store.get_last_header(db, genesis.run)
    if last:
        header = segment.decode_header(last)
        count = header.first_index + header.event_count
        chain = Chain(count, header.head, header.usage, header.time_last)
    if certificate.issuer == segment.BY_RECOVERY:
        return chain
    batches, end = _read_batches(genesis, chain, data)
    epoch = sealing.make_epoch(
        certificate._replace(
            epoch=certificate.epoch + 1,
            first_index=chain.event_count,
            issuer=segment.BY_RECOVERY,
            boot=boot.get_boot_id(),
            boottime=boot.get_boottime_ns(),
            time=time.time_ns(),
        ),
        os.urandom(32),
        key,
    )
    each = bool(genesis.sign_each)
    rows = [sealing.seal_batch(epoch, batch, sign_each=each) for batch in batches]
    container_store.insert_segments(db, rows, [sealing.get_epoch_row(epoch)])
    return end


def _read_batches(
    genesis: segment.Genesis, chain: Chain, data: bytes
) -> tuple[list[sealing.Batch], Chain]:
    """The journal's events after `chain` and the gap, as batches, and where they end."""
    batches = [sealing.Batch(chain.event_count)]
    for event, frame, secret in _iterate_events(genesis, chain, data):
        batch = batches[-1]
        other = bool(event.commitments and batch.secret and batch.secret != secret)
        if batch.is_full() or other:
            batch = sealing.Batch(event.event_index)
            batches.append(batch)
        if event.commitments:
            batch.secret = secret
        chain = _add(batch, chain, event, frame)
    if batches[-1].is_full():
        batches.append(sealing.Batch(chain.event_count))
    gap = _make_gap(genesis, chain)
    raw = receipt.encode_receipt(gap)
    return batches, _add(batches[-1], chain, gap, receipt.FRAME.pack(len(raw), 0) + raw)


def _add(batch: sealing.Batch, chain: Chain, event: receipt.Receipt, frame: bytes) -> Chain:
    data = frame[receipt.FRAME.size :][: receipt.FRAME.unpack_from(frame)[0]]
    chain_hash = receipt.compute_chain_hash(chain.chain_hash, data)
    if not batch.frames:
        batch.time_first = event.time
    batch.frames.append(frame)
    batch.leaf_hashes.append(merkle.compute_leaf_hash(data))
    batch.chain_hashes.append(chain_hash)
    batch.ops.add(event.op)
    batch.size_bytes += len(frame)
    batch.time_last = event.time
    batch.usage = event.usage
    return Chain(chain.event_count + 1, chain_hash, event.usage, event.time)


def _iterate_events(
    genesis: segment.Genesis, chain: Chain, data: bytes
) -> Iterator[tuple[receipt.Receipt, bytes, bytes]]:
    """Receipt, frame and secret of each event after `chain`, up to the first that does not hold."""
    constant = receipt.encode_constant(
        genesis.run, genesis.host, genesis.container, genesis.policy, genesis.boot
    )
    secret, index, chain_hash = b"", chain.event_count, chain.chain_hash
    for kind, payload, check in journal.iterate_records(data):
        if kind == journal.SECRET:
            if len(payload) != 32 or blake3(payload).digest(journal.CHECK_BYTES) != check:
                return
            secret = payload
            continue
        size, values_size = receipt.FRAME.unpack_from(payload.ljust(receipt.FRAME.size, b"\0"))
        raw = payload[receipt.FRAME.size : receipt.FRAME.size + size]
        try:
            event = receipt.decode_receipt(raw)
        except SpecError:
            return
        if event.event_index < index:
            continue
        chain_hash = receipt.compute_chain_hash(chain_hash, raw)
        whole = len(payload) == receipt.FRAME.size + size + values_size
        first = event.event_index == index and raw.startswith(constant)
        if not (whole and first and check == chain_hash[: journal.CHECK_BYTES]):
            return
        if not _has_its_values(event, payload[receipt.FRAME.size + size :], secret):
            return
        yield event, payload, secret
        index += 1


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


def _make_gap(genesis: segment.Genesis, chain: Chain) -> receipt.Receipt:
    now = time.time_ns()
    return receipt.Receipt(
        run=genesis.run,
        host=genesis.host,
        container=genesis.container,
        policy=genesis.policy,
        boot=genesis.boot,
        event_index=chain.event_count,
        mono=time.monotonic_ns(),
        time=now,
        pid=0,
        tid=0,
        arch=0,
        nr=receipt.NR_NONE,
        errno=0,
        ret=0,
        decision=receipt.ABORTED,
        plane=receipt.RUNTIME,
        seen=receipt.OBSERVED,
        args=(0,) * 6,
        usage=chain.usage,
        app=genesis.app,
        op=GAP_OP,
        labels=(("count", "unknown"), ("t1", str(chain.time)), ("t2", str(now))),
        commitments=(),
    )


def _log_exit(
    log: HostLog, run: RunRecord, rows: list[container_store.SegmentRow], chain: Chain
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
