"""The store: one nonce once, whichever worker, kill, boot or clock."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chainlite.cage import nonces
from chainlite.cage import store as store_module
from chainlite.cage.call_receipt import compute_receipt_hash
from chainlite.cage.prices import Change, Tariff
from chainlite.cage.refusal import Refusal
from chainlite.cage.signature import AGE_MAX_S, AHEAD_MAX_S
from chainlite.cage.store import GROUP_MAX, CageStore, Place
from chainlite.errors import SpecError
from tests.cage.callers import BOOT, NOW_S
from tests.cage.killed_store import make_signed

NOW_MS = NOW_S * 1000
PLENTY = Tariff(capacity_m=10**12)


def open_store(directory: Path, *, boot: str = BOOT, now_ms: int = NOW_MS) -> CageStore:
    return CageStore(directory / "cage.db", boot_id=boot, now_ms=now_ms, tariff=PLENTY)


def get_reason(store: CageStore, nonce: str, created_s: int = NOW_S, now_ms: int = NOW_MS) -> str:
    try:
        store.admit(make_signed(nonce, created_s), 1, now_ms)
    except Refusal as refusal:
        return refusal.reason
    return "admitted"


def get_spans(directory: Path) -> list[Path]:
    return sorted((directory / "cage.db-nonces").iterdir())


def test_a_nonce_is_let_through_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, open_store(tmp_path) as worker:
        assert get_reason(store, "n1") == "admitted"
        assert [get_reason(one, "n1") for one in (store, worker)] == ["replayed"] * 2
        assert get_reason(worker, "n2") == "admitted"
        assert get_reason(store, "n2") == "replayed"
    with open_store(tmp_path) as store:
        assert [get_reason(store, nonce) for nonce in ("n1", "n2")] == ["replayed"] * 2


def test_the_nonces_of_two_keys_are_apart(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert get_reason(store, "n1") == "admitted"
        other = make_signed("n1", NOW_S)._replace(keyid="bob-1")
        assert store.admit(other, 1, NOW_MS).retry_after_s == 0


@contextmanager
def start_worker(directory: Path) -> Iterator[subprocess.Popen[str]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.cage.killed_store", directory / "cage.db", BOOT, str(NOW_S)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    try:
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def ask(worker: subprocess.Popen[str], nonce: str) -> str:
    assert worker.stdin and worker.stdout
    worker.stdin.write(f"{nonce}\n")
    worker.stdin.flush()
    return worker.stdout.readline().strip()


def test_of_two_processes_at_once_one_lets_a_nonce_through(tmp_path: Path, full: bool) -> None:
    nonces = [f"nonce-{number}" for number in range(5_000 if full else 300)]
    with (
        start_worker(tmp_path) as one,
        start_worker(tmp_path) as two,
        ThreadPoolExecutor(2) as both,
    ):
        answers = [
            list(both.map(ask, (one, two)[:: 1 if number % 2 else -1], (nonce, nonce)))
            for number, nonce in enumerate(nonces)
        ]
    assert all(sorted(pair) == ["admitted", "replayed"] for pair in answers)


def test_a_kill_at_any_moment_forgets_no_nonce(tmp_path: Path, seed: int, full: bool) -> None:
    choose, said = random.Random(seed), []
    for round_number in range(100 if full else 8):
        with start_worker(tmp_path) as worker:
            for number in range(choose.randrange(40)):
                nonce = f"nonce-{round_number}-{number}"
                assert ask(worker, nonce) == "admitted"
                said.append(nonce)
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
    with open_store(tmp_path) as store:
        assert {get_reason(store, nonce) for nonce in said} == {"replayed"}


def test_after_a_boot_nothing_from_before_it_is_let_through(tmp_path: Path) -> None:
    """A power cut may lose the last commits: here the file loses all of them."""
    with open_store(tmp_path) as store:
        assert get_reason(store, "n1", NOW_S + AHEAD_MAX_S) == "admitted"
    for path in get_spans(tmp_path):
        path.write_bytes(b"\xff" * 1000)
    later_ms = NOW_MS + 1000
    with open_store(tmp_path, boot="boot-2", now_ms=later_ms) as store:
        assert store.count_nonces() == 0, "what a power cut left is nobody's word"
        assert get_reason(store, "n1", NOW_S + AHEAD_MAX_S, later_ms) == "replayed"
        fresh_s = NOW_S + 1 + AHEAD_MAX_S + 1
        assert get_reason(store, "n2", fresh_s - 1, later_ms) == "replayed"
        assert get_reason(store, "n2", fresh_s, fresh_s * 1000) == "admitted"
    with open_store(tmp_path, boot="boot-2") as store:  # the same boot: only the nonces count
        assert get_reason(store, "n2", fresh_s, fresh_s * 1000) == "replayed"
        assert get_reason(store, "n3", fresh_s, fresh_s * 1000) == "admitted"


def test_nonces_are_dropped_when_their_time_is_over_and_no_clock_brings_them_back(
    tmp_path: Path,
) -> None:
    with open_store(tmp_path) as store:
        for number in range(100):
            assert get_reason(store, f"n{number}") == "admitted"
        on_time_ms = NOW_MS + AGE_MAX_S * 1000
        assert get_reason(store, "n0", NOW_S, on_time_ms) == "replayed"
        late_s = NOW_S + AGE_MAX_S + nonces.SPAN_S
        assert get_reason(store, "later", late_s, late_s * 1000) == "admitted"
        assert store.count_nonces() == 1
        assert get_reason(store, "n0", NOW_S, NOW_MS) == "replayed"
    with open_store(tmp_path) as store:
        assert get_reason(store, "n0", NOW_S, NOW_MS) == "replayed"


def test_a_clock_that_was_an_hour_ahead_leaves_no_hour_of_refusals(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert get_reason(store, "n1") == "admitted"
        hour_s = NOW_S + 3600
        assert get_reason(store, "ahead", hour_s, hour_s * 1000) == "admitted"
        assert get_reason(store, "n1") == "replayed", "the clock is right again"
        assert get_reason(store, "n2", NOW_S + 1) == "admitted"
        assert get_reason(store, "n2", NOW_S + 1) == "replayed"
        assert get_reason(store, "ahead", hour_s, hour_s * 1000) == "replayed"


def test_a_full_file_refuses_and_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonces, "SPAN_BYTES_MAX", 500 * nonces.ENTRY_BYTES + 7)
    with open_store(tmp_path) as store, open_store(tmp_path) as worker:
        said = []
        for number in range(5_000):
            reason = get_reason(store, f"n{number}")
            if reason != "admitted":
                break
            said.append(f"n{number}")
        assert (reason, len(said)) == ("store", 500)
        assert {get_reason(worker, nonce) for nonce in said} == {"replayed"}
        assert get_reason(worker, "new") == "store"
        late_s = NOW_S + nonces.SPAN_S  # there is room again
        assert get_reason(store, "later", late_s, late_s * 1000) == "admitted"
    assert max(path.stat().st_size for path in get_spans(tmp_path)) == 500 * nonces.ENTRY_BYTES


def test_accounts_and_receipts_that_find_no_room_stop_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FILE_BYTES_MAX", 24 * store_module.PAGE_BYTES)
    monkeypatch.setattr(store_module, "WAITING_MAX", 3 * GROUP_MAX)
    with open_store(tmp_path) as store:
        for number in range(5_000):
            if get_reason(store, f"n{number}") != "admitted":
                break
            signed = make_signed(f"n{number}", NOW_S)
            store.add_receipt(signed, lambda _: bytes(1000))
            if store.is_due():
                with suppress(Refusal):
                    store.write()
        assert number < 2_000
        assert get_reason(store, "one more") == "store"
        store._waiting.clear()
    assert (tmp_path / "cage.db").stat().st_size <= 24 * store_module.PAGE_BYTES


def test_a_span_that_another_worker_let_go_is_not_written_to(tmp_path: Path) -> None:
    """That worker's clock was ahead for a while; this one has the file open still."""
    with open_store(tmp_path) as store, open_store(tmp_path) as worker:
        assert get_reason(store, "n1", NOW_S + 2) == "admitted"
        hour_s = NOW_S + 3600
        assert get_reason(worker, "ahead", hour_s, hour_s * 1000) == "admitted"
        assert [path.name for path in get_spans(tmp_path)] == [f"{hour_s // nonces.SPAN_S:016x}"]
        assert get_reason(store, "n1", NOW_S + 2) == "replayed"
        assert get_reason(store, "n2", NOW_S + 2) == "replayed", "from below the floor"
        assert get_reason(store, "n2", NOW_S + 3) == "admitted"
        assert get_reason(worker, "n2", NOW_S + 3) == "replayed"


def test_a_part_of_an_entry_is_nobodys(tmp_path: Path) -> None:
    """A disk that was full, and a kill before the part was taken back."""
    with open_store(tmp_path) as store, open_store(tmp_path) as worker:
        assert get_reason(store, "n1") == "admitted"
        [path] = get_spans(tmp_path)
        with path.open("ab") as file:
            file.write(b"part of one")
        for one in (worker, store):
            assert get_reason(one, "n1") == "replayed"
        assert get_reason(worker, "n2") == "admitted"
        assert get_reason(store, "n2") == "replayed"
        assert path.stat().st_size == 2 * nonces.ENTRY_BYTES


def test_a_full_disk_lets_nothing_through_and_passes(tmp_path: Path) -> None:
    """A write that the kernel takes in part: RLIMIT_FSIZE stands for the disk's end."""
    limit = 3 * nonces.ENTRY_BYTES + 5
    with open_store(tmp_path) as store:
        assert get_reason(store, "n0") == "admitted"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            reasons = [get_reason(store, f"n{number}") for number in range(1, 6)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, old)
        assert reasons == ["admitted", "admitted", "store", "store", "store"]
        assert get_reason(store, "n3") == "admitted", "it was not let through before"
        [path] = get_spans(tmp_path)
        assert path.stat().st_size == 4 * nonces.ENTRY_BYTES


def test_a_worker_that_was_stopped_with_the_lock_keeps_calls_out_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonces, "WAIT_S", 0.05)
    with open_store(tmp_path) as store:
        assert get_reason(store, "n1") == "admitted"
        [path] = get_spans(tmp_path)
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert get_reason(store, "n2") == "store"
        assert get_reason(store, "n2") == "admitted"


def test_a_clock_that_leaps_holds_few_files(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.admit(make_signed("n1", NOW_S), 1, NOW_MS)
        for number in range(3 * nonces.SPANS_OPEN_MAX):
            created_s = NOW_S + number * nonces.SPAN_S
            assert get_reason(store, "x", created_s, NOW_MS) == "admitted"
        assert len(store._nonces._spans) <= nonces.SPANS_OPEN_MAX
        assert get_reason(store, "n1", NOW_S, NOW_MS) == "replayed"


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cage.db") as db:
        for statement in store_module._SCHEMA:
            db.execute(statement)
        db.execute("CREATE TABLE seen (created INTEGER NOT NULL, name BLOB NOT NULL)")
        db.execute("INSERT INTO seen VALUES (?, x'00')", (NOW_S + 3,))
        db.execute("INSERT INTO meta VALUES (0, ?, 0, 0)", (BOOT,))
        db.execute("PRAGMA user_version = 1")
    db.close()
    with open_store(tmp_path) as store:
        assert get_reason(store, "n1", NOW_S + 3) == "replayed"
        assert get_reason(store, "n1", NOW_S + 4) == "admitted"


def settle(store: CageStore, nonce: str, actor: str = "alice") -> bytes:
    """One good call of 1,000."""
    signed = make_signed(nonce, NOW_S, actor)
    charged = store.admit(signed, 1000, NOW_MS)
    store.settle(actor, Change(NOW_MS, 0, charged.price_m, 0))
    return store.add_receipt(signed, lambda place: repr(place).encode())


def test_receipts_are_a_chain_and_each_opening_begins_an_epoch(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first, second = settle(store, "n1"), settle(store, "n2")
    assert first == repr(Place(NOW_MS, 1, bytes(32))).encode()
    assert second == repr(Place(NOW_MS, 2, compute_receipt_hash(first))).encode()
    with open_store(tmp_path) as store:  # within the same millisecond
        third = settle(store, "n3")
        store.write()
        assert [kept.receipt for kept in store.list_receipts()] == [first, second, third]
        assert {kept[1:] for kept in store.list_receipts()} == {(b"base", b"signature")}
    assert third == repr(Place(NOW_MS + 1, 1, compute_receipt_hash(second))).encode()


def test_the_newest_receipts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "cage.db"
    with CageStore(path, boot_id=BOOT, now_ms=NOW_MS, receipts_kept=10) as store:
        all_of_them = [settle(store, f"n{number}") for number in range(2 * GROUP_MAX)]
        store.write()
        assert [kept.receipt for kept in store.list_receipts()] == all_of_them[-10:]


def test_a_group_is_written_whole_or_waits_whole(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        settle(store, "n1")
        with sqlite3.connect(tmp_path / "cage.db") as db:
            db.execute("ALTER TABLE receipts RENAME TO elsewhere")
        with pytest.raises(Refusal, match="no such table"):
            store.write()
        assert store.get_account("alice") is None
        with db:
            db.execute("ALTER TABLE elsewhere RENAME TO receipts")
        db.close()
        store.write()
        assert store.get_account("alice") is not None
        assert len(list(store.list_receipts())) == 1


def test_accounts_of_two_workers_are_one_in_the_file(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path) as two:
        for number in range(10):
            settle(one, f"one-{number}")
            settle(two, f"two-{number}")
        one.write()
        two.write()
        account = one.get_account("alice")
        assert account is not None
        assert PLENTY.capacity_m - account.balance_m == 20 * 500
        settle(one, "n")
        one.write()
        assert one.get_account("alice") == two.get_account("alice")


def test_a_call_that_never_ends_stays_paid_for(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.admit(make_signed("n1", NOW_S), 1000, NOW_MS)
        store.write()
        account = store.get_account("alice")
        assert account and account.balance_m == PLENTY.capacity_m - 1000


def test_accounts_are_bounded_and_those_that_are_as_new_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "ACCOUNTS_MAX", 5)
    with CageStore(tmp_path / "cage.db", boot_id=BOOT, now_ms=NOW_MS) as store:
        for number in range(5):
            settle(store, f"n{number}", f"actor-{number}")
        with pytest.raises(Refusal, match="too many accounts"):
            settle(store, "n6", "actor-6")
        store.write()
        with pytest.raises(Refusal, match="too many accounts"):
            settle(store, "n7", "actor-7")
        signed = make_signed("n8", NOW_S + 30, "actor-8")
        assert store.admit(signed, 1000, NOW_MS + 30_000).retry_after_s == 0


def test_a_file_of_another_program_is_not_taken(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cage.db") as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(SpecError, match="schema 7"):
        open_store(tmp_path)
