"""A screen about containers: the keys that do something to the one it is about.

A subclass has `get_target`. What cannot be taken back asks first; each act is asked of the source
in its own thread, and what it came to stands in the footer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType

from docklock.console.facts import Done, Progress
from docklock.console.source import DESTRUCTIVE
from tui.messages import Progressed
from tui.screens.ask import AskScreen
from tui.screens.base import DockScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.progress import ProgressScreen
from tui.view.acts import (
    NAME_MAX,
    WORDS,
    describe_done,
    describe_verdicts,
    draw_progress,
    get_verb,
    make_evidence_name,
    make_question,
)
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console.facts import ContainerRow, Verdict
    from tui.messages import Facts

PROGRESS_EVERY_S = 0.1
SHELL = "shell in "
VERIFY = "verify "
BINDINGS: list[BindingType] = [
    Binding("d", "open('')", "Describe", show=False, tooltip="All about the container"),
    Binding("l", "open('logs')", "Logs", tooltip="Its output"),
    Binding("w", "evidence", "Evidence", tooltip="Write its evidence file, for others to verify"),
    Binding("v", "verify", "Verify", tooltip="Verify its evidence now"),
    Binding("V", "verify_all", "Verify all", show=False, tooltip="Verify all evidence (esc stops)"),
    Binding("s", "shell", "Shell", tooltip="A shell in the container; its end brings you back"),
    Binding("p", "act('pause')", "Pause", tooltip="Freeze it; again: let it go on"),
    Binding("x", "act('stop')", "Stop", tooltip="Stop it (asks)"),
    Binding("S", "act('start')", "Start", show=False, tooltip="Start it"),
    Binding("r", "act('restart')", "Restart", show=False, tooltip="Stop and start it (asks)"),
    Binding("K", "act('kill')", "Kill", show=False, tooltip="SIGKILL (asks)"),
    Binding(
        "Q", "act('quarantine')", "Quarantine",
        tooltip="Freeze it and cut its network (asks); again: release it",
    ),
    Binding("delete", "act('rm')", "Remove", show=False, tooltip="Delete it (asks)"),
]  # fmt: skip


class ActingScreen(DockScreen):
    """Keys and commands that act on get_target()."""

    BINDINGS: ClassVar[list[BindingType]] = BINDINGS
    WORDS = WORDS

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._progress: ProgressScreen | None = None

    def get_target(self) -> ContainerRow | None:
        """The container that the keys are about; a subclass has it."""
        raise NotImplementedError

    # Acts.

    def action_act(self, key: str) -> None:
        row = self._need_target()
        if row is not None:
            self._act(get_verb(key, row), row)

    def action_act_named(self, verb: str, name: str) -> None:
        row = self._find(name)
        if row is not None:
            self._act(verb, row)

    def _act(self, verb: str, row: ContainerRow) -> None:
        acts = self.source.acts
        if acts is None:
            self._say_missing("nothing can be done")
            return
        name = f"{verb} {_get_name(row)}"

        def begin(is_wanted: bool | None = True) -> None:  # noqa: FBT001, FBT002 -- as dismissed
            busy = self._get_busy()
            if is_wanted and self.call_once(
                "acts", name, lambda: acts.act(verb, row.id, self._make_tell(name))
            ):
                self.say(f"{name}: {f'waits for {busy}' if busy else 'begun'}")

        if verb in DESTRUCTIVE:
            question = make_question(verb, row)
            self.app.push_screen(ConfirmScreen(question.words, question.effects), begin)
        else:
            begin()

    # Evidence.

    def action_evidence(self) -> None:
        row = self._need_target()
        if row is not None:
            self._write_evidence(row)

    def action_evidence_named(self, name: str) -> None:
        row = self._find(name)
        if row is not None:
            self._write_evidence(row)

    def _write_evidence(self, row: ContainerRow) -> None:
        acts = self.source.acts
        if acts is None:
            self._say_missing("no evidence file can be written")
            return
        name = f"evidence of {_get_name(row)}"

        def write(path: str | None) -> None:
            if path and self.call_once(
                "acts", name, lambda: acts.write_evidence(row.id, os.path.abspath(path))
            ):
                self.say(f"{name}: begun")

        path = os.path.join(os.getcwd(), make_evidence_name(row))
        note = "A file that anyone can verify: docklock verify FILE"
        self.app.push_screen(AskScreen(f"Write the {name} to", path, note), write)

    def action_verify(self) -> None:
        row = self._need_target()
        if row is not None:
            self._verify(row.id, _get_name(row))

    def action_verify_all(self) -> None:
        self._verify("", "all")

    def action_verify_named(self, name: str) -> None:
        if name in ("", "all"):
            self.action_verify_all()
        elif (row := self._find(name)) is not None:
            self._verify(row.id, _get_name(row))

    def _verify(self, container: str, shown: str) -> None:
        checks = self.source.checks
        if checks is None:
            self._say_missing("nothing can be verified")
            return
        if self._progress is not None:
            self.say("a verification goes on already", is_bad=True)
            return
        name = f"{VERIFY}{shown}"
        progress = ProgressScreen(f"Verify {shown}")
        tell = self._make_tell(name, lambda: progress.is_stopped)
        if self.call_once("checks", name, lambda: checks.verify(container, tell), is_long=True):
            self._progress = progress
            self.app.push_screen(progress)

    # Looking into it.

    def action_open(self, tab: str) -> None:
        row = self._need_target()
        if row is not None:
            self.open_container(row.id, tab)

    def action_open_named(self, tab: str, name: str) -> None:
        row = self._find(name)
        if row is not None:
            self.open_container(row.id, tab)

    def open_container(self, container: str, tab: str = "") -> None:
        """The Container screen, at one of its tabs."""
        self.dock.open_place("container", container, tab)

    def action_shell(self) -> None:
        row = self._need_target()
        if row is not None:
            self._ask_shell(row)

    def action_shell_named(self, name: str) -> None:
        row = self._find(name)
        if row is not None:
            self._ask_shell(row)

    def _ask_shell(self, row: ContainerRow) -> None:
        acts = self.source.acts
        if acts is None:
            self._say_missing("no shell can be opened")
        elif busy := self._get_busy():  # it would come while something else is typed
            self.say(f"no shell yet: {busy} is under way", is_bad=True)
        else:
            self.call_once("acts", f"{SHELL}{_get_name(row)}", lambda: acts.get_shell(row.id))

    def _run_shell(self, name: str, argv: tuple[str, ...]) -> None:
        """Give it this terminal until it ends. Ctrl-C is the shell's meanwhile, and not ours."""
        try:
            with self.app.suspend():
                before = signal.signal(signal.SIGINT, _let_be)
                try:
                    print(f"{name}: its end brings you back")
                    status = subprocess.run(argv, check=False).returncode
                finally:
                    signal.signal(signal.SIGINT, before)
        except SuspendNotSupported:
            self.say(f"{name}: this terminal cannot be given away", is_bad=True)
        except OSError as error:
            self.say(f"{name}: {error}", is_bad=True)
        else:
            self.say(f"{name}: ended with {status}")

    # What comes back.

    def upon_facts(self, facts: Facts) -> None:
        """An act's end; a subclass that has answers of its own calls this for all others."""
        if isinstance(facts.value, Done):
            self.say(describe_done(facts.name, facts.value), is_bad=not facts.value.is_done)
            self.dock.read_overview_now()
        elif facts.name.startswith(VERIFY):
            verdicts = cast("tuple[Verdict, ...]", facts.value)
            self.dock.note_verdicts(verdicts)
            if self._progress is not None:
                self._progress.show_verdicts(verdicts)
                self._progress = None
            is_whole, lines = describe_verdicts(verdicts)
            self.say(f"{facts.name}: {lines[0]}", is_bad=not is_whole)
        elif facts.name.startswith(SHELL):
            self._run_shell(facts.name, cast("tuple[str, ...]", facts.value))

    def upon_error(self, facts: Facts) -> None:
        if facts.name.startswith(VERIFY) and self._progress is not None:
            self._progress.show_error(make_harmless(facts.error))
            self._progress = None

    def on_progressed(self, progressed: Progressed) -> None:
        if self._progress is not None and progressed.name.startswith(VERIFY):
            self._progress.show_progress(progressed.progress)
        elif progressed.progress.done > 0:
            said = draw_progress(progressed.progress, 10).replace("\n", " ")
            self.say(f"{progressed.name}: {said}")

    def _make_tell(
        self, name: str, is_stopped: Callable[[], bool] = lambda: False
    ) -> Callable[[Progress], bool]:
        """What an action tells its progress to, from its own thread; not each of a thousand."""
        told_s = 0.0

        def tell(progress: Progress) -> bool:
            nonlocal told_s
            now_s = time.monotonic()
            if now_s - told_s >= PROGRESS_EVERY_S:
                told_s = now_s
                self.post_message(Progressed(name, progress))
            return not is_stopped()

        return tell

    # Whom it is about.

    def _need_target(self) -> ContainerRow | None:
        row = self.get_target()
        if row is None:
            self.say("move to a container first", is_bad=True)
        return row

    def _find(self, name: str) -> ContainerRow | None:
        """By what was typed after a command; the target where nothing was."""
        if not name:
            return self._need_target()
        row = self.dock.find_row(name)
        if row is None:
            self.say(f"no container {make_harmless(name, NAME_MAX)}", is_bad=True)
        return row

    def _get_busy(self) -> str:
        """The act that is under way; empty if none is."""
        current = self.dock.get_lane("acts").current
        return "" if current is None else current.name

    def _say_missing(self, what: str) -> None:
        why = f": {make_harmless(self.source.note)}" if self.source.note else ""
        self.say(f"{what} here{why}", is_bad=True)


def _get_name(row: ContainerRow) -> str:
    return make_harmless(row.name or row.id[:12], NAME_MAX)


def _let_be(_number: int, _frame: object) -> None:
    """A handler, not SIG_IGN: what is executed begins without it."""
