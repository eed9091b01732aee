"""Collect one container's evidence as frames: for local verification and for evidence files.

Not here: the frames' bytes and their checks (chainlite.bundle, chainlite.verify). Invariants: what
is collected is one moment of the host log; the store must hold every segment that the log has, or
it is a TamperError; a file is whole under its name or absent.
"""

from __future__ import annotations

import contextlib
import os
import time

from chainlite import bundle, checkpoint, domains, hostlog, keys, segment, verify
from chainlite.errors import StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import container_store as store
from docklock.evidence.host_log import HostLog, RunRecord
from docklock.evidence.keyring import ensure_host_key, get_public_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterator
    from typing import BinaryIO

    from docklock.paths import Paths


class Written(NamedTuple):
    """What an evidence file says."""

    size_bytes: int
    runs: tuple[bundle.RunState, ...]


def verify_container(paths: Paths, container: str) -> verify.Report:
    """Check what this host holds of a container against its own log and key."""
    public = get_public_key(paths)
    with (
        HostLog(paths, None) as log,
        _open_store(paths, container) as db,
        # Closed before the log is, also where verification gives up early.
        contextlib.closing(collect_frames(log, db, container, public)) as collected,
    ):
        return verify.verify_frames(
            bundle.Frame(kind, payload, b"", is_intact=True) for kind, payload in collected
        )


def write_evidence(paths: Paths, container: str, path: str) -> Written:
    """Write the evidence file of a container; TamperError if the store is not whole."""
    key = ensure_host_key(paths)
    temporary = f"{path}.{os.getpid()}.part"
    with HostLog(paths, None) as log, _open_store(paths, container) as db:
        try:
            with open(temporary, "xb") as file:
                written = _write_file(file, log, db, container, key)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise StateError(f"{path}: cannot write the evidence: {error.strerror}") from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return written


def collect_frames(
    log: HostLog, db: sqlite3.Connection | None, container: str, public: bytes
) -> Generator[tuple[int, bytes], None, None]:
    """Kind and payload of each frame but the seal."""
    with log.read():
        runs, note = log.get_runs(container), log.get_note()
        if not runs:
            raise StateError(f"container {container[:12]}: it never started on this host")
        yield bundle.HOST_KEY, public
        yield bundle.CHECKPOINT, note
        size = log.get_size()
        for run in runs:
            yield bundle.START, _encode_logged(log, run.start_leaf, size)
            yield from _collect_run(log, db, run)
            if run.exit_leaf is not None:
                yield bundle.EXIT, _encode_logged(log, run.exit_leaf, size)


def _encode_logged(log: HostLog, leaf_index: int, size: int) -> bytes:
    proof = log.get_proof(leaf_index, size)
    return bundle.encode_logged_leaf(bundle.LoggedLeaf(leaf_index, log.get_leaf(leaf_index), proof))


def _collect_run(
    log: HostLog, db: sqlite3.Connection | None, run: RunRecord
) -> Iterator[tuple[int, bytes]]:
    logged = log.get_segment_leaves(bytes.fromhex(run.container), run.run)
    if db is None:
        if logged:
            raise TamperError("the container's evidence file is gone")
        return
    epochs = {row.epoch: row for row in store.iterate_epochs(db, run.run)}
    epoch, number = 0, 0
    for row in store.iterate_segments(db, run.run):
        header = segment.decode_header(row.header)
        while epoch < header.epoch and epoch + 1 in epochs:
            epoch += 1
            yield bundle.CERTIFICATE, epochs[epoch].certificate + epochs[epoch].signature
        leaf = hostlog.encode_segment(hostlog.Segment(row.header, row.signature))
        if number < len(logged) and logged[number] != leaf:
            raise TamperError("the host's log has another header for these receipts")
        number += 1
        stored = bundle.StoredSegment(*row[5:10])
        yield bundle.SEGMENT, bundle.encode_segment(stored)
    if number < len(logged):
        raise TamperError("the host's log has segments that the container's file has not")


def _write_file(
    file: BinaryIO, log: HostLog, db: sqlite3.Connection | None, container: str, key: keys.Signer
) -> Written:
    """Write the frames as they pass a verification, then the seal over what it counted."""
    state = verify.Verification()
    digest = bundle.compute_first_digest()
    file.write(bundle.MAGIC)
    with contextlib.closing(collect_frames(log, db, container, key.public)) as collected:
        for kind, payload in collected:
            state.upon_frame(bundle.Frame(kind, payload, digest, is_intact=True))
            data, digest = bundle.encode_frame(kind, payload, digest)
            file.write(data)
    log_state: checkpoint.Checkpoint | None = state.checkpoint
    assert log_state is not None
    runs = tuple(run.get_state() for run in state.runs)
    seal = bundle.encode_seal(
        bundle.Seal(
            keys.compute_host_id(key.public),
            bytes.fromhex(container),
            log_state.size,
            log_state.root,
            time.time_ns(),
            digest,
            runs,
        )
    )
    payload = seal + keys.sign(key, domains.SIGN_SEAL, seal)
    file.write(bundle.encode_frame(bundle.SEAL, payload, digest)[0])
    return Written(file.tell(), runs)


@contextlib.contextmanager
def _open_store(paths: Paths, container: str) -> Iterator[sqlite3.Connection | None]:
    """The container's store, or None where no receipt was ever committed."""
    if not os.path.exists(store.get_store_path(paths, container)):
        yield None
        return
    db = store.open_store(paths, container)
    try:
        yield db if store.has_tables(db) else None
    finally:
        db.close()
