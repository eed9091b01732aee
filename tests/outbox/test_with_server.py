"""Against `docklock bpci serve` itself, by the commands that people type."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from docklock.evidence import keyring, rotation
from docklock.paths import Paths
from tests.evidence.logs import grow
from tests.evidence.recording import ROOT, make_id, make_paths, record
from tests.ledger.offered import get_size
from tests.outbox.sends import run_sync
from tests.outbox.servers import find_port

WAIT_S = 30


def run(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


class Serving:
    """A server's directory, and its process while it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.place = str(directory), f"127.0.0.1:{find_port()}"
        self.keys = run("bpci", "init", self.directory).splitlines()

    def start(self) -> Self:
        argv = ["bpci", "serve", self.directory, "--listen", self.place]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "docklock.cli.main", *argv],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("serving on ")
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def enrol(self, paths: Paths, config: str, file: Path) -> None:
        keyring.ensure_host_key(paths)
        host = Path(paths.keys, "host.pub").read_text().strip()
        run("bpci", "grant", "--tenant", "acme", self.directory, host, str(file))
        code, out, err = run_sync(paths, "enrol", "office", str(file), "--config", config)
        assert (code, err) == (0, "") and "enrolled at office" in out

    def write_config(self, path: Path) -> str:
        keys = json.dumps(self.keys)
        path.write_text(
            f'[[server]]\nname = "office"\nurl = "http://{self.place}"\nkeys = {keys}\n'
        )
        return str(path)


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
