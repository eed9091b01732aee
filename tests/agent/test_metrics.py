"""/metrics and the little HTTP around it."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.agent.metrics import Counts, format_metrics
from docklock.agent.server import HEAD_BYTES_MAX, Server, bind

COUNTS = Counts({"running": 2, "stopped": 1}, adopted=2, mends=3, is_well=True, up_s=1.5)
SAMPLE = re.compile(r'docklock_[a-z_]+(\{[a-z]+="[^"\\]*"\})? [0-9.]+')


def test_every_sample_has_help_and_type_and_the_prefix() -> None:
    lines = format_metrics(COUNTS).splitlines()
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.fullmatch(line) for line in samples), samples
    assert {re.split("[ {]", line)[0] for line in samples} == described
    assert 'docklock_containers{status="running"} 2' in samples
    assert "docklock_agent_well 1" in samples


def test_forks_and_the_policys_standing_are_told() -> None:
    samples = format_metrics(COUNTS._replace(forks=2, is_policy_met=False)).splitlines()
    assert {"docklock_forks 2", "docklock_witness_policy_met 0"} <= set(samples)
    assert not any(
        line.startswith("docklock_witness_policy") for line in format_metrics(COUNTS).splitlines()
    )


@pytest.fixture
def server() -> Server:
    return Server({"/_ping": lambda: ("text/plain", "OK")})


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
    answer = server.answer(head)
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
