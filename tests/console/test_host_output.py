"""The newest lines of a log: from its end, over the file before it, whatever its lines are."""

from __future__ import annotations

from pathlib import Path

import pytest

from docklock.console import host_output
from docklock.console.host_output import read_newest_lines
from docklock.supervisor.logfile import LogFile


def test_the_newest_lines_come_in_order_and_over_two_files(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    assert read_newest_lines(str(path), 10) == ()
    log = LogFile(str(path))
    log.write("stdout", b"".join(b"line %d\n" % number for number in range(5000)))
    log.write("stderr", b"\xff odd \x1b[31m\n")
    log.write("stdout", b"not whole yet")
    lines = read_newest_lines(str(path), 1000)
    assert [line.text for line in lines[:-1]] == [f"line {n}" for n in range(4001, 5000)]
    assert (lines[-1].text, lines[-1].stream) == ("\ufffd odd \x1b[31m", "stderr")
    assert 0 < lines[0].time_ns <= lines[-1].time_ns
    assert len(read_newest_lines(str(path), 10_000)) == 5001
    assert read_newest_lines(str(path), 0) == ()
    path.rename(tmp_path / "container.log.1")
    log.close()
    path.write_text('{"log":"after\\n","stream":"stdout","time":"2026-11-29T02:00:00.5Z"}\n')
    assert [one.text for one in read_newest_lines(str(path), 3)][1:] == ["not whole yet", "after"]
    assert read_newest_lines(str(path), 1)[0].time_ns == 1_795_917_600_500_000_000


def test_what_is_no_line_of_ours_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    path.write_bytes(b'{"log": 1\n[]\n\xff\n{"log":"x\\n","stream":"stdout","time":"never"}\nhalf')
    assert [one.text for one in read_newest_lines(str(path), 9)] == [
        '{"log": 1',
        "[]",
        "\ufffd",
        '{"log":"x\\n","stream":"stdout","time":"never"}',
    ]


def test_no_more_is_read_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_output, "BYTES_MAX", 200_000)
    path = tmp_path / "container.log"
    path.write_bytes(b"a" * 1_000_000 + b"\n" + b"b" * 10 + b"\n")
    assert [one.text for one in read_newest_lines(str(path), 9)] == ["b" * 10]
