"""The server's own transparency log: a leaf for each state of a host that it has acknowledged.

A commit brings leaves, their hashes and one checkpoint signed with both of the server's keys; a
proof is made of the same rows. Who edits them gains nothing: their hashes are not under a
checkpoint that others have. Tiles are made when they are asked for.
Not here: what a leaf says (acknowledgement), where rows lie (store). Invariants: the checkpoint
that is signed continues the one before; of a store that was put back, so that it has less than was
published, `goal` says so, and nothing is signed here before it has that again (restoring); one that
has another history is refused when it is opened.
Source: RFC 6962; C2SP tlog-tiles, tlog-checkpoint.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, domains, merkle, tile
from chainlite.bpci.acknowledgement import decode_held
from chainlite.bpci.rows import make_reader, read_frontier
from chainlite.bpci.store import Leaf
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.body_file import sync_directory
from chainlite.note import NOTE_LIMIT_BYTES
from chainlite.tlogproof import LogProof

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Host, Store
    from chainlite.tile import Tile

OWNER = b""
"""The host whose rows are the server's own."""
KIND = domains.BPCI_HELD[0]
PUBLISHED = "checkpoint"


class Staged(NamedTuple):
    """What a commit adds to the log; `prove` gives the proof of one of its leaves."""

    rows: tuple[Leaf, ...]
    note: bytes
    state: checkpoint.Checkpoint
    frontier: tuple[bytes, ...]
    prove: Callable[[int], LogProof]


class OwnLog:
    """The log as it is on disk; `upon_commit` alone changes it."""

    def __init__(self, store: Store, key: ServerKey, published: str) -> None:
        """TamperError where the store is not what was signed, or not what was published."""
        self._store, self._key, self._published = store, key, published
        size, note = store.find_log()
        self._read = make_reader(store, OWNER, {})
        self._frontier = tuple(read_frontier(size, self._read))
        self.note = note
        self.state = checkpoint.Checkpoint(
            key.origin, size, merkle.compute_frontier_root(self._frontier)
        )
        if size or note:
            self._check_signed(note, "the log's checkpoint")
        self.goal = self.state
        """The largest state that was ever published, as far as it is known here."""
        seen = read_published(published)
        if seen:
            self._check_published(seen)

    @property
    def is_behind(self) -> bool:
        """Whether more was published than is here."""
        return self.state.size < self.goal.size

    def _check_signed(self, note: bytes, what: str) -> None:
        try:
            state = cosignature.check_checkpoint(note, self._key.log_keys)
        except SpecError as error:
            raise TamperError(f"{what} is not this server's: {error}") from None
        if state != self.state:
            raise TamperError(f"{what} is of {state.size} leaves, and the rows are others")

    def _check_published(self, seen: bytes) -> None:
        try:
            state = cosignature.check_checkpoint(seen, self._key.log_keys)
        except SpecError as error:
            raise TamperError(f"{self._published}: not this server's: {error}") from None
        if state.size > self.state.size:
            self.goal = state
        elif state.size and merkle.compute_tree_root(state.size, self._read) != state.root:
            raise TamperError(f"{self._published}: another history was published: a fork")

    def compute_root(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        return merkle.compute_tree_root(size, self._read)

    @property
    def frontier(self) -> tuple[bytes, ...]:
        """The complete subtrees, the largest first."""
        return self._frontier

    def stage(self, leaves: Sequence[bytes], time_s: int) -> Staged:
        """The log with these leaves, signed, and not yet there for anyone."""
        assert not self.is_behind, "what was published is to be here again first"

        def sign(state: checkpoint.Checkpoint) -> bytes:
            signed = checkpoint.sign_checkpoint(state, self._key.pair)
            cosigner = self._key.log_keys[1]
            return cosignature.cosign_mldsa(signed, cosigner, self._key.mldsa.sign, time_s)

        return self._stage(leaves, sign)

    def stage_again(self, leaves: Sequence[bytes], note: bytes) -> Staged:
        """The log with leaves that it had once, under a checkpoint of then; nothing is signed."""
        staged = self._stage(leaves, lambda _: note)
        assert checkpoint.parse_claim(note) == staged.state, "the leaves lead to its root"
        return staged

    def _stage(
        self, leaves: Sequence[bytes], sign: Callable[[checkpoint.Checkpoint], bytes]
    ) -> Staged:
        frontier, size, rows = list(self._frontier), self.state.size, list[Leaf]()
        hashes = dict[int, bytes]()
        for index, data in enumerate(leaves, size):
            made = b"".join(merkle.add_leaf(frontier, index, data))
            hashes[index] = made
            rows.append(Leaf(OWNER, index, KIND, b"", data, made))
        state = checkpoint.Checkpoint(
            self._key.origin, size + len(rows), merkle.compute_frontier_root(frontier)
        )
        note = sign(state)
        read = make_reader(self._store, OWNER, hashes)

        def prove(index: int) -> LogProof:
            path = merkle.compute_inclusion(index, state.size, read)
            return LogProof(leaves[index - size], index, path, note)

        return Staged(tuple(rows), note, state, tuple(frontier), prove)

    def prove(self, index: int, leaf: bytes) -> LogProof:
        """The proof of a leaf that is there, under the newest checkpoint."""
        path = merkle.compute_inclusion(index, self.state.size, self._read)
        return LogProof(leaf, index, path, self.note)

    def upon_commit(self, staged: Staged) -> None:
        """What was staged is durable: publish its checkpoint and go on from there."""
        self.state, self._frontier, self.note = staged.state, staged.frontier, staged.note
        if self.state.size > self.goal.size:
            self.goal = self.state
            write_published(self._published, staged.note, is_durable=False)

    def upon_shown(self, note: bytes) -> None:
        """A checkpoint of this server's keys, of more than is here, was shown: it is remembered."""
        state = checkpoint.parse_claim(note)
        assert state.size > self.goal.size, "only what is newer"
        write_published(self._published, note, is_durable=True)
        self.goal = state

    def read_published(self) -> bytes:
        """The newest checkpoint that is known to have been published."""
        return read_published(self._published)


def write_published(path: str, note: bytes, *, is_durable: bool) -> None:
    """The note is in the file, whole or not at all."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            file.write(note)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if is_durable:
            sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from None


def prove(store: Store, index: int, size: int, note: bytes, leaf: bytes) -> LogProof:
    """The proof of a leaf that a store has, under the checkpoint `note` of this size."""
    return LogProof(
        leaf, index, merkle.compute_inclusion(index, size, make_reader(store, OWNER, {})), note
    )


def is_behind_of(store: Store, row: Host) -> bool:
    """Whether the log says less of a host than is held of it: it is being restored."""
    if row.log_leaf < 0:
        return True
    try:
        rows = store.read_leaves(OWNER, row.log_leaf, 1)
        held = decode_held(rows[0].data) if rows else None
    except SpecError:
        return False  # it is damaged, which is another thing
    if held is None or (held.host, held.root) != (row.host, row.root):
        return False
    return held.size < row.size


def make_tile(store: Store, size: int, wanted: Tile) -> bytes:
    """The bytes of a tile or bundle of the log at this size; StateError where it has it not."""
    if wanted.width > tile.get_width(wanted.level, wanted.number, size):
        raise StateError("the log has no such tile")
    first = wanted.number * tile.WIDTH
    if wanted.level == tile.ENTRIES:
        rows = store.read_leaves(OWNER, first, wanted.width)
        return tile.encode_bundle([row.data for row in rows])
    read = make_reader(store, OWNER, {})
    level = tile.HEIGHT * wanted.level
    return b"".join([read(level, first + number) for number in range(wanted.width)])


def read_published(path: str) -> bytes:
    """The note in a file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(NOTE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return b""
