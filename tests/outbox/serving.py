"""`docklock bpci serve` as a process with a directory, and commands that people type at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from chainlite import cosignature, merkle, note
from chainlite.bpci.backup import KEY_FILE
from chainlite.bpci.own_log import OWNER
from chainlite.bpci.rows import make_reader
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.checkpoint import Checkpoint
from docklock.evidence import keyring
from docklock.paths import Paths
from tests.evidence.recording import ROOT
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
        self.names: tuple[str, ...] = ()

    def start(self) -> Self:
        argv = ["bpci", "serve", self.directory, "--listen", self.place]
        argv += [word for name in self.names for word in ("--name", name)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "docklock.cli.main", *argv],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("serving on ")
        return self

    def kill(self) -> None:
        if self.process.returncode is not None:
            return
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

    def get(self, path: str) -> tuple[int, str]:
        """What an open address answers."""
        try:
            with urllib.request.urlopen(f"http://{self.place}{path}", timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def get_state(self) -> Checkpoint:
        """Of its log, by what it serves."""
        status, text = self.get("/checkpoint")
        assert status == 200, text
        keys = tuple([note.parse_vkey(one, "key") for one in self.keys])
        return cosignature.check_checkpoint(text.encode(), keys)

    def compute_root(self, size: int) -> bytes:
        """Of the first leaves of its log, as they are stored."""
        with SqliteStore(self.directory, is_writer=False) as store:
            return merkle.compute_tree_root(size, make_reader(store, OWNER, {}))

    def get_size(self, host: bytes) -> int:
        """How much of a host's log is stored."""
        with SqliteStore(self.directory, is_writer=False) as store:
            row = store.find_host(host)
        return row.size if row is not None else 0

    def lose(self, copy: Path | None, *options: str) -> None:
        """kill -9, the disk is gone but for the key, which was kept apart; it is put back."""
        self.kill()
        key = Path(self.directory, KEY_FILE).read_bytes()
        shutil.rmtree(self.directory)
        os.mkdir(self.directory)
        path = Path(self.directory, KEY_FILE)
        path.write_bytes(key)
        path.chmod(0o600)
        words = [str(copy)] if copy else []
        assert "in restore" in run("bpci", "restore", *options, *words, self.directory)
        self.start()
