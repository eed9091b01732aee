"""What a node holds of hosts' logs: leaves and bodies, verified when they came, durable since.

A directory for each host, in it files of ranges (body_file) named by their first leaf, and the
hashes of its subtrees. Taking a range verifies it, appends it and syncs once. Not here:
verification (bodies), reading (body_reader), who offers (offer, availability), damage in older
files (body_repair). One writer per directory.
Invariants: what was answered after `sync` survives a kill and a loss of power; a torn end was never
answered and is cut off; where the newest file is damaged, the host stands at the last range that is
whole, `lost` names what is gone, and it is taken again as it came.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, merkle
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.bodies import (
    HostBodies,
    Taken,
    decode_taken,
    encode_taken,
    verify_items,
    verify_offer,
)
from chainlite.ledger.body_file import (
    BodyFile,
    Frame,
    Record,
    Snapshot,
    create_file,
    decode_record,
    decode_snapshot,
    encode_record,
    encode_snapshot,
    iterate_frames,
    open_for_reading,
    sync_directory,
)
from chainlite.ledger.body_reader import HASH_BYTES, NODES, SUFFIX, BodyReader, count_nodes
from chainlite.ledger.offer import Ack, decode_offer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from chainlite.ledger.offer import Item

FILE_BYTES_MAX = 16 << 20
"""After so much the next range begins a new file: an open reads the newest one whole."""
HOSTS_MAX = 1 << 16
HOSTS_OPEN_MAX = 256
LOST_MAX = 1024


class Held(NamedTuple):
    """How far a host is held: the root there, the newest of its checkpoints that is reached (none:
    empty), its key records."""

    size: int
    root: bytes
    note: bytes
    key_leaves: tuple[bytes, ...]


NOTHING = Held(0, merkle.EMPTY_ROOT, b"", ())


class Lost(NamedTuple):
    """A range that is damaged; `end` is None where nothing says how far it went."""

    host: bytes
    start: int
    end: int | None
    why: str


class _Host:
    """An open host: what is known of it, the newest note reached, its newest file, its hashes."""

    def __init__(self, name: bytes) -> None:
        self.known, self.note = HostBodies(name), b""
        self.file: BodyFile | None = None
        self.nodes = -1

    def get_held(self) -> Held:
        progress = self.known.progress
        return Held(progress.size, progress.root, self.note, progress.key_leaves)

    def write_nodes(self, size_before: int, hashes: Sequence[bytes]) -> None:
        """Not synced: they follow from the ranges, and are written anew by the next open."""
        data = b"".join(hashes)
        try:
            if os.pwrite(self.nodes, data, count_nodes(size_before) * HASH_BYTES) == len(data):
                return
        except OSError as error:
            raise StateError(f"hashes cannot be written: {error.strerror}") from None
        raise StateError("hashes cannot be written: no room")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        if self.nodes >= 0:
            os.close(self.nodes)


class BodyStore:
    """The hosts' directories under one; a lock keeps a second writer away."""

    def __init__(self, directory: str) -> None:
        """Open it, or make it; StateError if another process has it."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.reader = BodyReader(directory)
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateError(f"{directory}: another process has these bodies open") from None
        self._open: dict[bytes, _Host] = {}
        self._dirty: dict[bytes, BodyFile] = {}
        self._count = len(self.reader.get_hosts())
        self.lost: list[Lost] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Sync and close all."""
        self.sync()
        for host in self._open.values():
            host.close()
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
        host = self._get(offer.host)
        held = host.get_held()
        if offer.start != held.size:
            return Ack(offer.host, held.size, held.root, 0)
        taken = verify_offer(host.known, offer)
        is_reached = checkpoint.parse_claim(offer.note).size == offer.end
        return self._keep(host, taken, offer.note if is_reached else b"", offer.items)

    def append_unsynced(self, name: bytes, start: int, items: Sequence[Item], note: bytes) -> Ack:
        """As `take_unsynced`, of leaves that the caller has found to be the host's.

        `note`, where it is not empty, is the checkpoint that they reach.
        """
        host = self._get(name)
        held = host.get_held()
        if start != held.size:
            return Ack(name, held.size, held.root, 0)
        taken = verify_items(host.known, items)
        state = checkpoint.parse_claim(note) if note else None
        if state is not None and (state.size, state.root) != (taken.progress.size, taken.root):
            raise TamperError(f"the leaves from {start} on do not reach the checkpoint with them")
        return self._keep(host, taken, note, tuple(items))

    def sync(self) -> None:
        """All that was taken is durable: one fdatasync for each host of which something was.

        OSError: nothing may be answered any more; open the store anew.
        """
        for file in self._dirty.values():
            file.sync()
        self._dirty.clear()

    def get_held(self, host: bytes) -> Held:
        """How far a host is held."""
        return self._get(host).get_held() if self._has(host) else NOTHING

    def get_size_root(self, host: bytes) -> tuple[int, bytes]:
        """Up to which size of its log a host's bodies are held, and the root there."""
        return self.get_held(host)[:2]

    def forget(self, host: bytes, before: int) -> int:
        """Remove files of which every leaf is before this one; how many. The newest one stays."""
        firsts, paths = self.reader.list_files(host)
        gone = [path for path, after in zip(paths, firsts[1:], strict=False) if after <= before]
        for path in gone:
            os.unlink(path)
        if gone:
            sync_directory(self.reader.get_path(host))
        return len(gone)

    def _keep(self, host: _Host, taken: Taken, note: bytes, items: tuple[Item, ...]) -> Ack:
        name, start = host.known.progress.host, host.known.progress.size
        if host.file is None:
            self._admit(name, host)
        elif host.file.size >= FILE_BYTES_MAX:
            self._rotate(host)
        assert host.file is not None, "it was made just now"
        end = taken.progress.size
        host.write_nodes(start, taken.nodes)
        host.file.append(encode_record(Record(start, end, encode_taken(taken), note, items)))
        self._dirty[name] = host.file
        host.known.apply(taken)
        host.note = note or host.note
        return Ack(name, end, taken.root, taken.receipts)

    def _has(self, host: bytes) -> bool:
        return host in self._open or os.path.isdir(self.reader.get_path(host))

    def _admit(self, name: bytes, host: _Host) -> None:
        """A host of which nothing was held; its first range was verified."""
        if self._count >= HOSTS_MAX:
            raise StateError(f"bodies of more than {HOSTS_MAX} hosts")
        path = self.reader.get_path(name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        sync_directory(os.path.dirname(path))
        self._rotate(host)
        self._open_nodes(host)
        self._open[name] = host
        self._count += 1

    def _open_nodes(self, host: _Host) -> None:
        path = f"{self.reader.get_path(host.known.progress.host)}/{NODES}"
        host.nodes = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self, host: _Host) -> None:
        """Begin a new file, with all that is known of the host at its head."""
        progress, old = host.known.progress, host.file
        path = f"{self.reader.get_path(progress.host)}/{progress.size:020}{SUFFIX}"
        if old is not None:
            old.sync()
            os.fdatasync(host.nodes)
        snapshot = Snapshot(encode_taken(host.known.make_snapshot()), host.note)
        host.file = create_file(path, [encode_snapshot(snapshot)])
        if old is not None:
            old.close()

    def _get(self, name: bytes) -> _Host:
        """The host, opened if it is not; asked for last. One that is not held is not kept open."""
        host = self._open.pop(name, None)
        if host is None and not self._has(name):
            return _Host(name)
        host = host or self._load(name)
        self._open[name] = host
        idle = [one for one in self._open if one not in self._dirty and one != name]
        for one in idle[: max(0, len(self._open) - HOSTS_OPEN_MAX)]:
            self._open.pop(one).close()
        return host

    def _load(self, name: bytes) -> _Host:
        """What the newest file that reads says; all behind its last whole range is cut off."""
        _, paths = self.reader.list_files(name)
        for path in reversed(paths):
            try:
                fd = open_for_reading(path)
            except SpecError as error:
                self._lose(name, _get_first(path), None, str(error))
                os.unlink(path)
                continue
            try:
                host = self._load_file(name, path, iterate_frames(fd))
            finally:
                os.close(fd)
            if host is not None:
                return host
            os.unlink(path)
        return _Host(name)

    def _load_file(self, name: bytes, path: str, frames: Iterator[Frame]) -> _Host | None:
        """None where its snapshot is damaged: then the file before it says more."""
        host, whole, bad, end = _Host(name), 0, None, None
        for frame in frames:
            if frame.payload is None or bad is not None:
                bad = bad or frame
                end = decode_record(frame.payload).end if frame.payload is not None else end
            elif not whole:
                snapshot = decode_snapshot(frame.payload)
                host.known.apply(decode_taken(snapshot.taken))
                host.note, whole = snapshot.note, frame.end
                self._open_nodes(host)
            else:
                _reload(host, decode_record(frame.payload))
                whole = frame.end
        if bad is not None:
            size = host.known.progress.size if whole else _get_first(path)
            why = f"{path}: cut off at byte {bad.offset}: never answered, or damaged"
            self._lose(name, size, end, why)
        if not whole:
            return None
        host.file = BodyFile(path, whole)
        return host

    def _lose(self, host: bytes, start: int, end: int | None, why: str) -> None:
        if len(self.lost) < LOST_MAX:
            self.lost.append(Lost(host, start, end, why))


def _reload(host: _Host, record: Record) -> None:
    """A range of the newest file: its hashes may not have reached the disk."""
    frontier, hashes = list(host.known.progress.frontier), list[bytes]()
    for size, item in enumerate(record.items, record.start):
        hashes += merkle.add_leaf(frontier, size, item.leaf)
    host.write_nodes(record.start, hashes)
    host.known.apply(decode_taken(record.taken))
    host.note = record.note or host.note


def _get_first(path: str) -> int:
    return int(os.path.basename(path)[: -len(SUFFIX)])
