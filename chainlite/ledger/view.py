"""A fork of the state that one block is executed on: it reads through and keeps its own changes.

Not here: the rules (rules, votes, notarised_rules), who commits it (state). Invariants: the state
below never changes while a view is on it; what a transaction changed before it was refused is
undone, so a block has whole transactions only.
"""

from __future__ import annotations

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import records
from chainlite.ledger.genesis import Parameters

if TYPE_CHECKING:
    from typing import TypeVar

    from chainlite.ledger.records import Record, Validators

    Kind = TypeVar("Kind")


class Refused(StateError):
    """A transaction does not apply, and why. `later`: it may yet; `known`: it waits here."""

    def __init__(self, why: str, *, later: bool = False, known: bool = False) -> None:
        super().__init__(why)
        self.later, self.known = later, known


class View:
    """The state that the block at `height` sees; `changes` are its rows, None where one goes."""

    __slots__ = ("_rows", "_undo", "chain_id", "changes", "height", "timestamp_ms")

    def __init__(
        self, rows: dict[bytes, Record], chain_id: bytes, height: int, timestamp_ms: int
    ) -> None:
        self._rows = rows
        self._undo: list[tuple[bytes, bool, Record | None]] = []
        self.changes: dict[bytes, Record | None] = {}
        self.chain_id = chain_id
        self.height = height
        self.timestamp_ms = timestamp_ms

    def find(self, key: bytes, kind: type[Kind]) -> Kind | None:
        """The row at a key, which is of this kind, or None."""
        record = self.changes[key] if key in self.changes else self._rows.get(key)
        assert record is None or isinstance(record, kind)
        return record

    def get(self, key: bytes, kind: type[Kind]) -> Kind:
        """The row at a key that every state has."""
        record = self.find(key, kind)
        assert record is not None
        return record

    def get_before(self, key: bytes, kind: type[Kind]) -> Kind:
        """The row at a key that every state has, as it was before this block."""
        record = self._rows[key]
        assert isinstance(record, kind)
        return record

    def put(self, key: bytes, record: Record | None) -> None:
        """Set a row, or take it out."""
        changes = self.changes
        self._undo.append((key, key in changes, changes.get(key)))
        changes[key] = record

    def keep(self) -> None:
        """The changes since the last `keep` stand."""
        self._undo.clear()

    def undo(self) -> None:
        """Take back the changes since the last `keep`."""
        for key, was_changed, record in reversed(self._undo):
            if was_changed:
                self.changes[key] = record
            else:
                del self.changes[key]
        self._undo.clear()

    @property
    def validators(self) -> Validators:
        """V(h) as `current`, V(h + 1) as `next`."""
        return self.get(records.VALIDATORS_KEY, records.Validators)

    @property
    def parameters(self) -> Parameters:
        """The parameters that hold in this block."""
        return self.get(records.PARAMETERS_KEY, Parameters)

    @property
    def archives(self) -> tuple[bytes, ...]:
        """The keys of all archives."""
        return tuple([member.public for member in self.get(records.ARCHIVES_KEY, tuple)])
