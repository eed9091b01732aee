"""Find damaged ranges in what a node holds of a host, and put a peer's copy in their place.

Not here: the store (body_store), who is asked. A copy is an offer, verified like any other from
what was known before it, and beyond that it must have the leaves that were held: its root at the
first place that is whole again is the one that is kept there. So a host that has signed two
histories cannot have one repaired into the other. Only with the store closed, or in its process.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, TamperError
from chainlite.ledger.bodies import HostBodies, Taken, decode_taken, encode_taken, verify_offer
from chainlite.ledger.body_file import (
    Record,
    create_file,
    decode_record,
    encode_record,
    iterate_frames,
    open_for_reading,
)
from chainlite.ledger.body_store import BodyStore, Lost
from chainlite.ledger.offer import decode_offer

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_damage(store: BodyStore, host: bytes) -> Iterator[Lost]:
    """The ranges of a host that are damaged, in order; reads every byte that is held of it."""
    firsts, paths = store.list_files(host)
    size = store.get_size_root(host)[0]
    for first, end, path in zip(firsts, (*firsts[1:], size), paths, strict=True):
        at = first
        for record in _read_all(path):
            if record is None:
                continue
            if record.start > at:
                yield Lost(host, at, record.start, f"{path}: the range is damaged")
            at = max(at, record.end)
        if at < end:
            yield Lost(host, at, end, f"{path}: the range is damaged")


def repair(store: BodyStore, lost: Lost, data: bytes) -> int:
    """Put this offer in place of a damaged range, as far as it goes; the leaf to go on from.

    SpecError: it does not begin there, or in a file whose snapshot is damaged. TamperError: it does
    not hold, or has other leaves than were held.
    """
    offer = decode_offer(data)
    firsts, paths = store.list_files(lost.host)
    at = bisect_right(firsts, lost.start) - 1
    if offer.start != lost.start or at < 0 or at + 1 == len(paths):
        raise SpecError(f"offer: leaf {offer.start}; leaf {lost.start} of an older file is wanted")
    records = [record for record in _read_all(paths[at]) if record is not None]
    snapshot = _read_snapshot(paths[at])
    known = HostBodies(lost.host)
    known.apply(snapshot)
    before = [record for record in records if record.end <= lost.start]
    after = [record for record in records if record.end > lost.start]
    for record in before:
        known.apply(decode_taken(record.taken))
    taken = verify_offer(known, offer)
    end = lost.end if lost.end is not None else firsts[at + 1]
    whole_root = _read_snapshot(paths[at + 1]).root if end == firsts[at + 1] else None
    _check_root(known, data, end, whole_root, after)
    mended = Record(offer.start, offer.end, encode_taken(taken), data)
    rest = [record for record in after if record.end > offer.end]
    payloads = [encode_record(record) for record in (*before, mended, *rest)]
    create_file(paths[at], [encode_taken(snapshot), *payloads]).close()
    return min(offer.end, end)


def _check_root(
    known: HostBodies, data: bytes, end: int, root: bytes | None, after: list[Record]
) -> None:
    """The offer's leaves are those that were held: what follows was taken on top of them."""
    offer = decode_offer(data)
    if offer.end < end:
        return  # the next copy goes on from its end, and the last one meets what is held
    if root is None:
        if not after:
            raise SpecError("offer: nothing is left to compare it with")
        follow = decode_offer(after[0].offer)
        end, root = follow.end, decode_taken(after[0].taken).root
        items = offer.items[: end - offer.start]
        items += follow.items[offer.start + len(items) - follow.start :]
    else:
        items = offer.items[: end - offer.start]
    if known.compute_root_after([item.leaf for item in items]) != root:
        raise TamperError(f"leaf {offer.start}: the copy has other leaves than were held here")


def _read_snapshot(path: str) -> Taken:
    fd = open_for_reading(path)
    try:
        for frame in iterate_frames(fd):
            if frame.payload is None:
                break
            return decode_taken(frame.payload)
    finally:
        os.close(fd)
    raise SpecError(
        f"{path}: its snapshot is damaged: take the host's bodies anew"
    )


def _read_all(path: str) -> Iterator[Record | None]:
    fd = open_for_reading(path)
    try:
        for number, frame in enumerate(iterate_frames(fd)):
            if number:
                yield decode_record(frame.payload) if frame.payload is not None else None
    finally:
        os.close(fd)
