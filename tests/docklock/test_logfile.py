"""The log's files: rotation at any limit, a reader beside it, a disk that is full."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

from docklock.cli.log_files import LogFiles, seek_tail
from docklock.log_settings import DEFAULT, LogSettings, decode_log
from docklock.supervisor.logfile import LINE_BYTES_MAX, LogFile

SETTINGS = LogSettings(max_bytes=1000, files_max=3)


def read(path: Path) -> list[str]:
    return [str(json.loads(line)["log"]) for line in path.read_bytes().splitlines()]


def read_new(files: LogFiles) -> list[str]:
    return [json.loads(line)["log"] for line in files.read_new(lambda: False) if line]


def test_files_are_shifted_and_no_more_are_kept_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    log = LogFile(str(path), SETTINGS)
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "container.log",
        "container.log.1",
        "container.log.2",
    ]
    kept = [line for name in (".2", ".1", "") for line in read(tmp_path / f"container.log{name}")]
    assert kept == [f"line {number}\n" for number in range(100 - len(kept), 100)]
    assert all(p.stat().st_size <= SETTINGS.max_bytes for p in tmp_path.iterdir())
    assert all(p.stat().st_size > SETTINGS.max_bytes - 150 for p in tmp_path.glob("*.log.?"))


def test_one_file_begins_anew_and_lines_that_come_together_keep_to_its_limit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "container.log"
    log = LogFile(str(path), SETTINGS._replace(files_max=1))
    log.write("stdout", b"".join(b"line %d\n" % number for number in range(100)))
    log.close()
    assert [p.name for p in tmp_path.iterdir()] == ["container.log"]
    assert path.stat().st_size <= SETTINGS.max_bytes
    assert read(path)[-1] == "line 99\n"


def test_without_a_limit_there_is_one_file_with_all(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    log = LogFile(str(path), LogSettings(max_bytes=0, files_max=1))
    for number in range(2000):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert len(read(path)) == 2000


def test_attributes_are_on_every_line_where_docker_has_them(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    log = LogFile(str(path), DEFAULT._replace(attributes=(("tag", "web/1"),)))
    log.write("stderr", b"a\nb")
    log.close()
    for line in path.read_text().splitlines():
        assert list(json.loads(line)) == ["log", "stream", "attrs", "time"]
        assert json.loads(line)["attrs"] == {"tag": "web/1"}


def test_a_record_without_settings_has_the_default_ones() -> None:
    assert decode_log(()) == DEFAULT
    settings = SETTINGS._replace(options=(("max-size", "1k"),), attributes=(("a", "b"),))
    assert decode_log(tuple(json.loads(json.dumps(settings)))) == settings


@pytest.mark.parametrize("files_max", [1, 2, 3, 7])
def test_a_reader_beside_the_writer_meets_each_line_once_and_in_order(
    tmp_path: Path, files_max: int
) -> None:
    """The reader looks so often that nothing is removed unread."""
    random.seed(files_max)
    log = LogFile(str(tmp_path / "log"), LogSettings(max_bytes=700, files_max=files_max))
    found, number = [], 0
    with LogFiles(str(tmp_path / "log"), files_max) as files:
        found += [json.loads(line)["log"] for line in files.read(None)]
        for _ in range(300):
            for _ in range(random.randrange(5)):  # of some 75 bytes: at most one file's end
                log.write("stdout", b"line %d\n" % number)
                number += 1
            found += read_new(files)
    log.close()
    assert found == [f"line {n}\n" for n in range(number)]


def test_who_is_too_slow_is_told(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), LogSettings(max_bytes=700, files_max=2))
    losses: list[int] = []
    with LogFiles(str(tmp_path / "log"), 2) as files:
        files.set_upon_loss(lambda: losses.append(1))
        log.write("stdout", b"first\n")
        assert len(list(files.read(None))) == 1
        for number in range(50):
            log.write("stdout", b"line %d\n" % number)
        found = read_new(files)
    log.close()
    numbers = [int(text.split()[1]) for text in found]
    assert numbers == sorted(set(numbers))  # of the file that it had open, then of those kept
    assert numbers[0] == 0
    assert numbers[-1] == 49
    assert losses == [1]


def test_a_tail_is_that_of_all_files(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), LogSettings(max_bytes=700, files_max=4))
    for number in range(25):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    every = [f"line {number}\n" for number in range(25)]
    for tail in (None, *range(30)):
        with LogFiles(str(tmp_path / "log"), 4) as files:
            found = [json.loads(line)["log"] for line in files.read(tail)]
        tail = len(every) if tail is None else tail
        assert found == every[len(every) - tail if tail < len(every) else 0 :]


def test_a_tail_is_found_from_the_end_wherever_lines_end() -> None:
    random.seed(1)
    for _ in range(60):
        sizes = [random.choice((0, 1, 50, 70_000)) for _ in range(random.randrange(8))]
        lines = [b"x" * size + b"\n" for size in sizes]
        torn = b"y" * random.choice((0, 3, 66_000))
        limit = random.randrange(9)
        file = io.BytesIO(b"".join(lines) + torn)
        wanted = lines[len(lines) - limit if limit < len(lines) else 0 :]
        assert seek_tail(file, limit) == len(wanted)
        assert file.read() == b"".join(wanted) + torn


class FullFile(io.RawIOBase):
    """A file on a disk with room for so many bytes."""

    def __init__(self, path: Path) -> None:
        self.room, self.data, self._real = 0, b"", path.open("ab")

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self.room:
            raise OSError(28, "No space left on device")
        count = min(self.room, len(data))
        self.room -= count
        self.data += data[:count]
        return count

    def close(self) -> None:
        self._real.close()


def test_a_full_disk_loses_lines_only_where_it_was_asked_for(tmp_path: Path) -> None:
    for is_blocking in (True, False):
        path = tmp_path / f"log-{is_blocking}"
        settings = DEFAULT._replace(is_blocking=is_blocking, buffer_bytes_max=300)
        log = LogFile(str(path), settings)
        log._file.close()
        full = log._file = FullFile(path)  # type: ignore[assignment]
        for number in range(10):
            log.write("stdout", b"line %d\n" % number)
        assert log.is_waiting
        full.room = 10_000
        log.retry()
        assert not log.is_waiting
        written = [json.loads(line)["log"] for line in full.data.splitlines()]
        assert len(written) == (10 if is_blocking else 10 - log.lost_lines)
        assert log.lost_lines == (0 if is_blocking else 7)
        assert written == [f"line {number}\n" for number in range(len(written))]
        log.write("stdout", b"then\n")
        log.close()
        assert json.loads(full.data.splitlines()[-1])["log"] == "then\n"


def test_a_long_line_comes_in_pieces(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.write("stdout", b"x" * (LINE_BYTES_MAX + 5) + b"\ny")
    log.close()
    assert [len(text) for text in read(tmp_path / "log")] == [LINE_BYTES_MAX, 6, 1]
