"""Find a container's evidence, and read its receipts back with their values.

Not here: whether they hold (export.verify_container). What is read here is not checked: `receipts`
shows what the store says, `verify` says whether to believe it.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from chainlite import receipt, segment
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence import container_store, host_log

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from docklock.paths import Paths

PREFIX_CHARS_MIN = 1


class Shown(NamedTuple):
    """A receipt and its values; None for one that was redacted."""

    receipt: receipt.Receipt
    values: tuple[tuple[str, bytes | None], ...]


class Query(NamedTuple):
    """What to show: a shell pattern over `op`, and the earliest time in ns."""

    op: str = "*"
    since_ns: int = 0


def find_evidence(paths: Paths, reference: str) -> str:
    """The id of a container that is here or was: by name, id or unique prefix; newest name wins."""
    from docklock.lifecycle import find_container

    try:
        return find_container(paths, reference)
    except StateError as error:
        if not host_log.has_host_log(paths):
            raise
        missing = error
    with host_log.HostLog(paths, None) as log:
        runs = log.get_runs()
    named = [run.container for run in runs if run.app == reference]
    if named:
        return named[-1]
    found = {run.container for run in runs if run.container.startswith(reference)}
    if len(found) > 1:
        raise StateError(f"{reference} matches {len(found)} containers: give more of the id")
    if not found or len(reference) < PREFIX_CHARS_MIN:
        raise missing
    return found.pop()


def find_newest(paths: Paths) -> str:
    """The container that started last; StateError if none ever did."""
    with host_log.HostLog(paths, None) as log:
        runs = log.get_runs()
    if not runs:
        raise StateError("no container has run here")
    return runs[-1].container


def has_store(paths: Paths, container: str) -> bool:
    """Whether any receipt of the container was committed."""
    return os.path.exists(container_store.get_store_path(paths, container))


def iterate_receipts(
    db: sqlite3.Connection, run: int, first_index: int, query: Query
) -> Iterator[Shown]:
    """The committed receipts of a run from `first_index` on that the query wants."""
    for row in container_store.iterate_segments(db, run, first_index):
        ops = row.ops.split("\n")
        if row.time_last < query.since_ns or not any(fnmatchcase(op, query.op) for op in ops):
            continue
        for shown in read_segment(row):
            event = shown.receipt
            if (
                event.event_index >= first_index
                and event.time >= query.since_ns
                and fnmatchcase(event.op, query.op)
            ):
                yield shown


def decode_text(value: bytes) -> str:
    """A value as text. NUL ends words: it becomes a space; what is no UTF-8 is escaped."""
    return value.rstrip(b"\0").replace(b"\0", b" ").decode(errors="backslashreplace")


def decode_frame(raw: bytes, data: bytes) -> Shown:
    """One receipt with its values; SpecError if they are not canonical."""
    event = receipt.decode_receipt(raw)
    values = receipt.decode_values(data, len(event.commitments), "values")
    return Shown(event, tuple(zip([name for name, _ in event.commitments], values, strict=True)))


def read_segment(
    row: container_store.SegmentRow, first: int = 0, end: int = 2**63
) -> Iterator[Shown]:
    """The receipts of a stored segment from `first` to before `end`, the others are not decoded.

    TamperError if they cannot be read.
    """
    try:
        body = segment.unpack_body(row.body)
        frames = receipt.iterate_frames(body, row.event_count)
        for index, (raw, data, _) in enumerate(frames, row.first_index):
            if not first <= index < end:
                continue
            yield decode_frame(raw, data)
    except SpecError as error:
        last = row.first_index + row.event_count - 1
        raise TamperError(
            f"receipts {row.first_index} to {last} of run {row.run} cannot be read: {error}; "
            "`docklock verify` says more"
        ) from None
