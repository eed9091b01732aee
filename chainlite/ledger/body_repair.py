"""Find damaged ranges in what a node holds of a host, and put a peer's copy in their place.

Not here: the store (body_store), who is asked. A copy is verified from what was known before it,
and must have the leaves that were held: its root at its end is the one that is kept there. So a
host that has signed two histories cannot have one repaired into the other. Within one process.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, TamperError
from chainlite.ledger.bodies import HostBodies, decode_taken, encode_taken, verify_items
from chainlite.ledger.body_file import (
    Record,
    Snapshot,
    create_file,
    decode_record,
    decode_snapshot,
    encode_record,
    encode_snapshot,
    iterate_frames,
    open_for_reading,
)
from chainlite.ledger.body_store import Lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chainlite.ledger.body_store import BodyStore
    from chainlite.ledger.offer import Item


def find_damage(store: BodyStore, host: bytes) -> Iterator[Lost]:
    """The ranges of a host that are damaged, in order; reads every byte that is held of it."""
    firsts, paths = store.reader.list_files(host)
    size = store.get_size_root(host)[0]
    for first, end, path in zip(firsts, (*firsts[1:], size), paths, strict=True):
        at = first
        for record in _read_all(path):
            if record.start > at:
                yield Lost(host, at, record.start, f"{path}: the range is damaged")
            at = record.end
        if at < end:
            yield Lost(host, at, end, f"{path}: the range is damaged")


def repair(store: BodyStore, lost: Lost, items: Sequence[Item]) -> None:
    """Put these items in place of all of a damaged range of a file that is not the newest.

    SpecError: they are not as many, or do not read. TamperError: they do not hold, or are other
    leaves than were held.
    """
    firsts, paths = store.reader.list_files(lost.host)
    at = bisect_right(firsts, lost.start) - 1
    if lost.end is None or len(items) != lost.end - lost.start or not 0 <= at < len(paths) - 1:
        raise SpecError(f"leaves {lost.start} to {lost.end} of an older file are wanted")
    known, snapshot = HostBodies(lost.host), _read_snapshot(paths[at])
    known.apply(decode_taken(snapshot.taken))
    records = list(_read_all(paths[at]))
    before = [record for record in records if record.end <= lost.start]
    for record in before:
        known.apply(decode_taken(record.taken))
    taken = verify_items(known, items)
    if taken.root != store.reader.compute_root(lost.host, lost.end):
        raise TamperError(f"leaf {lost.start}: the copy has other leaves than were held here")
    mended = Record(lost.start, lost.end, encode_taken(taken), b"", tuple(items))
    after = [record for record in records if record.start >= lost.end]
    payloads = [encode_record(record) for record in (*before, mended, *after)]
    create_file(paths[at], [encode_snapshot(snapshot), *payloads]).close()


def _read_snapshot(path: str) -> Snapshot:
    fd = open_for_reading(path)
    try:
        frame = next(iterate_frames(fd), None)
    finally:
        os.close(fd)
    if frame is None or frame.payload is None:
        raise SpecError(f"{path}: its snapshot is damaged: take the host's bodies anew")
    return decode_snapshot(frame.payload)


def _read_all(path: str) -> Iterator[Record]:
    """The ranges of a file that are whole."""
    fd = open_for_reading(path)
    try:
        for number, frame in enumerate(iterate_frames(fd)):
            if number and frame.payload is not None:
                yield decode_record(frame.payload)
    finally:
        os.close(fd)
