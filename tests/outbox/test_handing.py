"""LogBlocks to `docklock bpci serve` itself, by the command that people type."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.economy.poe_bundle import decode_bundle
from docklock.notary import get_directory
from docklock.paths import Paths
from tests.bpci.handing import HOUR_MS, sign_bundle
from tests.enc.notarising import NOW_MS, notarise, open_db
from tests.evidence.recording import make_id, make_paths, record
from tests.outbox.sends import run_sync
from tests.outbox.test_with_server import Serving, run


class Handing:
    """A host that a server knows."""

    def __init__(self, tmp_path: Path) -> None:
        self.serving = Serving(tmp_path / "server").start()
        self.paths: Paths = make_paths(tmp_path)
        self.config = self.serving.write_config(tmp_path / "agent.toml")
        record(self.paths, make_id(1), count=20)
        self.serving.enrol(self.paths, self.config, tmp_path / "grant")

    def sync(self) -> None:
        assert run_sync(self.paths, "now", "--config", self.config)[0] == 0

    def hand_in(self, code: int = 0) -> list[tuple[str, int, int]]:
        """App, height and what is new of each chain."""
        return [said[:3] for said in self.hand_in_all(code)]

    def hand_in_all(self, code: int = 0) -> list[tuple[str, int, int, int, int]]:
        """And how many bundles are held and are new."""
        root = ("--root", self.paths.state)
        said = run(
            *root, "notary", "hand-in", "office", "--config", self.config, "--json", code=code
        )
        return [tuple(json.loads(line).values()) for line in said.splitlines()]  # type: ignore[misc]


@pytest.fixture
def handing(tmp_path: Path) -> Iterator[Handing]:
    made = Handing(tmp_path)
    yield made
    made.serving.kill()


def test_each_chain_goes_on_where_the_server_has_it(handing: Handing) -> None:
    paths = handing.paths
    notarise(paths, flush=True)
    handing.hand_in(code=1)  # its receipts first
    handing.sync()
    assert handing.hand_in() == [("web", 1, 1)]
    assert handing.hand_in() == [("web", 1, 0)]
    for number, app in ((2, "web"), (3, "other"), (4, "web")):
        record(paths, make_id(number), count=5, app=app)
        notarise(paths, flush=True)
    handing.sync()
    assert sorted(handing.hand_in()) == [("other", 1, 1), ("web", 3, 2)]
    code, out, _ = run_sync(paths, "receipts", "--limit", "100")
    assert code == 0 and out.count("/v1/logblocks") == 2 + 2 + 1 + 4  # asks and parts
    assert "whole" in run("bpci", "audit", handing.serving.directory)


def test_bundles_follow_their_logblocks(handing: Handing) -> None:
    paths = handing.paths
    notarise(paths, flush=True)
    record(paths, make_id(2), count=5)
    notarise(paths, NOW_MS + HOUR_MS, flush=True)
    handing.hand_in_all(code=1)
    handing.sync()
    assert handing.hand_in_all() == [("web", 2, 2, 1, 1)], "the second hour is not over"
    assert handing.hand_in_all() == [("web", 2, 0, 1, 0)]
    notarise(paths, NOW_MS + 2 * HOUR_MS)
    assert handing.hand_in_all() == [("web", 2, 0, 2, 1)]
    with open_db(paths) as db:  # the same hour, signed again a second later
        [(data,)] = db.execute("SELECT bundle FROM windows ORDER BY start DESC LIMIT 1")
        made = decode_bundle(data)
        other = sign_bundle(paths, made._replace(time=made.time + 10**9))
        changed = (other.block, other.signature, made.window.start)
        db.execute("UPDATE windows SET bundle = ?, signature = ? WHERE start = ?", changed)
    handing.hand_in_all(code=3)
    assert "whole" in run("bpci", "audit", handing.serving.directory)


def test_a_notary_that_begins_anew_under_its_key_is_told_so(
    handing: Handing, tmp_path: Path
) -> None:
    paths, old = handing.paths, tmp_path / "old"
    notarise(paths, flush=True)
    shutil.copytree(get_directory(paths), old)
    record(paths, make_id(2), count=5)
    notarise(paths, flush=True)
    handing.sync()
    assert handing.hand_in() == [("web", 2, 2)]
    shutil.rmtree(get_directory(paths))
    shutil.copytree(old, get_directory(paths))
    handing.hand_in(code=3)  # the server holds more than is here
    record(paths, make_id(3), count=5)
    notarise(paths, flush=True)  # another block 1
    record(paths, make_id(4), count=5)
    notarise(paths, flush=True)
    handing.sync()
    handing.hand_in(code=3)  # block 2 does not follow the one that is held
    assert "whole" in run("bpci", "audit", handing.serving.directory)
