"""A real server as a source: `docklock bpci serve`, two hosts, a reader and an auditor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chainlite.errors import SpecError, StateError
from chainlite.export_frames import Scope
from chainlite.export_report import Exported, HostSummary, RunSummary
from chainlite.report import SeenLog
from docklock.console import server, server_feed, server_fleet, server_line, server_receipt
from docklock.console.door import open_source
from docklock.console.facts import UNKNOWN
from docklock.console.server_feed import NO_VALUES, UNPROVEN
from docklock.console.server_fleet import HostFacts
from docklock.console.server_receipt import UNNAMED
from docklock.console.source import Source
from docklock.evidence import keyring
from docklock.paths import Paths, get_paths
from tests.bpci.test_sqlite_store import edit
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size
from tests.outbox.sends import run_sync
from tests.outbox.serving import Serving, run

uvicorn = pytest.importorskip("uvicorn", reason="the extra `server` is not installed")


class Office(NamedTuple):
    """A server, and two hosts that send to it."""

    serving: Serving
    hosts: tuple[Paths, Paths]
    config: str
    top: Path

    def open(self, role: str) -> Source:
        """The source of a member of this role, enrolled by the commands that people type."""
        key, grant = str(self.top / f"{role}.key"), str(self.top / f"{role}.grant")
        keys = self.top / "server.keys"
        keys.write_text("\n".join(self.serving.keys))
        url = f"http://{self.serving.place}"
        if not Path(key).exists():
            public = run("audit", "key", key).strip()
            words = ("--tenant", "acme", "--role", role)
            run("bpci", "grant", *words, self.serving.directory, public, grant)
            run("audit", "enrol", "--server", url, "--server-key", str(keys), grant)
        return open_source(["--bpci", url, "--server-key", str(keys), "--key", key])

    def get_ids(self) -> list[str]:
        return [keyring.ensure_host_key(paths).host.hex() for paths in self.hosts]

    def sync(self, number: int) -> None:
        assert run_sync(self.hosts[number], "now", "--config", self.config)[0] == 0


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    top = tmp_path_factory.mktemp("office")
    serving = Serving(top / "server").start()
    config = serving.write_config(top / "agent.toml")
    hosts = (get_paths(str(top / "one")), get_paths(str(top / "two")))
    made = Office(serving, hosts, config, top)
    record(hosts[0], make_id(1), count=30)
    record(hosts[0], make_id(2), count=4, app="db")
    record(hosts[1], make_id(3), count=5, app="cache")
    try:
        for number, paths in enumerate(hosts):
            serving.enrol(paths, config, top / f"grant{number}")
            made.sync(number)
        yield made
    finally:
        serving.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look asks."""
    monkeypatch.setattr(server_fleet, "HOSTS_EVERY_S", 0.0)
    monkeypatch.setattr(server_feed, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(server, "ALERTS_EVERY_S", 0.0)
    monkeypatch.setattr(server_line, "AGAIN_MIN_S", 0.0)
    monkeypatch.setattr(server_line, "AGAIN_MAX_S", 0.0)


def test_all_hosts_and_their_containers_are_shown(office: Office) -> None:
    source = office.open("reader")
    one, two = office.get_ids()
    overview = source.containers.read_overview()
    rows = {row.name: row for row in overview.containers}
    assert {name: row.host for name, row in rows.items()} == {"web": one, "db": one, "cache": two}
    assert {name: row.receipts for name, row in rows.items()} == {"web": 30, "db": 4, "cache": 5}
    assert (rows["web"].id, rows["web"].status) == (make_id(1), "closed")
    assert (rows["web"].anchor.kind, rows["web"].anchor.by) == ("server", office.serving.place)
    assert (rows["web"].denials, rows["web"].usage.cpu_percent) == (UNKNOWN, UNKNOWN)
    assert (overview.trouble, overview.agent) == ("", "asked as reader")
    details = source.containers.read_details(make_id(1))
    assert dict(details.settings)["host"] == one and details.row == rows["web"]
    with pytest.raises(StateError, match="nothing of this container"):
        source.containers.read_details(make_id(9))
    with pytest.raises(StateError, match="output"):
        source.containers.read_log(make_id(1), 5)
    assert source.acts is None and source.policy is None and source.checks is None
    assert "no values" in source.note
    assert source.alerts.read_alerts() == ()


def test_hosts_are_shown_with_what_is_held_and_how_old_it_is(office: Office) -> None:
    sync = office.open("reader").sync
    assert sync is not None
    hosts = {host.name: host for host in sync.read_sync().servers}
    for name, paths in zip(office.get_ids(), office.hosts, strict=True):
        assert (hosts[name].acknowledged, hosts[name].state) == (get_size(paths), "well")
        assert 0 <= hosts[name].lag_s < 600 and hosts[name].acknowledged_ms > 0


def test_a_host_is_silent_only_while_it_has_open_runs() -> None:
    idle = HostFacts("h", 9, 9, 0, 0, 0, 5 * 10**9, 0)
    late_ns = (5 + 3601) * 10**9
    for host, now_ns, state in (
        (idle, late_ns, "well"),
        (idle._replace(open_runs=1), late_ns, "silent"),
        (idle._replace(open_runs=1), late_ns - 2 * 10**9, "well"),
        (idle._replace(alerts=2), late_ns, "alerted"),
        (idle._replace(revoked_ms=1), late_ns, "revoked"),
        (idle._replace(newest_ns=UNKNOWN), late_ns, "never heard"),
    ):
        shown = server._describe_host(host, now_ns)
        assert shown.state == state
        assert bool(shown.trouble) == (state in ("silent", "alerted"))


def test_a_feed_grows_as_the_host_sends_and_scrolls_back(office: Office) -> None:
    auditor, reader = office.open("auditor"), office.open("reader")
    assert auditor.evidence and reader.evidence
    feed, unseen = auditor.evidence.open_feed(make_id(1)), reader.evidence.open_feed(make_id(1))
    auditor.containers.read_overview(), reader.containers.read_overview()
    first = feed.read(10)
    assert [event.event_index for event in first.events] == list(range(20, 30))
    assert (first.total, first.run, first.came, first.trouble) == (30, 0, 10, UNPROVEN)
    local = open_source(["--root", office.hosts[0].state]).evidence
    assert local is not None
    assert first.events == local.open_feed(make_id(1)).read(10).events
    hidden = unseen.read(10)
    assert NO_VALUES in hidden.trouble
    assert hidden.events == tuple(event._replace(values=()) for event in first.events)
    assert feed.read(10).came == 0
    before = feed.read_before(0, 5, 3)
    assert [event.event_index for event in before.events] == [2, 3, 4]
    assert feed.read_before(0, 0, 3).events == ()
    record(office.hosts[0], make_id(1), count=12, run=1)
    office.sync(0)
    grown = feed.read(5)
    assert [(event.run, event.event_index) for event in grown.events] == [
        (1, index) for index in range(7, 12)
    ]
    assert (grown.came, grown.total, grown.run) == (12, 12, 1)
    missing = reader.evidence.open_feed(make_id(9)).read()
    assert "nothing of this container" in missing.trouble


def test_a_receipt_is_the_servers_word_until_its_proof_is_verified(office: Office) -> None:
    auditor, reader = office.open("auditor"), office.open("reader")
    assert auditor.evidence and reader.evidence
    read = auditor.evidence.read_receipt(make_id(3), 0, 1)
    assert (read.is_whole, read.event.event_index, read.event.op) == (None, 1, "syscall.execve")
    assert all(step.is_held is None and step.why == UNPROVEN for step in read.steps)
    assert dict(read.fields)["index"] == "1"
    checked = auditor.evidence.check_receipt(make_id(3), 0, 1)
    assert (checked.is_whole, checked.why) == (True, "")
    held = {step.kind: step.is_held for step in checked.steps}
    assert held == {
        "receipt": True, "segment": True, "log": True, "checkpoint": None, "server": True
    }  # fmt: skip
    key = next(step for step in checked.steps if step.kind == "checkpoint")
    assert key.why == UNNAMED and dict(key.fields)["fingerprint"] == office.get_ids()[1]
    refused = reader.evidence.check_receipt(make_id(3), 0, 1)
    assert refused.is_whole is None and "auditor" in refused.why
    with pytest.raises(StateError, match="no receipt 99"):
        auditor.evidence.read_receipt(make_id(3), 0, 99)


def test_a_range_that_does_not_hold_makes_no_receipt_whole(office: Office) -> None:
    source = office.open("auditor")
    assert source.evidence is not None
    read = source.evidence.read_receipt(make_id(3), 0, 1)
    run = RunSummary(make_id(3), "cache", 0, 1, 2, 1, 1, 0, "closed", False)
    log = SeenLog(6, b"r" * 32, b"")
    host = HostSummary("h", False, 6, 6, 0, 6, (run,), log, (), "")
    found = Exported(Scope(b"k", b"k", "acme"), 1, 0, (host,), (), True, "")
    judged = [
        server_receipt._judge(read, *changed, 0, 1)
        for changed in (
            (found, host), (found._replace(is_server_trusted=False), host),
            (found._replace(refusal="parts are missing"), host),
            (found, host._replace(refusal="it is a fork")), (found, host._replace(runs=())),
        )
    ]  # fmt: skip
    assert [facts.is_whole for facts in judged] == [True, False, False, False, None]
    assert [bool(facts.why) for facts in judged] == [False, True, True, True, True]
    assert all(step.is_held is False for facts in judged[1:4] for step in facts.steps)


def test_a_quota_that_was_met_is_an_alert(office: Office) -> None:
    words = ("--receipts-per-day", "1", office.serving.directory, "acme")
    run("bpci", "quota", *words)
    record(office.hosts[1], make_id(4), count=3)
    assert run_sync(office.hosts[1], "now", "--config", office.config)[0] == 1
    [alert] = office.open("reader").alerts.read_alerts()
    assert (alert.kind, alert.level) == ("quota", "warning")
    assert alert.subject == f"host {office.get_ids()[1][:12]}"
    assert "receipts_per_day" in alert.why and alert.since_ns > 0


def test_a_server_that_goes_and_returns_hides_nothing(office: Office) -> None:
    source = office.open("auditor")
    source.containers.read_overview()
    assert source.evidence and source.sync
    feed = source.evidence.open_feed(make_id(1))
    assert feed.read().events
    before = source.containers.read_overview()
    office.serving.kill()
    try:
        away = source.containers.read_overview()
        assert away == before._replace(trouble=away.trouble)
        assert office.serving.place in away.trouble
        assert feed.read().trouble or feed.read().events == ()
        assert source.sync.read_sync().trouble == away.trouble
        [alert, *_] = source.alerts.read_alerts()
        assert (alert.kind, alert.level) == ("away", "warning")
        with pytest.raises(StateError):
            source.evidence.read_receipt(make_id(3), 0, 1)
    finally:
        office.serving.start()
    assert source.containers.read_overview().trouble == ""
    assert "away" not in [alert.kind for alert in source.alerts.read_alerts()]


def test_while_a_server_is_away_it_is_not_asked_at_each_look(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = office.open("auditor")
    monkeypatch.setattr(server_line, "AGAIN_MIN_S", 1e6)
    monkeypatch.setattr(server_line, "AGAIN_MAX_S", 1e6)
    office.serving.kill()
    fleet = source.containers._fleet  # type: ignore[attr-defined]
    fleet._line._pause_s = 1e6
    trouble = source.containers.read_overview().trouble
    office.serving.start()
    assert trouble and source.containers.read_overview().trouble == trouble


def test_a_store_that_was_changed_is_no_proof(office: Office) -> None:
    auditor = office.open("auditor")
    assert auditor.evidence is not None
    auditor.containers.read_overview()
    where = f"container = x'{make_id(2)}'"
    edit(Path(office.serving.directory), f"UPDATE segments SET box = zeroblob(90) WHERE {where}")
    with pytest.raises(StateError):
        auditor.evidence.check_receipt(make_id(2), 0, 1)


def test_what_names_no_server_is_refused(tmp_path: Path) -> None:
    for words in (
        ["--bpci", "http://x"],
        ["--key", "k"],
        ["--bpci", "http://x", "--replay", "f"],
        ["--replay", "f", "--key", "k"],
    ):
        with pytest.raises(SpecError, match="docklock top"):
            open_source(words)
    with pytest.raises(SpecError):
        open_source(["--bpci", "http://x", "--server-key", str(tmp_path / "no"), "--key", "k"])
