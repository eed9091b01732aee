"""What `verify` says of runs under earlier keys of the host, of a revoked key, of a thief's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite import bundle, hostlog, keys
from chainlite.errors import SpecError
from chainlite.verify import verify_frames
from docklock.cli.evidence import run_evidence
from docklock.cli.prove import run_prove
from docklock.cli.verify import run_verify
from docklock.evidence import journal, keyring, rotation
from docklock.evidence.audit import audit_log
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.recovery import recover_runs
from docklock.evidence.run_start import RunStart, make_genesis
from docklock.paths import Paths
from tests.chainlite.samples import decode_frames, encode_frames
from tests.evidence.recording import (
    ROOT,
    append,
    begin,
    make_id,
    make_paths,
    record,
    record_and_die,
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with one container of three runs, each under another key; and a newer key."""
    paths = make_paths(tmp_path)
    for run in range(3):
        record(paths, make_id(1), run=run)
        rotation.rotate_host_key(paths)
    return paths


def load_key(paths: Paths) -> keys.KeyPair:
    """The host's private key of now, as root steals it."""
    return keys.make_key_pair(Path(keyring.get_key_path(paths)).read_bytes()[-32:])


def get_start_leaf(paths: Paths, run: int) -> int:
    with HostLog(paths, None) as log:
        return log.get_runs(make_id(1))[run].start_leaf


def export(paths: Paths, file: Path) -> list[tuple[int, bytes]]:
    assert run_evidence([make_id(1), "-o", str(file)], paths) == 0
    return decode_frames(file.read_bytes())


def verify(capsys: pytest.CaptureFixture[str], paths: Paths, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run_verify(list(words), paths)
    return code, capsys.readouterr().out


def test_runs_under_earlier_keys_are_whole_and_trusted(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint, file = keyring.get_fingerprint(paths), tmp_path / "web.evidence"
    export(paths, file)
    for words in (["web"], ["--all"], [str(file)], [str(file), "--host-key", fingerprint]):
        assert verify(capsys, paths, *words)[0] == 0, words
    assert audit_log(paths).problems == ()
    done = subprocess.run(
        [sys.executable, "-m", "chainlite.verify", str(file), "--host-key", fingerprint],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0


def test_a_run_that_lives_over_rotations_is_whole(paths: Paths) -> None:
    live = begin(paths, make_id(2))
    append(live, 0)
    rotation.rotate_host_key(paths)
    assert verify_container(paths, make_id(2)).first_bad is None
    append(live, 1)
    rotation.rotate_host_key(paths)
    live.close(0)
    report = verify_container(paths, make_id(2))
    assert (report.first_bad, report.receipts) == (None, 2)


def test_a_run_that_was_recovered_under_a_later_key_is_whole(paths: Paths) -> None:
    container = make_id()
    shutil.rmtree(paths.state)  # the fixture's container has the same id
    record_and_die(paths, "append(recorder, 0)")
    rotation.rotate_host_key(paths)
    [run] = recover_runs(paths, lambda _: False)
    report = verify_container(paths, container)
    assert (report.first_bad, report.runs[0].state) == (None, "cut")
    assert (run.container, report.revoked_runs) == (container, ())
    rotation.revoke_host_key(paths, 1, 0)
    assert verify_container(paths, container).revoked_runs == (0,)


def test_a_proof_holds_under_later_keys(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = keyring.get_fingerprint(paths)
    for run in range(3):
        file = tmp_path / f"{run}.proof"
        assert run_prove([make_id(1), f"{run}:3", "-o", str(file)], paths) == 0
        assert file.stat().st_size <= 4096
        assert verify(capsys, paths, str(file), "--host-key", fingerprint)[0] == 0
    data = file.read_bytes()
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            code, _ = verify(capsys, paths, str(file), "--host-key", fingerprint)
        except SpecError:  # it is no proof any more
            continue
        assert code in (3, 4), place
    rotation.revoke_host_key(paths, 2, get_start_leaf(paths, 2))
    for run, expected in ((1, 0), (2, 4)):
        assert run_prove([make_id(1), f"{run}:3", "-o", str(file)], paths) == 0
        code, text = verify(capsys, paths, str(file), "--host-key", fingerprint)
        assert (code, "has revoked" in text) == (expected, expected == 4)


def test_a_revoked_key_is_not_trusted_from_its_leaf_on(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.evidence"
    export(paths, old)
    rotation.revoke_host_key(paths, 1, None)
    assert verify(capsys, paths, "web")[0] == 0, "revoked from now on: what was logged stands"
    rotation.revoke_host_key(paths, 1, get_start_leaf(paths, 1))
    new = tmp_path / "new.evidence"
    export(paths, new)
    for words in (["web"], ["--all"], [str(new)]):
        code, text = verify(capsys, paths, *words)
        assert (code, "has revoked the key of run 1" in text) == (4, True), words
    code, text = verify(capsys, paths, str(new), "--json")
    shown = json.loads(text)
    assert (shown["ok"], shown["trusted"], shown["revoked_runs"]) == (True, False, [1])
    assert verify(capsys, paths, str(old))[0] == 0, "written before: it cannot know"


def test_no_key_frame_can_be_dropped_swapped_or_changed(paths: Paths, tmp_path: Path) -> None:
    rotation.revoke_host_key(paths, 0, None)
    file = tmp_path / "web.evidence"
    frames = export(paths, file)
    places = [place for place, (kind, _) in enumerate(frames) if kind == bundle.KEY]
    assert len(places) == 4

    def is_refused(changed: list[tuple[int, bytes]]) -> bool:
        file.write_bytes(encode_frames(changed)[0])
        return run_verify([str(file)], paths) == 3

    for place in places:
        assert is_refused(frames[:place] + frames[place + 1 :])
        assert is_refused([*frames[:place], frames[place], *frames[place:]])
        kind, payload = frames[place]
        for at in range(0, len(payload), 7):
            spoilt = payload[:at] + bytes([payload[at] ^ 4]) + payload[at + 1 :]
            assert is_refused([*frames[:place], (kind, spoilt), *frames[place + 1 :]]), at
    first, second = places[:2]
    swapped = list(frames)
    swapped[first], swapped[second] = frames[second], frames[first]
    assert is_refused(swapped)
    # Without the seal, and with right checks: each record must be in the log, at its leaf.
    for place in places:
        kind, payload = frames[place]
        for at in (7, len(payload) - 1):
            spoilt = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
            open_frames = [*frames[:place], (kind, spoilt), *frames[place + 1 : -1]]
            report = verify_frames(
                bundle.Frame(*frame, b"", is_intact=True) for frame in open_frames
            )
            assert report.first_bad is not None
    late = [*frames[: places[0]], *frames[places[-1] + 1 :]]
    assert is_refused([*late[:2], *[frames[place] for place in places], *late[2:]])


def test_a_start_that_an_earlier_key_signed_is_refused(paths: Paths) -> None:
    """The thief has the key of yesterday, and a way to write into the log of today."""
    stolen = load_key(paths)
    rotation.rotate_host_key(paths)
    container = bytes.fromhex(make_id(5))
    file = journal.create_journal(paths, make_id(5))
    with HostLog(paths, keyring.ensure_host_key(paths)) as log, log.write():
        genesis = make_genesis(log.host, container, 0, bytes(32), "", "forged")
        start = RunStart(file, stolen, genesis)
        log.append_start(container, 0, "forged", start.make_leaf)
    file.remove()
    bad = verify_container(paths, make_id(5)).first_bad
    assert bad is not None
    assert "not signed by its issuer" in bad.why


def test_a_key_stolen_yesterday_does_not_continue_the_log_that_others_saw(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thief = make_paths(tmp_path / "thief")
    shutil.copytree(paths.state, thief.state, dirs_exist_ok=True)
    note = tmp_path / "checkpoint"
    rotation.rotate_host_key(paths)
    record(paths, make_id(3))
    with HostLog(paths, None) as log:
        note.write_bytes(log.get_note())
    for number in range(4, 9):
        record(thief, make_id(number), app="forged")
    file, fingerprint = tmp_path / "forged", keyring.get_fingerprint(paths)
    assert run_evidence([make_id(4), "-o", str(file)], thief) == 0
    assert verify(capsys, paths, str(file), "--host-key", fingerprint)[0] == 0, "his word"
    for on, words in ((thief, [make_id(4)]), (thief, ["--all"]), (paths, [str(file)])):
        try:
            code, _ = verify(capsys, on, *words, "--checkpoint", str(note))
        except SpecError:  # the checkpoint's key is not one of his history
            continue
        assert code == 3, words


def test_the_log_names_each_key_once(paths: Paths) -> None:
    with HostLog(paths, None) as log:
        leaves = [hostlog.decode_leaf(data) for _, data in log.get_key_leaves()]
    assert [leaf.number for leaf in leaves if isinstance(leaf, hostlog.Key)] == [0, 1, 2, 3]
