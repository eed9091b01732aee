"""What a node holds of hosts' logs: leaves and bodies, verified when they came, durable since.

A directory for each host, in it files of ranges (body_file) named by their first leaf. Taking a
range verifies it, appends it and syncs once. Not here: verification (bodies), who offers (offer,
availability), damage in older files (body_repair). One writer per directory.
Invariants: what `take` has answered survives a kill and a loss of power (after `sync`); a torn end
was never answered and is cut off; where the newest file is damaged, the host stands at the last
range that is whole, `lost` names what is gone, and it is taken again as it came.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from chainlite import merkle
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.bodies import HostBodies, Taken, decode_taken, encode_taken, verify_offer
from chainlite.ledger.body_file import (
    BodyFile,
    Frame,
    Record,
    create_file,
    decode_record,
    encode_record,
    find_frame,
    iterate_frames,
    open_for_reading,
    sync_directory,
)
from chainlite.ledger.offer import Ack, decode_offer, encode_offer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

FILE_BYTES_MAX = 16 << 20
"""After so much the next range begins a new file: an open reads the newest one whole."""
HOSTS_MAX = 1 << 16
HOSTS_OPEN_MAX = 256
POINTS_MAX = 1024
"""Ends of ranges whose roots are remembered for each host."""
LOST_MAX = 1024
_SUFFIX = ".bodies"


class Lost(NamedTuple):
    """A range that is damaged; `end` is None where nothing says how far it went."""

    host: bytes
    start: int
    end: int | None
    why: str


class _Host:
    """An open host: what is known of it, its newest file, the roots at the ends of ranges."""

    def __init__(self, known: HostBodies, file: BodyFile | None) -> None:
        self.known, self.file = known, file
        self.points: dict[int, bytes] = {}

    def take(self, taken: Taken) -> None:
        self.known.apply(taken)
        self.points[taken.progress.size] = taken.root
        while len(self.points) > POINTS_MAX:
            del self.points[next(iter(self.points))]


class BodyStore:
    """The hosts' directories under one; a lock keeps a second writer away."""

    def __init__(self, directory: str) -> None:
        """Open it, or make it; StateError if another process has it."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._directory = directory
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateError(f"{directory}: another process has these bodies open") from None
        self._open: dict[bytes, _Host] = {}
        self._dirty: dict[bytes, BodyFile] = {}
        self.lost: list[Lost] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Sync and close all."""
        self.sync()
        for host in self._open.values():
            if host.file is not None:
                host.file.close()
        self._open.clear()
        os.close(self._lock)

    def take(self, data: bytes) -> Ack:
        """Verify an offer and keep it; durable when this returns. Errors as in `take_unsynced`."""
        ack = self.take_unsynced(data)
        self.sync()
        return ack

    def take_unsynced(self, data: bytes) -> Ack:
        """As `take`, and durable only after `sync`: until then it may not be answered.

        An offer that does not begin where the host stands changes nothing; the answer says where
        that is. SpecError, TamperError: it does not read or hold. StateError: no room.
        """
        offer = decode_offer(data)
        if offer.host not in self._open and not os.path.isdir(self._get_path(offer.host)):
            host = _Host(HostBodies(offer.host), None)
        else:
            host = self._get(offer.host)
        progress = host.known.progress
        if offer.start != progress.size:
            return Ack(offer.host, progress.size, progress.root, 0)
        taken = verify_offer(host.known, offer)
        if host.file is None:
            self._admit(offer.host, host)
        elif host.file.size >= FILE_BYTES_MAX:
            self._rotate(host)
        assert host.file is not None, "it was made just now"
        record = Record(offer.start, offer.end, encode_taken(taken), data)
        host.file.append(encode_record(record))
        self._dirty[offer.host] = host.file
        host.take(taken)
        return Ack(offer.host, offer.end, taken.root, taken.receipts)

    def sync(self) -> None:
        """All that was taken is durable: one fdatasync for each host of which something was.

        OSError: nothing may be answered any more; open the store anew.
        """
        for file in self._dirty.values():
            file.sync()
        self._dirty.clear()

    def get_hosts(self) -> tuple[bytes, ...]:
        """The hosts of which anything is held, ascending."""
        names = [name for name in os.listdir(self._directory) if len(name) == 64]
        return tuple(sorted(bytes.fromhex(name) for name in names))

    def get_size_root(self, host: bytes) -> tuple[int, bytes]:
        """Up to which size of its log a host's bodies are held, and the root there."""
        if not os.path.isdir(self._get_path(host)):
            return 0, merkle.EMPTY_ROOT
        progress = self._get(host).known.progress
        return progress.size, progress.root

    def find_root(self, host: bytes, size: int) -> bytes | None:
        """The root at a size where a range ended not long ago: an anchor there can be answered."""
        if not os.path.isdir(self._get_path(host)):
            return None
        return self._get(host).points.get(size)

    def read(self, host: bytes, start: int, end: int | None = None) -> Iterator[bytes]:
        """Offers as they came, in order, that have leaves of [start, end) (None: all).

        The first begins at `start` exactly, so that who stands there can take it. TamperError names
        the range that is damaged; it may be repaired (body_repair). Nothing for what was forgotten.
        """
        size = self.get_size_root(host)[0]
        end = size if end is None else min(end, size)
        firsts, paths = self.list_files(host)
        at = bisect_right(firsts, start) - 1
        if at < 0:
            return
        for path in paths[at:]:
            for record in read_records(path, start):
                if start >= end:
                    return
                if record is None or record.start > start:
                    raise TamperError(
                        f"{path}: bodies of host {host.hex()[:16]} are damaged at leaf {start}"
                    )
                yield _cut(record, start)
                start = record.end

    def forget(self, host: bytes, before: int) -> int:
        """Remove files of which every leaf is before this one; how many. The newest one stays."""
        firsts, paths = self.list_files(host)
        gone = [path for path, after in zip(paths, firsts[1:], strict=False) if after <= before]
        for path in gone:
            os.unlink(path)
        if gone:
            sync_directory(self._get_path(host))
        return len(gone)

    def list_files(self, host: bytes) -> tuple[list[int], list[str]]:
        """The first leaves of a host's files, ascending, and their paths."""
        directory = self._get_path(host)
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
        return [int(name[: -len(_SUFFIX)]) for name in names], [f"{directory}/{n}" for n in names]

    def _get_path(self, host: bytes) -> str:
        return f"{self._directory}/{host.hex()}"

    def _admit(self, name: bytes, host: _Host) -> None:
        """A host of which nothing was held; its first range was verified."""
        if len(os.listdir(self._directory)) >= HOSTS_MAX:
            raise StateError(f"bodies of more than {HOSTS_MAX} hosts")
        os.makedirs(self._get_path(name), mode=0o700, exist_ok=True)
        sync_directory(self._directory)
        self._rotate(host)
        self._open[name] = host

    def _rotate(self, host: _Host) -> None:
        """Begin a new file, with all that is known of the host at its head."""
        known, old = host.known, host.file
        path = self._get_path(known.progress.host) + f"/{known.progress.size:020}{_SUFFIX}"
        if old is not None:
            old.sync()
        host.file = create_file(path, [encode_taken(known.make_snapshot())])
        if old is not None:
            old.close()

    def _get(self, name: bytes) -> _Host:
        """The host, opened if it is not; asked for last."""
        host = self._open.pop(name, None) or self._load(name)
        self._open[name] = host
        idle = [one for one in self._open if one not in self._dirty][: -HOSTS_OPEN_MAX or None]
        for one in idle if len(self._open) > HOSTS_OPEN_MAX else ():
            file = self._open.pop(one).file
            if file is not None:
                file.close()
        return host

    def _load(self, name: bytes) -> _Host:
        """What the newest file that reads says; all behind its last whole range is cut off."""
        _, paths = self.list_files(name)
        for path in reversed(paths):
            try:
                fd = open_for_reading(path)
            except SpecError as error:
                self._lose(name, int(os.path.basename(path)[:20]), None, str(error))
                os.unlink(path)
                continue
            try:
                host = self._load_file(name, path, iterate_frames(fd))
            finally:
                os.close(fd)
            if host is not None:
                return host
            os.unlink(path)
        return _Host(HostBodies(name), None)

    def _load_file(self, name: bytes, path: str, frames: Iterator[Frame]) -> _Host | None:
        """None where its snapshot is damaged: then the file before it says more."""
        host, whole, bad = _Host(HostBodies(name), None), 0, None
        end: int | None = None
        for frame in frames:
            if frame.payload is None or bad is not None:
                bad = bad or frame
                end = decode_record(frame.payload).end if frame.payload is not None else end
                continue
            taken = decode_record(frame.payload).taken if whole else frame.payload
            host.take(decode_taken(taken))
            whole = frame.end
        if bad is not None:
            size = host.known.progress.size if whole else int(os.path.basename(path)[:20])
            why = f"{path}: cut off at byte {bad.offset}: never answered, or damaged"
            self._lose(name, size, end, why)
        if not whole:
            return None
        host.file = BodyFile(path, whole)
        return host

    def _lose(self, host: bytes, start: int, end: int | None, why: str) -> None:
        if len(self.lost) < LOST_MAX:
            self.lost.append(Lost(host, start, end, why))


def read_records(path: str, leaf: int) -> Iterator[Record | None]:
    """The ranges of a file that end after this leaf; None for one that is damaged."""
    fd = open_for_reading(path)
    try:
        for frame in iterate_frames(fd, find_frame(fd, leaf)):
            record = decode_record(frame.payload) if frame.payload is not None else None
            if record is None or record.end > leaf:
                yield record
    finally:
        os.close(fd)


def _cut(record: Record, start: int) -> bytes:
    """The offer without the leaves before `start`: it holds as before."""
    if record.start == start:
        return record.offer
    offer = decode_offer(record.offer)
    return encode_offer(offer._replace(start=start, items=offer.items[start - record.start :]))
