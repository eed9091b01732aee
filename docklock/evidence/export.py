"""Collect one container's evidence as frames: for local verification and for evidence files.

Not here: the frames' bytes and their checks (chainlite.bundle, chainlite.verify), what redaction
takes out (chainlite.redaction). Invariants: what is collected is one moment of the host log; the
store must hold every segment that the log has, or it is a TamperError; the log must continue every
checkpoint that is asked for, or it is one; a file is whole under its name or absent.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left

from chainlite import bundle, checkpoint, domains, hostlog, keys, segment, verify
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.redaction import redact_segment
from docklock.evidence import container_store as store
from docklock.evidence.database import sqlite3
from docklock.evidence.host_log import HostLog, RunRecord
from docklock.evidence.keyring import ensure_host_key, get_public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import BinaryIO

    from chainlite.report import Report
    from docklock.evidence.keyring import HostKey
    from docklock.paths import Paths

NOTHING: frozenset[str] = frozenset()
KEPT_NOTES_MAX = 3
"""Of the checkpoints that others have signed and this host keeps, the newest go into a file."""


class Written(NamedTuple):
    """What an evidence file says; `redacted` values are not in it."""

    size_bytes: int
    runs: tuple[bundle.RunState, ...]
    redacted: int


def verify_container(
    paths: Paths,
    container: str,
    notes: tuple[bytes, ...] = (),
    *,
    upon_frame: Callable[[], None] = lambda: None,
) -> Report:
    """Check what this host holds of a container against its own log and key.

    `notes` are checkpoints of this host which its log must continue; it must also continue those
    that it keeps itself. `upon_frame` is called for each frame, and ends it by raising.
    """
    public = get_public_key(paths)
    try:
        with (
            HostLog(paths, None) as log,
            open_container(paths, container) as db,
            # Closed before the log is, also where verification gives up early.
            contextlib.closing(collect_frames(log, db, container, public, notes)) as collected,
        ):
            report = verify.verify_frames(_make_frames(collected, upon_frame))
    except (TamperError, StateError) as error:
        report = verify.make_report(verify.Verification(), str(error))
    return report._replace(container=container)


def _make_frames(
    collected: Iterable[tuple[int, bytes]], upon_frame: Callable[[], None]
) -> Iterator[bundle.Frame]:
    for kind, payload in collected:
        upon_frame()
        yield bundle.Frame(kind, payload, b"", is_intact=True)


def write_evidence(
    paths: Paths,
    container: str,
    path: str,
    *,
    redact: frozenset[str] = NOTHING,
    notes: tuple[bytes, ...] = (),
) -> Written:
    """Write the evidence file of a container; TamperError if the store is not whole.

    Values of the classes `redact` are left out; `notes`, and the newest cosigned checkpoints that
    the host keeps, are put in as anchors.
    """
    key = ensure_host_key(paths)
    with (
        HostLog(paths, None) as log,
        open_container(paths, container) as db,
        write_whole(path) as file,
    ):
        frames = collect_frames(log, db, container, key.enrolled, notes, redact)
        with contextlib.closing(frames) as collected:
            return _write_file(file, collected, container, key)


@contextlib.contextmanager
def write_whole(path: str) -> Iterator[BinaryIO]:
    """A file that is durable under its name once all of it is written, or absent."""
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StateError(f"{path}: cannot write the evidence: {error.strerror}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def collect_frames(
    log: HostLog,
    db: sqlite3.Connection | None,
    container: str,
    public: bytes,
    notes: tuple[bytes, ...] = (),
    redact: frozenset[str] = NOTHING,
) -> Generator[tuple[int, bytes], None, None]:
    """Kind and payload of each frame but the seal; anchors are `notes` and those the host keeps."""
    with log.read():
        runs = log.get_runs(container)
        if not runs:
            raise StateError(f"container {container[:12]}: it never started on this host")
        size, sizes = log.get_size(), []
        notes = (*notes, *log.get_cosigned_notes(KEPT_NOTES_MAX))
        yield from iterate_opening(log, public)
        for old in dict.fromkeys(notes):
            anchor = get_anchor(log, old)
            sizes.append(checkpoint.parse_claim(old).size)
            yield bundle.ANCHOR, bundle.encode_anchor(anchor)
        for run in runs:
            yield bundle.START, encode_logged(log, run.start_leaf, size)
            try:
                yield from _collect_run(log, db, run, sizes, redact)
            except sqlite3.Error as error:
                raise TamperError(f"the container's file cannot be read: {error}") from None
            if run.exit_leaf is not None:
                yield bundle.EXIT, encode_logged(log, run.exit_leaf, size)


def iterate_opening(log: HostLog, public: bytes) -> Iterator[tuple[int, bytes]]:
    """What evidence begins with: the host's keys and the log's checkpoint of this moment."""
    size = log.get_size()
    yield bundle.HOST_KEY, public
    for index, _ in log.get_key_leaves():
        if index:
            yield bundle.KEY, encode_logged(log, index, size)
    yield bundle.CHECKPOINT, log.get_note()


def get_anchor(log: HostLog, note: bytes) -> bundle.Anchor:
    """A checkpoint of this log with the proof that the log continues it, whoever signed it.

    TamperError where it is of another log, or of more leaves than the log has.
    """
    try:
        old, own = checkpoint.parse_claim(note), checkpoint.parse_claim(log.get_note())
    except SpecError as error:
        raise TamperError(f"a checkpoint that the host keeps does not read: {error}") from None
    if old.origin != own.origin:
        raise TamperError(f"the checkpoint is of the log {old.origin}, this is {own.origin}")
    if old.size > own.size:
        raise TamperError(
            f"the checkpoint has {old.size} leaves and the host's log only {own.size}: "
            "it was rolled back, or restored from a snapshot"
        )
    if not old.size:
        raise SpecError("a checkpoint of no leaves says nothing")
    return bundle.Anchor(note, log.get_consistency(old.size, own.size))


def encode_logged(log: HostLog, leaf_index: int, size: int) -> bytes:
    """A leaf of the log as a frame's payload, with its proof in the first `size` leaves."""
    # The table of runs is nobody's word: what it names is proven, or is not there.
    if not isinstance(leaf_index, int) or not 0 <= leaf_index < size:
        raise TamperError(f"the table of runs names leaf {leaf_index}, and the log has {size}")
    proof = log.get_proof(leaf_index, size)
    return bundle.encode_logged_leaf(bundle.LoggedLeaf(leaf_index, log.get_leaf(leaf_index), proof))


def _collect_run(
    log: HostLog,
    db: sqlite3.Connection | None,
    run: RunRecord,
    sizes: list[int],
    redact: frozenset[str],
) -> Iterator[tuple[int, bytes]]:
    logged = log.get_segment_places(bytes.fromhex(run.container), run.run)
    if db is None:
        if logged:
            raise TamperError("the container's evidence file is gone")
        return
    placed = _find_placed(run, [index for index, _ in logged], sizes)
    epochs = {row.epoch: row for row in store.iterate_epochs(db, run.run)}
    epoch, number = 0, 0
    for row in store.iterate_segments(db, run.run):
        header = segment.decode_header(row.header)
        while epoch < header.epoch and epoch + 1 in epochs:
            epoch += 1
            yield bundle.CERTIFICATE, epochs[epoch].certificate + epochs[epoch].signature
        leaf = hostlog.encode_segment(hostlog.Segment(row.header, row.signature))
        if number < len(logged) and logged[number][1] != leaf:
            raise TamperError("the host's log has another header for these receipts")
        stored = bundle.StoredSegment(*row[5:10])
        if redact:
            stored = redact_segment(stored, redact)
        yield stored.kind, bundle.encode_segment(stored)
        if number in placed:
            index = logged[number][0]
            place = bundle.Place(index, log.get_proof(index, log.get_size()))
            yield bundle.PLACE, bundle.encode_place(place)
        number += 1
    if number < len(logged):
        raise TamperError("the host's log has segments that the container's file has not")


def _find_placed(run: RunRecord, indexes: list[int], sizes: list[int]) -> set[int]:
    """Which segments are the last under a checkpoint of one of these sizes: they get a place."""
    placed = set()
    for size in sizes:
        below = bisect_left(indexes, size)
        if below and (run.exit_leaf is None or run.exit_leaf >= size):
            placed.add(below - 1)
    return placed


def _write_file(
    file: BinaryIO, frames: Iterable[tuple[int, bytes]], container: str, key: HostKey
) -> Written:
    """Write the frames as they pass a verification, then the seal over what it counted."""
    state = verify.Verification()
    digest = bundle.compute_first_digest()
    file.write(bundle.MAGIC)
    for kind, payload in frames:
        state.upon_frame(bundle.Frame(kind, payload, digest, is_intact=True))
        data, digest = bundle.encode_frame(kind, payload, digest)
        file.write(data)
    log_state: checkpoint.Checkpoint | None = state.checkpoint
    assert log_state is not None
    runs = tuple(run.get_state() for run in state.runs)
    seal = bundle.encode_seal(
        bundle.Seal(
            key.host,
            bytes.fromhex(container),
            log_state.size,
            log_state.root,
            time.time_ns(),
            digest,
            runs,
        )
    )
    assert state.keys is not None
    key.hold(state.keys.number)
    try:
        payload = seal + keys.sign(key, domains.SIGN_SEAL, seal)
    finally:
        key.drop()
    file.write(bundle.encode_frame(bundle.SEAL, payload, digest)[0])
    return Written(file.tell(), runs, sum(run.redacted for run in state.runs))


@contextlib.contextmanager
def open_container(paths: Paths, container: str) -> Iterator[sqlite3.Connection | None]:
    """The container's store, or None where no receipt was ever committed."""
    if not os.path.exists(store.get_store_path(paths, container)):
        yield None
        return
    try:
        db = store.open_store(paths, container)
    except SpecError as error:
        raise TamperError(str(error)) from None
    try:
        yield db if store.has_tables(db) else None
    finally:
        db.close()
