"""A full disk, of the server or of a host's outbox: nothing is acknowledged, and then all is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.outbox.sent import Sent
from docklock.paths import Paths
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import get_host, run_sync, start_sync
from tests.outbox.serving import Serving, run

SMALL, LARGE = "size=3m", "size=64m"
ROUNDS_MAX = 60
SOON_S = 4.0


class SmallDisk:
    """A directory in memory that has little room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        mount("-t", "tmpfs", "-o", f"{SMALL},mode=700", "none", str(path))

    def fill(self) -> None:
        fd = os.open(self.path / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                continue
        os.close(fd)

    def free(self) -> None:
        (self.path / "filler").unlink()

    def enlarge(self) -> None:
        mount("-o", f"remount,{LARGE}", str(self.path))

    def end(self) -> None:
        subprocess.run(("umount", "-l", str(self.path)), check=True, capture_output=True)


def mount(*words: str) -> None:
    subprocess.run(("mount", *words), check=True, capture_output=True)


@pytest.fixture
def cramped(tmp_path: Path, need_root: None) -> Iterator[tuple[Serving, SmallDisk]]:
    """A server with little room."""
    disk = SmallDisk(tmp_path / "disk")
    try:
        made = Serving(disk.path / "server").start()
        try:
            yield made, disk
        finally:
            made.kill()
    finally:
        disk.end()


def test_a_server_whose_disk_is_full_acknowledges_nothing_and_then_all(
    cramped: tuple[Serving, SmallDisk], tmp_path: Path
) -> None:
    serving, disk = cramped
    paths = make_paths(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    serving.enrol(paths, config, tmp_path / "grant")
    for number in range(1, ROUNDS_MAX):
        record(paths, make_id(number), count=2000)
        if not is_all_sent(paths, config):
            break
    said = read_trouble(paths, config)
    # The store says that the disk is full, its checkpoint's file what the system calls it.
    assert "503" in said and ("full" in said or "No space left" in said), said
    before = serving.get_state()
    assert not is_all_sent(paths, config) and serving.get_state() == before
    check_said(paths, serving)
    serving.kill()  # on the full disk
    disk.enlarge()
    serving.start()
    assert serving.get_state() == before
    assert run_sync(paths, "now", "--config", config)[0] == 0
    check_said(paths, serving)
    assert serving.compute_root(before.size) == before.root
    assert "whole" in run("bpci", "audit", serving.directory)


def is_all_sent(paths: Paths, config: str) -> bool:
    """Whether `sync now` comes to an end soon, and to a good one."""
    process = start_sync(paths, "now", "--config", config)
    try:
        process.communicate(timeout=SOON_S)
    except subprocess.TimeoutExpired:  # it waits until it may come again
        process.kill()
        process.communicate()
    return process.returncode == 0


def read_trouble(paths: Paths, config: str) -> str:
    _, out, _ = run_sync(paths, "status", "--config", config, "--format", "json")
    return str(json.loads(out)["servers"][0]["trouble"])


def check_said(paths: Paths, serving: Serving) -> None:
    """What is written down is what the server holds, and nobody contradicts himself."""
    origin = serving.keys[0].partition("+")[0]
    with Sent(paths) as sent:
        assert sent.get_contradictions(origin) == []
        assert sent.get_standing(origin).size <= serving.get_size(get_host(paths))


def test_an_outbox_whose_disk_is_full_takes_no_word_and_loses_none(
    tmp_path: Path, need_root: None
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=5)
    disk = SmallDisk(Path(paths.state, "outbox"))
    serving = Serving(tmp_path / "server").start()
    try:
        config = serving.write_config(tmp_path / "agent.toml")
        serving.enrol(paths, config, tmp_path / "grant")
        assert run_sync(paths, "now", "--config", config)[0] == 0
        before = get_size(paths)
        disk.fill()
        for number in range(2, 5):
            record(paths, make_id(number), count=200)
            code, _, err = run_sync(paths, "now", "--config", config)
            assert code == 1 and "outbox/" in err, err
        disk.free()
        check_said(paths, serving)
        assert get_size(paths) > before
        assert run_sync(paths, "now", "--config", config)[0] == 0
        assert serving.get_size(get_host(paths)) == get_size(paths)
        assert "whole" in run("bpci", "audit", serving.directory)
    finally:
        serving.kill()
        disk.end()
