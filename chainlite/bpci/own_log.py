"""The server's own transparency log: a leaf for each state of a host that it has acknowledged.

A commit brings leaves, their hashes and one checkpoint signed with both of the server's keys; a
proof is made of the same rows. Who edits them gains nothing: their hashes are not under a
checkpoint that others have. Tiles are made when they are asked for.
Not here: what a leaf says (acknowledgement), where rows lie (store). Invariants: the checkpoint
that is signed continues the one before; a store that was put back, so that it has less than was
published, or another history, is refused when it is opened.
Source: RFC 6962; C2SP tlog-tiles, tlog-checkpoint.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, domains, merkle, tile
from chainlite.bpci.rows import make_reader, read_frontier
from chainlite.bpci.store import Leaf
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.note import NOTE_LIMIT_BYTES
from chainlite.tlogproof import LogProof

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Store
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
        """TamperError where the store is not what was signed, or less than was published."""
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
        seen = _read_file(published)
        if seen:
            self._check_published(seen)

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
            raise TamperError(
                f"{self._published}: {state.size} leaves were published, and the store has "
                f"{self.state.size}: it was put back; nothing may be signed before it has them"
            )
        if state.size and merkle.compute_tree_root(state.size, self._read) != state.root:
            raise TamperError(f"{self._published}: another history was published: a fork")

    def stage(self, leaves: Sequence[bytes], time_s: int) -> Staged:
        """The log with these leaves, signed, and not yet there for anyone."""
        frontier, size, rows = list(self._frontier), self.state.size, list[Leaf]()
        hashes = dict[int, bytes]()
        for index, data in enumerate(leaves, size):
            made = b"".join(merkle.add_leaf(frontier, index, data))
            hashes[index] = made
            rows.append(Leaf(OWNER, index, KIND, b"", data, made))
        state = checkpoint.Checkpoint(
            self._key.origin, size + len(rows), merkle.compute_frontier_root(frontier)
        )
        signed = checkpoint.sign_checkpoint(state, self._key.pair)
        sign, cosigner = self._key.mldsa.sign, self._key.log_keys[1]
        note = cosignature.cosign_mldsa(signed, cosigner, sign, time_s)
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
        part = f"{self._published}.part"
        try:
            with open(part, "wb") as file:
                file.write(staged.note)
            os.replace(part, self._published)
        except OSError as error:
            raise StateError(f"{self._published}: cannot be written: {error.strerror}") from None


def prove(store: Store, index: int, size: int, note: bytes, leaf: bytes) -> LogProof:
    """The proof of a leaf that a store has, under the checkpoint `note` of this size."""
    return LogProof(
        leaf, index, merkle.compute_inclusion(index, size, make_reader(store, OWNER, {})), note
    )


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


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(NOTE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return b""
