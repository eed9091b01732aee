"""The agent's log: plain lines, or journald's fields."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.agent.journal import ERROR, JOURNAL_SOCKET, Log, Place, encode_entry, find_journal


def parse_entry(data: bytes) -> dict[str, str]:
    """journald's own reading of a datagram."""
    fields, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, has_value, value = data[at:end].partition(b"=")
        if not has_value:
            size = int.from_bytes(data[end + 1 : end + 9], "little")
            value, end = data[end + 9 : end + 9 + size], end + 9 + size
            assert data[end : end + 1] == b"\n"
        fields[name.decode()] = value.decode()
        at = end + 1
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "journal"))
        made.settimeout(5)
        yield made


def test_an_entry_has_priority_container_and_place(journal: socket.socket) -> None:
    log = Log("info", journal.getsockname())
    log.warning("two\nlines", "ab" * 32)
    log.close()
    fields = parse_entry(journal.recv(65536))
    assert fields["MESSAGE"] == "two\nlines"
    assert fields["PRIORITY"] == "4"
    assert (fields["CONTAINER_ID"], fields["CONTAINER_ID_FULL"]) == ("ab" * 6, "ab" * 32)
    assert fields["CODE_FILE"] == __file__
    assert fields["CODE_FUNC"] == "test_an_entry_has_priority_container_and_place"
    assert fields["CODE_LINE"].isdigit()
    assert fields["SYSLOG_IDENTIFIER"] == "docklock-agent"


def test_an_entry_without_a_container_names_none() -> None:
    fields = parse_entry(encode_entry(ERROR, "x", "", Place("f", 1, "g"), "docklock agent"))
    assert not {name for name in fields if name.startswith("CONTAINER")}


def test_without_a_journal_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("warning")
    log.info("not wanted")
    log.error("lost", "ab" * 32)
    log.warning("odd")
    said = capsys.readouterr().err
    assert said == "docklock agent: abababababab: lost\ndocklock agent: odd\n"


def test_a_journal_that_is_away_loses_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log("info", str(tmp_path / "away"))
    log.info("kept")
    log.close()
    assert "kept" in capsys.readouterr().err


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    with open(tmp_path / "stderr", "w") as file:
        status = os.fstat(file.fileno())
        ours = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert find_journal(ours, file.fileno()) == JOURNAL_SOCKET
        assert find_journal({"JOURNAL_STREAM": "1:2"}, file.fileno()) == ""
        assert find_journal({}, file.fileno()) == ""
