"""A devnet of one's own for a test: `docklock chain devnet`, asked through the command line."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from chainlite import keys
from chainlite.ledger import operations as ops
from chainlite.ledger.tx import sign_tx
from tests.e2e.conftest import Docklock, Result

UP_LIMIT_S = 40.0
LEFT = "Ctrl-C ends it"
_held: list[socket.socket] = []


class DevnetProcess:
    """`docklock chain devnet --dir TOP`; use as a context manager."""

    def __init__(self, dock: Docklock, top: Path, *options: str) -> None:
        self.dock, self.top = dock, top
        self.options = ("--dir", str(top), *options)
        self.log = top.with_suffix(".log")
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.dock.argv("chain", "devnet", *self.options),
                env=self.dock.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.dock.wait_for(self.is_up, UP_LIMIT_S)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.said()
        return LEFT in self.said()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.hold_ports()
        return code

    def hold_ports(self) -> None:
        """By their names, as a devnet that runs: another worker's takes the first that are free.

        Nodes of this one may begin again, at any time until the tests end.
        """
        for port in {int(one) for one in re.findall(r"127\.0\.0\.1:(\d+)", self.said())}:
            holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                holder.bind(f"\0docklock-devnet-{port}")
                _held.append(holder)
            except OSError:  # by somebody else meanwhile, or by us
                holder.close()

    def said(self) -> str:
        return self.log.read_text()

    def directory(self, name: str) -> str:
        return str(self.top / name)

    def chain(self, name: str, *words: str, code: int | None = 0) -> Result:
        """`docklock chain WORDS --dir NAME'S`."""
        return self.dock("chain", *words, "--dir", self.directory(name), code=code)

    def ask(self, name: str, *words: str) -> Any:
        return json.loads(self.chain(name, *words, "--format", "json").stdout)

    def height(self, name: str) -> int:
        return int(self.ask(name, "status")["height"])

    def wait_height(self, name: str, least: int) -> None:
        self.dock.wait_for(lambda: self.height(name) >= least, 30.0)

    def pids(self) -> list[int]:
        """The validators' processes: those whose parent is the devnet, dead or alive."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"start" in words and any(word.startswith(str(self.top).encode()) for word in words):
                found.append(int(process.name))
        return found


class NodeProcess:
    """`docklock chain start --dir DIRECTORY`; use as a context manager. Ended, it must exit 0."""

    def __init__(self, dock: Docklock, directory: str, *options: str) -> None:
        self.dock, self.directory = dock, directory
        self.process = dock.start("chain", "start", "--dir", directory, *options)
        self.said = ""
        self._is_told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tell_to_end()
        self.said = self.process.communicate(timeout=20)[1]
        assert self.process.returncode == 0, self.said

    def tell_to_end(self) -> None:
        """Once: a second signal would meet no handler at the very end."""
        if not self._is_told:
            self.process.terminate()
        self._is_told = True

    def show(self) -> dict[str, Any]:
        """Its status; empty while it is not there."""
        words = ("chain", "status", "--dir", self.directory, "--format", "json")
        done = self.dock(*words, code=None)
        return dict(json.loads(done.stdout)) if done.stdout else {}

    def wait_votes(self) -> None:
        self.dock.wait_for(lambda: self.show().get("votes"), 30)


def write_registration(path: Path, key: keys.KeyPair, chain_id: str) -> str:
    """A signed transaction in a file: a new host registers itself. Its hash."""
    operation = ops.Register("tester", bytes(32))
    tx = sign_tx(key, bytes.fromhex(chain_id), 0, [operation])
    path.write_bytes(tx.encoded)
    return tx.hash.hex()
