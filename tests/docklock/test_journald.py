"""The log driver journald, against a socket that takes what journald takes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.lifecycle import Container
from docklock.log_settings import JOURNALD, LogSettings
from docklock.supervisor.journald import JournalLog
from docklock.supervisor.logfile import LINE_BYTES_MAX, LogFile

CONTAINER = Container("0123456789ab" * 5 + "cdef", "web", "/b", image="busybox")
SETTINGS = LogSettings(JOURNALD, files_max=0)


class Journal:
    """What journald's socket is."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def read(self) -> list[dict[str, bytes]]:
        found = []
        while True:
            try:
                found.append(parse(self.socket.recv(1 << 20)))
            except BlockingIOError:
                return found


def parse(entry: bytes) -> dict[str, bytes]:
    """As journald reads an entry."""
    fields = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, has_value, value = line.partition(b"=")
        if not has_value:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        assert name.decode() not in fields
        fields[name.decode()] = value
        entry = rest
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "socket")
    yield found
    found.socket.close()


def test_each_line_is_an_entry_with_dockers_fields(journal: Journal) -> None:
    attributes = (
        ("tag", "web/1"),
        ("com.example.tier", "front\nback"),
        ("message", "x"),
        ("_container_name", "x"),
    )
    log = JournalLog(CONTAINER, SETTINGS._replace(attributes=attributes), None, journal.path)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"MESSAGE=forged\n")
    log.write("stdout", b"o\xff\nrest")
    log.close()
    found = journal.read()
    assert [one["MESSAGE"] for one in found] == [b"one", b"MESSAGE=forged", b"two\xff", b"rest"]
    assert [one["PRIORITY"] for one in found] == [b"6", b"3", b"6", b"6"]
    assert [one["CONTAINER_LOG_ORDINAL"] for one in found] == [b"1", b"2", b"3", b"4"]
    first = found[0]
    assert first["CONTAINER_ID"] == CONTAINER.id[:12].encode()
    assert first["CONTAINER_ID_FULL"] == CONTAINER.id.encode()
    assert first["CONTAINER_NAME"] == b"web"
    assert first["IMAGE_NAME"] == b"busybox"
    assert first["CONTAINER_TAG"] == first["SYSLOG_IDENTIFIER"] == b"web/1"
    assert first["COM_EXAMPLE_TIER"] == b"front\nback"


def test_a_line_in_pieces_says_so_but_for_its_last(journal: Journal) -> None:
    log = JournalLog(CONTAINER, SETTINGS, None, journal.path)
    log.write("stdout", b"x" * (LINE_BYTES_MAX + 5) + b"\n")
    log.close()
    whole, rest = journal.read()
    assert whole["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    assert "CONTAINER_PARTIAL_MESSAGE" not in rest
    assert len(whole["MESSAGE"] + rest["MESSAGE"]) == LINE_BYTES_MAX + 5


def test_a_busy_journal_is_waited_for(journal: Journal) -> None:
    log = JournalLog(CONTAINER, SETTINGS, None, journal.path)
    sent = 0
    while not log.is_waiting:
        log.write("stdout", b"%d\n" % sent)
        sent += 1
    log.write("stdout", b"%d\n" % sent)
    found = []
    while log.is_waiting:
        found += journal.read()
        log.retry()
    log.close()
    found += journal.read()
    assert [int(one["MESSAGE"]) for one in found] == list(range(sent + 1))
    assert log.lost_lines == 0


def test_what_waits_goes_first(journal: Journal) -> None:
    log = JournalLog(CONTAINER, SETTINGS, None, journal.path)
    sent = 0
    while not log.is_waiting:
        log.write("stdout", b"%d\n" % sent)
        sent += 1
    found = journal.read()
    log.write("stdout", b"%d\n" % sent)  # there is room for it by now
    log.close()
    found += journal.read()
    assert [int(one["MESSAGE"]) for one in found] == list(range(sent + 1))


def test_non_blocking_lines_beyond_its_buffer_are_lost_and_counted(journal: Journal) -> None:
    settings = SETTINGS._replace(is_blocking=False, buffer_bytes_max=1000)
    log = JournalLog(CONTAINER, settings, None, journal.path)
    for number in range(5000):
        log.write("stdout", b"%d\n" % number)
    assert log.lost_lines
    found = journal.read()
    log.retry()
    log.close()
    found += journal.read()
    numbers = [int(one["MESSAGE"]) for one in found]
    assert numbers == list(range(5000 - log.lost_lines))


def test_what_no_journal_takes_is_counted_and_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    log = JournalLog(CONTAINER, SETTINGS, LogFile(str(path)), str(tmp_path / "none"))
    log.write("stdout", b"one\ntwo\n")
    log.close()
    assert log.lost_lines == 2
    assert [json.loads(line)["log"] for line in path.read_text().splitlines()] == ["one\n", "two\n"]
