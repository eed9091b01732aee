"""What all screens are: title, banner, body, prompt, footer; readers that stop with the screen.

A screen names itself, its help and its keys, composes its body, and begins its readers:

    class SyncScreen(DockScreen):
        PLACE = "sync"
        HELP_TEXT = "..."                      # what is seen here, and what to do next
        BINDINGS = [Binding("r", "retry", "Retry", tooltip="...")]

        def compose_body(self): yield VirtualTable(...)
        def begin(self): self.read_every("sync", "sync", self.source.sync.read_sync)
        def upon_facts(self, facts): ...       # facts.name, facts.value
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.screen import Screen

from tui.reading import Reader
from tui.view.filters import Filter
from tui.view.keynames import write_key
from tui.widgets.banner import Banner, BannerLine
from tui.widgets.bar import Bar, KeyWord
from tui.widgets.prompt import Prompt
from tui.widgets.title import TitleBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from docklock.console.facts import Overview
    from docklock.console.source import Source
    from tui.app import DocklockApp
    from tui.messages import Facts, Silence
    from tui.view.commands import Command

ALWAYS = (KeyWord("?", "question_mark", "Help"),)
"""The keys of the footer that are there however narrow it is, and the first of all."""


class DockScreen(Screen[None]):
    """A subclass has compose_body, begin and upon_facts; with FIELDS also upon_filter."""

    PLACE: ClassVar[str] = ""
    HELP_TEXT: ClassVar[str] = ""
    FIELDS: ClassVar[tuple[str, ...]] = ()
    FIRST: ClassVar[tuple[str, ...]] = ()  # actions whose keys the footer has before all others
    WORDS: ClassVar[tuple[Command, ...]] = ()

    DEFAULT_CSS = """
    DockScreen { layout: vertical; background: $background; color: $foreground; }
    """

    def __init__(self, about: str = "") -> None:
        super().__init__()
        self.about = about
        self.filter_text = ""
        self._readers: list[Reader] = []

    # What a subclass uses.

    @property
    def dock(self) -> DocklockApp:
        """The app, by its own type."""
        return cast("DocklockApp", self.app)

    @property
    def source(self) -> Source:
        return self.dock.source

    def read_every(
        self, name: str, part: str, ask: Callable[[], object], every_s: float = 1.0
    ) -> Reader:
        """Ask a part for as long as this screen is the one that is seen; see upon_facts."""
        reader = Reader(self.dock.get_lane(part), name, ask, self, every_s)
        self._readers.append(reader)
        if self.is_current:
            reader.start()
        return reader

    def call_once(
        self, part: str, name: str, ask: Callable[[], object], *, is_long: bool = False
    ) -> bool:
        """Ask a part once; the answer comes to upon_facts, an error to the footer."""
        if self.dock.get_lane(part).ask(name, ask, self, is_long=is_long):
            return True
        self.say(f"{name}: {part} has too much to do already", is_bad=True)
        return False

    @property
    def is_made(self) -> bool:
        """Whether its widgets are there: not before it is composed, nor once it is taken away."""
        return self.is_running and bool(self.query(Bar))

    def say(self, words: str, *, is_bad: bool = False) -> None:
        """Show a line in the footer."""
        self.dock.say(words, is_bad=is_bad)

    # What a subclass has.

    def compose_body(self) -> ComposeResult:
        """What stands between banner and footer."""
        yield from ()

    def begin(self) -> None:
        """Once, when the widgets are there: begin the readers."""

    def upon_facts(self, facts: Facts) -> None:
        """An answer that is no error."""

    def upon_error(self, facts: Facts) -> None:
        """An answer that is one; it is in the banner or the footer already."""

    def upon_overview(self, overview: Overview) -> None:
        """The containers have been read, for whatever screen is seen."""

    def upon_filter(self, found: Filter) -> None:
        """The filter is another one."""

    # The frame.

    def compose(self) -> ComposeResult:
        title = TitleBar()
        title.here, title.about = self.PLACE, self.about
        yield title
        yield Banner()
        yield from self.compose_body()
        yield Prompt(lambda text: self.dock.complete(text))
        yield Bar()

    def on_mount(self) -> None:
        self.begin()
        self.dock.hand_down(self)

    def on_screen_suspend(self) -> None:
        for reader in self._readers:
            reader.stop()

    def on_screen_resume(self) -> None:
        self.dock.hand_down(self)
        for reader in self._readers:
            reader.start()

    def on_unmount(self) -> None:
        for reader in self._readers:
            reader.stop()
            self.dock.clear_trouble(reader.name)
            self.dock.clear_trouble(f"showing {reader.name}")

    def on_facts(self, facts: Facts) -> None:
        if facts.error:
            if facts.is_once:
                self.say(f"{facts.name}: {facts.error}", is_bad=True)
            else:
                self.dock.note_trouble(facts.name, facts.error, facts.at_ns)
            self.upon_error(facts)
            return
        if not facts.is_once:
            self.dock.clear_trouble(facts.name)
        self.dock.guard(f"showing {facts.name}", lambda: self.upon_facts(facts))

    def on_silence(self, silence: Silence) -> None:
        self.dock.note_silence(silence)

    def on_descendant_focus(self) -> None:
        """The keys are those of what has the focus, too."""
        for bar in self.query(Bar):
            bar.keys = self.get_key_words()

    def set_about(self, about: str) -> None:
        """What the title says on the right; harmless text."""
        self.about = about
        for title in self.query(TitleBar):
            title.about = about

    def show_state(
        self, lines: tuple[BannerLine, ...], status: str, said: str, *, is_said_bad: bool
    ) -> None:
        """Take what the app knows for every screen."""
        if not self.query(Bar):
            return  # not composed yet: on_mount asks for it
        self.query_one(Banner).lines = lines
        bar = self.query_one(Bar)
        bar.status, bar.said, bar.is_said_bad = status, said, is_said_bad
        bar.keys = self.get_key_words()

    def get_key_words(self) -> tuple[KeyWord, ...]:
        """The keys of this screen that are to be shown, ? first."""
        found = {}
        for active in self.active_bindings.values():
            binding = active.binding
            if binding.show and binding.description and binding.action not in found:
                key = write_key(binding.key)
                found[binding.action] = KeyWord(key, binding.key, binding.description)
        words = [found.pop(action) for action in self.FIRST if action in found]
        words += [word for word in found.values() if word.name != "question_mark"]
        return (*ALWAYS, *words)
