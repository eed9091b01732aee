"""receipts, verify, evidence and keys as functions of their words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainlite.cosignature import encode_witness
from chainlite.errors import SpecError, StateError
from chainlite.proof import PROOF_TARGET_BYTES
from chainlite.verify import main as verify_main
from docklock.cli.evidence import run_evidence
from docklock.cli.keys import run_keys
from docklock.cli.prove import run_prove
from docklock.cli.receipts import parse_since, run_receipts
from docklock.cli.verify import run_verify
from docklock.evidence.keyring import get_fingerprint
from docklock.evidence.recorder import RunRecorder
from docklock.paths import Paths
from tests.chainlite.samples import WITNESS, encode_sample, read_sample
from tests.evidence.recording import (
    append,
    append_durably,
    begin,
    cosign_log,
    make_id,
    make_paths,
    record,
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), app="web")
    record(paths, make_id(2), app="db", count=3)
    return paths


def show(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    shown: dict[str, object] = json.loads(capsys.readouterr().out)
    return shown


def test_verify_names_what_issue_and_scripts_rely_on(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ("web", make_id(1), make_id(1)[:63] + "1"):
        assert run_verify([target, "--json"], paths) == 0
        shown = show(capsys)
        assert (shown["ok"], shown["trusted"], shown["anchored_to"]) == (True, True, None)
        assert (shown["receipts"], shown["segments"], shown["first_bad"]) == (10, 1, None)
    for words in (["--all", "--json"], ["--json"]):
        assert run_verify(words, paths) == 0
        shown = show(capsys)
        assert (shown["ok"], shown["trusted"], shown["receipts"]) == (True, True, 13)


def test_verify_has_an_exit_code_for_each_verdict(
    paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "web.evidence"
    assert run_evidence(["web", "-o", str(file)], paths) == 0
    assert run_verify([str(file)], paths) == 0
    assert run_verify([str(file), "--host-key", "0" * 64], paths) == 4
    assert run_verify([str(file), "--host-key", f"{paths.keys}/host.pub"], paths) == 0
    assert run_verify([str(file), "--host-key", get_fingerprint(paths)], paths) == 0
    data = file.read_bytes()
    file.write_bytes(data[:-3])
    assert run_verify([str(file)], paths) == 3
    file.write_bytes(encode_sample(read_sample(data), b"\x09" * 32))
    assert run_verify([str(file)], paths) == 4
    file.write_bytes(b"nothing of the sort")
    with pytest.raises(SpecError):
        run_verify([str(file)], paths)
    with pytest.raises(StateError):
        run_verify(["no-such-container"], paths)


def test_evidence_of_what_is_not_whole_is_not_written(paths: Paths, tmp_path: Path) -> None:
    from chainlite.errors import TamperError

    path = f"{paths.evidence}/{make_id(1)}.db"
    Path(path).unlink()
    with pytest.raises(TamperError):
        run_evidence(["web", "-o", str(tmp_path / "out")], paths)
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_prove_writes_a_small_file_that_verifies_alone(
    paths: Paths,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_prove(["web", "4"], paths) == 0
    [file] = tmp_path.glob("*.proof")
    assert file.name == f"{make_id(1)[:12]}-0-4.proof"
    assert file.stat().st_size <= PROOF_TARGET_BYTES
    assert "certificate is signed from the host's key on" in capsys.readouterr().out
    assert run_verify([str(file)], paths) == 0
    text = capsys.readouterr().out
    assert "its epoch 0 began at the host's time 2" in text
    assert "receipt 4 of run 0: syscall.connect allowed" in text
    assert "path=(redacted)" in text
    assert verify_main([str(file), "--host-key", get_fingerprint(paths)]) == 0
    record(paths, make_id(1), run=1, count=3)
    assert run_prove(["web", "1:2", "--values", "paths", "-o", "p"], paths) == 0
    assert run_verify(["p", "--json"], paths) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (shown["receipt"]["run"], shown["receipt"]["index"]) == (1, "2")
    assert shown["values_hex"] == {"path": "", "argv": None}
    assert {path.name for path in tmp_path.iterdir()} == {"root", file.name, "p"}


def test_prove_says_what_it_cannot_prove(paths: Paths, tmp_path: Path) -> None:
    early = cosign_log(paths, tmp_path / "note")
    record(paths, make_id(3), app="later")
    output = ["-o", str(tmp_path / "p")]
    assert run_prove(["web", "4", "--checkpoint", early, *output], paths) == 0
    with pytest.raises(StateError, match="does not reach receipt 0"):
        run_prove(["later", "0", "--checkpoint", early, *output], paths)
    with pytest.raises(StateError, match="10 committed receipts, and none has the index 10"):
        run_prove(["web", "10", *output], paths)
    with pytest.raises(StateError, match="0 committed receipts"):
        run_prove(["web", "3:0", *output], paths)
    for text in ("", "x", "1:", ":1", "-1", "1:2:3", "9" * 30):
        with pytest.raises(SpecError, match="want an index"):
            run_prove(["web", text, *output], paths)


def test_a_receipt_of_a_live_run_is_proven_once_it_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    try:
        index = append_durably(live, 7)
        file = str(tmp_path / "p")
        assert run_prove(["web", str(index), "-o", file], paths) == 0
        assert run_verify([file], paths) == 0
    finally:
        live.close(0)


def test_what_one_asks_for_must_be_named(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="name the witnesses"):
        run_verify(["web", "--require-anchor"], paths)
    with pytest.raises(SpecError, match="--witness-key"):
        run_verify(["web", "--witness-key", "nonsense"], paths)
    with pytest.raises(SpecError, match="no-such-file: cannot read it"):
        run_verify(["web", "--checkpoint", "no-such-file"], paths)
    key = tmp_path / "witness.pub"
    key.write_text(encode_witness(WITNESS) + "\n")
    note = cosign_log(paths, tmp_path / "note")
    words = ["web", "--checkpoint", note, "--require-anchor"]
    assert run_verify([*words, "--witness-key", str(key)], paths) == 0


def test_receipts_are_one_object_a_line_with_the_names_of_the_design(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_receipts(["web", "--json", "--op", "*.connect"], paths) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["index"] for line in lines] == ["0", "2", "4", "6", "8"]
    names = (
        "index run host container app op pid tid nr arch args decision errno ret plane seen policy "
        "mono time boot usage labels"
    )
    assert set(names.split()) <= set(lines[0])
    assert lines[2]["values"] == {"path": "/tmp/4"}
    assert lines[2]["args"] == ["4"] * 6
    run_receipts([], paths)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["INDEX", "TIME", "PID", "OP", "DECISION", "VALUES"]
    assert len(table) == 4


def test_what_a_container_wrote_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    live.append("x", decision=0, plane=0, seen=0, values=(("path", b"\x1b[2J\n\xff\xe2\x80\xae"),))
    live.close(0)
    run_receipts([], paths)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.isprintable()
    assert "\\x1b[2J\\n\\xff\\u202e" in row
    run_receipts(["--json"], paths)
    assert "path_base64" in capsys.readouterr().out


def test_follow_ends_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    live: RunRecorder = begin(paths)
    append(live, 0)
    steps = iter([lambda: append(live, 1), lambda: live.close(0)])
    monkeypatch.setattr("docklock.cli.receipts.time.sleep", lambda _: next(steps)())
    assert run_receipts(["--follow", "--json"], paths) == 0
    lines = [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["0", "1"]


def test_keys_are_made_once_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_paths(tmp_path)
    with pytest.raises(StateError):
        run_keys(["show"], paths)
    assert run_keys(["init"], paths) == 0
    assert run_keys(["init"], paths) == 0
    capsys.readouterr()
    assert run_keys(["show", "--format", "json"], paths) == 0
    assert show(capsys)["fingerprint"] == get_fingerprint(paths)


def test_since_takes_ages_and_moments() -> None:
    now = 1_000_000 * 10**9
    assert parse_since("", now) == 0
    assert parse_since("90s", now) == now - 90 * 10**9
    assert parse_since("2h", now) == now - 7200 * 10**9
    assert parse_since("12.5", now) == 12_500_000_000
    assert parse_since("1970-01-01T00:00:10+00:00", now) == 10 * 10**9
    with pytest.raises(SpecError, match="--since"):
        parse_since("yesterday", now)
