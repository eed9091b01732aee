"""The notary through the command line: real containers, real usage, an auditor with public keys."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainlite import bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, compute_gamma, compute_phi
from tests.e2e.agents import Agent
from tests.e2e.conftest import CHECKOUT, Docklock

TAKEN_LIMIT_S = 30.0


def show(dock: Docklock, *words: str) -> list[dict[str, Any]]:
    """The lines of JSON that a verb prints."""
    lines = dock("notary", *words, "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def ran(dock: Docklock) -> Iterator[str]:
    """An app of two runs, notarised."""
    dock("run", "--name", "job", "busybox", "sh", "-c", "chroot / true; chroot / true")
    dock("start", "-a", "job")
    dock("notary", "run", "--flush")
    yield "job"
    dock("rm", "job")


@pytest.fixture(scope="module")
def stranger(dock: Docklock, ran: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an auditor is given: a file and two public keys."""
    place = tmp_path_factory.mktemp("stranger")
    dock("notary", "export", ran, "-o", str(place / "job.logblocks"))
    for name in ("host.pub", "notary.pub"):
        shutil.copy(dock.root / "keys" / name, place)
    return place


def verify(place: Path, *words: str, file: str = "job.logblocks") -> tuple[int, str]:
    """`docklock verify` on a host that has never run anything."""
    done = subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", "verify", file, *words],
        cwd=place, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"],
             "DOCKLOCK_ROOT": str(place / "none")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


KEYS = ("--host-key", "host.pub", "--notary-key", "notary.pub")


def test_an_auditor_verifies_offline_with_two_public_keys(stranger: Path) -> None:
    code, text = verify(stranger, *KEYS)
    assert code == 0 and text.startswith("whole: signed by notary"), text
    assert verify(stranger, *KEYS[:2])[0] == 4
    assert verify(stranger, *KEYS[2:])[0] == 4
    done = subprocess.run(
        [sys.executable, "-m", "chainlite.verify", "job.logblocks", *KEYS],
        cwd=stranger, env={"PYTHONPATH": str(CHECKOUT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    spoilt = bytearray((stranger / "job.logblocks").read_bytes())
    spoilt[-300] ^= 1
    (stranger / "spoilt").write_bytes(spoilt)
    code, text = verify(stranger, *KEYS, file="spoilt")
    assert code == 3 and text.startswith("TAMPERED: "), text
    assert verify(stranger, *KEYS, file="host.pub")[0] == 2


def test_phi_is_that_of_the_usage_that_the_receipts_say(dock: Docklock, ran: str) -> None:
    used = [0] * 5
    for run in (0, 1):
        receipts = [receipt for receipt in dock.receipts(ran) if receipt["run"] == run]
        for number, value in enumerate(receipts[-1]["usage"]):
            used[number] += int(value)  # type: ignore[call-overload]
    assert used[0] > 0 and used[4] > 0
    [window] = show(dock, "poe", ran)
    [part] = window["parts"]
    assert [int(value) for value in part["usage"]] == used
    phi = compute_phi(tuple(used), DEFAULT_TERMS)
    gamma = compute_gamma(phi)
    assert window["phi"]["exact"] == f"{phi.numerator}/{phi.denominator}"
    assert window["gamma"]["exact"] == f"{gamma.numerator}/{gamma.denominator}"
    assert not window["signed"]
    assert "so far, not signed" in dock("notary", "poe", ran).stdout
    start = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(window["window"]["start"] + 60))
    assert show(dock, "poe", ran, "--window", start) == [window]
    dock("notary", "poe", ran, "--window", "2020-01-01T00:00Z", code=1)


def test_every_receipt_of_an_app_is_in_a_logblock(dock: Docklock, ran: str) -> None:
    blocks = show(dock, "logblocks", ran)
    assert sum(block["receipts"] for block in blocks) == len(dock.receipts(ran))
    assert [block["height"] for block in blocks] == list(range(len(blocks)))
    [status] = show(dock, "status")
    [chain] = [chain for chain in status["chains"] if chain["app"] == ran]
    assert (chain["waiting"], chain["logblocks"]) == (0, len(blocks))
    assert (dock.root / "keys/notary.key").stat().st_mode & 0o777 == 0o600


def test_wrong_words_are_named(dock: Docklock, ran: str, tmp_path: Path) -> None:
    for words, code in (
        (("poe", "nobody"), 1),
        (("logblocks", "nobody"), 1),
        (("export", "nobody", "-o", str(tmp_path / "x")), 1),
        (("poe", ran, "--window", "yesterday"), 2),
        (("run", "--follow", "--flush"), 2),
        (("dance",), 2),
    ):
        dock("notary", *words, code=code)
    assert list(tmp_path.iterdir()) == []
    other = Docklock(tmp_path / "other")
    assert "has no key yet" in other("notary", "run", code=1).stderr
    assert "no notary has run here" in other("notary", "status", code=1).stderr


def test_a_bad_segment_is_reported_kept_and_exits_3(dock: Docklock, tmp_path: Path) -> None:
    dock("run", "--name", "bad", "busybox", "true")
    container = str(dock.inspect("bad")["Id"])
    path = dock.root / f"evidence/{container}.db"
    with sqlite3.connect(path) as db:
        [whole] = db.execute(
            "SELECT signature FROM segments ORDER BY first_index LIMIT 1"
        ).fetchone()
        db.execute("UPDATE segments SET signature = zeroblob(64)")
    done = dock("notary", "run", "--flush", code=3)
    assert f"container {container[:12]} run 0 stands still at receipt 0" in done.stderr
    assert "STANDS STILL" in dock("notary", "status").stdout
    [status] = show(dock, "status")
    assert [held["container"] for held in status["held"]] == [container]
    number, file = status["aside"][0]["number"], tmp_path / "frame"
    dock("notary", "aside", str(number), "-o", str(file))
    frame = file.read_bytes()
    header, stored = bundle.decode_segment(frame[1:], frame[0])
    assert (header.container.hex(), stored.signature) == (container, bytes(64)) != whole
    dock("notary", "aside", "99", "-o", str(file), code=1)
    dock("rm", "bad")
    shutil.rmtree(dock.root / "notary")  # the next test's notary begins anew


def find_notaries(dock: Docklock) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except (OSError, ProcessLookupError):
            continue
        if b"notary" in words and f"DOCKLOCK_ROOT={dock.root}".encode() in environment.split(b"\0"):
            found.append(int(pid))
    return found


def await_notaries(dock: Docklock, count: int) -> None:
    deadline = time.monotonic() + TAKEN_LIMIT_S
    while len(find_notaries(dock)) != count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(find_notaries(dock)) == count


def test_the_agent_notarises_what_runs_and_its_notary_ends_with_it(dock: Docklock) -> None:
    with Agent(dock) as agent:
        dock("run", "--name", "kept", "busybox", "sh", "-c",
             "i=0; while [ $i -lt 300 ]; do chroot / true; i=$((i+1)); done")  # fmt: skip
        deadline = time.monotonic() + TAKEN_LIMIT_S
        count = len(dock.receipts("kept"))
        assert count >= 512
        while time.monotonic() < deadline:
            done = dock("notary", "logblocks", "kept", "--json", code=None)
            if done.returncode == 0:
                break
            time.sleep(0.5)
        [first, *_] = [json.loads(line) for line in done.stdout.splitlines()]
        assert first["receipts"] >= 512
        [pid] = find_notaries(dock)
        os.kill(pid, 9)
        dock.wait_for(lambda: find_notaries(dock) not in ([], [pid]), TAKEN_LIMIT_S)
        await_notaries(dock, 1)
        assert "the notary ended" in agent.said()
        agent.kill()
        await_notaries(dock, 0)
        agent.start()
        await_notaries(dock, 1)
    assert find_notaries(dock) == []
    settings = dock.root / "agent.toml"
    settings.write_text("notary = false\n")
    with Agent(dock, "--config", str(settings)):
        time.sleep(1)
        assert find_notaries(dock) == []
    dock("rm", "kept")
