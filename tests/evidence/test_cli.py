"""receipts, verify, evidence and keys as functions of their words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from docklock.cli.evidence import run_evidence
from docklock.cli.keys import run_keys
from docklock.cli.receipts import parse_since, run_receipts
from docklock.cli.verify import run_verify
from docklock.evidence.keyring import get_fingerprint
from docklock.evidence.recorder import RunRecorder
from docklock.paths import Paths
from tests.chainlite.samples import encode_sample, read_sample
from tests.evidence.recording import append, begin, make_id, make_paths, record


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
