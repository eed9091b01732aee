"""Which key spoke for a host at which leaf of its log: the enrolled one and those that followed.

A host's id is the hash of the key it was enrolled with and stays. Each later key is a record in
the log, signed by the key before it; from that leaf on it signs, and the one before no more. A
revocation says, by a later key, from which leaf on an earlier one is not to be trusted.
Not here: where private keys lie (docklock.evidence.keyring), and that the records are in the log
(verify, audit). Invariants: numbers and leaf indexes rise without a hole; nothing that the newest
key did not sign is taken. Layouts: README.md of this room.
"""

from __future__ import annotations

from chainlite import domains, hostlog, keys
from chainlite.errors import TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from chainlite.keys import Signer

KEYS_MAX = 4096
"""Rotations of one host that a verifier follows."""


class HostKeyRecord(NamedTuple):
    """Key `number`: it speaks from leaf `first_index` on; from `revoked_from` it is not trusted."""

    number: int
    public: bytes
    first_index: int
    revoked_from: int | None


class HostKeys:
    """The keys of one host, in order. `host` is its id; `number` and `public` are the newest's.

    `last_index` is the leaf of the newest record, -1 before any.
    """

    __slots__ = ("_records", "host", "last_index")

    def __init__(self, enrolled: bytes) -> None:
        """Begin with the enrolled public key, whose id a verifier was told or will tell."""
        self.host = keys.compute_host_id(enrolled)
        self._records = [HostKeyRecord(0, enrolled, 0, None)]
        self.last_index = -1

    @property
    def number(self) -> int:
        """How many keys came before the newest."""
        return len(self._records) - 1

    @property
    def public(self) -> bytes:
        """The newest key: it signs checkpoints and seals."""
        return self._records[-1].public

    @property
    def publics(self) -> tuple[bytes, ...]:
        """All public keys, the enrolled one first: an older checkpoint is by one of them."""
        return tuple([record.public for record in self._records])

    @property
    def records(self) -> tuple[HostKeyRecord, ...]:
        """All keys in order."""
        return tuple(self._records)

    def take(self, leaf: hostlog.Key | hostlog.Revocation) -> None:
        """The next key record of the log; TamperError if it does not follow from those before.

        Whether it is in the log, at the leaf that it names, is the caller's to check.
        """
        leaf_index = leaf.leaf_index
        where = f"the key record at leaf {leaf_index}"
        if leaf.host != self.host or leaf_index <= self.last_index:
            raise TamperError(f"{where} is of another host, or out of order")
        if not _is_signed(leaf, self.public):
            raise TamperError(f"{where} is not signed by the host's key number {self.number}")
        if isinstance(leaf, hostlog.Key):
            self._take_key(leaf, where)
        else:
            self._take_revocation(leaf, where)
        self.last_index = leaf_index

    def get_at(self, leaf_index: int) -> HostKeyRecord:
        """The key that spoke for the host when this leaf was appended."""
        at = [record for record in self._records if record.first_index <= leaf_index]
        return at[-1]

    def is_revoked_at(self, leaf_index: int) -> bool:
        """Whether the key that spoke at this leaf is not to be trusted there."""
        revoked_from = self.get_at(leaf_index).revoked_from
        return revoked_from is not None and revoked_from <= leaf_index

    def find_signer(
        self, tag: bytes, message: bytes, signature: bytes, *, first_index: int
    ) -> HostKeyRecord | None:
        """Which key signed something of no leaf of its own, made after leaf `first_index`."""
        first = self.get_at(first_index).number
        for record in self._records[first:]:
            if keys.is_signed(record.public, tag, message, signature):
                return record
        return None

    def _take_key(self, leaf: hostlog.Key, where: str) -> None:
        leaf_index = leaf.leaf_index
        if leaf.number == 0:
            if leaf_index or self.number or leaf.public != self.public:
                raise TamperError(f"{where} enrols another key")
            return
        if leaf.number != self.number + 1 or len(self._records) >= KEYS_MAX or leaf_index == 0:
            raise TamperError(f"{where} is number {leaf.number}, not {self.number + 1}")
        self._records.append(HostKeyRecord(leaf.number, leaf.public, leaf_index, None))

    def _take_revocation(self, leaf: hostlog.Revocation, where: str) -> None:
        if leaf.by != self.number or leaf.number >= leaf.by or leaf.first_index > leaf.leaf_index:
            raise TamperError(f"{where} revokes a key that it cannot revoke")
        old = self._records[leaf.number]
        known = leaf.first_index if old.revoked_from is None else old.revoked_from
        self._records[leaf.number] = old._replace(revoked_from=min(known, leaf.first_index))


def sign_key(leaf: hostlog.Key, by: Signer) -> hostlog.Key:
    """The record with its signature: by the key before, or by itself for number 0."""
    unsigned = hostlog.encode_key(leaf._replace(signature=b""))
    return leaf._replace(signature=keys.sign(by, domains.SIGN_KEY, unsigned))


def sign_revocation(leaf: hostlog.Revocation, by: Signer) -> hostlog.Revocation:
    """The revocation with its signature by key number `leaf.by`."""
    unsigned = hostlog.encode_revocation(leaf._replace(signature=b""))
    return leaf._replace(signature=keys.sign(by, domains.SIGN_KEY, unsigned))


def _is_signed(leaf: hostlog.Key | hostlog.Revocation, public: bytes) -> bool:
    if isinstance(leaf, hostlog.Key):
        data = hostlog.encode_key(leaf._replace(signature=b""))
    else:
        data = hostlog.encode_revocation(leaf._replace(signature=b""))
    return keys.is_signed(public, domains.SIGN_KEY, data, leaf.signature)
