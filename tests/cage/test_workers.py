"""Several workers of one server: one store, two processes, real sockets."""

from __future__ import annotations

import http.client
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from chainlite.cage.client import Caller, Prepared
from chainlite.cage.kept_receipts import KeptReceipts
from chainlite.cage.prices import Tariff
from chainlite.cage.store import GROUP_MAX, CageStore
from tests.cage.callers import ALICE, BOB, BOOT, SERVER, URL

pytest.importorskip("uvicorn", reason="the extra `server` is not installed")

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 20
PLENTY, NOTHING = 10**12, 1
"""A tariff's capacity, and what comes back in a second."""
NONCES = (f"a-nonce-{number:012}" for number in itertools.count())


class Worker:
    """One process."""

    def __init__(self, directory: Path, capacity_m: int = PLENTY) -> None:
        words = [str(directory), str(capacity_m), str(NOTHING)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cage.serving_worker", *words],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def send(self, prepared: Prepared) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        method, fields = prepared.request.method, dict(prepared.fields)
        connection.request(method, prepared.target, prepared.body or None, fields)
        reply = connection.getresponse()
        said = reply.status, reply.getheaders(), reply.read()
        connection.close()
        return said

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    with Worker(tmp_path) as one, Worker(tmp_path) as two:
        yield one, two


ALICES = Caller(ALICE, "alice-1", SERVER.public, "server-1")
BOBS = Caller(BOB, "bob-1", SERVER.public, "server-1")


def prepare(caller: Caller = ALICES) -> Prepared:
    """A call that costs 1 credit, signed now."""
    target, now_s = f"{URL}/v1/blocks/7", int(time.time())
    return caller.prepare("GET", target, b"", {}, created_s=now_s, nonce=next(NONCES))


def refuse(status: int = 403) -> Prepared:
    """A call that the application answers with this status."""
    fields = {"x-status": str(status)}
    url, now_s = f"{URL}/v1/echo", int(time.time())
    return ALICES.prepare("POST", url, b"", fields, created_s=now_s, nonce=next(NONCES))


def test_a_replay_at_the_other_worker_is_refused(pair: tuple[Worker, Worker]) -> None:
    one, two = pair
    for _ in range(10):
        prepared = prepare()
        assert one.send(prepared)[0] == 200
        for worker in (two, one):
            status, fields, body = worker.send(prepared)
            assert (status, b"replayed" in body) == (401, True)
            assert "signature" not in dict(fields)
        one, two = two, one


def test_of_one_call_to_both_at_once_one_is_let_through(
    pair: tuple[Worker, Worker], full: bool
) -> None:
    with ThreadPoolExecutor(2) as both:
        for number in range(500 if full else 40):
            prepared = prepare(BOBS)
            order = pair[:: 1 if number % 2 else -1]
            said = list(both.map(lambda worker, sent: worker.send(sent), order, (prepared,) * 2))
            assert sorted(status for status, _, _ in said) == [200, 401]


def test_a_replay_after_one_was_killed_is_refused(
    tmp_path: Path, pair: tuple[Worker, Worker], seed: int
) -> None:
    one, two = pair
    sent = [prepare() for _ in range(random.Random(seed).randint(3, 20))]
    assert {one.send(prepared)[0] for prepared in sent} == {200}
    one.stop(signal.SIGKILL)
    assert {two.send(prepared)[0] for prepared in sent} == {401}
    with Worker(tmp_path) as again:
        assert {again.send(prepared)[0] for prepared in sent} == {401}


def test_an_actor_that_changes_workers_pays_from_one_account(tmp_path: Path) -> None:
    """No worker gives more than what waits to be written, and no start gives anything back."""
    capacity = 60
    with Worker(tmp_path, capacity * 1000) as one, Worker(tmp_path, capacity * 1000) as two:
        statuses = list[int]()
        while 429 not in statuses:
            statuses.append((one, two)[len(statuses) % 2].send(prepare())[0])
        assert capacity <= statuses.count(200) <= 2 * capacity < GROUP_MAX
        settle(tmp_path, len(statuses))
        assert {worker.send(prepare())[0] for worker in (one, two)} == {429}
    with Worker(tmp_path, capacity * 1000) as again:
        assert again.send(prepare())[0] == 429


def settle(directory: Path, count: int) -> None:
    """Until so many calls are written."""
    deadline = time.monotonic() + WAIT_S
    with KeptReceipts(directory / "cage.db") as kept:
        while len(list(kept)) < count:
            assert time.monotonic() < deadline, "it never was"
            time.sleep(0.01)


def test_abuse_at_one_worker_is_dear_at_the_other_and_after_a_start(
    tmp_path: Path, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    for _ in range(8):
        assert one.send(refuse())[0] == 403
    settle(tmp_path, 8)
    prepared = prepare()
    assert ALICES.check(prepared, *two.send(prepared)).receipt.cost_m == 2000
    one.stop()
    two.stop(signal.SIGKILL)
    with Worker(tmp_path) as again:
        prepared = prepare()
        assert ALICES.check(prepared, *again.send(prepared)).receipt.cost_m == 2000


def test_workers_number_their_receipts_apart_and_lose_none(
    tmp_path: Path, pair: tuple[Worker, Worker]
) -> None:
    for number in range(20):
        assert pair[number % 2].send(prepare())[0] == 200
    for worker in pair:
        worker.stop()
    with KeptReceipts(tmp_path / "cage.db") as kept:
        assert kept.find_damage() == ""
        found = [one.receipt for one in kept]
    epochs = {one.epoch_ms for one in found}
    assert len(found) == 20 and len(epochs) == 2
    for epoch_ms in epochs:
        assert [one.number for one in found if one.epoch_ms == epoch_ms] == list(range(1, 11))


def test_a_kill_forgets_no_more_than_a_group_of_payments(tmp_path: Path) -> None:
    """Credits and a server's own copies of receipts may go; a nonce never does."""
    tariff = Tariff(10**9, 1, 0)
    now_ms = time.time_ns() // 1_000_000
    with Worker(tmp_path, 10**9) as one:
        sent = [prepare() for _ in range(GROUP_MAX + 10)]
        assert {one.send(prepared)[0] for prepared in sent} == {200}
        one.stop(signal.SIGKILL)
    with CageStore(tmp_path / "cage.db", boot_id=BOOT, now_ms=now_ms, tariff=tariff) as store:
        account = store.get_account("alice")
        assert account is not None
        paid = (10**9 - account.balance_m) // 1000
        assert len(sent) - GROUP_MAX <= paid <= len(sent)
        assert store.count_nonces() == len(sent)
