"""Issue 8's end: a person who knows nothing but `?` finds a denied connect, understands it, fixes
the policy, sees it hold, and writes evidence that `docklock verify` takes.

Each key that is pressed stands in the help of the screen it is pressed on, with what it does, or in
the dialog that asks for it. In this room since it makes containers (conftest.HOST_ROOMS).
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from docklock.console.door import open_source
from tests.e2e.conftest import Docklock
from tests.tui.screen import Hand
from tui.app import DocklockApp
from tui.screens.help import HelpScreen

POLICY = """\
name: quiet
description: strict, and no peer is reached.
extends: strict
rules:
  - {syscalls: [connect], action: deny}
"""
KNOCK = "trap 'exit 0' TERM; while :; do nc -w 1 127.0.0.1 9; sleep 0.2; done"
TEXTUAL_NAMES = {"?": "question_mark", "/": "slash", "esc": "escape"}


class Reader(Hand):
    """A person who presses nothing that was not read somewhere, and reads each help once."""

    def __init__(self, app: DocklockApp, pilot: Pilot[None]) -> None:
        super().__init__(app, pilot)
        self._known: dict[str, str] = {}

    async def read_help(self) -> str:
        """What `?` says here; the footer names that key on every screen."""
        assert "? Help" in self.read()
        place = type(self.app.screen).__name__
        if place not in self._known:
            self._known[place] = await self._open_help()
        return self._known[place]

    async def _open_help(self) -> str:
        await self.press("question_mark")
        assert isinstance(self.app.screen, HelpScreen)
        text = str(self.app.screen.query_one(Static).content)
        await self.press("escape")
        return text

    async def use(self, key: str, means: str) -> None:
        """Press a key that `?` names on this screen, with what it means."""
        text = await self.read_help()
        keys = text.partition("Keys here")[2].partition("\n\n")[0]
        lines = [line for line in keys.splitlines() if key in line[:16].split()]
        assert len(lines) == 1 and means in lines[0], f"{key} ({means}) is not in:\n{keys}"
        await self.press(TEXTUAL_NAMES.get(key, key))

    async def answer(self, key: str, asked: str) -> None:
        """Press a key that a dialog names."""
        await self.until_read(asked)
        shown = self.read()
        assert re.search(rf"(^|[│\s]){key}\s", shown), f"{key} is not in:\n{shown}"
        await self.press(key)

    async def filter(self, words: str) -> None:
        """`/`, in the language that `?` explains, with the fields that it names."""
        text = await self.read_help()
        for word in words.split():
            assert word.partition(":")[0] in text.partition("fields: ")[2].splitlines()[0]
        await self.use("/", "only what the words match")
        await self.type(words)
        await self.press("enter")


async def fix_a_denied_connect(hand: Reader, evidence: Path) -> None:
    await hand.until_read("running")
    first = await hand.read_help()
    assert "2 (Policy)" in first and "w writes its evidence file" in first  # what now?
    await hand.use("enter", "Open")
    await hand.filter("op:connect decision:denied")
    await hand.until_read("✗ denied EPERM")
    await hand.use("enter", "Open")  # the receipt
    await hand.until_read("syscall.connect ✗ denied EPERM")
    assert "✓ HELD" not in hand.read()
    await hand.use("v", "Verify this receipt's proof")
    await hand.until_read("✓ WHOLE")
    assert "✗" not in hand.read().replace("✗ denied", "")
    await hand.use("2", "Policy")
    await hand.until_read("connect was refused with EPERM by rule")
    assert "policy" in hand.read() and "quiet" in hand.read()
    await hand.use("a", "Propose the rule")
    await hand.until_read("LOOSER")
    shown = hand.read()
    assert "newly allowed" in shown and re.search(r"^ *\+.*connect", shown, re.MULTILINE), shown
    await hand.use("y", "Write this change")
    await hand.answer("y", "Write this change to policy")
    await hand.until_read("✓ applied")
    await hand.use("r", "Stop and start it")
    await hand.answer("y", "estart web")
    await hand.use("1", "Containers")
    await hand.use("enter", "Open")
    await hand.filter("op:connect decision:allowed")
    await hand.until_read("  allowed")
    await hand.use("w", "Write its evidence file")
    await hand.until_read("Write the evidence of web to")
    await hand.answer("enter", "enter does it")
    await hand.until(evidence.exists)


def test_who_knows_only_the_help_key_fixes_a_denied_connect(
    dock: Docklock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "quiet.yaml"
    policy.write_text(POLICY)
    dock("run", "-d", "--name", "web", "--policy", str(policy), "busybox", "sh", "-c", KNOCK)
    dock.wait_for(lambda: "syscall.connect" in dock("receipts", "web").stdout)
    monkeypatch.chdir(tmp_path)
    app = DocklockApp(open_source(["--root", str(dock.root)]))

    async def run() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            await fix_a_denied_connect(Reader(app, pilot), tmp_path / "web.evidence")

    asyncio.run(run())
    assert policy.read_text() == POLICY  # a person's own file is not edited
    said = dock("verify", str(tmp_path / "web.evidence")).stdout
    assert "whole" in said
