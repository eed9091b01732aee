"""Logs in memory for tests: leaves, signed checkpoints, proofs, and another history of a log."""

from __future__ import annotations

from chainlite import checkpoint, keys, merkle, note
from tests.chainlite.samples import make_key


class Tree:
    """A log of leaves that a key signs; `fork` gives one that differs from leaf `at` on."""

    def __init__(self, key: keys.KeyPair, leaves: list[bytes]) -> None:
        self.key, self.leaves = key, leaves
        self.origin = checkpoint.get_origin(keys.compute_host_id(key.public))
        self.hashes = [merkle.compute_leaf_hash(leaf) for leaf in leaves]

    @property
    def vkey(self) -> note.VerifierKey:
        return note.VerifierKey(self.origin, self.key.public, note.ED25519)

    @property
    def logs(self) -> dict[str, tuple[note.VerifierKey, ...]]:
        return {self.origin: (self.vkey,)}

    def read(self, level: int, number: int) -> bytes:
        return merkle.compute_root(self.hashes[number << level : (number + 1) << level])

    def root(self, size: int) -> bytes:
        return merkle.compute_root(self.hashes[:size])

    def note(self, size: int) -> bytes:
        state = checkpoint.Checkpoint(self.origin, size, self.root(size))
        return checkpoint.sign_checkpoint(state, self.key)

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        return merkle.compute_consistency(old, new, self.read) if 0 < old < new else ()

    def fork(self, at: int) -> Tree:
        leaves = self.leaves[:at] + [
            b"other %d" % number for number in range(len(self.leaves) - at)
        ]
        return Tree(self.key, leaves)


def make_tree(size: int = 40, number: int = 9) -> Tree:
    return Tree(make_key(number), [b"leaf %d" % index for index in range(size)])
