"""What somebody should look at, from what is really written down on a host."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from docklock.agent import config_file
from docklock.console import alert_sources, host_alerts
from docklock.console.facts import Alert
from docklock.console.host_alerts import HostAlerts, sort_alerts
from docklock.notary import get_directory
from docklock.paths import Paths, get_paths
from enc.notary.store import AsideRow, Store
from tests.e2e.conftest import Docklock
from tests.e2e.test_witness import make_fork
from tests.evidence.recording import make_id, make_paths

NOW_NS = 1_795_000_000 * 10**9


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "FILE_DEFAULT", "/nowhere/agent.toml")


def test_an_empty_host_has_none(tmp_path: Path) -> None:
    assert HostAlerts(make_paths(tmp_path)).read_alerts() == ()


def test_the_worst_come_first_of_these_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = [
        Alert("a", "info", "x", "", 9),
        Alert("b", "critical", "x", "", 1),
        Alert("c", "warning", "x", "", 5),
        Alert("d", "critical", "x", "", 2),
    ]
    assert [alert.kind for alert in sort_alerts(alerts)] == ["d", "b", "c", "a"]
    monkeypatch.setattr(host_alerts, "ALERTS_MAX", 2)
    assert [alert.kind for alert in sort_alerts(alerts)] == ["d", "b"]


def test_a_log_that_signed_two_histories_is_critical(tmp_path: Path) -> None:
    dock = Docklock(tmp_path / "root")
    make_fork(dock)
    paths = get_paths(str(dock.root))
    [alert] = HostAlerts(paths).read_alerts()
    assert (alert.kind, alert.level) == ("fork", "critical")
    [path] = (Path(paths.state) / "forks").iterdir()
    assert alert.advice == f"docklock verify {path}"
    assert alert.since_ns == path.stat().st_mtime_ns
    path.write_bytes(b"spoilt")
    [alert] = alert_sources.find_forks(paths)
    assert (alert.level, "cannot be read" in alert.why) == ("warning", True)


def test_what_the_notary_set_aside_is_critical_and_read_when_it_changes(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    source = alert_sources.NotaryAlerts(paths)
    assert source.find() == []
    put_aside(paths, 1)
    [alert] = source.find()
    assert (alert.kind, alert.level, alert.container) == ("notary", "critical", make_id(1))
    assert "run 0 stands still at receipt 3" in alert.why and "signature" in alert.why
    assert alert.since_ns == NOW_NS
    assert source.find()[0] is alert
    put_aside(paths, 2)
    assert len(source.find()) == 2


def put_aside(paths: Paths, number: int) -> None:
    with Store(get_directory(paths), b"k" * 32) as store:
        container = bytes.fromhex(make_id(number))
        row = AsideRow(0, b"h" * 32, container, 0, 3, "a bad signature", b"", NOW_NS // 10**6)
        assert store.set_aside(row)


def test_what_cannot_be_read_is_an_alert_and_hides_no_other(tmp_path: Path) -> None:
    dock = Docklock(tmp_path / "root")
    make_fork(dock)
    paths = get_paths(str(dock.root))
    os.makedirs(get_directory(paths))
    (Path(get_directory(paths)) / "notary.db").write_bytes(b"no database" * 500)
    alerts = HostAlerts(paths)
    first = alerts.read_alerts()
    assert [(one.kind, one.subject) for one in first][1:] == [("unreadable", "notary")]
    assert first[0].kind == "fork" and first[1].since_ns > 0
    assert alerts.read_alerts() == first, "since when it is so stays"


def test_a_disk_that_is_nearly_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    os.makedirs(paths.state)
    assert alert_sources.find_disk(paths) == []
    monkeypatch.setattr(alert_sources, "DISK_WARNING_BYTES", 1 << 62)
    monkeypatch.setattr(alert_sources, "DISK_WARNING_SHARE", 1.0)
    [alert] = alert_sources.find_disk(paths)
    assert (alert.level, alert.subject) == ("warning", paths.state)
    monkeypatch.setattr(alert_sources, "DISK_CRITICAL_BYTES", 1 << 62)
    assert alert_sources.find_disk(paths)[0].level == "critical"


def test_containers_that_are_unwell_are_told(dock: Docklock) -> None:
    paths = get_paths(str(dock.root))
    check = ("--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1")
    dock("run", "-d", "--name", "sick", *check, "busybox", "sleep", "600")
    dock("run", "-d", "--name", "loop", "--restart", "always", "busybox", "false")
    dock("run", "-d", "--name", "well", "busybox", "sleep", "600")
    alerts = HostAlerts(paths)

    def find() -> dict[str, Alert]:
        source = alert_sources.ContainerAlerts(paths)
        return {alert.subject: alert for alert in source.find()}

    try:
        dock.wait_for(lambda: set(find()) == {"sick", "loop"}, 20)
        found = {alert.subject: alert for alert in alerts.read_alerts()}
        assert found["sick"].kind == "unhealthy" and "in a row" in found["sick"].why
        assert found["loop"].kind == "restarting" and "docklock logs loop" in found["loop"].advice
        assert len(found["sick"].container) == 64
    finally:
        dock("rm", "-f", "sick", "loop", "well")
    assert find() == {}


def test_a_container_that_lost_its_guard_is_told_and_how_it_is_mended(dock: Docklock) -> None:
    paths = get_paths(str(dock.root))
    dock("run", "-d", "--name", "orphan", "busybox", "sleep", "600")
    source = alert_sources.ContainerAlerts(paths)
    assert source.find() == []
    os.kill(dock.supervisor_pid("orphan"), signal.SIGKILL)
    dock.wait_for(lambda: [one.kind for one in source.find()] == ["lost"], 20)
    assert source.find()[0].advice == "docklock ps"
    dock("ps")
    dock.wait_for(lambda: "lost" not in [one.kind for one in source.find()], 20)
    dock("rm", "-f", "orphan")
