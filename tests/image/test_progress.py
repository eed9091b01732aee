"""What a pull shows: bars that fit a terminal and are drawn over, lines elsewhere."""

from __future__ import annotations

import io

import pytest

from docklock.image.progress import Progress


class Screen(io.StringIO):
    """A terminal, which shows what a reader of its last lines sees."""

    def isatty(self) -> bool:
        return True

    def show(self) -> list[str]:
        lines: list[str] = [""]
        row = 0
        for piece in self.getvalue().replace("\033[K", "").split("\n"):
            if piece.startswith("\033["):
                up, _, piece = piece[2:].partition("A")
                row -= int(up)
            lines[row] = piece.removeprefix("\r")
            row += 1
            if row == len(lines):
                lines.append("")
        return lines[:-1] if not lines[-1] else lines


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "4")
    return Screen()


def test_bars_are_drawn_over_and_fit(screen: Screen) -> None:
    progress = Progress(screen)
    progress.say("1: Pulling from a/b")
    for name in ("one", "two"):
        progress.update(name, "Pulling fs layer", 0, 1000)
    progress.update("one", "Downloading", 500, 1000)
    shown = screen.show()
    assert [line.partition(": ")[0] for line in shown if line] == ["1", "one", "two"]
    assert "one: Downloading [====" in shown[1]
    assert all(len(line) < 60 for line in shown)
    progress.update("one", "Pull complete", 0, 0)
    assert screen.show()[1] == "one: Pull complete"


def test_of_more_layers_than_the_screen_has_lines_the_last_are_shown(screen: Screen) -> None:
    progress = Progress(screen)
    for turn in range(2):
        for number in range(10):
            progress.update(f"layer{number}", f"state{turn}", 0, 0)
    assert [line for line in screen.show() if line][-3:] == [
        f"layer{number}: state1" for number in (7, 8, 9)
    ]


def test_elsewhere_a_step_is_a_line_and_bytes_are_none() -> None:
    file = io.StringIO()
    progress = Progress(file)
    for have in range(10):
        progress.update("one", "Downloading", have, 10)
    progress.update("one", "Download complete", 10, 10)
    progress.update("one", "Download complete", 10, 10)
    assert file.getvalue() == "one: Download complete\n"


def test_a_quiet_one_writes_nothing() -> None:
    progress = Progress(None)
    progress.say("x")
    progress.update("one", "Downloading", 1, 2)
