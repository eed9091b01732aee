"""What a pull or push shows: bars on a terminal, a line for each step elsewhere, or nothing.

Not here: what happens (pull, push). Threads may share one. Docker's words.
"""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, TextIO

from docklock.image.listing import show_size

if TYPE_CHECKING:
    from docklock.image.reference import Reference

REDRAW_S = 0.1
BAR_CHARS = 50
WIDTH_CHARS_MIN = 20
MOVING = ("Downloading", "Pushing")


class Progress:
    """Writes to `file`; to nobody where that is None."""

    def __init__(self, file: TextIO | None, verb: str = "Pulling from") -> None:
        self._file, self._verb = file, verb
        self._is_screen = file is not None and file.isatty()
        self._lock = threading.Lock()
        self._lines: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._shown = 0
        self._drawn_at = 0.0

    def start(self, reference: Reference) -> None:
        """`latest: Pulling from library/busybox`."""
        path = reference.name.partition("/")[2]
        self.say(f"{reference.digest or reference.tag}: {self._verb} {path}")

    def say(self, line: str) -> None:
        """A line above the bars."""
        with self._lock:
            if self._file is not None:
                self._file.write(f"{line}\n")
                self._file.flush()

    def update(self, name: str, state: str, have: int, size: int) -> None:
        """A layer's state; elsewhere than on a terminal only when it changes."""
        with self._lock:
            if self._file is None:
                return
            is_changed = self._states.get(name) != state
            self._states[name] = state
            if self._is_screen:
                self._lines[name] = _format(name, state, have, size)
                now = time.monotonic()
                if is_changed or now - self._drawn_at >= REDRAW_S:
                    self._drawn_at = now
                    self._draw()
            elif is_changed and state not in (*MOVING, "Extracting"):
                self._file.write(f"{name}: {state}\n")
                self._file.flush()

    def _draw(self) -> None:
        assert self._file is not None
        width, height = shutil.get_terminal_size()
        # What has scrolled away cannot be drawn again: the last ones that fit are shown.
        lines = list(self._lines.values())[-max(1, height - 1) :]
        text = f"\033[{self._shown}A" if self._shown else ""
        text += "".join(f"\r{line[: max(width, WIDTH_CHARS_MIN) - 1]}\033[K\n" for line in lines)
        self._file.write(text)
        self._file.flush()
        self._shown = len(lines)


def _format(name: str, state: str, have: int, size: int) -> str:
    if state not in MOVING or not size:
        return f"{name}: {state}"
    done = min(BAR_CHARS, BAR_CHARS * have // size)
    bar = ("=" * done + ">")[:BAR_CHARS].ljust(BAR_CHARS)
    return f"{name}: {state} [{bar}] {show_size(have)}/{show_size(size)}"
