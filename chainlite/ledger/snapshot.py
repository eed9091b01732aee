"""The state at a height in chunks, for who has been away longer than blocks are worth fetching.

A manifest names the subtree of each chunk and is checked against a sealed header's state_root; each
chunk is then checked by itself, so that peers can be asked in any order and none is believed.
Not here: who asks whom (chainlite.consensus.joining, serving), the file that it becomes
(store.create_from_state).
Invariants: what is taken in is the state under that root, whole, and nothing else; a snapshot stays
as it was while its ledger goes on, at the price of a copy of pointers.
Layout: README.md of this room, "Snapshot".
"""

from __future__ import annotations

from hashlib import sha256

from chainlite import domains
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u32, encode_u64
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger import records, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.ledger.header import Header
    from chainlite.ledger.records import Record
    from chainlite.ledger.state import Ledger
    from chainlite.ledger.tree import Change, Node

VERSION = 1
CHUNK_ROWS = 128
"""Of a chunk, on average."""
CHUNK_LIMIT_BYTES = 2 * 1024 * 1024
DEPTH_MAX = 14
"""Chunks are at most 2^14, their manifest half a MiB."""
KEY_LIMIT = 64
SORTED_AT_ONCE = 512
"""Rows in a step of some 0.5 ms."""
_EMPTY, _LEAF, _BRANCH = 0, 1, 2


class _Entry(NamedTuple):
    """What a chunk's subtree is: empty, one leaf, or a branch; and its hash."""

    kind: int
    digest: bytes


class Snapshot:
    """A ledger's state as it is now. Rows are encoded when a chunk is asked for."""

    __slots__ = ("_chunks", "_rows", "depth", "head", "manifest")

    def __init__(self, ledger: Ledger) -> None:
        self.head: Header = ledger.head
        self._rows: dict[bytes, Record] = dict(ledger.get_items())
        self._chunks: list[list[tuple[int, bytes]]] = []
        self.depth = min(DEPTH_MAX, (len(self._rows) // CHUNK_ROWS).bit_length())
        entries: list[_Entry] = []
        _list_entries(ledger.node, self.depth, 0, entries)
        self.manifest = _encode_manifest(self.head.height, self.depth, entries)

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return 1 << self.depth

    def sort(self) -> Iterator[None]:
        """Find which row is in which chunk, some rows at each step: a node has more to do."""
        if self._chunks:
            return
        chunks: list[list[tuple[int, bytes]]] = [[] for _ in range(self.count)]
        for number, key in enumerate(self._rows):
            path = tree.compute_path(key)
            chunks[path >> tree.PATH_BITS - self.depth].append((path, key))
            if number % SORTED_AT_ONCE == 0:
                yield
        self._chunks = chunks

    def encode_chunk(self, number: int) -> bytes:
        """One chunk: its rows by path, ascending."""
        for _ in self.sort():
            pass
        chunk = sorted(self._chunks[number])
        parts = [encode_head(domains.SNAPSHOT_CHUNK, VERSION), encode_u32(number)]
        parts.append(encode_u32(len(chunk)))
        for _, key in chunk:
            value = records.encode_record(key, self._rows[key])
            parts += (encode_bytes(key), encode_bytes(value))
        return b"".join(parts)


class SnapshotImport:
    """Takes the chunks of one snapshot, each checked; `rows` are the state once none is missing."""

    __slots__ = ("_entries", "_rows", "depth")

    def __init__(self, header: Header, manifest: bytes) -> None:
        """SpecError unless the manifest is of the state under this header's root."""
        height, self.depth, self._entries = _decode_manifest(manifest)
        if height != header.height or _combine(self._entries) != header.state_root:
            raise SpecError(f"snapshot: the manifest is not of the state of block {header.height}")
        self._rows: dict[int, list[tuple[bytes, bytes]]] = {}
        for number, entry in enumerate(self._entries):
            if entry.kind == _EMPTY:
                self._rows[number] = []

    @property
    def missing(self) -> tuple[int, ...]:
        """The chunks that are still to come, ascending."""
        return tuple([one for one in range(len(self._entries)) if one not in self._rows])

    def adopt(self, other: SnapshotImport) -> int:
        """Take what another import has of the same subtrees, checked there; how many chunks."""
        if other.depth != self.depth:
            return 0
        alike = [
            number
            for number in self.missing
            if number in other._rows and other._entries[number] == self._entries[number]
        ]
        for number in alike:
            self._rows[number] = other._rows[number]
        return len(alike)

    @property
    def rows(self) -> list[tuple[bytes, bytes]]:
        """Keys and values of the whole state."""
        assert not self.missing
        return [row for number in sorted(self._rows) for row in self._rows[number]]

    def take(self, data: bytes) -> int:
        """Take a chunk; its number. SpecError unless it is one of this snapshot, to the bit."""
        number, rows = decode_chunk(data)
        if number >= len(self._entries):
            raise SpecError(f"snapshot: chunk {number} of {len(self._entries)}")
        leaves: list[Change] = []
        for key, value in rows:
            path = tree.compute_path(key)
            if path >> tree.PATH_BITS - self.depth != number or (leaves and path <= leaves[-1][0]):
                raise SpecError(f"snapshot: a row of chunk {number} is not in its place")
            leaves.append((path, tree.make_leaf(path, value)))
        if _describe(tree.build_at(leaves, self.depth)) != self._entries[number]:
            raise SpecError(f"snapshot: chunk {number} is not that of the manifest")
        self._rows[number] = rows
        return number


def decode_chunk(data: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """A chunk's number and rows; SpecError if the bytes are not canonical."""
    if len(data) > CHUNK_LIMIT_BYTES:
        raise SpecError(f"snapshot: a chunk of {len(data)} bytes, above {CHUNK_LIMIT_BYTES}")
    r = Reader(data, "snapshot chunk")
    r.read_head(domains.SNAPSHOT_CHUNK, VERSION)
    number, count = r.read_u32(limit=1 << DEPTH_MAX), r.read_u32(limit=CHUNK_LIMIT_BYTES // 8)
    rows = [(r.read_bytes(KEY_LIMIT), r.read_bytes(CHUNK_LIMIT_BYTES)) for _ in range(count)]
    r.finish()
    return number, rows


def _describe(node: Node) -> _Entry:
    if node is None:
        return _Entry(_EMPTY, tree.EMPTY)
    return _Entry(_LEAF if len(node) == 3 else _BRANCH, node[0])


def _list_entries(node: Node, depth: int, level: int, entries: list[_Entry]) -> None:
    """The subtrees at `depth` below a node at `level`, from left to right.

    A leaf that stands higher is at its own place, with nothing beside it.
    """
    if node is not None and len(node) == 4 and level < depth:
        _list_entries(node[1], depth, level + 1, entries)
        _list_entries(node[2], depth, level + 1, entries)
        return
    below = [_Entry(_EMPTY, tree.EMPTY)] * (1 << depth - level)
    if node is None or level == depth:
        below[0] = _describe(node)
    else:
        place = node[1] >> tree.PATH_BITS - depth & len(below) - 1
        below[place] = _describe(node)
    entries += below


def _combine(entries: tuple[_Entry, ...]) -> bytes:
    """The root of a tree with these subtrees, put together as tree.update does."""
    level = list(entries)
    while len(level) > 1:
        paired = iter(level)
        level = [_join(left, right) for left, right in zip(paired, paired, strict=True)]
    return level[0].digest


def _join(left: _Entry, right: _Entry) -> _Entry:
    if right.kind == _EMPTY and left.kind != _BRANCH:
        return left
    if left.kind == _EMPTY and right.kind == _LEAF:
        return right
    digest = sha256(domains.STATE_NODE + left.digest + right.digest).digest()
    return _Entry(_BRANCH, digest)


def _encode_manifest(height: int, depth: int, entries: list[_Entry]) -> bytes:
    head = encode_head(domains.SNAPSHOT, VERSION) + encode_u64(height) + bytes((depth,))
    return head + b"".join([bytes((entry.kind,)) + entry.digest for entry in entries])


def _decode_manifest(data: bytes) -> tuple[int, int, tuple[_Entry, ...]]:
    r = Reader(data, "snapshot manifest")
    r.read_head(domains.SNAPSHOT, VERSION)
    height, depth = r.read_u64(), r.read_u8(limit=DEPTH_MAX)
    entries = [_Entry(r.read_u8(limit=_BRANCH), r.read_fixed(32)) for _ in range(1 << depth)]
    r.finish()
    if any((entry.kind == _EMPTY) != (entry.digest == tree.EMPTY) for entry in entries):
        raise SpecError("snapshot manifest: an empty subtree with a hash, or one without")
    return height, depth, tuple(entries)
