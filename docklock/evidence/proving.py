"""Make the proof of one event out of a container's store and the host's log.

Not here: its bytes and checks (chainlite.proof). Invariants: what is returned has passed the check
that a stranger makes (`make_proof`); values are told only where they were asked for.
"""

from __future__ import annotations

import time

from chainlite import bundle, checkpoint, hostlog, merkle, proof, redaction, segment
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import container_store
from docklock.evidence.export import get_anchor, open_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key

if TYPE_CHECKING:
    from chainlite.proven import Proven
    from chainlite.redaction import Event
    from docklock.evidence.container_store import SegmentRow
    from docklock.evidence.database import sqlite3
    from docklock.paths import Paths

LOGGED_WITHIN_S = 2.0
"""A committed segment reaches the host's log within 50 ms while its recorder lives."""
POLL_S = 0.02


def make_proof(
    paths: Paths, container: str, run: int, index: int, *, classes: frozenset[str], note: bytes
) -> tuple[bytes, Proven]:
    """The proof of receipt `index` of a run, with its values of these classes, and what it shows.

    Errors as those of `collect_proof`; TamperError also where what this host holds gives no proof.
    """
    made = collect_proof(paths, container, run, index, classes=classes, note=note)
    data = proof.fit(made)
    return data, proof.check_proof(data)


def collect_proof(
    paths: Paths, container: str, run: int, index: int, *, classes: frozenset[str], note: bytes
) -> proof.Proof:
    """The parts of the proof of one receipt, as they are stored: nothing of them is checked.

    Under the checkpoint `note` if there is one, else under the newest cosigned one that the host
    keeps and that reaches the receipt, else under the log's own. StateError where there
    is no such receipt, or the checkpoint does not reach it; TamperError where it cannot be read.
    """
    public = get_public_key(paths)
    with HostLog(paths, None) as log, open_container(paths, container) as db:
        row = _find_row(db, container, run, index)
        leaf = hostlog.encode_segment(hostlog.Segment(row.header, row.signature))
        leaf_index = _wait_for_leaf(log, leaf, container, run)
        with log.read():
            note = note or _choose_note(log, leaf_index)
            get_anchor(log, note)
            size = checkpoint.parse_claim(note).size
            if leaf_index >= size:
                raise StateError(
                    f"the checkpoint of {size} leaves does not reach receipt {index}, which came "
                    f"into the log with leaf {leaf_index}: name a newer one"
                )
            log_proof = log.get_proof(leaf_index, size)
            records = tuple([data for place, data in log.get_key_leaves() if 0 < place < size])
            certificates = _find_certificates(log, db, container, row)
    try:
        event, segment_proof = _find_event(row, index)
    except SpecError as error:
        raise TamperError(f"receipt {index} of run {run} cannot be read: {error}") from None
    return proof.Proof(
        public=public,
        note=note,
        header=row.header,
        signature=row.signature,
        certificates=certificates,
        leaf_index=leaf_index,
        log_proof=log_proof,
        segment_proof=segment_proof,
        receipt=event.raw,
        values=_open_values(event, classes),
        key_records=records,
    )


def _choose_note(log: HostLog, leaf_index: int) -> bytes:
    for note in log.get_cosigned_notes(1):
        if checkpoint.parse_claim(note).size > leaf_index:
            return note
    return log.get_note()


def _find_row(db: sqlite3.Connection | None, container: str, run: int, index: int) -> SegmentRow:
    if db is not None:
        for row in container_store.iterate_segments(db, run, index):
            if row.first_index <= index:
                return row
    count = container_store.get_event_count(db, run) if db is not None else 0
    raise StateError(
        f"container {container[:12]}: run {run} has {count} committed receipts, and none has the "
        f"index {index}"
    )


def _wait_for_leaf(log: HostLog, leaf: bytes, container: str, run: int) -> int:
    deadline = time.monotonic() + LOGGED_WITHIN_S
    while True:
        index = log.find_leaf(leaf, bytes.fromhex(container), run)
        if index is not None:
            return index
        if time.monotonic() > deadline:
            raise StateError("the receipt has not reached the host's log: try again")
        time.sleep(POLL_S)


def _find_certificates(
    log: HostLog, db: sqlite3.Connection | None, container: str, row: SegmentRow
) -> tuple[tuple[bytes, bytes], ...]:
    """Certificates and signatures from one that the host signed to that of the segment's epoch."""
    assert db is not None
    [record] = [record for record in log.get_runs(container) if record.run == row.run]
    start = hostlog.decode_leaf(log.get_leaf(record.start_leaf))
    if not isinstance(start, hostlog.Start):
        raise TamperError(f"container {container[:12]}: its start leaf is something else")
    epoch = segment.decode_header(row.header).epoch
    found = [(start.certificate, start.signature)]
    for stored in container_store.iterate_epochs(db, row.run):
        if stored.epoch > epoch:
            break
        if segment.decode_certificate(stored.certificate).issuer != segment.BY_EPOCH:
            found = []
        found.append((stored.certificate, stored.signature))
    return tuple(found)


def _find_event(row: SegmentRow, index: int) -> tuple[Event, tuple[bytes, ...]]:
    """The event and the path from its leaf to the segment's root."""
    stored = bundle.StoredSegment(*row[5:10])
    body = segment.unpack_body(stored.body)
    events = list(redaction.iterate_events(stored, body))
    hashes = [merkle.compute_leaf_hash(event.raw) for event in events]

    def read(level: int, number: int) -> bytes:
        return merkle.compute_root(hashes[number << level : (number + 1) << level])

    at = index - row.first_index
    return events[at], merkle.compute_inclusion(at, len(hashes), read)


def _open_values(event: Event, classes: frozenset[str]) -> tuple[proof.Opened | None, ...]:
    names = [name for name, _ in event.receipt.commitments]
    return tuple(
        proof.Opened(salt, value)
        if value is not None and redaction.is_of_class(name, classes)
        else None
        for name, value, salt in zip(names, event.values, event.salts, strict=True)
    )
