"""Against `docklock bpci serve` itself, by the commands that people type."""

from __future__ import annotations

import json
from pathlib import Path

from docklock.evidence import rotation
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import run_sync
from tests.outbox.serving import Serving, run


def test_enrolled_sent_killed_gone_on_with_audited_and_proven(tmp_path: Path) -> None:
    serving = Serving(tmp_path / "server").start()
    paths = make_paths(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    try:
        record(paths, make_id(1))
        code, _, err = run_sync(paths, "now", "--config", config)
        assert code == 1 and "status 401" in err  # nobody knows this host yet
        serving.enrol(paths, config, tmp_path / "grant")
        assert run_sync(paths, "now", "--config", config)[0] == 0
        serving.kill()
        for number in range(2, 5):
            record(paths, make_id(number), count=300)
        rotation.rotate_host_key(paths)
        grow(paths, 50)
        assert run_sync(paths, "now", "--config", config)[0] == 1
        serving.start()
        assert run_sync(paths, "now", "--config", config)[0] == 0
        code, out, _ = run_sync(paths, "now", "--config", config, "--format", "json")
        [shown] = json.loads(out)["servers"]
        assert code == 0 and (shown["state"], shown["trouble"]) == ("well", None)
        assert shown["acknowledged"] == get_size(paths)
    finally:
        serving.kill()
    assert run("bpci", "audit", serving.directory)
    proof, keys = tmp_path / "office.tlog-proof", tmp_path / "keys"
    assert run_sync(paths, "proof", "office", "-o", str(proof))[0] == 0
    keys.write_text("\n".join(serving.keys))
    assert "whole" in run("verify", str(proof), "--log-key", str(keys))


def test_a_host_that_has_run_nothing_can_be_enrolled(tmp_path: Path) -> None:
    serving = Serving(tmp_path / "server").start()
    paths = make_paths(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    try:
        serving.enrol(paths, config, tmp_path / "grant")
        record(paths)
        assert run_sync(paths, "now", "--config", config)[0] == 0
        other = make_paths(tmp_path / "other")
        record(other)
        grant = str(tmp_path / "grant")  # of another host: it enrols that one, again
        code, _, err = run_sync(other, "enrol", "office", grant, "--config", config)
        assert code == 3 and "another host" in err
    finally:
        serving.kill()
