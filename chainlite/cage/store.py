"""cage.db: actors' accounts, the newest receipts, and beside it the nonces that were let through.

Shared by all workers of a server; each has the files open. A nonce is written by itself (nonces)
before its call is let through; accounts and receipts follow in groups, at most GROUP_MAX calls
later. Not here: what a call costs (prices), what a receipt says (call_receipt), when a group is due
(middleware). Invariants: a nonce stays until its time is over, so kill -9 of any worker at any
moment forgets none. What a machine that lost its power may have forgotten (nothing here is synced
for each call) is refused by time: after a boot nothing is let through that was signed before it. A
clock that goes back opens nothing: what was signed before nonces were dropped stays refused. No two
receipts have one epoch and number, since each opening begins an epoch. What is stored is bounded,
and when it is full, calls are refused. Source: sqlite.org/wal.html; README.md, section Replay.
"""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage import prices
from chainlite.cage.call_receipt import compute_receipt_hash
from chainlite.cage.nonces import NAME_BYTES, Nonces
from chainlite.cage.prices import Account, Change, Charged, Tariff
from chainlite.cage.refusal import Refusal, unsigned
from chainlite.cage.signature import AGE_MAX_S, AHEAD_MAX_S
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from chainlite.cage.signature import Signed

SCHEMA_VERSION = 2
WITH_NONCES = 1
"""The version whose nonces lay in a table here."""
PAGE_BYTES = 4096
FILE_BYTES_MAX = 256 * 1024 * 1024
ACCOUNTS_MAX = 65_536
RECEIPTS_KEPT = 10_000
GROUP_MAX = 128
"""Calls whose accounts and receipts are written together."""
WAITING_MAX = 1024
"""Calls that wait to be written because the file takes none: then no more are let through."""
WAIT_S = 2.0
"""For another worker's transaction."""
RETRY_AFTER_S = 5
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_SCHEMA = (
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT NOT NULL,"
    " floor INTEGER NOT NULL, epoch INTEGER NOT NULL)",
    "CREATE TABLE accounts (actor TEXT PRIMARY KEY, balance INTEGER NOT NULL,"
    " at INTEGER NOT NULL, level INTEGER NOT NULL, strikes INTEGER NOT NULL,"
    " good INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE receipts (place INTEGER PRIMARY KEY, receipt BLOB NOT NULL,"
    " base BLOB NOT NULL, signature BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_RAISE_FLOOR = "UPDATE meta SET floor = max(floor, ?)"
_FROM_FIRST = (
    "UPDATE meta SET floor = max(floor, ifnull((SELECT max(created) + 1 FROM seen), 0))",
    "DROP TABLE seen",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_DROP_RECEIPTS = "DELETE FROM receipts WHERE place <= (SELECT max(place) FROM receipts) - ?"


class Place(NamedTuple):
    """Where in a server's chain the next receipt is: its epoch, its number, the hash before it."""

    epoch_ms: int
    number: int
    previous: bytes


class Kept(NamedTuple):
    """A receipt, and what proves that the actor asked: its request's signature base, signature."""

    receipt: bytes
    base: bytes
    signature: bytes


class CageStore:
    """One worker's open file."""

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str,
        now_ms: int,
        tariff: Tariff | None = None,
        receipts_kept: int = RECEIPTS_KEPT,
    ) -> None:
        """Open it or make it; SpecError where it has another schema."""
        self.path = path
        self.tariff = tariff or Tariff()
        self._receipts_kept = receipts_kept
        self._dropped_s = 0
        self._accounts: dict[str, Account] = {}
        self._events: dict[str, list[Change]] = {}
        self._waiting: list[tuple[bytes, bytes, bytes]] = []
        self._count = 0
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=WAIT_S, check_same_thread=False
        )
        self._transaction = _Transaction(self._db)
        self._nonces = Nonces(f"{path}-nonces", self._read_floor, self._raise_floor)
        try:
            self._place = self._set_up(boot_id, now_ms)
        except BaseException:
            self._db.close()
            raise

    def _set_up(self, boot_id: str, now_ms: int) -> Place:
        """Durably: the place where this opening's epoch begins."""
        db = self._db
        os.chmod(self.path, 0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA max_page_count = {FILE_BYTES_MAX // PAGE_BYTES}")
        db.execute("PRAGMA synchronous = FULL")
        with self._transaction:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES (0, ?, 0, 0)", (boot_id,))
            elif version == WITH_NONCES:
                for statement in _FROM_FIRST:
                    db.execute(statement)
            elif version != SCHEMA_VERSION:
                raise SpecError(f"{self.path}: schema {version}, not {SCHEMA_VERSION}")
            floor_s = now_ms // 1000 + AHEAD_MAX_S + 1
            is_booted = db.execute(
                "UPDATE meta SET boot = ?1, floor = max(floor, ?2) WHERE boot <> ?1",
                (boot_id, floor_s),
            ).rowcount
            if is_booted:
                self._nonces.clear()
            db.execute("UPDATE meta SET epoch = max(epoch + 1, ?)", (now_ms,))
            epoch_ms = db.execute("SELECT epoch FROM meta").fetchone()[0]
            last = db.execute("SELECT receipt FROM receipts ORDER BY place DESC LIMIT 1").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        return Place(epoch_ms, 1, compute_receipt_hash(last[0]) if last else bytes(32))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits and close the file."""
        try:
            self.write()
        finally:
            self._nonces.close()
            self._db.close()

    def admit(self, signed: Signed, cost_m: int, now_ms: int) -> Charged:
        """Take a verified request's nonce for ever and its price; it may be let through now.

        Refusal where the nonce is not new (401) or the file takes no more (503). A call that its
        actor cannot pay is not refused here: `retry_after_s` says so, and its nonce is taken.
        """
        name = sha256(f"{signed.keyid}\0{signed.nonce}".encode()).digest()[:NAME_BYTES]
        actor = signed.actor
        try:
            if self._count >= WAITING_MAX:
                self.write()
            if now_ms // 1000 > self._dropped_s:
                self._drop_old(now_ms // 1000)
            account = self._accounts.get(actor) or self._open_account(actor, now_ms)
            if not self._nonces.add(signed.created_s, name):
                raise unsigned("replayed", "this request came before, or may have: sign anew")
        except (sqlite3.Error, OSError) as error:
            raise _refuse(error) from None
        charged = prices.charge(account, self.tariff, cost_m, now_ms)
        self._count += 1
        if charged.retry_after_s:
            self._note(actor, charged.account, Change(now_ms, 0, 0, 1))
        else:
            self._note(actor, charged.account, Change(now_ms, charged.price_m, 0, 0))
        return charged

    def settle(self, actor: str, event: Change) -> Account:
        """What became of a call that was let through."""
        account = self._accounts.get(actor) or self._read_account(actor, event.at_ms)
        account = prices.apply(account, self.tariff, event)
        self._note(actor, account, event)
        return account

    def add_receipt(self, signed: Signed, make: Callable[[Place], bytes]) -> bytes:
        """Make the next receipt of the chain; it is written with its group."""
        epoch_ms, number, _ = self._place
        receipt = make(self._place)
        self._place = Place(epoch_ms, number + 1, compute_receipt_hash(receipt))
        self._waiting.append((receipt, signed.base, signed.signature))
        return receipt

    def is_due(self) -> bool:
        """Whether a whole group waits."""
        return self._count >= GROUP_MAX

    def is_waiting(self) -> bool:
        """Whether anything waits."""
        return self._count > 0

    def write(self) -> None:
        """Write the group that waits; Refusal where the file takes none: then it waits on."""
        try:
            with self._transaction:
                for actor, events in self._events.items():
                    account = self._read_account(actor, events[0].at_ms)
                    for event in events:
                        account = prices.apply(account, self.tariff, event)
                    row = (actor, *account)
                    self._db.execute("REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?)", row)
                self._db.executemany("INSERT INTO receipts VALUES (NULL, ?, ?, ?)", self._waiting)
                self._db.execute(_DROP_RECEIPTS, (self._receipts_kept,))
        except sqlite3.Error as error:
            raise _refuse(error) from None
        self._accounts.clear()
        self._events.clear()
        self._waiting.clear()
        self._count = 0

    def get_account(self, actor: str) -> Account | None:
        """An actor's account as it was last written, by whichever worker."""
        row = self._db.execute(
            "SELECT balance, at, level, strikes, good FROM accounts WHERE actor = ?", (actor,)
        ).fetchone()
        return Account(*row) if row else None

    def list_receipts(self) -> Iterator[Kept]:
        """The receipts that were written and are kept, oldest first."""
        for row in self._db.execute("SELECT receipt, base, signature FROM receipts ORDER BY place"):
            yield Kept(*row)

    def count_nonces(self) -> int:
        """How many nonces are held."""
        return self._nonces.count()

    def _note(self, actor: str, account: Account, event: Change) -> None:
        self._accounts[actor] = account
        self._events.setdefault(actor, []).append(event)

    def _read_account(self, actor: str, now_ms: int) -> Account:
        return self.get_account(actor) or prices.open_account(self.tariff, now_ms)

    def _open_account(self, actor: str, now_ms: int) -> Account:
        """As `_read_account`; where there are too many, those that are as new make room."""
        found = self.get_account(actor)
        if found is not None:
            return found
        count = self._db.execute("SELECT count(*) FROM accounts").fetchone()[0]
        if count + len(self._events) >= ACCOUNTS_MAX:
            dropped = self._db.execute(
                "DELETE FROM accounts WHERE level = 0 AND strikes = 0"
                " AND balance + max(0, ? - at) / 1000 * ? >= ?",
                (now_ms, self.tariff.refill_m_per_s, self.tariff.capacity_m),
            )
            if dropped.rowcount == 0:
                raise Refusal(503, "too-many", "too many accounts", retry_after_s=RETRY_AFTER_S)
        return prices.open_account(self.tariff, now_ms)

    def _drop_old(self, now_s: int) -> None:
        """Once a second: drop the nonces of requests that are too old by now.

        The floor is what was dropped, not the time: a clock that was an hour ahead for a while
        leaves no hour in which all is refused.
        """
        self._dropped_s = now_s
        self._nonces.drop(now_s - AGE_MAX_S)

    def _read_floor(self) -> int:
        return int(self._db.execute("SELECT floor FROM meta").fetchone()[0])

    def _raise_floor(self, floor_s: int) -> None:
        with self._transaction:
            self._db.execute(_RAISE_FLOOR, (floor_s,))


class _Transaction:
    """For `with`: all of it or nothing; no other worker writes meanwhile."""

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def read_boot_id() -> str:
    """Which boot of the kernel this is."""
    return BOOT_ID.read_text("ascii").strip()


def _refuse(error: Exception) -> Refusal:
    """Nothing is let through that cannot be written down."""
    return Refusal(503, "store", f"the cage's store: {error}", retry_after_s=RETRY_AFTER_S)
