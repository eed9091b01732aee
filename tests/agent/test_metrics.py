"""/metrics and the little HTTP around it."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.agent.metrics import Counts, LogCounts, format_metrics
from docklock.agent.server import HEAD_BYTES_MAX, Server, bind
from docklock.agent.totals import NAMES, SIZE, Totals
from tests.agent.openmetrics import parse_page

ANSWERS = [0, 7, 2] + [0] * (SIZE - 5) + [1, 3_000_000_000]
NONE = [0] * SIZE
COUNTS = Counts(
    {"running": 2, "stopped": 1},
    adopted=2,
    mends=3,
    is_well=True,
    up_s=1.5,
    histograms={"answers": ANSWERS, "held": NONE, "commits": NONE},
    log=LogCounts(runs=4, receipts=900, gaps=1, leaves=31, size_bytes=4096),
)


def test_the_page_is_openmetrics_with_our_prefix_and_units() -> None:
    page = parse_page(format_metrics(COUNTS))
    assert page["docklock_containers"].get(status="running") == 2
    assert page["docklock_agent_well"].get() == 1
    assert page["docklock_receipts"].get("_total") == 900
    assert page["docklock_gaps"].get("_total") == 1
    assert (page["docklock_log_bytes"].get(), page["docklock_log_bytes"].unit) == (4096, "bytes")
    gate = page["docklock_gate_latency_seconds"]
    assert gate.get("_bucket", answer="at_once", le="1e-05") == 7
    assert gate.get("_bucket", answer="at_once", le="2.5") == 9
    assert gate.get("_count", answer="at_once") == 10
    assert gate.get("_sum", answer="at_once") == 3.0
    assert gate.get("_count", answer="held") == 0


def test_what_cannot_be_read_is_left_out_and_not_zero() -> None:
    page = parse_page(format_metrics(COUNTS._replace(log=None)))
    assert "docklock_receipts" not in page
    assert "docklock_containers" in page


def test_sums_begin_with_the_agent_and_never_fall() -> None:
    totals = Totals()
    one = {name: [1] * SIZE for name in NAMES}
    three = {name: [3] * SIZE for name in NAMES}
    totals.take("old", one)  # it was there before us
    assert totals.sums["held"] == NONE
    totals.take("old", three)
    totals.begin("new")
    totals.take("new", one)
    assert totals.sums["held"] == [3] * SIZE
    totals.forget("new")
    totals.begin("new")  # another guard of that container, which begins with nothing
    totals.take("new", one)
    totals.take("new", {name: [0] * SIZE for name in NAMES})
    assert totals.sums["held"] == [4] * SIZE


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"answers": NONE},
        {name: [1] for name in NAMES},
        {name: ["1"] * SIZE for name in NAMES},
    ],
)
def test_what_another_version_tells_adds_nothing(told: object) -> None:
    totals = Totals()
    totals.begin("id")
    totals.take("id", told)
    assert totals.sums == dict.fromkeys(NAMES, NONE)


def test_forks_and_the_policys_standing_are_told() -> None:
    samples = format_metrics(COUNTS._replace(forks=2, is_policy_met=False)).splitlines()
    assert {"docklock_forks 2", "docklock_witness_policy_met 0"} <= set(samples)
    assert not any(
        line.startswith("docklock_witness_policy") for line in format_metrics(COUNTS).splitlines()
    )


@pytest.fixture
def server() -> Server:
    async def ping() -> tuple[str, str]:
        return "text/plain", "OK"

    return Server({"/_ping": ping})


@pytest.mark.parametrize(
    ("head", "status", "text"),
    [
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n", 200, "OK"),
        (b"GET /_ping?x=1 HTTP/1.0\r\n\r\n", 200, "OK"),
        (b"HEAD /_ping HTTP/1.1\r\n\r\n", 200, ""),
        (b"POST /_ping HTTP/1.1\r\n\r\n", 405, "only GET\n"),
        (b"GET /x HTTP/1.1\r\n\r\n", 404, "page not found\n"),
        (b"hello\r\n\r\n", 400, "bad request\n"),
        (b"GET \xff HTTP/1.1\r\n\r\n", 404, "page not found\n"),
    ],
)
def test_requests_are_answered(server: Server, head: bytes, status: int, text: str) -> None:
    answer = asyncio.run(server.answer(head))
    assert (answer[0], answer[2]) == (status, text)


def test_a_client_that_says_too_much_is_dropped_and_others_are_served(
    server: Server, tmp_path: Path
) -> None:
    path = str(tmp_path / "deep" / "agent.sock")

    async def ask(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        if not data.endswith(b"\r\n\r\n"):
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def run() -> list[bytes]:
        await server.open(bind(path))
        answers = [await ask(b"x" * HEAD_BYTES_MAX * 3), await ask(b"half"), await ask(b"")]
        answers.append(await ask(b"GET /_ping HTTP/1.1\r\n\r\n"))
        server.close()
        return answers

    assert asyncio.run(run())[:3] == [b"", b"", b""]
    assert asyncio.run(run())[3].endswith(b"\r\n\r\nOK")


def test_the_socket_is_for_root_alone_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "agent.sock"  # longer than a socket's address may be
    bind(str(path)).close()
    with bind(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tmp_path / "file"
    other.write_text("kept")
    with pytest.raises(StateError, match="no socket"):
        bind(str(other))
    assert other.read_text() == "kept"
