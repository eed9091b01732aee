"""The validators of one height: who they are, how many must agree, whose turn it is.

Not here: how a set changes (chainlite.ledger), what validators sign (messages). Invariants: keys
ascend and are distinct, so a set has one encoding and one hash; every quorum of n shares an honest
validator with every other while at most f = floor((n - 1) / 3) lie.
Source: EEA QBFT v1, "Validators"; Consensys qbft-formal-spec-and-verification,
node_auxiliary_functions.dfy (f, quorum, proposer).
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from chainlite import domains
from chainlite.codec import Reader
from chainlite.errors import SpecError
from chainlite.keys import PUBLIC_BYTES
from chainlite.lean import TYPE_CHECKING
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

VALIDATORS_MAX = 128
NO_PROPOSER = bytes(PUBLIC_BYTES)
"""Who proposed the genesis block: nobody. The first in order is next after it."""


class ValidatorSet:
    """Distinct Ed25519 public keys in ascending order, 1 to VALIDATORS_MAX. Immutable."""

    __slots__ = ("_places", "digest", "keys", "quorum", "size", "weak_quorum")

    def __init__(self, keys: Iterable[bytes]) -> None:
        """SpecError for a key of another length, one that comes twice, none, or too many."""
        ordered = tuple(sorted(keys))
        if not 1 <= len(ordered) <= VALIDATORS_MAX:
            raise SpecError(f"a validator set has 1 to {VALIDATORS_MAX} keys, not {len(ordered)}")
        if len(set(ordered)) != len(ordered):
            raise SpecError("a validator set names a key twice")
        if any(len(key) != PUBLIC_BYTES for key in ordered):
            raise SpecError(f"a validator's key has {PUBLIC_BYTES} bytes")
        self.keys = ordered
        self.size = len(ordered)
        self.quorum = compute_quorum(self.size)
        self.weak_quorum = compute_faults(self.size) + 1
        """So many that one of them is honest: f + 1."""
        self.digest = sha256(domains.VALIDATOR_SET + self.encode()).digest()
        self._places = {key: place for place, key in enumerate(ordered)}

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidatorSet) and other.keys == self.keys

    def __hash__(self) -> int:
        return hash(self.digest)

    def get_place(self, key: bytes) -> int:
        """Where the key stands in the set, from 0; KeyError if it does not."""
        return self._places[key]

    def get_proposer(self, previous: bytes, round: int) -> bytes:
        """Who proposes in a round: next after the previous block's proposer, plus the round."""
        return self.keys[(bisect_right(self.keys, previous) + round) % self.size]

    def encode(self) -> bytes:
        """u16 count and the keys, ascending."""
        return self.size.to_bytes(2, "big") + b"".join(self.keys)

    def encode_bitmap(self, keys: Iterable[bytes]) -> bytes:
        """One bit for each validator, the first in order lowest in the first byte."""
        bits = 0
        for key in keys:
            bits |= 1 << self._places[key]
        return bits.to_bytes((self.size + 7) // 8, "little")

    def decode_bitmap(self, bitmap: bytes) -> tuple[bytes, ...]:
        """The keys whose bits are set, in order; SpecError for another size or a bit too many."""
        bits = int.from_bytes(bitmap, "little")
        if len(bitmap) != (self.size + 7) // 8 or bits >> self.size:
            raise SpecError(f"a bitmap over {self.size} validators has another size")
        return tuple(key for place, key in enumerate(self.keys) if bits >> place & 1)


def compute_faults(size: int) -> int:
    """How many of so many validators may do anything at all: f."""
    return (size - 1) // 3


def compute_quorum(size: int) -> int:
    """How many of so many validators make a quorum: ceil(2n / 3)."""
    return (2 * size + 2) // 3


def read_validators(reader: Reader) -> ValidatorSet:
    """A set as `encode` writes it; SpecError for keys that do not ascend."""
    keys = [reader.read_fixed(PUBLIC_BYTES) for _ in range(reader.read_u16(limit=VALIDATORS_MAX))]
    if any(not low < high for low, high in pairwise(keys)):
        reader.refuse("keys do not ascend")
    if not keys:
        reader.refuse("a set without validators")
    return ValidatorSet(keys)
