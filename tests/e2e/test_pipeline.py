"""benchmarks/pipeline as a check that every receipt comes through every stage; not how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docklock.demo.place import PREFIX
from tests.bpci.servers import KEY, Server
from tests.e2e.conftest import CHECKOUT
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record

LIMIT_S = 150
CALLS_PER_S, SECONDS = 3_000, 2
STAGES = ("logblock", "final", "kept", "ack")


def test_a_short_run_brings_every_receipt_through_every_stage(
    tmp_path: Path, need_root: None
) -> None:
    done = subprocess.run(
        [
            sys.executable, "benchmarks/pipeline", "--seconds", str(SECONDS),
            "--rate", str(CALLS_PER_S), "--work", str(tmp_path),
        ],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["wrong"] == []
    assert shown["receipts"] == CALLS_PER_S * SECONDS + 1
    assert all(shown[f"{stage}_p99_ms"] > 0 for stage in STAGES)
    assert {"host", "notary", "server", "keepers", "outbox"} <= set(shown["cpu_s"])
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's own comparison."""
    monkeypatch.syspath_prepend(CHECKOUT / "benchmarks")
    import pipeline_watch

    return pipeline_watch


def test_a_receipt_that_differs_or_is_missing_is_named(tmp_path: Path, watch: ModuleType) -> None:
    paths = make_paths(tmp_path)
    recorder = begin(paths, make_id(1))
    for number in range(4):
        append_durably(recorder, number)
    recorder.close(0)
    segments = watch.read_segments(paths, make_id(1))
    assert len(segments) >= 4
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        directory = str(tmp_path / "server")
        assert watch.compare_with_server(directory, KEY, host, segments) == []
        first, second, *rest = segments
        other = second._replace(row=second.row._replace(body=first.row.body))
        [said] = watch.compare_with_server(directory, KEY, host, [first, other, *rest])
        assert f"leaf {second.leaf_index}" in said
        record(paths, make_id(2))
        unsent = watch.read_segments(paths, make_id(2))
        assert "misses" in watch.compare_with_server(directory, KEY, host, unsent)[0]
