"""The app: one source, its parts' threads, the stack of screens, and what every screen is told.

Attributes go down (hand_down), messages come up. Not here: asking (tui.reading), what is drawn
(tui.screens, tui.widgets), and whatever touches the host (docklock.console).
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual.app import App
from textual.binding import Binding, BindingType

from docklock.console.facts import Done
from tui.places import TABS, get_place, make_screen
from tui.reading import Lane, Reader, answer
from tui.screens.base import DockScreen
from tui.theme import DARK, THEMES
from tui.view.acts import describe_done
from tui.view.commands import Command, complete, parse_command
from tui.view.filters import parse_filter
from tui.view.moments import format_age, format_clock
from tui.view.status import make_status
from tui.view.text import make_harmless
from tui.widgets.banner import BannerLine
from tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.command import Provider
    from textual.screen import Screen

    from docklock.console.facts import ContainerRow, Overview, Verdict
    from docklock.console.source import Source
    from tui.messages import Facts, Silence

OVERVIEW_EVERY_S = 1.0
VERDICTS_EVERY_S = 1.0
SAID_FOR_S = 30.0
FAULTS_MAX = 50
BANNER_LENGTH_MAX = 400
NAME_MAX = 60

WORDS = (
    *(Command(place.name, place.about, f"app.go('{place.name}')") for place in TABS),
    Command("help", "this screen's keys", "app.help", also=("?",)),
    Command("theme", "light or dark", "app.theme_next"),
    Command("q", "leave", "app.leave_all", also=("quit", "exit")),
)


def _get_commands() -> type[Provider]:
    from tui.palette import Commands

    return Commands


def _get_containers() -> type[Provider]:
    from tui.palette import Containers

    return Containers


class Trouble(NamedTuple):
    """What keeps a reader from its answer."""

    words: str
    since_ns: int


class DocklockApp(App[None]):
    """Made of a source; `clock` tells Unix ns."""

    TITLE = "docklock"
    COMMANDS = {_get_commands, _get_containers}  # noqa: RUF012 -- as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", tooltip="This: what is seen, and all keys"),
        Binding("slash", "prompt('/')", "Filter", tooltip="Show only what the words match"),
        Binding("colon", "prompt(':')", "Command", tooltip="Type a command; tab completes it"),
        Binding("escape", "leave", "Back", show=False, tooltip="Back, or take the filter away"),
        *(
            Binding(p.key, f"go('{p.name}')", p.title, show=False, tooltip=f"{p.title}: {p.about}")
            for p in TABS
        ),
        Binding("q", "leave_all", "Quit", show=False, tooltip="Leave; containers go on"),
    ]

    def __init__(self, source: Source, clock: Callable[[], int] = time.time_ns) -> None:
        # Of Textual's two ways to honour NO_COLOR the one that sends no colour at all, not greys.
        super().__init__(ansi_color="NO_COLOR" in os.environ)
        self.source = source
        self.clock = clock
        self.overview: Overview | None = None
        self.verdicts: tuple[Verdict, ...] = ()
        self.troubles: dict[str, Trouble] = {}
        self.faults: tuple[str, ...] = ()  # of our own, the newest last
        self.focus_ids: tuple[str, ...] = ()
        self._lanes: dict[str, Lane] = {}
        self._said, self._is_said_bad, self._said_until_s = "", False, 0.0
        self._overview_reader = Reader(
            self.get_lane("containers"), "containers", self._read_overview, self, OVERVIEW_EVERY_S
        )

    # Start and end.

    def get_default_screen(self) -> Screen[None]:
        return make_screen("containers")

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DARK.name
        self._overview_reader.start()
        checks = self.source.checks
        if checks is not None:
            reader = Reader(
                self.get_lane("checks"), "verdicts", checks.read_verdicts, self, VERDICTS_EVERY_S
            )
            reader.start()
        self.set_interval(1.0, self.hand_down)

    def on_unmount(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    def get_lane(self, part: str) -> Lane:
        """The one thread in which a part of the source is asked."""
        if part not in self._lanes:
            self._lanes[part] = Lane(part, self.clock)
        return self._lanes[part]

    def is_settled(self) -> bool:
        """Whether every part has answered all that it was asked."""
        return all(lane.is_idle for lane in self._lanes.values())

    def _read_overview(self) -> Overview:
        return self.source.containers.read_overview(self.focus_ids)

    def read_overview_now(self) -> None:
        """Something was done to a container."""
        self._overview_reader.ask_now()

    # What comes up.

    def on_facts(self, facts: Facts) -> None:
        if facts.is_once:
            self._tell_end(facts)
            return
        if facts.error:
            self.note_trouble(facts.name, facts.error, facts.at_ns)
            return
        self.clear_trouble(facts.name)
        if facts.name == "containers":
            before, self.overview = self.overview, cast("Overview", facts.value)
            self._tell_agent(before, self.overview)
            for screen in self._get_screens():
                if screen.is_made:
                    self.guard(
                        f"showing containers on {screen.PLACE}",
                        partial(screen.upon_overview, self.overview),
                    )
        elif facts.name == "verdicts":
            self.take_verdicts(cast("tuple[Verdict, ...]", facts.value))
        self.hand_down()

    def _tell_end(self, facts: Facts) -> None:
        """What an act came to whose screen has been left meanwhile."""
        if facts.error:
            self.say(f"{facts.name}: {facts.error}", is_bad=True)
        elif isinstance(facts.value, Done):
            self.say(describe_done(facts.name, facts.value), is_bad=not facts.value.is_done)
            self.read_overview_now()

    def guard(self, name: str, show: Callable[[], None]) -> None:
        """Show facts; a fault of ours in that is told as any trouble is, and ends nothing."""
        _, error = answer(show)
        if error:
            self.faults = (*self.faults[-FAULTS_MAX + 1 :], error)
            self.note_trouble(name, error, self.clock())
        else:
            self.clear_trouble(name)

    def on_silence(self, silence: Silence) -> None:
        self.note_silence(silence)

    def _tell_agent(self, before: Overview | None, now: Overview) -> None:
        """That the agent went or came back."""
        if before is not None and before.agent != now.agent:
            self.say(f"agent: {before.agent}, now {now.agent}", is_bad=now.agent != "up")

    def take_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        """What is known to be broken, for the banner of every screen."""
        self.verdicts = tuple(verdict for verdict in verdicts if not verdict.is_whole)
        self.hand_down()

    def note_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        """What a verification just found is shown at once; the next read_verdicts has it too."""
        known = {(verdict.container, verdict.where) for verdict in self.verdicts}
        new = (each for each in verdicts if (each.container, each.where) not in known)
        self.take_verdicts((*self.verdicts, *new))

    def note_trouble(self, name: str, words: str, at_ns: int) -> None:
        """A reader was told an error: it is shown until the reader is told an answer."""
        words = make_harmless(words, BANNER_LENGTH_MAX)
        before = self.troubles.get(name)
        if before is None or before.words != words:
            self.troubles[name] = Trouble(words, before.since_ns if before else at_ns)
            self.hand_down()

    def note_silence(self, silence: Silence) -> None:
        words = f"no answer since {format_clock(silence.since_ns)} UTC"
        self.troubles[silence.name] = Trouble(words, silence.since_ns)
        self.hand_down()

    def clear_trouble(self, name: str) -> None:
        if self.troubles.pop(name, None) is not None:
            self.hand_down()

    def say(self, words: str, *, is_bad: bool = False) -> None:
        """What an action came to; it stands in the footer for a while."""
        self._said, self._is_said_bad = make_harmless(words, BANNER_LENGTH_MAX), is_bad
        self._said_until_s = time.monotonic() + SAID_FOR_S
        self.hand_down()

    # What goes down.

    def hand_down(self, screen: DockScreen | None = None) -> None:
        """Tell every screen, or one, what all of them show."""
        if self._said and time.monotonic() >= self._said_until_s:
            self._said = ""
        lines = self.get_banner_lines()
        status = make_status(self.source.name, self.overview)
        for each in self._get_screens() if screen is None else (screen,):
            each.show_state(lines, status, self._said, is_said_bad=self._is_said_bad)

    def get_banner_lines(self) -> tuple[BannerLine, ...]:
        """Broken evidence first, the oldest first; then all other trouble."""
        now_ns = self.clock()
        lines = []
        for verdict in self.verdicts:
            since = f"since {format_clock(verdict.since_ns)} UTC"
            ago = format_age(verdict.since_ns, now_ns)
            where = make_harmless(verdict.where, BANNER_LENGTH_MAX)
            row = self.get_row(verdict.container)
            if row is not None and row.name not in verdict.where:
                where = f"{make_harmless(row.name, NAME_MAX)}: {where}"
            why = make_harmless(verdict.why, BANNER_LENGTH_MAX)
            lines.append(BannerLine(f"NOT WHOLE {since} ({ago} ago): {where}: {why}", "bad"))
        for name, trouble in self.troubles.items():
            lines.append(BannerLine(f"{name}: {trouble.words}", "warn"))
        overview = self.overview
        if overview is not None and overview.trouble:
            words = make_harmless(overview.trouble, BANNER_LENGTH_MAX)
            lines.append(BannerLine(f"containers: {words}", "warn"))
        return tuple(lines)

    def get_row(self, container: str) -> ContainerRow | None:
        """What the last overview said of a container, by its id."""
        rows = self.overview.containers if self.overview is not None else ()
        return next((row for row in rows if row.id == container), None)

    def find_row(self, name: str) -> ContainerRow | None:
        """A container by its name, or by how its id begins."""
        rows = self.overview.containers if self.overview is not None else ()
        named = [row for row in rows if row.name == name]
        return next(iter(named or [row for row in rows if row.id.startswith(name)]), None)

    def _get_screens(self) -> list[DockScreen]:
        return [screen for screen in self.screen_stack if isinstance(screen, DockScreen)]

    # Keys.

    def open_place(self, name: str, *arguments: object) -> None:
        """Open a screen about something above this one; esc comes back here."""
        self.push_screen(make_screen(name, *arguments))

    def action_go(self, name: str) -> None:
        """To one of the five; what was open above them is left."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if name != get_place("containers").name:
            if not self.is_screen_installed(name):
                self.install_screen(make_screen(name), name)
            self.push_screen(name)

    def action_leave(self) -> None:
        """Take the filter away, else go back one screen."""
        screen = self.screen
        if isinstance(screen, DockScreen) and screen.filter_text:
            self._filter(screen, "")
        elif len(self.screen_stack) > 1:
            self.pop_screen()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        screen = self.screen
        if isinstance(screen, DockScreen) and not isinstance(screen, HelpScreen):
            title = get_place(screen.PLACE).title
            bindings = tuple(screen.active_bindings.values())
            words = (*screen.WORDS, *WORDS)
            self.push_screen(HelpScreen(title, screen.HELP_TEXT, bindings, screen.FIELDS, words))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key is told: / only where there is something to filter."""
        if action == "prompt" and parameters == ("/",) and self.screen_stack:
            front = self.get_front()
            return front is not None and bool(front.FIELDS)
        return True

    def action_leave_all(self) -> None:
        self.exit()

    def action_theme_next(self) -> None:
        names = [theme.name for theme in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)]

    # The prompt.

    def action_prompt(self, sign: str) -> None:
        screen = self.screen
        if not isinstance(screen, DockScreen):
            return
        if sign == "/" and not screen.FIELDS:
            self.say("nothing to filter here")
            return
        text = screen.filter_text if sign == "/" else ""
        hint = f"fields: {' '.join(screen.FIELDS)}" if sign == "/" else "tab completes, ? lists all"
        screen.query_one(Prompt).open(sign, text, hint)

    def complete(self, text: str) -> tuple[str, ...]:
        """Whole commands for what was typed; an argument is a container's name."""
        rows = self.overview.containers if self.overview is not None else ()
        names = (make_harmless(row.name) for row in rows)
        return complete(text, self.get_words(), names)

    def on_prompt_typed(self, typed: Prompt.Typed) -> None:
        if typed.sign == "/" and isinstance(self.screen, DockScreen):
            self._filter(self.screen, typed.text)

    def on_prompt_left(self, left: Prompt.Left) -> None:
        if isinstance(self.screen, DockScreen):
            if left.sign == "/":
                self._filter(self.screen, "")
            self._focus_body(self.screen)

    async def on_prompt_entered(self, entered: Prompt.Entered) -> None:
        screen = self.screen
        if not isinstance(screen, DockScreen):
            return
        self._focus_body(screen)
        if entered.sign == "/":
            self._filter(screen, entered.text)
            return
        said = parse_command(entered.text, self.get_words())
        if said.command is None:
            if said.complaint:
                self.say(make_harmless(said.complaint), is_bad=True)
            return
        await self.run_command(said.command, said.argument)

    async def run_command(self, command: Command, argument: str = "") -> None:
        """Do what a command names: an action of the screen, or of the app."""
        action = command.action.replace("{}", repr(argument))
        await self.run_action(action, default_namespace=self.get_front() or self)

    def get_words(self) -> tuple[Command, ...]:
        """The commands of the screen that is seen, and those of every screen."""
        screen = self.get_front()
        return WORDS if screen is None else (*screen.WORDS, *WORDS)

    def get_front(self) -> DockScreen | None:
        """The screen that is seen, under the palette or a dialog where one is open."""
        return next(reversed(self._get_screens()), None)

    def _filter(self, screen: DockScreen, text: str) -> None:
        screen.filter_text = text
        found = parse_filter(text, screen.FIELDS)
        if found.complaint:
            self.say(make_harmless(found.complaint), is_bad=True)
        screen.upon_filter(found)

    def _focus_body(self, screen: DockScreen) -> None:
        for widget in screen.focus_chain:
            widget.focus()
            return
