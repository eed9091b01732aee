"""What is above a quota is refused whole, said once a day, and taken when there is room."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from chainlite import hostlog
from chainlite.bpci import app, ingest, quota
from chainlite.bpci.actor import Role
from chainlite.bpci.batch import encode_batch
from chainlite.bpci.intake import EXCEEDED, REFUSED, TAKEN, Answer
from chainlite.bpci.listing import show_quota
from chainlite.bpci.orders import SetQuota
from chainlite.bpci.quota import DAY_MS, UNLIMITED, Quota
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.callers import Served, make_caller
from tests.bpci.joined import join, make_grant, make_office, post_open
from tests.bpci.servers import NOW_MS, Server
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, spoil_body
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def limit(server: Server, tenant: str = "acme", **values: int) -> None:
    make_office(server).set_quota(SetQuota(tenant, values), NOW_MS)


def test_the_smallest_of_each_counts_and_the_first_that_is_met_is_named(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        one, other, used, more = (Quota(*[rng.randrange(6) for _ in range(3)]) for _ in range(4))
        least = quota.get_least(one, other)
        assert all(a == min(b, c) for a, b, c in zip(least, one, other, strict=True))
        found = quota.find_exceeded(least, used, more)
        over = [n for n in range(3) if more[n] and used[n] + more[n] > least[n]]
        assert found == (over[0] if over else -1)
    assert quota.find_exceeded(Quota(), Quota(*[2**60] * 3), Quota(*[2**60] * 3)) == -1


def test_the_wait_is_until_the_next_day_in_utc() -> None:
    for left_ms, wait_s in ((1, 1), (1000, 1), (1001, 2), (DAY_MS, 24 * 3600)):
        assert quota.compute_wait_s(20 * DAY_MS - left_ms) == wait_s
    assert quota.get_day(20 * DAY_MS - 1) == 19


def test_nothing_of_a_batch_above_the_days_quota_is_kept(paths: Paths, tmp_path: Path) -> None:
    size = get_size(paths)
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        limit(server, receipts_per_day=11)  # of runs with 4 and 7; then one with 5
        before = server.store.find_host(host)
        answer = server.sync(paths, host)
        assert (answer.kind, answer.which, answer.receipts) == (EXCEEDED, quota.RECEIPTS, 0)
        assert "receipts per day is 11" in answer.why and "16 more" in answer.why
        assert server.store.find_host(host) == before and server.store.find_log()[0] == 1
        assert server.store.read_leaves(host, 0, 9) == []
        taken = 0
        while (answer := server.sync(paths, host, server.get_size(host) + 1)).kind == TAKEN:
            taken += answer.receipts
        assert answer.kind == EXCEEDED and taken == 11
        assert server.get_size(host) < size and server.audit() == []
    # the day is remembered, and another one begins
    with Server(tmp_path / "server", NOW_MS + 1) as server:
        assert server.intake.tally.get_used("acme", NOW_MS).receipts_per_day == taken
        assert server.sync(paths, host).kind == EXCEEDED
    with Server(tmp_path / "server", NOW_MS - DAY_MS) as server:
        assert server.sync(paths, host).kind == EXCEEDED, "a clock that is put back"
    with Server(tmp_path / "server", NOW_MS + DAY_MS) as server:
        assert server.intake.tally.get_used("acme", NOW_MS + DAY_MS).receipts_per_day == 0
        assert server.sync(paths, host).kind == TAKEN
        assert server.intake.tally.get_used("acme", NOW_MS + DAY_MS).receipts_per_day == 5
        assert server.audit() == []


def test_one_tenants_quota_is_no_others_and_hosts_of_one_share_it(tmp_path: Path) -> None:
    hosts = []
    for number in range(3):
        paths = get_paths(str(tmp_path / f"host-{number}"))
        record(paths, make_id(number + 1), count=6)
        hosts.append(paths)
    with Server(tmp_path / "server") as server:
        names = [server.enrol(one, "other" if n == 2 else "acme") for n, one in enumerate(hosts)]
        limit(server, receipts_per_day=9)
        kinds = [server.sync(one, name).kind for one, name in zip(hosts, names, strict=True)]
        assert kinds == [TAKEN, EXCEEDED, TAKEN]
        limit(server, receipts_per_day=UNLIMITED)
        assert server.sync(hosts[1], names[1]).kind == TAKEN
        assert server.audit() == []


def test_batches_of_one_commit_are_counted_one_after_the_other(
    paths: Paths, tmp_path: Path
) -> None:
    with Server(tmp_path / "server") as server:
        host, size = server.enrol(paths), get_size(paths)
        limit(server, receipts_per_day=10)
        answers = server.take(host, *[make_data(paths, n, n + 1) for n in range(size)])
        kept = sum(one.receipts for one in answers)
        kinds = {one.kind for one in answers}
        assert EXCEEDED in kinds and 0 < kept <= 10
        row = server.store.find_host(host)
        assert row is not None and row.receipts == kept
        days = list(server.intake.access.excesses.values())
        assert len(days) == 1 and server.audit() == []


def test_stored_bytes_are_those_of_leaves_and_boxes(paths: Paths, tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        row = server.store.find_host(host)
        leaves = server.store.read_leaves(host, 0, 999)
        boxes = server.store.read_segments(host, 0, 999)
        stored = sum(len(one.data) for one in leaves) + sum(len(one.box) for one in boxes)
        assert row is not None and row.stored_bytes == stored
        assert server.intake.tally.get("acme") == (1, 16, stored)
        limit(server, bytes=stored)
        record(paths, make_id(9), count=5)
        answer = server.sync(paths, host)
        assert (answer.kind, answer.which) == (EXCEEDED, quota.BYTES)
        assert server.get_size(host) == len(leaves)
        limit(server, bytes=2 * stored)
        assert server.sync(paths, host).kind == TAKEN
    edit(tmp_path / "server", "UPDATE hosts SET stored_bytes = 1")
    with Server(tmp_path / "server") as server:
        (damage,) = server.audit()
        assert damage.table == "hosts" and "bytes are stored, not 1" in damage.why


def test_a_forged_batch_raises_its_alert_though_the_quota_is_used_up(
    paths: Paths, tmp_path: Path
) -> None:
    batch = make_batch(paths)
    number = find_kind(batch, hostlog.Segment)[-1]
    items = list(batch.items)
    items[number] = spoil_body(items[number])
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        limit(server, receipts_per_day=1)
        answer = server.take(host, encode_batch(batch._replace(items=tuple(items))))[0]
        assert (answer.kind, answer.alert, answer.receipts) == (REFUSED, "receipt", 0)
        assert server.get_size(host) == 0 and server.audit() == []


def test_a_tenant_has_no_more_hosts_than_it_may(tmp_path: Path) -> None:
    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            limit(served.server, hosts=2)
            for number, status in ((1, 200), (2, 200), (3, 403), (1, 200), (3, 403)):
                reply = await post_open(served, "/v1/enrol", make_grant(number, Role.HOST))
                assert reply.status == status, number
            assert json.loads(reply.body)["title"] == "quota"
            other = make_grant(3, Role.HOST, "other")
            assert (await post_open(served, "/v1/enrol", other)).status == 200
            assert len(served.server.store.read_hosts(b"", 9)) == 3

    asyncio.run(run())


def test_a_host_is_told_when_to_come_again_and_the_admin_that_it_was_too_much(
    paths: Paths, tmp_path: Path
) -> None:
    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            host, admin = served.server.enrol(paths), await join(served, 1, Role.ADMIN)
            limit(served.server, receipts_per_day=1)
            for _ in range(3):
                answer = await served.post(make_caller(paths), make_data(paths))
            problem, wait_s = json.loads(answer.body), int(answer.fields["retry-after"])
            assert (answer.status, problem["status"], problem["title"]) == (429, 429, "quota")
            left_s = min(quota.compute_wait_s(app.get_now_ms()), ingest.FULL_AFTER_S)
            assert left_s <= wait_s <= left_s + 60
            limit(served.server, receipts_per_day=UNLIMITED, bytes=1)
            answer = await served.post(make_caller(paths), make_data(paths))
            assert (answer.status, json.loads(answer.body)["title"]) == (507, "quota")
            assert answer.fields["retry-after"] == str(ingest.FULL_AFTER_S)
            shown = json.loads((await served.call(admin, "GET", "/v1/quota")).body)
            assert [(one["quota"], one["host"]) for one in shown["alerts"]] == [
                ("receipts_per_day", host.hex()), ("bytes", host.hex()),
            ]  # fmt: skip
            assert served.server.audit() == []

    asyncio.run(run())


def test_a_refusal_of_what_is_too_much_says_when() -> None:
    for which, left_s, status, wait_s in (
        (quota.RECEIPTS, 5, 429, 5), (quota.RECEIPTS, 3601, 429, 3600),
        (quota.BYTES, 5, 507, 3600),
    ):  # fmt: skip
        answer = Answer(EXCEEDED, why="much", which=which)
        refusal = ingest.make_quota_refusal(answer, 20 * DAY_MS - 1000 * left_s)
        assert (refusal.status, refusal.retry_after_s) == (status, wait_s)


def test_what_a_tenant_has_is_counted_again_after_a_commit_that_failed(
    paths: Paths, tmp_path: Path
) -> None:
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        has = server.intake.tally.get("acme")
        server.store._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(Exception, match="full"):
            server.sync(paths, host)
        assert server.intake.tally.get("acme") == has
        now = show_quota("acme", server.intake.access, server.intake.tally, NOW_MS)
        assert now["alerts"] == []
