"""Over HTTP: auditors get ranges that prove themselves, readers find receipts, nobody another's."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from chainlite.bpci import exporting, reading, searching
from chainlite.bpci.actor import Role
from chainlite.bpci.batch import encode_batch
from chainlite.cage.client import Answer, Caller
from chainlite.cage.refusal import Refusal
from chainlite.exported import read_parts
from chainlite.fork import check_fork
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.callers import Served, make_caller
from tests.bpci.exports import TENANT, check, trust
from tests.bpci.joined import join
from tests.bpci.servers import KEY
from tests.bpci.test_app import serve
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, hostlog, spoil_body
from tests.evidence.recording import make_id, record
from tests.ledger.offered import make_host

FIRST, SECOND = make_id(1), make_id(2)
ODD = (
    "' OR 1=1 --", '";DROP TABLE segments;--', "x'00'", "..", "../../etc/passwd", "%2e%2e%2f", "\0",
    "a\0b", "%00", "*", "%", "_", "ä" * 300, "\u202e", "{app}", "0x41", "-1", "1e3", "9" * 30, "+1",
    "\u0661", " 1", "1 ", "NaN", "null", "[]", "a" * 64, "F" * 64, FIRST + "0",
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


async def get(served: Served, caller: Caller, target: str) -> Answer:
    return await served.call(caller, "GET", target)


async def fetch(served: Served, caller: Caller, target: str) -> bytes:
    """All parts of a range."""
    data, cursor = b"", ""
    join = "&" if "?" in target else "?"
    while True:
        answer = await get(served, caller, target + (f"{join}cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer.body
        data += answer.body
        cursor = answer.fields.get(reading.NEXT, "")
        if not cursor:
            return data


async def search(served: Served, caller: Caller, query: str) -> list[dict[str, Any]]:
    """All receipts that a search finds, however many calls it takes."""
    found, cursor = list[dict[str, Any]](), ""
    while True:
        answer = await get(served, caller, f"/v1/search?{query}{cursor}")
        assert answer.status == 200, answer.body
        said = json.loads(answer.body)
        assert said["proven"] is False and not said["damaged"]
        found += said["receipts"]
        if not said["cursor"]:
            return found
        cursor = f"&cursor={said['cursor']}"


def test_an_auditor_gets_a_range_that_proves_itself(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.write_part, "__defaults__", (1,))

    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        auditor = await join(served, 1, Role.AUDITOR)
        for app, wanted in ((FIRST, "9"), (SECOND, "7"), ("web", "16")):
            found, code = check(await fetch(served, auditor, f"/v1/audit/{app}/range"), trust(host))
            assert (code, found["receipts"], found["missing"]) == (0, wanted, [])
            assert found["parts"] > 1 or app == SECOND
        target = f"/v1/audit/{FIRST}/range?run=0&first=1&last=2&host={host.hex()}"
        data = await fetch(served, auditor, target)
        found, code = check(data, trust(host))
        [run] = found["hosts"][0]["runs"]
        assert (run["first"], run["end"], run["state"], code) == ("1", "3", "goes on", 0)
        data = await fetch(served, auditor, "/v1/export")
        assert check(data, trust(host))[0]["receipts"] == "16"
        data = await fetch(served, auditor, "/v1/export?app=db")
        assert check(data, trust(host))[0]["receipts"] == "0"

    serve(tmp_path, do)


def test_roles_see_what_is_theirs(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        callers = {
            role: await join(served, number, role)
            for number, role in enumerate((Role.READER, Role.AUDITOR, Role.ADMIN), 1)
        }
        callers[Role.HOST] = make_caller(paths)
        for target, least in (
            (f"/v1/audit/{FIRST}/range", Role.AUDITOR), ("/v1/export", Role.AUDITOR),
            ("/v1/search", Role.READER), ("/v1/search?path=/x", Role.AUDITOR),
            ("/v1/alerts", Role.READER), (f"/v1/alerts/{FIRST}/fork/1/proof", Role.AUDITOR),
        ):  # fmt: skip
            for role, caller in callers.items():
                may = list(Role).index(role) >= list(Role).index(least)
                status = (await get(served, caller, target)).status
                assert status in ((200, 404) if may else (403,)), (target, role, status)
            reply = await served.get(target)
            assert reply.status == 401
        told = await search(served, callers[Role.READER], "syscall=execve")
        assert told and all("values" not in one for one in told)
        assert b"/tmp/" not in (await get(served, callers[Role.READER], "/v1/search")).body
        told = await search(served, callers[Role.AUDITOR], "syscall=execve")
        assert any(one["values"] for one in told)

    serve(tmp_path, do)


def test_another_tenants_is_as_if_it_were_not_there(paths: Paths, tmp_path: Path) -> None:
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(7), count=3, app="secret")

    async def do(served: Served) -> None:
        host, rival = served.server.enrol(paths), served.server.enrol(other, "rival")
        await served.post(make_caller(paths), make_data(paths))
        await served.post(make_caller(other), make_data(other))
        auditor = await join(served, 1, Role.ADMIN)
        for app in (make_id(7), "secret", make_id(8), "nothing"):
            answer = await get(served, auditor, f"/v1/audit/{app}/range")
            assert answer.status == 404 and b"secret" not in answer.body
        for query in (f"host={rival.hex()}", f"container={make_id(7)}"):
            assert await search(served, auditor, query) == []
        data = await fetch(served, auditor, f"/v1/export?host={rival.hex()}")
        assert check(data, trust(host))[0]["hosts"] == []
        answer = await get(served, auditor, f"/v1/alerts?host={rival.hex()}&lag_s=1")
        assert json.loads(answer.body)["alerts"] == []
        cursor = f"{rival.hex()}.0.0.0"
        assert await search(served, auditor, f"host={rival.hex()}&cursor={cursor}") == []
        assert {one["host"] for one in await search(served, auditor, "limit=3")} == {host.hex()}

    serve(tmp_path, do)


def test_odd_queries_are_refused_or_find_nothing(paths: Paths, tmp_path: Path) -> None:
    names = sorted(reading.asking.RANGE_NAMES | reading.asking.SEARCH_NAMES | {"lag_s", "app", "x"})

    async def do(served: Served) -> None:
        served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        members = [await join(served, number, Role.AUDITOR) for number in range(1, 30)]
        for number, odd in enumerate(ODD):
            auditor, text = members[number % len(members)], quote(odd, safe="")
            for target in (
                f"/v1/audit/{text}/range", f"/v1/alerts/{text}/fork/1/proof",
                f"/v1/alerts/{FIRST}/{text}/1/proof", f"/v1/alerts/{FIRST}/fork/{text}/proof",
                *[f"/v1/search?{name}={text}" for name in names],
                *[f"/v1/audit/web/range?{name}={text}" for name in names[number % 3 :: 3]],
                *[f"/v1/alerts?{name}={text}" for name in names[number % 4 :: 4]],
                f"/v1/search?{text}", f"/v1/search?host={FIRST}&host={FIRST}",
            ):  # fmt: skip
                try:
                    answer = await get(served, auditor, target)
                except Refusal as error:
                    assert error.status in (400, 401, 404, 414, 429), (target, error)
                    continue
                assert answer.status in (200, 400, 404, 429), (target, answer.body)
                if answer.status == 200 and target.startswith("/v1/search") and "x" not in target:
                    shown = json.loads(answer.body)["receipts"]
                    assert shown == [] or "limit=" in target or odd in ("*",), target
        assert served.server.audit() == []

    serve(tmp_path, do)


def test_a_search_finds_all_and_each_has_the_address_of_its_proof(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        auditor = await join(served, 1, Role.AUDITOR)
        whole = await search(served, auditor, "limit=1000")
        assert len(whole) == 16
        for rows, opened, limit in ((1, 1, 1), (3, 2, 4), (16, 16, 2)):
            monkeypatch.setattr(searching, "ROWS_MAX", rows)
            monkeypatch.setattr(searching, "OPENED_MAX", opened)
            monkeypatch.setattr(searching, "STEP", 2)
            assert (
                await search(served, await join(served, 9, Role.AUDITOR), f"limit={limit}") == whole
            )
        monkeypatch.undo()
        connects = [one for one in whole if one["receipt"]["op"] == "syscall.connect"]
        seconds = [one for one in whole if one["receipt"]["container"] == SECOND]
        for query, wanted in (
            ("syscall=connect", connects),
            ("syscall=syscall.connect", connects),
            (f"container={SECOND}", seconds),
            (f"host={host.hex()}&syscall=connect&limit=1", connects),
            ("path=/tmp/1", [one for one in whole if one["values"].get("path") == "/tmp/1"]),
            ("path=/tmp/*", [one for one in whole
                             if (one["values"].get("path") or "").startswith("/tmp/")]),
            ("syscall=nothing", []), ("path=/tmp", []), (f"container={make_id(9)}", []),
            (f"from={whole[3]['receipt']['time']}&to={whole[5]['receipt']['time']}", whole[3:6]),
            ("from=2100-01-01T00:00:00Z", []), ("to=2000-01-01T00:00:00%2B02:00", []),
        ):  # fmt: skip
            found = await search(served, auditor, query)
            assert sorted(map(str, found)) == sorted(map(str, wanted)), query
            assert len(wanted) < 16
        for one in whole[::5]:
            data = await fetch(served, auditor, one["range"])
            assert one["proven"] is False
            [part] = read_parts(io.BytesIO(data).read)[0]
            [run] = part.hosts[0].runs
            index = int(one["index"])
            assert run.begin <= index < run.run.event_count
            assert run.run.genesis.container.hex() == one["receipt"]["container"]

    serve(tmp_path, do)


def test_a_changed_row_is_never_shown_as_good(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        auditor = await join(served, 1, Role.AUDITOR)
        [row] = served.reader.find_segments(host, bytes.fromhex(FIRST), 0, 2, 1)
        edit(tmp_path / "server", "UPDATE segments SET box = zeroblob(99)"
             f" WHERE leaf_index = {row.leaf_index}")  # fmt: skip
        answer = await get(served, auditor, f"/v1/audit/{FIRST}/range")
        assert answer.status == 503 and answer.fields["retry-after"]
        said = json.loads(answer.body)["detail"]
        assert f"segment at leaf {row.leaf_index}" in said and "does not open" in said
        assert host.hex()[:16] in said
        assert (await get(served, auditor, f"/v1/audit/{SECOND}/range")).status == 200
        found = json.loads((await get(served, auditor, "/v1/search")).body)
        assert len(found["receipts"]) == 15
        [damaged] = found["damaged"]
        assert damaged["leaf_index"] == str(row.leaf_index)

    serve(tmp_path, do)


def test_alerts_come_with_the_file_that_convicts(paths: Paths, tmp_path: Path) -> None:
    shutil.copytree(paths.state, tmp_path / "forked")
    forked = paths._replace(state=str(tmp_path / "forked"))
    record(paths, make_id(5), count=2)
    record(forked, make_id(6), count=2)
    record(forked, make_id(7), count=2)
    whole = make_batch(paths)
    number = find_kind(whole, hostlog.Segment)[-1]
    items = list(whole.items)
    items[number] = spoil_body(items[number])

    async def do(served: Served) -> None:
        host, caller = served.server.enrol(paths), make_caller(paths)
        await served.post(caller, encode_batch(whole._replace(items=tuple(items))))
        await served.post(caller, make_data(paths, number))
        assert (await served.post(caller, make_data(forked, 0))).status == 422
        auditor = await join(served, 1, Role.AUDITOR)
        said = json.loads((await get(served, auditor, "/v1/alerts?lag_s=1000000")).body)
        assert said["cursor"] is None
        found = {one["kind"]: one for one in said["alerts"]}
        assert set(found) == {"receipt", "fork"}
        assert found["receipt"]["leaf_index"] == str(number) and found["receipt"]["proof"] is None
        assert found["receipt"]["first"] is not None
        proof = await get(served, auditor, found["fork"]["proof"])
        assert proof.status == 200 and check_fork(proof.body).host == host.hex()
        target = f"/v1/alerts/{host.hex()}/receipt/{number}/proof"
        assert (await get(served, auditor, target)).status == 404
        rival = await join(served, 2, Role.AUDITOR, "rival")
        assert (await get(served, rival, found["fork"]["proof"])).status == 404
        edit(tmp_path / "server", "UPDATE alerts SET box = zeroblob(80)")
        assert (await get(served, auditor, "/v1/alerts")).status == 503

    serve(tmp_path, do)


def test_silence_is_reckoned_when_it_is_asked_for(paths: Paths, tmp_path: Path) -> None:
    idle = get_paths(str(tmp_path / "idle"))
    record(idle, make_id(1), count=1)

    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        served.server.enrol(idle)  # never heard of
        await served.post(make_caller(paths), make_data(paths))
        reader = await join(served, 1, Role.READER)
        assert json.loads((await get(served, reader, "/v1/alerts")).body)["alerts"] == []
        now_ms = time.time_ns() // 10**6
        found, after = reading.alerting.list_alerts(
            served.auditors, KEY, TENANT, b"", b"", 3600, now_ms + 7200_000
        )
        assert [(one["kind"], one["host"]) for one in found] == [("lag", host.hex())]
        assert after == b"" and "of its runs are open" in found[0]["why"]

    serve(tmp_path, do)


def test_who_waits_to_read_is_bounded(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAITING_MAX", 2)

    async def do(served: Served) -> None:
        served.server.enrol(paths)
        auditor = await join(served, 1, Role.AUDITOR)
        release = threading.Event()
        held = [asyncio.ensure_future(served.room.do(lambda _: release.wait())) for _ in range(2)]
        await asyncio.sleep(0)
        answer = await get(served, auditor, "/v1/search")
        assert (answer.status, answer.fields["retry-after"]) == (429, "2")
        release.set()
        await asyncio.gather(*held)
        assert (await get(served, auditor, "/v1/search")).status == 200
        assert served.room.waiting == 0

    serve(tmp_path, do)
