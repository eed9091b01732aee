"""The program on a real terminal: what it refuses, draws, and leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.console.facts import Overview
from docklock.console.saved import Answer, encode_saved, load_saved
from tests.tui.screen import NOW_NS, PATIENCE_S
from tests.tui.toy import make_rows
from tui.start import find_terminal_fault

COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
TOP = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def replay(tmp_path: Path) -> Path:
    overview = Overview(NOW_NS, "2dcd7284bae38c2b", "up", make_rows(30), 30, 12)
    path = tmp_path / "saved.json"
    path.write_bytes(encode_saved("here", [Answer("overview", NOW_NS, overview)]))
    return path


class Terminal:
    """A pseudo-terminal with the program on it."""

    def __init__(self, arguments: list[str], *, is_module: bool = True, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        program = [sys.executable, *(("-m", "tui") if is_module else ()), *arguments]
        self.process = subprocess.Popen(
            program, cwd=TOP, stdin=slave, stdout=slave, stderr=slave,
            env=known | environment, start_new_session=True,
        )  # fmt: skip
        self.drawn = b""

    def read_until(self, *words: bytes) -> None:
        end = time.monotonic() + PATIENCE_S
        while not all(word in self.drawn for word in words):
            assert time.monotonic() < end, self.drawn[-3000:]
            if select.select([self._master], [], [], 0.1)[0]:
                self.drawn += os.read(self._master, 65536)
            assert self.process.poll() is None or all(w in self.drawn for w in words), self.drawn

    def press(self, keys: bytes) -> None:
        self.drawn = b""
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self) -> int:
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end
            if select.select([self._master], [], [], 0.05)[0]:
                self.drawn += os.read(self._master, 65536)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self.slave)


@contextlib.contextmanager
def open_terminal(
    arguments: list[str], *, is_module: bool = True, **environment: str
) -> Iterator[Terminal]:
    terminal = Terminal(arguments, is_module=is_module, **environment)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("term", ["xterm-256color", "screen-256color", "linux"])
def test_it_draws_takes_keys_and_leaves_the_terminal_as_it_was(
    replay: Path, tmp_path: Path, term: str
) -> None:
    saved = tmp_path / "again.json"
    extra = {"NO_COLOR": "1", "COLORTERM": "truecolor"} if term == "linux" else {}
    with open_terminal(
        ["--replay", str(replay), "--save", str(saved)], TERM=term, **extra
    ) as terminal:
        terminal.read_until(b"web-0", b"30 running, 12 measured", b"Help")
        colours = COLOUR.findall(terminal.drawn)
        assert not colours if extra else len(colours) > 20
        terminal.press(b"?")
        terminal.read_until(b"Keys here")
        terminal.resize(100, 30)
        terminal.press(b"\x1b")
        terminal.read_until(b"web-1")
        terminal.press(b":q\r")
        assert terminal.wait() == 0
        assert b"\x1b[?1049l" in terminal.drawn  # back from the other screen
        assert termios.tcgetattr(terminal.slave) == terminal.before
    again = load_saved(saved.read_bytes()).containers.read_overview()
    assert len(again.containers) == 30


def test_where_no_screen_can_be_drawn_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui"], cwd=TOP, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "must be a terminal" in done.stderr
    assert find_terminal_fault("dumb", is_terminal=True) == (
        "TERM is dumb: this terminal cannot place a cursor"
    )
    assert "not set" in find_terminal_fault("", is_terminal=True)
    for term in ("xterm", "linux", "screen-256color", "tmux-256color", "vt220"):
        assert find_terminal_fault(term, is_terminal=True) == ""


def test_a_command_line_that_is_wrong_says_how_it_should_be(
    replay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tui.start import parse_arguments

    for words in (["--bpci", "u"], ["--key", "k"], ["--replay", "x", "--root", "y"], ["web"]):
        with pytest.raises(SystemExit) as raised:
            parse_arguments(words)
        assert raised.value.code == 2
    with open_terminal(["--replay", "/nowhere"]) as terminal:
        assert terminal.wait() == 1
        terminal.read_until(b"docklock top: ", b"/nowhere")
    replay.write_bytes(b"{}")
    with open_terminal(["--replay", str(replay)]) as terminal:
        assert terminal.wait() == 2


def test_a_shell_has_the_terminal_until_it_ends(tmp_path: Path) -> None:
    program = tmp_path / "ui.py"
    program.write_text(
        "import sys\n"
        "from tests.tui.toy import Toy, make_rows\n"
        "from tui.app import DocklockApp\n"
        "toy = Toy(*make_rows(2))\n"
        "toy.argv = ('/bin/sh', '-c', 'echo in it; read x; kill -INT 0; echo still $x')\n"
        "DocklockApp(toy.make_source()).run()\n"
    )
    with open_terminal([str(program)], is_module=False, TERM="xterm", PYTHONPATH=str(TOP)) as shell:
        shell.read_until(b"web-1", b"Help")
        shell.press(b"s")
        shell.read_until(b"in it")
        shell.press(b"here\r")
        shell.read_until(b"shell in web-0: ended with")
        shell.press(b"q")
        assert shell.wait() == 0
