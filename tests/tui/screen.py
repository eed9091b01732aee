"""How a test drives the UI: a source of saved facts, keys, and what then stands on the screen.

    def test_a_filter_hides_what_does_not_match() -> None:
        async def steps(hand: Hand) -> None:
            await hand.press("slash", *"web", "enter")
            assert "db-1" not in hand.read()

        drive(make_source(overview=Overview(NOW_NS, containers=...)), steps)

Nothing sleeps: `press` and `until` wait until the app has nothing to do and all that was asked of
the source is answered. Facts are of NOW_NS, and so is the app's clock.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual import events
from textual.app import App
from textual.geometry import Size
from textual.pilot import Pilot

from docklock.console.facts import Overview
from docklock.console.saved import Answer, encode_saved, load_saved
from docklock.console.source import Source
from tests.conftest import SLOWER
from tui.app import DocklockApp
from tui.theme import DARK

NOW_NS = 1_795_918_447_000_000_000
"""2026-11-29 02:14:07 UTC."""
SIZES = ((80, 24), (120, 40), (200, 60))
PATIENCE_S = 20.0 * SLOWER
ROUNDS = 4
"""A key, its action, the screen it opens, and what that shows."""
SNAPSHOTS = Path(__file__).parent / "snapshots"
WRITE_SNAPSHOTS = "DOCKLOCK_WRITE_SNAPSHOTS"
"""Set to 1 it makes a differing or missing snapshot anew: look at each before you commit it."""


def make_source(*answers: Answer, **facts: Any) -> Source:
    """A source as --replay has it: `overview=...`, `alerts=...`; `answers` where a call names one.

    It stands still at NOW_NS.
    """
    facts.setdefault("overview", Overview(NOW_NS, host="2dcd7284bae38c2b", agent="up"))
    every = [Answer(call, NOW_NS, answer) for call, answer in facts.items()]
    return load_saved(encode_saved("here", [*every, *answers]), get_ns=lambda: 0)


class Hand:
    """A person at the keyboard of one app."""

    def __init__(self, app: DocklockApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def settle(self) -> None:
        """Until nothing is asked of the source, and all that was answered is drawn."""
        await self.until(lambda: self.app.is_settled())
        await self._pass(ROUNDS)

    async def press(self, *keys: str) -> None:
        """Press keys, by Textual's names or as their letters."""
        await self.send(*keys)
        await self.settle()

    async def send(self, *keys: str) -> None:
        """Press keys and do not wait for the source: it may be held."""
        for key in keys:
            letter = LETTERS.get(key, key)
            name = KEYS.get(letter, key)
            self.app.post_message(events.Key(name, letter if len(letter) == 1 else None))
            await self._pass(ROUNDS)

    async def type(self, text: str) -> None:
        await self.press(*text)

    async def _pass(self, rounds: int) -> None:
        """Let every widget handle what is in its queue, and what came of that."""
        for _ in range(rounds):
            await self.pilot.pause(0)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that threads bring about."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, f"still not so:\n{self.read()}"
            await self.pilot.pause(0.002)

    async def until_read(self, words: str) -> None:
        """Wait until the screen says it."""
        await self.until(lambda: words in self.read())

    async def resize(self, width: int, height: int) -> None:
        await self.pilot.resize_terminal(width, height)
        await self.settle()

    def resize_at_once(self, width: int, height: int) -> None:
        """As a window that is dragged: nobody waits for what is drawn."""
        size = Size(width, height)
        self.app._driver._size = size  # type: ignore[union-attr] # as Textual's pilot does
        self.app.post_message(events.Resize(size, size))

    def read(self) -> str:
        """The screen as text, a line each, blanks at the end cut."""
        return read_screen(self.app)


KEYS = {
    " ": "space", ":": "colon", "/": "slash", "?": "question_mark", "!": "exclamation_mark",
    ">": "greater_than_sign", "<": "less_than_sign", ".": "full_stop", "-": "minus",
    "_": "underscore",
}  # fmt: skip

LETTERS = {name: letter for letter, name in KEYS.items()}


def read_screen(app: App[Any]) -> str:
    """What stands on the screen now, dialogs too."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def get_text(svg: str, width: int, height: int) -> str:
    """The letters of an exported screen, by their places."""
    lines = [[" "] * width for _ in range(height)]
    svg = re.sub(r'<text class="[^"]*title".*?</text>', "", svg, flags=re.S)
    found = re.findall(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg, re.S)
    for x, y, words in found:
        column, row = round(float(x) / CELL_WIDTH), round((float(y) - 18.5) / CELL_HEIGHT)
        text = UNESCAPE.sub(lambda m: ESCAPES[m[0]], words)
        if 0 <= row < height:
            lines[row][column : column + len(text)] = text
    return "\n".join("".join(line).rstrip() for line in lines)


CELL_WIDTH, CELL_HEIGHT = 12.2, 24.4
"""Of rich's exported screens."""
ESCAPES = {"&#160;": " ", "&lt;": "<", "&gt;": ">", "&amp;": "&", "&#x27;": "'", "&quot;": '"'}
UNESCAPE = re.compile("|".join(ESCAPES))


def drive(
    source: Source,
    steps: Callable[[Hand], Awaitable[None]],
    *,
    size: tuple[int, int] = (120, 40),
) -> DocklockApp:
    """Run an app without a terminal and do the steps in it; what it raised is raised here."""

    async def run() -> DocklockApp:
        app = DocklockApp(source, lambda: NOW_NS)
        async with app.run_test(size=size) as pilot:
            hand = Hand(app, pilot)
            await hand.settle()
            await steps(hand)
        assert not app.faults  # shown to a person, and never right
        return app

    return asyncio.run(run())


def check_snapshot(hand: Hand, name: str) -> None:
    """The screen is what snapshots/NAME-WIDTHxHEIGHT.svg has, letter for letter and colour."""
    width, height = hand.app.size
    path = SNAPSHOTS / f"{name}-{width}x{height}.svg"
    drawn = make_small(hand.app.export_screenshot(simplify=True))
    if os.environ.get(WRITE_SNAPSHOTS) == "1":
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(drawn)
    kept = path.read_text() if path.exists() else ""
    if drawn == kept:
        return
    before = get_text(kept, width, height).splitlines() if kept else []
    after = get_text(drawn, width, height).splitlines()
    changes = "\n".join(difflib.unified_diff(before, after, path.name, "now", lineterm="", n=1))
    what = "differs" if kept else "is missing"
    raise AssertionError(
        f"snapshot {path.name} {what} ({WRITE_SNAPSHOTS}=1 writes it):\n"
        f"{changes or 'the same letters in other colours'}"
    )


def make_small(svg: str) -> str:
    """An exported screen without fonts, window, ids and clips: a fifth of its bytes."""
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.S)
    svg = re.sub(r"terminal-\d+-", "", svg)
    svg = re.sub(r"<clipPath.*?</clipPath>\n?", "", svg, flags=re.S)
    ground = f'<rect fill="{DARK.background}" width="100%" height="100%"/>\n'
    window = r'<rect fill="#292929".*?</g>\s*(?=<g transform)'
    svg = re.sub(window, ground, svg, count=1, flags=re.S)
    svg = re.sub(rf'<rect fill="{DARK.background}" x=[^>]*/>', "", svg)
    svg = re.sub(r' (clip-path|shape-rendering|textLength)="[^"]*"', "", svg)
    svg = re.sub(r'(?<==")(\d+)\.(\d)\d+', r"\1.\2", svg)
    svg = svg.replace("<rect ", "\n<rect ").replace("<text ", "\n<text ")
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"
