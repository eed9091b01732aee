"""How far servers are, by real passes over a real log to a server of the test's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from docklock.agent import config_file
from docklock.console import host_sync
from docklock.console.facts import SyncFacts
from docklock.console.host_alerts import HostAlerts
from docklock.console.host_sync import HostSync
from docklock.paths import Paths
from tests.evidence.recording import make_id, make_paths, record
from tests.outbox.sends import make_synced, run_pass, write_config
from tests.outbox.servers import TIME_MS, Books, BooksServer
from tests.outbox.test_checking import claim_other_root


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "FILE_DEFAULT", "/nowhere/agent.toml")
    monkeypatch.setattr(host_sync, "MEASURE_EVERY_S", 0.0)


def read(paths: Paths, config: str | None = None) -> SyncFacts:
    return HostSync(paths, config).read_sync()


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    shown = read(make_paths(tmp_path))
    assert shown.servers == () and "[[server]]" in shown.trouble


def test_a_file_that_cannot_be_read_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[[server]]\n")
    assert "url" in read(make_paths(tmp_path), str(tmp_path / "agent.toml")).trouble


def test_it_grows_with_what_is_acknowledged_and_tells_what_lacks(tmp_path: Path) -> None:
    with BooksServer(Books()) as server:
        paths = make_synced(tmp_path, server)
        sync = HostSync(paths, write_config(tmp_path / "agent.toml", server))
        shown = sync.read_sync()
        [one] = shown.servers
        assert (one.name, one.url, one.state) == (server.name, server.url, "well")
        assert one.acknowledged == one.log_size > 0
        assert (one.lag_leaves, one.lag_bytes, one.lag_s, one.trouble) == (0, 0, 0, "")
        [acknowledged] = shown.acknowledgements
        assert acknowledged == (server.name, one.log_size, TIME_MS, len(server.books.leaves))
        record(paths, make_id(9), count=40)
        [behind] = sync.read_sync().servers
        assert behind.lag_leaves == behind.log_size - behind.acknowledged > 0
        assert behind.lag_bytes > 0 and 0 < behind.lag_s < 60
        assert run_pass(paths, server).error is None
        [again] = sync.read_sync().servers
        assert again.acknowledged == again.log_size == behind.log_size
        sizes = [each.size for each in sync.read_sync().acknowledgements]
        assert max(sizes) == again.log_size
        assert HostAlerts(paths, str(tmp_path / "agent.toml")).read_alerts() == ()


def test_a_server_that_is_away_is_tried_again_and_told(tmp_path: Path) -> None:
    with BooksServer(Books()) as server:
        paths = make_synced(tmp_path, server)
        config = write_config(tmp_path / "agent.toml", server)
    record(paths, make_id(9))
    for _ in range(3):
        assert run_pass(paths, server).error is not None
    [one] = read(paths, config).servers
    assert (one.state, one.failures) == ("away", 3)
    assert one.trouble and one.next_try_ms > time.time() * 1000 - 1000
    [alert] = HostAlerts(paths, config).read_alerts()
    assert (alert.kind, alert.level, alert.subject) == ("lag", "warning", server.name)
    assert "3 tries failed" in alert.why and "docklock sync now" in alert.advice
    assert alert.since_ns == one.acknowledged_ms * 10**6


def test_a_server_that_contradicts_itself_is_critical(tmp_path: Path) -> None:
    with BooksServer(Books()) as server:
        paths = make_synced(tmp_path, server)
        config = write_config(tmp_path / "agent.toml", server)
        record(paths, make_id(9))

        def lie(request: object) -> tuple[int, bytes, dict[str, str]]:
            [host] = server.books.hosts
            return 200, claim_other_root(server, server.books.get_held(host)), {}

        server.act = lie  # type: ignore[assignment]
        assert run_pass(paths, server).error is not None
    [one] = read(paths, config).servers
    assert one.state == "contradicted" and one.contradictions == 1
    alerts = HostAlerts(paths, config).read_alerts()
    assert (alerts[0].kind, alerts[0].level) == ("contradicted", "critical")
    assert "1 of its answers are kept" in alerts[0].why
