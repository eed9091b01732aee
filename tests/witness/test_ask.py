"""The host's side: its log is cosigned, kept, verified by a policy; another history is found."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, witness
from chainlite.errors import TamperError
from chainlite.note import VerifierKey
from docklock.cli.verify import run_verify
from docklock.evidence.audit import audit_log
from docklock.evidence.export import write_evidence
from docklock.evidence.host_log import HostLog
from docklock.evidence.operations import record_operation
from docklock.evidence.rotation import rotate_host_key
from docklock.evidence.tiles import publish, read_log_keys
from docklock.paths import Paths
from docklock.witness.ask import ask_witnesses
from tests.evidence.recording import make_id, make_paths, record
from tests.witness.conftest import Make
from tests.witness.test_serve import verify
from tests.witness.witnesses import ROOT, RUN, Running, find_port, make_policy, write_policy


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = make_paths(tmp_path)
    record(made, count=4)
    publish(made)
    return made


def get_keys(paths: Paths) -> tuple[VerifierKey, ...]:
    return read_log_keys(paths)


def make_witnesses(make_running: Make, paths: Paths, count: int = 3) -> list[Running]:
    made = [make_running(f"w{number}.example") for number in range(1, count + 1)]
    for one in made:
        one.configure([(get_keys(paths), "")], made)
        one.start(wait=False)
    for one in made:
        one.wait_for(lambda one=one: one.read_metric("witness_ready") == 1)
    return made


def docklock(paths: Paths, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*RUN, "--root", paths.state, *words],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def get_cosigned(paths: Paths) -> tuple[bytes, ...]:
    with HostLog(paths, None) as log:
        return log.get_cosigned_notes(100)


def test_the_log_is_cosigned_kept_and_goes_on(make_running: Make, paths: Paths) -> None:
    made = make_witnesses(make_running, paths)
    policy = make_policy(made, need=2)
    asked = asyncio.run(ask_witnesses(paths, policy))
    assert asked.problems == ()
    assert len(asked.standing.names) == 3
    (kept,) = get_cosigned(paths)
    assert checkpoint.parse_claim(kept).size == asked.size
    assert len(cosignature.get_cosignatures(kept, policy.keys)) == 3
    record(paths, make_id(2), count=3)
    again = asyncio.run(ask_witnesses(paths, policy))
    assert again.size > asked.size
    assert again.standing.is_met
    assert len(get_cosigned(paths)) == 2
    assert audit_log(paths).problems == ()


def test_asking_twice_for_one_size_keeps_what_was_signed(make_running: Make, paths: Paths) -> None:
    made = make_witnesses(make_running, paths)
    policy = make_policy(made, need=2)
    asyncio.run(ask_witnesses(paths, policy))
    made[0].stop()
    asked = asyncio.run(ask_witnesses(paths, policy))
    assert len(asked.problems) == 1
    assert asked.problems[0].startswith(made[0].url)
    assert len(asked.standing.names) == 3  # the line of the one that is away still holds
    (kept,) = get_cosigned(paths)
    assert len(cosignature.get_cosignatures(kept, policy.keys)) == 3


def test_too_few_witnesses_keep_nothing_and_are_named(
    make_running: Make, paths: Paths, tmp_path: Path
) -> None:
    made = make_witnesses(make_running, paths, 3)
    made[0].stop()
    made[1].stop()
    file = write_policy(tmp_path / "p.toml", make_policy(made, need=2))
    done = docklock(paths, "witness", "ask", "--config", str(file), code=1)
    assert "policy not met: 1 of 3 witnesses, 2 are needed" in done.stdout
    assert made[0].url in done.stderr
    assert get_cosigned(paths) == ()


def test_a_witness_that_does_not_know_the_log_says_so(make_running: Make, paths: Paths) -> None:
    one = make_running("w1.example")
    one.configure([((VerifierKey("other", bytes(31) + b"\1", 1),), "")])
    one.start()
    asked = asyncio.run(ask_witnesses(paths, make_policy([one], need=1)))
    assert "refused (404): this log is not known here" in asked.problems[0]


def test_verify_counts_operators_and_says_whether_the_policy_is_met(
    make_running: Make, paths: Paths, tmp_path: Path
) -> None:
    made = make_witnesses(make_running, paths, 4)
    file = write_policy(tmp_path / "p.toml", make_policy(made, need=3, bad=1))
    assert "policy met: 4 of 4" in docklock(paths, "witness", "ask", "--config", str(file)).stdout
    write_evidence(paths, make_id(), str(tmp_path / "e"))
    words = ("verify", str(tmp_path / "e"), "--witness-policy", str(file), "--require-anchor")
    done = docklock(paths, *words)
    assert "policy met: 4 of 4 witnesses (3 needed), 4 operators" in done.stdout
    assert "anchored through index" in done.stdout
    shown = json.loads(docklock(paths, *words, "--json").stdout)
    assert shown["policy"]["met"] is True
    assert len(shown["policy"]["operators"]) == 4
    alike = make_policy(made, need=3, bad=1)
    members = tuple(member._replace(operator="acme") for member in alike.members[:3])
    wrong = write_policy(
        tmp_path / "wrong.toml",
        alike._replace(
            members=(*members, alike.members[3]._replace(keys=get_strange(alike.members[3].name)))
        ),
    )
    words = ("verify", str(tmp_path / "e"), "--witness-policy", str(wrong), "--require-anchor")
    done = docklock(paths, *words, code=3)
    assert "REFUSED: receipts 0 to 3 of run 0 are not anchored" in done.stdout
    assert (
        "policy not met: all of them are run by acme, who runs the log; 1 operator" in done.stdout
    )
    shown = json.loads(docklock(paths, *words, "--json", code=3).stdout)
    assert (shown["ok"], shown["anchored_to"], shown["policy"]["met"]) == (False, None, False)
    plain = docklock(paths, "verify", "--all", "--witness-policy", str(file))
    assert "policy met: 4 of 4" in plain.stdout


def get_strange(name: str) -> tuple[VerifierKey, ...]:
    """A key that has signed nothing."""
    from tests.chainlite.samples import make_key

    return (VerifierKey(name, make_key(0x33).public),)


def test_a_bad_policy_is_refused_with_line_and_key(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('operator = "acme"\nneed = 0\n')
    for words in (
        ("witness", "ask", "--config", str(file), "--check-config"),
        ("verify", "--witness-policy", str(file)),
    ):
        assert f"{file}: line 1: witness: there is none" in docklock(paths, *words, code=2).stderr


def test_a_host_restored_from_a_snapshot_is_told_by_its_witnesses(
    make_running: Make, paths: Paths, tmp_path: Path
) -> None:
    """Its own copy of what was published is restored with it: only others know more."""
    made = make_witnesses(make_running, paths)
    policy = make_policy(made, need=2)
    asyncio.run(ask_witnesses(paths, policy))
    shutil.copytree(paths.state, tmp_path / "kept")
    record(paths, make_id(2), count=3)
    asyncio.run(ask_witnesses(paths, policy))
    shutil.rmtree(paths.state)
    shutil.copytree(tmp_path / "kept", paths.state)
    with pytest.raises(TamperError, match="rolled back, or restored from a snapshot"):
        asyncio.run(ask_witnesses(paths, policy))
    done = docklock(paths, "verify", "--against", made[0].url, code=3)
    assert "rolled back, or restored from a snapshot" in done.stdout
    for number in range(40):  # it goes on, and makes another history
        record_operation(paths, "policy", labels=(("number", str(number)),))
    with pytest.raises(TamperError, match="has seen another history"):
        asyncio.run(ask_witnesses(paths, policy))
    (fork,) = sorted(Path(paths.state, "forks").glob("*.fork"))[:1]
    third = verify(fork)
    assert third.returncode == 3
    assert "has signed two histories" in third.stdout
    done = docklock(paths, "verify", "--against", "w2.example", "--witness-policy",
                    str(write_policy(tmp_path / "p.toml", policy)), code=3)  # fmt: skip
    assert "TAMPERED: w2.example has seen another history" in done.stdout
    again = docklock(paths, "witness", "ask", "--config", str(tmp_path / "p.toml"), code=3)
    assert "has seen another history" in again.stderr
    shown = json.loads(docklock(paths, "verify", "--json", "--against", made[1].url, code=3).stdout)
    assert shown["ok"] is False
    assert "another history" in shown["against"]["why"]
    assert "fork" in [event["Action"] for event in read_events(paths)]


def read_events(paths: Paths) -> list[dict[str, str]]:
    done = docklock(paths, "events", "--since", "1h", "--until", "0s", "--format", "json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_log_that_goes_on_is_so_against_any_peer(make_running: Make, paths: Paths) -> None:
    made = make_witnesses(make_running, paths, 2)
    done = docklock(paths, "verify", "--against", made[0].url, code=1)
    assert "holds no checkpoint that this host has signed" in done.stderr
    asyncio.run(ask_witnesses(paths, make_policy(made, need=2)))
    record(paths, make_id(2), count=3)
    done = docklock(paths, "verify", "--against", made[0].url)
    assert "the log continues the " in done.stdout
    docklock(paths, "verify", "--against", "nobody", code=2)
    docklock(paths, "verify", "--against", "http://127.0.0.1:9", code=1)


def test_a_stolen_key_that_went_on_elsewhere_is_found(
    make_running: Make, paths: Paths, tmp_path: Path
) -> None:
    """A thief goes on with the log and has it cosigned: the host sees it when it asks."""
    made = make_witnesses(make_running, paths)
    policy = make_policy(made, need=2)
    shutil.copytree(paths.state, tmp_path / "thief/root")
    thief = make_paths(tmp_path / "thief")
    record(thief, make_id(9), count=5)
    asyncio.run(ask_witnesses(thief, policy))
    for number in range(60):
        record_operation(paths, "policy", labels=(("number", str(number)),))
    with pytest.raises(TamperError, match="another history"):
        asyncio.run(ask_witnesses(paths, policy))


def test_a_fork_under_a_later_key_convicts_without_naming_it(
    make_running: Make, paths: Paths, tmp_path: Path
) -> None:
    """The host that finds it puts its key records into the file."""
    rotate_host_key(paths)
    publish(paths)
    made = make_witnesses(make_running, paths)
    policy = make_policy(made, need=2)
    shutil.copytree(paths.state, tmp_path / "kept")
    record(paths, make_id(2), count=3)
    asyncio.run(ask_witnesses(paths, policy))
    shutil.rmtree(paths.state)
    shutil.copytree(tmp_path / "kept", paths.state)
    for number in range(40):
        record_operation(paths, "policy", labels=(("number", str(number)),))
    with pytest.raises(TamperError, match="another history"):
        asyncio.run(ask_witnesses(paths, policy))
    file = next(Path(paths.state, "forks").glob("*.fork"))
    assert verify(file).returncode == 3
    assert "FORKED: " in docklock(paths, "verify", str(file), code=3).stdout
    shown = json.loads(docklock(paths, "verify", str(file), "--json", code=3).stdout)
    assert (shown["ok"], shown["forked"], len(shown["checkpoints"])) == (False, True, 2)
    spoilt = tmp_path / "spoilt.fork"
    spoilt.write_bytes(file.read_bytes()[:-1])
    docklock(paths, "verify", str(spoilt), code=2)


def test_witnesses_at_two_sizes_are_settled_by_what_the_host_serves(
    make_running: Make, paths: Paths
) -> None:
    """The whole way: a log that grew to 300 leaves, `docklock log serve`, and two witnesses."""
    port = find_port()
    serving = subprocess.Popen(
        [*RUN, "--root", paths.state, "log", "serve", "--listen", f"127.0.0.1:{port}"],
        cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert serving.stdout is not None
        assert b"serving the host log" in serving.stdout.readline()
        made = [make_running(f"w{number}.example") for number in (1, 2)]
        for one in made:
            one.configure([(get_keys(paths), f"http://127.0.0.1:{port}")], made)
            one.start(wait=False)
        made[1].wait_for(lambda: all(one.read_metric("witness_ready") for one in made))
        first = asyncio.run(ask_witnesses(paths, make_policy(made[:1], need=1)))
        for number in range(300):
            record_operation(paths, "policy", labels=(("number", str(number)),))
        second = asyncio.run(ask_witnesses(paths, make_policy(made[1:], need=1)))
        assert second.size >= first.size + 300
        for one in made:
            one.wait_for(lambda one=one: b"note" in one.get(get_path(paths)).body)
            one.wait_for(lambda one=one: one.read_metric("witness_unsettled") == 0)
            assert one.list_forks() == []
            assert "cannot be compared" not in one.said()
    finally:
        serving.terminate()
        serving.wait()
        if serving.stdout is not None:
            serving.stdout.close()


def get_path(paths: Paths) -> str:
    return f"/checkpoints/{witness.compute_origin_hash(get_keys(paths)[0].name)}"


def test_a_host_verifies_by_the_policy_of_its_machine(
    make_running: Make,
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = make_witnesses(make_running, paths)
    file = write_policy(tmp_path / "witnesses.toml", make_policy(made, need=2))
    asyncio.run(ask_witnesses(paths, make_policy(made, need=2)))
    monkeypatch.setattr("docklock.cli.verify.POLICY_DEFAULT", str(file))
    assert run_verify(["--all"], paths) == 0
    assert "policy met: 3 of 3 witnesses (2 needed), 3 operators" in capsys.readouterr().out
