"""Hosts and containers as readers see them: whole, in parts, and nobody else's; met quotas."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chainlite.bpci import asking, fleet
from chainlite.bpci.actor import Role
from chainlite.bpci.alerting import list_excesses
from chainlite.bpci.quota import DAY_MS
from chainlite.cage.client import Caller
from chainlite.errors import SpecError
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_data
from tests.bpci.callers import Served, make_caller
from tests.bpci.joined import join
from tests.bpci.test_app import serve
from tests.bpci.test_quota import limit
from tests.bpci.test_reading import get
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


async def list_all(served: Served, caller: Caller, target: str) -> list[dict[str, Any]]:
    """All parts of a list."""
    found, cursor, name = list[dict[str, Any]](), "", target.rpartition("/")[2].partition("?")[0]
    join = "&" if "?" in target else "?"
    while True:
        answer = await get(served, caller, target + (f"{join}cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer.body
        said = json.loads(answer.body)
        found += said[name]
        cursor = said["cursor"]
        if not cursor:
            return found


def test_hosts_and_containers_are_listed_whole_in_parts(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, rival = (get_paths(str(tmp_path / name)) for name in ("other", "rival"))
    for number in (3, 4, 5):
        record(other, make_id(number), count=number, app=f"app{number}")
    record(rival, make_id(7), app="secret")

    async def do(served: Served) -> None:
        host, second = served.server.enrol(paths), served.server.enrol(other)
        served.server.enrol(rival, "rival")
        for each in (paths, other, rival):
            await served.post(make_caller(each), make_data(each))
        reader = await join(served, 1, Role.READER)
        for most in (1, 2, 256):
            monkeypatch.setattr(fleet, "HOSTS_MAX", most)
            monkeypatch.setattr(fleet, "CONTAINERS_MAX", most)
            hosts = await list_all(served, reader, "/v1/hosts")
            assert [one["host"] for one in hosts] == sorted((host.hex(), second.hex()))
            found = {one["host"]: one for one in hosts}
            assert found[host.hex()]["size"] == str(get_size(paths))
            assert (found[host.hex()]["receipts"], found[host.hex()]["alerts"]) == ("16", 0)
            assert int(found[host.hex()]["newest_ns"]) > 0
            rows = await list_all(served, reader, "/v1/containers")
            assert [(one["host"], one["container"]) for one in rows] == sorted(
                [(host.hex(), make_id(number)) for number in (1, 2)]
                + [(second.hex(), make_id(number)) for number in (3, 4, 5)]
            )
            mine = await list_all(served, reader, f"/v1/containers?host={second.hex()}")
            assert [(one["app"], one["receipts"], one["state"]) for one in mine] == [
                (f"app{number}", str(number), "closed") for number in (3, 4, 5)
            ]
            assert [one["run"] for one in mine] == [0, 0, 0]
        assert await list_all(served, reader, f"/v1/containers?host={make_id(9)}") == []
        answer = json.loads((await get(served, reader, "/v1/hosts")).body)
        assert answer["role"] == "reader"
        for target in ("/v1/hosts?cursor=x", "/v1/containers?cursor=x", "/v1/hosts?limit=1"):
            assert (await get(served, reader, target)).status == 400
        for target in ("/v1/hosts", "/v1/containers"):
            assert (await get(served, make_caller(paths), target)).status == 403
            assert (await served.get(target)).status == 401

    serve(tmp_path, do)


def test_a_container_is_searched_from_any_receipt_on(paths: Paths, tmp_path: Path) -> None:
    container = make_id(6)
    record(paths, container, count=2_100)
    record(paths, container, count=5, run=1)

    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        reader = await join(served, 1, Role.READER)
        for run, first in ((0, 0), (0, 1), (0, 1023), (0, 1024), (0, 2_098), (0, 9_999), (1, 3)):
            query = f"host={host.hex()}&container={container}&run={run}&first={first}&limit=3"
            said = json.loads((await get(served, reader, f"/v1/search?{query}")).body)
            told = [(one["receipt"]["run"], int(one["index"])) for one in said["receipts"]]
            wanted = [(0, index) for index in range(2_100)] + [(1, index) for index in range(5)]
            assert told == [one for one in wanted if one >= (run, first)][:3]
            if said["cursor"]:
                more = f"/v1/search?{query}&cursor={said['cursor']}"
                [after, *_] = json.loads((await get(served, reader, more)).body)["receipts"]
                assert wanted.index((after["receipt"]["run"], int(after["index"]))) == (
                    wanted.index(told[-1]) + 1
                )
        assert (await get(served, reader, "/v1/search?run=1")).status == 400

    serve(tmp_path, do)


def test_a_quota_that_was_met_is_an_alert_for_two_days(paths: Paths, tmp_path: Path) -> None:
    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            host = served.server.enrol(paths)
            limit(served.server, receipts_per_day=1)
            answer = await served.post(make_caller(paths), make_data(paths))
            assert answer.status == 429
            reader = await join(served, 1, Role.READER)
            [alert] = await list_all(served, reader, "/v1/alerts")
            assert (alert["kind"], alert["host"]) == ("quota", host.hex())
            assert "receipts_per_day" in alert["why"] and alert["proof"] is None
            mine = await list_all(served, reader, f"/v1/alerts?host={host.hex()}")
            assert mine == [alert]
            assert await list_all(served, reader, f"/v1/alerts?host={make_id(9)}") == []
            rival = await join(served, 2, Role.READER, "rival")
            assert await list_all(served, rival, "/v1/alerts") == []
            excesses, now_ms = served.server.intake.access.excesses, int(alert["time_ms"])
            told = [
                len(list_excesses(excesses, "acme", b"", now_ms + days * DAY_MS))
                for days in range(3)
            ]
            assert told == [1, 1, 0]

    asyncio.run(run())


def test_a_cursor_of_containers_has_one_spelling() -> None:
    host, container = make_id(1), make_id(2)
    place = asking.parse_container_cursor(f"{host}.{container}")
    assert (place.host.hex(), place.container.hex()) == (host, container)
    assert asking.parse_container_cursor("") == (b"", b"")
    for bad in (
        host,
        f"{host}.",
        f".{container}",
        f"{host}.{container}.",
        f"{host}.{container[:-1]}G",
    ):
        with pytest.raises(SpecError):
            asking.parse_container_cursor(bad)
