"""All containers of a host as they are: measured, counted, and gone when they are gone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.console.door import open_source
from docklock.console.facts import UNKNOWN, Anchor, ContainerRow, Overview
from docklock.console.host_records import Records
from docklock.console.source import Source
from docklock.paths import get_paths
from tests.e2e.agents import Agent
from tests.e2e.conftest import Docklock

POLICY = """
name: no-directories
default: {action: allow}
rules:
  - {syscalls: [mkdir, mkdirat], action: deny, errno: EACCES}
  - {syscalls: [execve], action: record}
"""
DENIED = "for i in 1 2 3; do mkdir /tmp/$i; done; exec sh -c 'while :; do :; done'"


@pytest.fixture(scope="module", autouse=True)
def containers(dock: Docklock, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One that is busy and was denied something, one that has ended, one that never began."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    limits = ["--memory", "64m", "--label", "app=shop", "--health-cmd", "true"]
    dock(
        "run", "-d", "--name", "busy", *limits, "--health-interval", "100ms",
        "--policy", str(policy), "busybox", "sh", "-c", DENIED,
    )  # fmt: skip
    dock("run", "--name", "ended", "busybox", "sh", "-c", "mkdir /a; exit 3", code=3)
    dock("create", "--name", "made", "busybox", "true")


def look_at_all(source: Source) -> Overview:
    """Whatever the time says."""
    known = source.containers.read_overview().containers
    return source.containers.read_overview(tuple(row.id for row in known))


def read_rows(source: Source) -> dict[str, ContainerRow]:
    return {row.name: row for row in look_at_all(source).containers}


def test_a_running_one_is_measured_and_counted(dock: Docklock, source: Source) -> None:
    def is_known() -> bool:
        row = read_rows(source)["busy"]
        return row.usage.cpu_percent > 10 and row.health == "healthy" and row.denials == 3

    dock.wait_for(is_known)
    row = read_rows(source)["busy"]
    assert (row.status, row.app, row.run, row.network) == ("running", "shop", 0, "none")
    assert row.policy.endswith("policy.yaml")
    assert row.usage.memory_limit_bytes == 64 << 20
    assert 0 < row.usage.memory_bytes < 64 << 20
    assert 1 <= row.usage.pids <= 3
    assert (row.usage.received_bytes, row.usage.sent_bytes_per_s) == (0, 0)
    assert row.receipts_per_s >= 0
    assert row.anchor.kind == "host log"
    dock("pause", "busy")
    receipts = dock.receipts("busy")
    dock.wait_for(lambda: read_rows(source)["busy"].receipts == len(receipts))
    assert sum(one["decision"] == "denied" for one in receipts) == 3
    assert read_rows(source)["busy"].status == "paused"
    dock("unpause", "busy")


def test_those_at_rest_say_how_they_ended(dock: Docklock, source: Source) -> None:
    overview = look_at_all(source)
    rows = {row.name: row for row in overview.containers}
    ended, made = rows["ended"], rows["made"]
    assert (ended.status, ended.exit_code, ended.denials) == ("exited", 3, 0)
    assert ended.receipts == len(dock.receipts("ended"))
    assert ended.finished_ns > ended.started_ns > ended.created_ns > 0
    assert ended.anchor == Anchor("host log")
    assert (made.status, made.run, made.receipts, made.anchor) == ("created", -1, UNKNOWN, Anchor())
    assert (overview.running, overview.measured, overview.trouble) == (1, 1, "")
    assert overview.host == str(dock.receipts("ended")[0]["host"])


def test_what_an_old_guard_did_not_leave_is_told_by_the_log(dock: Docklock, source: Source) -> None:
    state = dock.root / "containers" / str(dock.inspect("ended")["Id"]) / "state.json"
    fields = json.loads(state.read_text())
    state.write_text(json.dumps(fields | {"receipts": -1, "refused": -1}))
    fresh = open_source(["--root", str(dock.root)])
    row = read_rows(fresh)["ended"]
    assert (row.receipts, row.denials) == (len(dock.receipts("ended")), UNKNOWN)


def test_one_that_is_removed_is_gone_and_one_that_is_damaged_says_so(
    dock: Docklock, source: Source
) -> None:
    dock("create", "--name", "going", "busybox", "true")
    assert "going" in read_rows(source)
    state = dock.root / "containers" / str(dock.inspect("going")["Id"]) / "state.json"
    whole = state.read_text()
    for text in ("{", '{"status": "created", "surprise": 1}', "[]"):
        state.write_text(text)
        assert read_rows(source)["going"].trouble
    state.write_text(whole)
    assert read_rows(source)["going"].trouble == ""
    dock("rm", "going")
    assert "going" not in read_rows(source)


def test_the_agent_is_seen_to_come_and_to_go(
    dock: Docklock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docklock.console.host_agent.APART_NS", 0)
    source = open_source(["--root", str(dock.root)])
    assert source.containers.read_overview().agent == "none"
    with Agent(dock):
        assert source.containers.read_overview().agent == "up"
    assert source.containers.read_overview().agent == "none"


def test_a_state_that_cannot_be_read_is_an_error_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "containers").touch()
    with pytest.raises(StateError, match="Not a directory.*needs root"):
        open_source(["--root", str(tmp_path)]).containers.read_overview()


def test_a_look_ends_in_time_and_all_are_read_in_turn(tmp_path: Path) -> None:
    paths = get_paths(str(tmp_path))

    def make(number: int) -> None:
        directory = Path(paths.container(f"{number:064x}"))
        directory.mkdir(parents=True)
        fields = {"id": directory.name, "name": f"n{number}", "bundle": str(directory)}
        (directory / "container.json").write_text(json.dumps(fields))
        (directory / "state.json").write_text('{"status": "stopped", "run": 0}')
        for file in directory.iterdir():
            os.utime(file, (1, 1))

    for number in range(300):
        make(number)
    records = Records(paths)
    records.refresh()
    first = f"{299:064x}"
    assert [record.id for record in records.iterate((first,), 0)] == [first], "no time: no other"
    assert len(records.known) == 300
    seen = list(records.iterate((first,), time.monotonic_ns() + 10**10))
    assert seen[0].id == first
    assert all(record.container is not None for record in records.known.values())

    versions = [record.version for record in records.known.values()]
    changed = Path(paths.container(first)) / "state.json"
    changed.write_text("damaged")
    os.utime(changed, (1, 1))
    list(records.iterate((), time.monotonic_ns() + 10**10))
    assert [record.version for record in records.known.values()] == versions, "none is read again"
    changed.with_suffix(".new").write_text('{"status": "stopped", "run": 1}')
    os.replace(changed.with_suffix(".new"), changed)
    list(records.iterate((first,), 0))
    assert records.known[first].state.run == 1

    make(300)
    records.refresh()
    far_ns = time.monotonic_ns() + 10**10
    found = [record.id for record in records.iterate((), 0, far_ns)]
    assert found == [f"{300:064x}"], "what is new may take its time, and no other with it"
    assert len(list(records.iterate((), far_ns))) == 301
