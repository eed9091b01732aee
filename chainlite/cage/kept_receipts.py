"""A server's own receipts of calls, read from its store beside the workers that write it.

Not here: writing them (store), one call's record (call_record). Invariants: nothing is written, and
no epoch begins; of one epoch the receipts that are kept are numbered without a gap and each names
the one before, so a row that was taken out or changed is told. Calls of the last 50 ms may not be
here yet. Source: README.md, section Call receipt.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from chainlite.cage.call_receipt import (
    CallReceipt,
    SignedReceipt,
    compute_receipt_hash,
    decode_call_receipt,
)
from chainlite.cage.call_record import CallRecord
from chainlite.cage.store import SCHEMA_VERSION, WAIT_S
from chainlite.errors import DocklockError, SpecError, StateError, TamperError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self


class Found(Enum):
    """What a server has of a call that its caller has a record of."""

    SAME = "both sides have the same receipt"
    OTHER = "the server has another receipt with this number: it has signed two"
    GONE = "the server's file had it, and it was taken out: others of its epoch stand around it"
    UNKNOWN = "the server has it no more, or lost it unwritten; the answer that it signed stands"


class KeptCall(NamedTuple):
    """One receipt, read, and the record that its server can hand out."""

    receipt: CallReceipt
    record: CallRecord


class KeptReceipts:
    """A store that is open for reading."""

    def __init__(self, path: Path) -> None:
        """StateError where there is none; SpecError where it is another file."""
        if not path.exists():
            raise StateError(f"{path}: no call has come yet")
        self._path = path
        name = f"file:{quote(str(path))}?mode=ro"
        self._db = sqlite3.connect(name, uri=True, isolation_level=None, timeout=WAIT_S)
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise SpecError(f"{path}: not a cage's store: {error}") from None
        if version != SCHEMA_VERSION:
            self._db.close()
            raise SpecError(f"{path}: schema {version}, not {SCHEMA_VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def list_newest(self, limit: int) -> list[KeptCall]:
        """The newest calls, newest first."""
        rows = self._db.execute(
            "SELECT receipt, base, signature FROM receipts ORDER BY place DESC LIMIT ?", (limit,)
        )
        return [self._read(row) for row in rows]

    def find(self, audit_id: bytes) -> KeptCall | None:
        """The call of an audit id, if it is kept."""
        return next((one for one in self if one.receipt.audit_id == audit_id), None)

    def __iter__(self) -> Iterator[KeptCall]:
        """All that are kept, oldest first."""
        for row in self._db.execute("SELECT receipt, base, signature FROM receipts ORDER BY place"):
            yield self._read(row)

    def find_damage(self) -> str:
        """What of the chains does not hold; empty where all does."""
        last: dict[int, tuple[int, bytes]] = {}
        for _, (_, data, _) in self:
            receipt = decode_call_receipt(data)
            before = last.get(receipt.epoch_ms)
            if before is not None:
                number, previous = before
                if receipt.number != number + 1:
                    return f"epoch {receipt.epoch_ms}: after number {number} comes {receipt.number}"
                if receipt.previous != previous:
                    return f"epoch {receipt.epoch_ms}: number {number} is another than was signed"
            last[receipt.epoch_ms] = receipt.number, compute_receipt_hash(data)
        return ""

    def compare(self, wanted: CallRecord) -> Found:
        """What this server has of a call whose caller brings a record that holds."""
        number, epoch_ms = decode_call_receipt(wanted.receipt)[1::-1]
        numbers = []
        for one in self:
            if one.receipt.epoch_ms != epoch_ms:
                continue
            if one.receipt.number == number:
                return Found.SAME if one.record.receipt == wanted.receipt else Found.OTHER
            numbers.append(one.receipt.number)
        is_between = bool(numbers) and min(numbers) < number < max(numbers)
        return Found.GONE if is_between else Found.UNKNOWN

    def _read(self, row: tuple[bytes, bytes, bytes]) -> KeptCall:
        data, base, signature = row
        try:
            receipt = decode_call_receipt(data)
        except DocklockError as error:
            raise TamperError(f"{self._path}: {error}") from None
        return KeptCall(receipt, CallRecord(SignedReceipt(base, signature), data))
