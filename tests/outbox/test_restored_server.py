"""A server that loses its disk is brought in step by its hosts, by the commands people type."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chainlite import keys, note
from chainlite.bpci.abandoning import check_abandoned
from docklock.evidence import keyring, rotation
from docklock.outbox.sent import Sent
from docklock.paths import Paths
from tests.agent.openmetrics import parse_page
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import run_sync
from tests.outbox.serving import Serving, run

Hosts = list[Paths]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    made = Serving(tmp_path / "server").start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def config(serving: Serving, tmp_path: Path) -> str:
    return serving.write_config(tmp_path / "agent.toml")


def make_hosts(serving: Serving, config: str, directory: Path, *numbers: int) -> Hosts:
    """Enrolled, with something to send."""
    hosts = []
    for number in numbers:
        paths = make_paths(directory / f"host-{number}")
        record(paths, make_id(number), count=20)
        serving.enrol(paths, config, directory / f"grant-{number}")
        hosts.append(paths)
    return hosts


def sync(config: str, *hosts: Paths) -> list[int]:
    """`sync now` on all of them at once; their exit codes."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        done = list(pool.map(lambda one: run_sync(one, "now", "--config", config), hosts))
    return [code for code, _, _ in done]


def read_status(config: str, paths: Paths) -> dict[str, object]:
    _, out, _ = run_sync(paths, "status", "--config", config, "--format", "json")
    [shown] = json.loads(out)["servers"]
    return dict(shown)


def check_in_step(serving: Serving, config: str, *hosts: Paths) -> None:
    """All have all, and go on; nobody has seen a contradiction; every row is as it was written."""
    for number, paths in enumerate(hosts):
        record(paths, make_id(900 + number), count=5)
    assert sync(config, *hosts) == [0] * len(hosts)
    for paths in hosts:
        shown = read_status(config, paths)
        assert (shown["state"], shown["trouble"], shown["contradictions"]) == ("well", None, 0)
        assert shown["acknowledged"] == get_size(paths)
        origin = note.parse_vkey(serving.keys[0], "key").name
        with Sent(paths) as sent:
            for seen in sent.get_unaudited(origin, 1000):
                assert serving.compute_root(seen.size) == seen.root
    assert "whole" in run("bpci", "audit", serving.directory)
    assert serving.get("/readyz") == (200, "ready\n")


def make_backup(serving: Serving, config: str, directory: Path) -> tuple[Paths, Paths, Path]:
    """Two hosts that are in step, and a copy of the server then."""
    first, second = make_hosts(serving, config, directory, 1, 2)
    assert sync(config, first, second) == [0, 0]
    copy = directory / "bpci.copy"
    assert "the key is not in it" in run("bpci", "backup", serving.directory, str(copy))
    return first, second, copy


def test_a_server_that_lost_its_disk_is_brought_in_step_from_an_older_backup(
    serving: Serving, config: str, tmp_path: Path
) -> None:
    first, second, copy = make_backup(serving, config, tmp_path)
    [third] = make_hosts(serving, config, tmp_path, 3)
    for paths in (first, second, third):
        grow(paths, 30)
        assert sync(config, paths) == [0]
    rotation.rotate_host_key(first)
    assert sync(config, first) == [0]
    before = serving.get_state()
    serving.lose(copy)
    assert serving.get_state().size < before.size
    code, _, err = run_sync(second, "now", "--config", config)
    assert code == 1 and "restoring:" in err
    shown = read_status(config, second)
    assert shown["state"] == "busy" and "restoring:" in str(shown["trouble"])
    status, said = serving.get("/readyz")
    assert status == 503 and "1 hosts have not shown what they have" in said
    page = parse_page(serving.get("/metrics")[1])
    assert page["bpci_restoring"].get() == 1
    assert page["bpci_restoring_goal_leaves"].get() > serving.get_state().size
    assert "in restore" in run("bpci", "audit", serving.directory)
    assert sync(config, first, second, third) == [0, 0, 0]
    assert serving.compute_root(before.size) == before.root
    check_in_step(serving, config, first, second, third)


def test_a_key_without_any_backup_is_enough(serving: Serving, config: str, tmp_path: Path) -> None:
    hosts = make_hosts(serving, config, tmp_path, 1, 2)
    assert sync(config, *hosts) == [0, 0]
    before = serving.get_state()
    serving.lose(None, "--hosts", "2")
    assert sync(config, *hosts) == [0, 0]
    assert serving.compute_root(before.size) == before.root
    check_in_step(serving, config, *hosts)


def test_a_snapshot_that_nobody_told_it_of_is_noticed_by_any_host(
    serving: Serving, config: str, tmp_path: Path
) -> None:
    """Store and published checkpoint go back together: the server cannot know."""
    first, second = make_hosts(serving, config, tmp_path, 1, 2)
    assert sync(config, first, second) == [0, 0]
    serving.kill()
    sockets = shutil.ignore_patterns("*.sock")
    shutil.copytree(serving.directory, tmp_path / "snapshot", ignore=sockets)
    serving.start()
    grow(first, 10)
    assert sync(config, first) == [0]
    before = serving.get_state()
    serving.kill()
    shutil.rmtree(serving.directory)
    shutil.copytree(tmp_path / "snapshot", serving.directory)
    serving.start()
    grow(first, 10)
    sync(config, first)  # a host at rest comes within four minutes
    assert serving.get("/readyz")[0] == 503
    assert sync(config, first, second) == [0, 0]
    assert serving.compute_root(before.size) == before.root
    check_in_step(serving, config, first, second)


def test_a_leaf_that_is_lost_with_its_host_ends_the_log_under_both_keys(
    serving: Serving, config: str, tmp_path: Path
) -> None:
    first, second, copy = make_backup(serving, config, tmp_path)
    grow(second, 10)
    assert sync(config, second) == [0]
    grow(first, 10)
    assert sync(config, first) == [0]
    before, old_keys = serving.get_state(), serving.keys
    serving.lose(copy)
    gone = keyring.ensure_host_key(second).host.hex()
    run("bpci", "restore", "--without", gone, serving.directory)
    code, _, err = run_sync(first, "now", "--config", config)
    assert code == 1 and "is in no host's list" in err
    assert serving.get_state().size < before.size  # never more under the old name
    assert run("bpci", "restore", "--abandon-log", serving.directory, code=1) == ""  # it is served
    serving.kill()
    said = run("bpci", "restore", "--abandon-log", serving.directory).splitlines()
    serving.keys = said[-2:]
    assert run("bpci", "keys", serving.directory).splitlines() == serving.keys != old_keys
    old = note.parse_vkey(old_keys[0], "key")
    signed = Path(serving.directory, "abandoned.note").read_bytes()
    assert check_abandoned(signed, old.public) == note.parse_vkey(serving.keys[0], "key")
    assert f"published {before.size} ".encode() in signed
    assert keys.encode_verifier(old.name, old.public) == old_keys[0]
    config = serving.write_config(tmp_path / "agent.toml")
    serving.start()
    check_in_step(serving, config, first)


def test_what_cannot_be_put_back_is_said(serving: Serving, config: str, tmp_path: Path) -> None:
    make_hosts(serving, config, tmp_path, 1)
    copy = str(tmp_path / "copy")
    run("bpci", "backup", serving.directory, copy)
    run("bpci", "backup", serving.directory, copy, code=1)
    run("bpci", "restore", copy, serving.directory, code=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    run("bpci", "restore", copy, str(empty), code=1)  # no key
    run("bpci", "restore", "--hosts", "1", str(empty), code=1)
    run("bpci", "init", str(tmp_path / "other"))
    shutil.copy(tmp_path / "other" / "server.key", empty)
    run("bpci", "restore", str(empty), code=2)  # how many hosts?
    run("bpci", "restore", "--without", "x", str(empty), code=2)
    run("bpci", "restore", "--checkpoint", copy, copy, str(empty), code=2)
    run("bpci", "restore", copy, str(empty), code=3)  # another server's
    assert "bpci.db" not in os.listdir(empty)
