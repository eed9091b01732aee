"""A server that is killed anywhere has lost nothing that it acknowledged, and forks nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from chainlite import cosignature, merkle, tlogproof
from chainlite.bpci import act_log
from chainlite.bpci.acknowledgement import Acknowledgement
from chainlite.bpci.audit import audit
from chainlite.bpci.rows import make_reader
from chainlite.keys import compute_host_id
from docklock.paths import Paths
from tests.bpci.joined import make_pair
from tests.bpci.killed_office import KEYS
from tests.bpci.servers import KEY, Server, check
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host

TOP = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("killed_intake.py")
OFFICE = Path(__file__).with_name("killed_office.py")


def take_and_die(
    paths: Paths, directory: Path, host: bytes, point: int, seed: int, lines: int
) -> list[Acknowledgement]:
    """What it said before it was killed: by itself at `point`, else after so many lines."""
    argv = [sys.executable, str(PROGRAM), paths.state, str(directory), host.hex()]
    process = subprocess.Popen(
        [*argv, str(point), str(seed)], stdout=subprocess.PIPE, text=True, cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert process.stdout is not None
    said = list[str]()
    with process:
        for line in process.stdout:
            said.append(line.strip())
            if not point and len(said) >= lines:
                process.kill()
                break
        said += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL or said[-1] == "done"
    return [check(bytes.fromhex(line), host) for line in said if line != "done"]


def assert_held(server: Server, host: bytes, said: list[Acknowledgement]) -> None:
    row = server.store.find_host(host)
    assert row is not None
    held = make_reader(server.store, host, {})
    log = make_reader(server.store, b"", {})
    for made in said:
        assert made.held.size <= row.size
        assert merkle.compute_tree_root(made.held.size, held) == made.held.root
        proof = tlogproof.parse_log_proof(made.proof)
        state = cosignature.check_checkpoint(proof.note, KEY.log_keys)
        assert state.size <= server.intake.log.state.size
        assert merkle.compute_tree_root(state.size, log) == state.root
    assert server.audit() == []


def test_nothing_acknowledged_is_lost_wherever_it_is_killed(
    tmp_path: Path, seed: int, full: bool
) -> None:
    paths, rng = make_host(tmp_path), random.Random(seed)
    for number in range(6, 10):
        record(paths, make_id(number), count=3)
    size = get_size(paths)
    with Server(tmp_path / "fresh") as server:
        host = server.enrol(paths)
    kills, finished, said = 0, 0, list[Acknowledgement]()
    directory = tmp_path / "server"
    while kills < (200 if full else 14):
        if not directory.exists():
            shutil.copytree(tmp_path / "fresh", directory)
            said = []
        point = rng.choice((0, rng.randint(1, 40)))
        said += take_and_die(paths, directory, host, point, rng.randrange(2**32), rng.randint(1, 6))
        with Server(directory) as server:
            assert_held(server, host, said)
            kills += 1
            if server.get_size(host) == size:
                finished += 1
                shutil.rmtree(directory)
    assert finished


def rule_and_die(
    paths: Paths, directory: Path, host: bytes, point: int, seed: int
) -> list[tuple[str, int]]:
    """What it said that it had done, before it killed itself."""
    argv = [sys.executable, str(OFFICE), paths.state, str(directory), host.hex()]
    done = subprocess.run(
        [*argv, str(point), str(seed)], capture_output=True, text=True, cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    return [(word, int(number)) for word, number in words]


def test_no_act_that_was_said_to_be_done_is_lost_wherever_it_is_killed(
    tmp_path: Path, seed: int, full: bool
) -> None:
    paths, rng, directory = make_host(tmp_path), random.Random(seed), tmp_path / "server"
    with Server(directory) as server:
        host = server.enrol(paths)
    said = list[tuple[str, int]]()
    for _ in range(100 if full else 8):
        said += rule_and_die(paths, directory, host, rng.randint(1, 80), rng.randrange(2**32))
        with Server(directory) as server:
            members = server.intake.access.members
            revoked = {one.member: bool(one.revoked_ms) for one in members.values()}
            names = {key: compute_host_id(make_pair(key).public) for key in KEYS}
            assert all(names[number] in members for word, number in said if word == "in")
            assert all(revoked[names[number]] for word, number in said if word == "out")
            limits = [number for word, number in said if word == "quota"]
            assert not limits or server.intake.access.get_quota("acme").bytes >= limits[-1]
            ends = [number for word, number in said if word == "erased"]
            for one in server.store.read_segments(host, 0, 999):
                assert one.erased or one.leaf_index >= max(ends, default=0)
            acts = str(directory / act_log.FILE)
            assert list(audit(server.store, KEY, acts)) == []
    assert {word for word, _ in said} == {"in", "out", "quota", "erased"}
