"""Logs for the tests of gossip: their writers, and a store in memory that counts what it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from chainlite import checkpoint, keys, merkle
from chainlite.checkpoint import Checkpoint
from chainlite.errors import PeerError
from chainlite.net.origins import NO_KEYS, NOTHING, Held, Item, LogKeys


def make_item(number: int, size: int = 0, salt: bytes = b"") -> Item:
    """A leaf that commits to its body; every fourth has none."""
    if number % 4 == 3 and not size:
        return Item(b"leaf %d without" % number + salt, b"")
    body = hashlib.shake_128(b"body %d" % number + salt).digest(size or 40 + number % 100)
    return Item(b"leaf %d " % number + salt + hashlib.sha256(body).digest(), body)


class Log:
    """Items and their tree."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.levels: list[list[bytes]] = [[]]
        self.note = b""

    def add(self, item: Item) -> None:
        self.items.append(item)
        value, level = merkle.compute_leaf_hash(item.leaf), 0
        self.levels[0].append(value)
        while len(self.levels[level]) % 2 == 0:
            value = merkle.compute_node_hash(*self.levels[level][-2:])
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(value)

    def read(self, level: int, number: int) -> bytes:
        return self.levels[level][number]

    def root(self, size: int) -> bytes:
        return merkle.compute_tree_root(size, self.read)


class Writer:
    """The key of a log."""

    def __init__(self, number: int) -> None:
        self.key = keys.make_key_pair(hashlib.sha256(b"log %d" % number).digest())
        self.origin = checkpoint.get_origin(keys.compute_host_id(self.key.public))
        self.keys = LogKeys((self.key.public,))

    def sign(self, log: Log, size: int | None = None) -> bytes:
        size = len(log.items) if size is None else size
        state = Checkpoint(self.origin, size, log.root(size))
        return checkpoint.sign_checkpoint(state, self.key)


class MemoryStore:
    """An OriginStore. `taken` counts the items that `append` kept, by origin and index."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self.keys = {writer.origin: writer.keys for writer in writers}
        self.logs: dict[str, Log] = {}
        self.forks: set[bytes] = set()
        self.taken: dict[tuple[str, int], int] = {}

    def get_origins(self) -> list[str]:
        return list(self.logs)

    def get_keys(self, origin: str) -> LogKeys:
        return self.keys.get(origin, NO_KEYS)

    def get_held(self, origin: str) -> Held:
        log = self.logs.get(origin)
        return Held(len(log.items), log.note) if log else NOTHING

    def get_hash(self, origin: str, level: int, number: int) -> bytes:
        return self.logs[origin].read(level, number)

    def read(self, origin: str, start: int, end: int, bytes_max: int) -> list[Item]:
        found, size = list[Item](), 0
        for item in self.logs[origin].items[start:end]:
            size += len(item.leaf) + len(item.body)
            if found and size > bytes_max:
                break
            found.append(item)
        return found

    async def append(self, origin: str, start: int, items: Sequence[Item], note: bytes) -> None:
        self.keep(origin, start, items, note)

    def keep(self, origin: str, start: int, items: Sequence[Item], note: bytes) -> None:
        log = self.logs.setdefault(origin, Log())
        assert start == len(log.items), "items that do not follow"
        for item in items:
            wants = hashlib.sha256(item.body).digest() if item.body else b"without"
            if wants not in item.leaf:
                raise PeerError("a body is not what its leaf commits to")
        for number, item in enumerate(items, start):
            log.add(item)
            self.taken[origin, number] = self.taken.get((origin, number), 0) + 1
        if note:
            assert checkpoint.parse_claim(note) == Checkpoint(
                origin, len(log.items), log.root(len(log.items))
            )
            log.note = note

    def write(self, writer: Writer, items: Sequence[Item]) -> None:
        """The log's own host adds to it."""
        log = self.logs.setdefault(writer.origin, Log())
        for item in items:
            log.add(item)
        log.note = writer.sign(log)

    def keep_fork(self, data: bytes) -> None:
        self.forks.add(data)
