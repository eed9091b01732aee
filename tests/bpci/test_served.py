"""`docklock bpci` as an operator runs it: hosts enrol and send over sockets, and it is killed."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self

import pytest

from chainlite import cosignature, note
from chainlite.bpci import batch
from chainlite.bpci.acknowledgement import check_acknowledgement, verify_acknowledgement
from chainlite.bpci.sqlite_store import FILE
from chainlite.cage.client import Answer, Caller
from chainlite.keys import compute_host_id, encode_verifier
from docklock.cli.bpci import name_authorities
from docklock.evidence import keyring
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.bpci.batches import make_data
from tests.bpci.callers import make_keyid
from tests.evidence.recording import make_id, record
from tests.evidence.test_key_changes import load_key
from tests.ledger.offered import get_size, make_host
from tests.net.authority import make_authority

TOP = Path(__file__).parents[2]
NAME = "bpci.example"
NONCES = (f"nonce-of-test-{number:08}" for number in itertools.count())
WAIT_S = 20
ASKED_QUICK = 20
"""After so many a kernel puts off what it has to say."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", *words], cwd=TOP, capture_output=True, text=True
    )


class Process:
    """`docklock bpci serve` on a port of its own; `program` may stand for docklock."""

    def __init__(
        self, directory: Path, *words: str, program: tuple[str, ...] = ("docklock.cli.main",),
        stderr: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        argv = ["bpci", "serve", str(directory), "--listen", "127.0.0.1:0", "--name", NAME]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, *argv, *words],
            cwd=TOP, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        scheme = "https" if words else "http"
        assert line.startswith(f"serving on {scheme}://127.0.0.1:"), line
        self.port = int(line.rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(WAIT_S)

    def ask(
        self, method: str, target: str, body: bytes = b"", fields: dict[str, str] | None = None
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, target, body or None, {"host": NAME} | (fields or {}))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def post(self, caller: Caller, data: bytes) -> Answer:
        fields = {"content-encoding": "zstd", "content-type": "application/octet-stream"}
        prepared = caller.prepare(
            "POST", f"http://{NAME}/v1/receipts", batch.compress(data), fields,
            created_s=int(time.time()), nonce=next(NONCES),
        )  # fmt: skip
        reply = self.ask("POST", prepared.target, prepared.body, dict(prepared.fields))
        return caller.check(prepared, *reply)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def test_a_host_enrols_sends_and_finds_it_all_after_a_kill(paths: Paths, tmp_path: Path) -> None:
    top, grant = tmp_path / "bpci", tmp_path / "grant"
    made = run("bpci", "init", str(top))
    assert made.returncode == 0, made.stderr
    server = tuple(note.parse_vkey(line, "key") for line in made.stdout.splitlines())
    assert run("bpci", "keys", str(top)).stdout == made.stdout
    assert run("bpci", "init", str(top)).returncode == 1
    enrolled = keyring.ensure_host_key(paths).enrolled
    host = compute_host_id(enrolled)
    words = (str(top), encode_verifier("h", enrolled), str(grant))
    assert run("bpci", "grant", *words).returncode == 2
    assert run("bpci", "grant", "--tenant", "acme", *words).returncode == 0
    key = load_key(paths)
    caller = Caller(key, make_keyid(host, key.public), server[0].public, server[0].name)
    with Process(top) as process:
        assert process.ask("POST", "/v1/enrol", b"x" * 99)[0] == 400
        spoilt = bytearray(grant.read_bytes())
        spoilt[10] ^= 1
        assert process.ask("POST", "/v1/enrol", bytes(spoilt))[0] == 403
        for _ in range(2):
            status, _fields, body = process.ask("POST", "/v1/enrol", grant.read_bytes())
            assert status == 200
            assert verify_acknowledgement(body, server, host).held.size == 0
        half = get_size(paths) // 2
        assert process.post(caller, make_data(paths, 0, half)).status == 200
        second = subprocess.run(
            [sys.executable, "-m", "docklock.cli.main", "bpci", "serve", str(top)],
            cwd=TOP, capture_output=True, text=True, timeout=WAIT_S,
        )  # fmt: skip
        assert second.returncode == 1 and "another process" in second.stderr
        process.process.kill()
    with Process(top) as process:
        assert process.post(caller, make_data(paths, half)).status == 200
        record(paths, make_id(9), count=40)
        answer = process.post(caller, make_data(paths, get_size(paths) - 1))
        held = verify_acknowledgement(answer.body, server, host).held
        answer = process.post(caller, make_data(paths, held.size))
        with HostLog(paths, None) as log:
            size = log.get_size()
            check_acknowledgement(answer.body, server, host, size, log.compute_root(size))
        status, _fields, checkpoint = process.ask("GET", "/checkpoint")
        assert status == 200 and cosignature.check_checkpoint(checkpoint, server).size == 4
        assert process.end() == 0
    assert run("bpci", "audit", str(top)).returncode == 0
    db = sqlite3.connect(top / FILE)
    with db:
        at = db.execute("SELECT max(leaf_index) FROM segments").fetchone()[0]
        db.execute("UPDATE segments SET box = zeroblob(99) WHERE leaf_index = ?", (at,))
    db.close()
    done = run("bpci", "audit", str(top))
    assert done.returncode == 3
    assert done.stdout.startswith(f"segments: {host.hex()}, leaf {at}: the box does not open")


def test_an_answer_is_not_held_back_on_a_connection_that_is_kept(tmp_path: Path) -> None:
    """Head and body go out at once: else the second waits for the other side, 40 ms on Linux."""
    assert run("bpci", "init", str(tmp_path / "bpci")).returncode == 0
    with Process(tmp_path / "bpci") as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=WAIT_S)
        took_s = []
        for _ in range(2 * ASKED_QUICK):
            began = time.monotonic()
            connection.request("GET", "/checkpoint", headers={"host": NAME})
            assert connection.getresponse().read()
            took_s.append(time.monotonic() - began)
        connection.close()
    assert min(took_s[ASKED_QUICK:]) < 0.03, took_s


def test_it_speaks_tls_and_nothing_else_where_it_has_a_certificate(tmp_path: Path) -> None:
    top = tmp_path / "bpci"
    assert run("bpci", "init", str(top)).returncode == 0
    authority, leaf = make_authority(tmp_path)
    words = ("--certificate", str(leaf.path), "--private-key", str(leaf.path))
    context = ssl.create_default_context(cadata=authority.der)
    context.check_hostname = False
    with Process(top, *words) as process:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", process.port, timeout=WAIT_S, context=context
        )
        connection.request("GET", "/healthz", headers={"host": NAME})
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        with pytest.raises((http.client.HTTPException, OSError)):
            process.ask("GET", "/healthz")
        assert process.end() == 0
    spoilt = tmp_path / "spoilt.pem"
    spoilt.write_bytes(leaf.path.read_bytes()[:200])
    words = ("--certificate", str(spoilt), "--private-key", str(spoilt))
    done = run("bpci", "serve", str(top), "--listen", "127.0.0.1:0", *words)
    assert done.returncode == 2 and "cannot be used for TLS" in done.stderr


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    top = str(tmp_path / "bpci")
    for words, code, said in (
        (("bpci",), 2, "verbs are init"),
        (("bpci", "serve", top), 1, "there is no server key"),
        (("bpci", "audit", top), 1, "there is no server key"),
        (("bpci", "serve", top, "--listen", "x"), 2, "want ADDRESS:PORT"),
        (("bpci", "serve", top, "--certificate", "x"), 2, "go together"),
        (("bpci", "grant", top, "x", "y", "--tenant", "t"), 2, "KEY"),
        (("bpci", "grant", top, "x", "y", "--tenant", "t", "--hours", "0"), 2, "--hours"),
    ):
        done = run(*words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    assert os.listdir(tmp_path) == []


def test_an_address_of_ipv6_is_told_in_brackets(tmp_path: Path) -> None:
    assert run("bpci", "init", str(tmp_path / "bpci")).returncode == 0
    argv = ["bpci", "serve", str(tmp_path / "bpci"), "--listen", "[::1]:0", "--name", NAME]
    process = subprocess.Popen(
        [sys.executable, "-m", "docklock.cli.main", *argv], cwd=TOP, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"serving on http://[::1]:")
        process.terminate()


def test_a_name_without_a_port_is_taken_with_the_port_that_is_listened_on_too() -> None:
    """Callers name the port where it is not the scheme's."""
    names = ["Bpci.example", "bpci.example:9", "[::1]", "[::1]:9"]
    assert name_authorities(names, "7390") == (
        "bpci.example", "bpci.example:7390", "bpci.example:9", "[::1]", "[::1]:7390", "[::1]:9",
    )  # fmt: skip
    assert name_authorities([], "7390") == ()
