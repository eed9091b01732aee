"""What gossip keeps alike on all nodes: logs of signed origins, and the door to where they lie.

Not here: what is exchanged (gossip), who stores it and verifies bodies (whoever implements
OriginStore). Pure. Invariants: a log only grows, by what its own key has signed the root of; what
a store has answered for once it has still after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from chainlite import merkle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Item(NamedTuple):
    """A leaf and what it commits to: a segment's body, as stored; empty for other leaves."""

    leaf: bytes
    body: bytes


class Held(NamedTuple):
    """What a store has of a log: `size` leaves, and the newest checkpoint that they reach.

    The note's size is at most `size`; the note is empty where no checkpoint is reached yet.
    """

    size: int
    note: bytes


class LogKeys(NamedTuple):
    """Ed25519 keys of a log, the enrolled one first, and the key records that lead to the rest."""

    publics: tuple[bytes, ...]
    records: tuple[bytes, ...] = ()


NOTHING = Held(0, b"")
NO_KEYS = LogKeys(())


class OriginStore(Protocol):
    """Logs by the origin that their checkpoints name."""

    def get_origins(self) -> Iterable[str]:
        """All that it has something of."""

    def get_keys(self, origin: str) -> LogKeys:
        """Whose signature counts; NO_KEYS where the log is not to be kept."""

    def get_held(self, origin: str) -> Held:
        """What it has; NOTHING where it has nothing."""

    def get_hash(self, origin: str, level: int, number: int) -> bytes:
        """Hash of the complete subtree over leaves [number << level, (number + 1) << level)."""

    def read(self, origin: str, start: int, end: int, bytes_max: int) -> list[Item]:
        """Items from `start` on, before `end`: one, and more while they fit into `bytes_max`."""

    async def append(self, origin: str, start: int, items: Sequence[Item], note: bytes) -> None:
        """Keep items that follow the first `start`, durably; leaves have been verified.

        `note`, where not empty, is the checkpoint that the log reaches by them. PeerError if a
        body is not what its leaf commits to: then nothing of them is kept. StateError if it cannot
        keep them now.
        """

    def keep_fork(self, data: bytes) -> None:
        """Keep evidence that a log has signed two histories (chainlite.fork)."""


def get_reader(store: OriginStore, origin: str) -> Callable[[int, int], bytes]:
    """The `read` of chainlite.merkle for a stored log."""
    return lambda level, number: store.get_hash(origin, level, number)


def compute_root_after(
    start: int, leaf_hashes: Sequence[bytes], read: Callable[[int, int], bytes]
) -> bytes:
    """Root of a log of `start` leaves, whose subtrees `read` gives, and these leaves after it."""
    made: dict[tuple[int, int], bytes] = {}

    def get(level: int, number: int) -> bytes:
        if number + 1 << level <= start:
            return read(level, number)
        if level == 0:
            return leaf_hashes[number - start]
        place = (level, number)
        if place not in made:
            left, right = get(level - 1, 2 * number), get(level - 1, 2 * number + 1)
            made[place] = merkle.compute_node_hash(left, right)
        return made[place]

    return merkle.compute_tree_root(start + len(leaf_hashes), get)
