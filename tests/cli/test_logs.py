"""docklock logs: which lines are shown, where and how. Files that are written meanwhile: e2e."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from docklock.cli.logs import run_logs
from docklock.lifecycle import Container, make_directories, reserve_name, write_container
from docklock.log_settings import LogSettings
from docklock.paths import Paths, get_paths

ID = "0123456789abcdef" * 4
Show = Callable[..., tuple[str, str]]


def write(paths: Paths, entries: list[tuple[str, str, int]], suffix: str = "") -> None:
    """(stream, text, second of 2026-11-29T10:00) each."""
    lines = [
        json.dumps(
            {
                "log": text,
                "stream": stream,
                "attrs": {"tag": "a b", "tier": "x"},
                "time": f"2026-11-29T10:00:{second:02}.000000001Z",
            }
        )
        for stream, text, second in entries
    ]
    path = Path(f"{paths.container(ID)}/container.log{suffix}")
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = get_paths(root=str(tmp_path))
    make_directories(found)
    os.mkdir(found.container(ID))
    write_container(found, Container(ID, "web", found.container(ID)))
    reserve_name(found, "web", ID)
    return found


@pytest.fixture
def show(paths: Paths, capfd: pytest.CaptureFixture[str]) -> Show:
    def run(*words: str) -> tuple[str, str]:
        assert run_logs([*words, "web"], paths) == 0
        return capfd.readouterr()

    return run


def test_a_stream_goes_where_it_came_from(paths: Paths, show: Show) -> None:
    write(paths, [("stdout", "old\n", 1)], ".1")
    write(paths, [("stdout", "out\n", 2), ("stderr", "err\n", 3), ("stdout", "é", 4)])
    assert show() == ("old\nout\né", "err\n")
    assert show("-f") == ("old\nout\né", "err\n")  # it does not run


def test_times_choose_lines_and_tail_counts_before(paths: Paths, show: Show) -> None:
    write(paths, [("stdout", f"{second}\n", second) for second in range(10)])
    assert show("--since", "2026-11-29T10:00:07Z")[0] == "7\n8\n9\n"
    assert show("--until", "2026-11-29T10:00:02Z")[0] == "0\n1\n"
    assert show("--until", "2026-11-29T10:00:02.000000001Z")[0] == "0\n1\n2\n"
    assert show("--since", "2026-11-29T10:00:03Z", "--until", "2026-11-29T10:00:05Z")[0] == "3\n4\n"
    assert show("--tail", "2", "--since", "2026-11-29T10:00:05Z")[0] == "8\n9\n"
    assert show("-n", "2", "--until", "2026-11-29T10:00:05Z")[0] == ""
    assert show("-n", "0")[0] == ""
    assert show("-n", "all")[0].count("\n") == 10


def test_a_line_in_pieces_has_one_time(paths: Paths, show: Show) -> None:
    write(
        paths,
        [("stdout", "lo", 1), ("stderr", "err\n", 2), ("stdout", "ng\n", 3), ("stdout", "x\n", 4)],
    )
    out, err = show("-t")
    head = "2026-11-29T10:00:"
    assert out == f"{head}01.000000001Z long\n{head}04.000000001Z x\n"
    assert err == f"{head}02.000000001Z err\n"


def test_details_are_what_each_line_carries(paths: Paths, show: Show) -> None:
    write(paths, [("stdout", "x\n", 1)])
    assert show("--details")[0] == "tag=a%20b,tier=x x\n"


def test_a_damaged_line_is_told_and_left_out(paths: Paths, show: Show) -> None:
    write(paths, [("stdout", "x\n", 1), ("stdout", "y\n", 1)])
    log = Path(paths.container(ID), "container.log")
    log.write_bytes(log.read_bytes().replace(b"}\n{", b"}\n\0\0\n[]\n{", 1) + b'{"log": "not wh')
    assert show() == ("x\ny\n", "docklock logs: a damaged line is left out\n" * 2)


def test_a_container_that_has_written_nothing_has_no_output(show: Show) -> None:
    assert show() == ("", "")


def test_what_cannot_be_read_is_said(paths: Paths, show: Show) -> None:
    container = Container(ID, "web", paths.container(ID), log=tuple(LogSettings("none", 0, 0)))
    write_container(paths, container)
    with pytest.raises(StateError, match="configured logging driver does not support reading"):
        show()


@pytest.mark.parametrize("words", [("-n", "x"), ("-n", "-2"), ("--since", "soon")])
def test_what_is_no_number_or_time_is_refused(show: Show, words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match="docklock logs: --"):
        show(*words)
