"""Witnesses as processes of their own, on ports of this machine, for tests and benchmarks."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from chainlite import note, witness
from chainlite.quorum import Member, Quorum
from docklock.paths import Paths, get_paths
from docklock.witness.key import ensure_witness

ROOT = Path(__file__).parents[2]
START_MAX_S = 30.0
RUN = [sys.executable, "-m", "docklock.cli.main"]


class Got(NamedTuple):
    status: int
    body: bytes
    kind: str


def find_port() -> int:
    """A free port below those that outgoing connections are given (32768 and up)."""
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Running:
    """One witness: its root, its keys, its port; started and killed as the test likes."""

    def __init__(self, top: Path, name: str) -> None:
        self.name, self.top = name, top / name
        self.paths: Paths = get_paths(str(self.top))
        self.keys = ensure_witness(self.paths, name)
        self.url = f"http://127.0.0.1:{find_port()}"
        self.config = top / f"{name}.toml"
        self.errors = top / f"{name}.err"
        self.process: subprocess.Popen[bytes] | None = None

    def configure(
        self,
        logs: Iterable[tuple[tuple[note.VerifierKey, ...], str]],
        peers: Iterable[Running] = (),
        gossip_seconds: int = 1,
    ) -> None:
        lines = [f'listen = "{self.url.removeprefix("http://")}"']
        lines += [f"gossip-seconds = {gossip_seconds}"]
        for keys, url in logs:
            lines += ["[[log]]", f"keys = {[note.encode_vkey(key) for key in keys]}"]
            lines += [f'url = "{url}"'] if url else []
        for peer in peers:
            if peer is not self:
                lines += ["[[peer]]", f'name = "{peer.name}"', f'url = "{peer.url}"']
                lines += [f"keys = {[note.encode_vkey(key) for key in peer.keys]}"]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, *, wait: bool = True) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*RUN, "--root", str(self.top), "witness", "serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(b"serving on "), self.said()
        if wait:
            self.wait_for(lambda: self.read_metric("witness_ready") == 1)

    def stop(self, number: int = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def said(self) -> str:
        return self.errors.read_text()

    def wait_for(self, is_so: object, limit_s: float = START_MAX_S) -> None:
        assert callable(is_so)
        deadline = time.monotonic() + limit_s
        while not is_so():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def get(self, path: str) -> Got:
        return self._request("GET", path, None)

    def post(self, path: str, body: bytes) -> Got:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: bytes | None) -> Got:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return Got(answer.status, answer.read(), answer.headers["Content-Type"])
        finally:
            connection.close()

    def submit(self, old: int, proof: tuple[bytes, ...], data: bytes) -> Got:
        return self.post("/add-checkpoint", witness.encode_request(old, proof, data))

    def read_metric(self, name: str) -> int:
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(f"docklock_{name} "):
                return int(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def list_forks(self) -> list[Path]:
        return sorted((self.top / "forks").glob("*.fork"))


def make_member(one: Running, operator: str) -> Member:
    return Member(one.name, operator, one.url, one.keys)


def make_policy(
    running: Iterable[Running], need: int, bad: int = 0, operator: str = "acme"
) -> Quorum:
    members = tuple(make_member(one, f"operator-{one.name}") for one in running)
    return Quorum(operator, need, bad, members)


def write_policy(file: Path, policy: Quorum) -> Path:
    lines = [f'operator = "{policy.operator}"', f"need = {policy.need}", f"bad = {policy.bad}"]
    for member in policy.members:
        lines += ["[[witness]]", f'name = "{member.name}"', f'operator = "{member.operator}"']
        lines += [f'url = "{member.url}"', f"keys = {[note.encode_vkey(k) for k in member.keys]}"]
    file.write_text("\n".join(lines) + "\n")
    return file
