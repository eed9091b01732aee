"""Container: one container's receipts as they come, and all else about it, in tabs.

Not here: what is kept, filtered and said (tui/view/events.py, container.py, container_tables.py),
and the actions (tui/screens/acting.py). A container that ends or is removed while it is shown says
so in the head, and what was seen of it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.widgets import ContentSwitcher

from docklock.console.facts import Details, Event, Verdict
from docklock.console.source import FEED_EVENTS_MAX
from tui.screens.acting import VERIFY, ActingScreen
from tui.view import container_tables as tables
from tui.view.cells import Cell
from tui.view.container import PLOTS, ContainerModel, write_head
from tui.view.event_text import EVENT_COLUMNS, write_item
from tui.view.events import EVENT_FIELDS, PAST_MAX, EventList, Gap, get_item_key, is_match
from tui.view.plot import Curve
from tui.view.text import make_harmless
from tui.widgets.lines import LinesView
from tui.widgets.plot import PlotView
from tui.widgets.table import VirtualTable
from tui.widgets.tabs import Tab, TabLine

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from docklock.console.facts import ContainerRow, FeedPart, LogLine, Overview
    from docklock.console.source import Evidence, Feed
    from tui.messages import Facts
    from tui.reading import Reader
    from tui.view.cells import Column
    from tui.view.events import Item
    from tui.view.filters import Filter

EVENTS_EVERY_S = 0.5
DETAILS_EVERY_S = 2.0
LOG_EVERY_S = 1.0
PLOT_SPAN_NS = 300 * 10**9
LOOKS_BACK_MAX = 20
"""Reads of one search in the past, while nothing is found."""

TABS = (
    Tab("events", "Events", "e"),
    Tab("processes", "Processes", "P"),
    Tab("files", "Files", "F"),
    Tab("network", "Network", "N"),
    Tab("logs", "Logs", "l"),
    Tab("rules", "Rules", "R"),
    Tab("plots", "Plots", "m"),
    Tab("settings", "Settings", "d"),
)
EMPTY = {
    "processes": "nothing runs in it",
    "files": "it changed nothing",
    "network": "no interfaces and no connections",
    "rules": "no rules are known",
}
ABOUT = {
    "events": "Events: its receipts as they come",
    "processes": "Processes: what runs in it",
    "files": "Files: what it changed of its image",
    "network": "Network: its interfaces and connections",
    "logs": "Logs: what it printed, as it comes",
    "rules": "Rules of its policy, with how often each was met",
    "plots": "Plots of CPU, memory, receipts and denials over time",
    "settings": "Describe: its command, limits, mounts, capabilities, labels",
}


class ContainerScreen(ActingScreen):
    """Made of a container's id."""

    PLACE = "container"
    HELP_TEXT = """\
One container. The three lines above say what it is, what it uses, and
whether its evidence holds. Events are its receipts: a line with ✗ is a
call that was refused; / finds it, as in: decision:denied op:connect
enter opens the receipt with its proof. A line with … stands for receipts
that came too fast to be shown: enter on it reads them.
"""
    FIELDS = EVENT_FIELDS
    FIRST = ("choose", "turn_tab(1)", "hold", "prompt('/')")
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(t.key, f"show_tab('{t.name}')", t.title, show=False, tooltip=ABOUT[t.name])
            for t in TABS
        ),
        Binding("right,tab", "turn_tab(1)", "Tabs", tooltip="The next tab"),
        Binding("left,shift+tab", "turn_tab(-1)", "Tab before", show=False, tooltip="Tab before"),
        Binding("space", "hold", "Hold", tooltip="Hold the events still; again: let them come"),
        Binding(
            "D", "denials", "Denied", show=False,
            tooltip="What was denied of it, explained, and the rule that would allow it",
        ),
        Binding("b", "earlier", "Earlier", show=False, tooltip="Read what came before"),
        Binding("f", "follow", "Follow", show=False, tooltip="Go to the newest, and stay there"),
        Binding("z", "wrap", "Wrap", show=False, tooltip="Logs: wrap long lines, or do not"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ContainerScreen {
        & > #head { height: 3; overflow: hidden hidden; }
        & > ContentSwitcher { height: 1fr; }
        & Grid { grid-size: 2 2; height: 1fr; }
        & PlotView { height: 1fr; padding: 0 1; }
    }
    """

    def __init__(self, container: str, tab: str = "") -> None:
        super().__init__()
        self.container = container
        self.model = ContainerModel(container)
        self.events = EventList()
        self._feed: Feed | None = None
        self._log_reader: Reader | None = None
        self._log: tuple[LogLine, ...] = ()
        self._checked: tuple[Verdict, ...] = ()  # what verifying it from here has found
        self._tab = tab or "events"
        self._words: dict[str, str] = {}  # each tab's filter
        self._is_wrapped, self._is_reading, self._is_flood = True, False, False

    # What it is made of.

    def compose_body(self) -> ComposeResult:
        yield LinesView(id="head", can_focus=False)
        yield TabLine(TABS)
        with ContentSwitcher(initial=self._tab):
            yield VirtualTable["Item"](
                EVENT_COLUMNS, get_item_key, _draw_item, empty="no receipts yet", id="events"
            )
            yield _make_table("processes", tables.PROCESS_COLUMNS)
            yield _make_table("files", tables.FILE_COLUMNS)
            yield _make_table("network", tables.NETWORK_COLUMNS)
            yield LinesView(id="logs")
            yield _make_table("rules", tables.RULE_COLUMNS)
            with Grid(id="plots"):
                for name, title, _ in PLOTS:
                    yield PlotView(title, id=f"plot-{name}")
            yield LinesView(id="settings")

    def begin(self) -> None:
        evidence = self.source.evidence
        if evidence is None:
            self._table("events").set_empty("this source has no receipts")
        else:
            ask = partial(self._read_events, evidence)
            self.read_every("events", "evidence", ask, EVENTS_EVERY_S)
        self.read_every("details", "containers", self._read_details, DETAILS_EVERY_S)
        self._log_reader = self.read_every("log", "containers", self._read_log, LOG_EVERY_S)
        self.query_one("#logs", LinesView).is_following = True
        if self.dock.overview is not None:
            self.upon_overview(self.dock.overview)
        self.action_show_tab(self._tab)

    def on_unmount(self) -> None:
        if self._feed is not None:
            self.dock.get_lane("evidence").ask("close", self._feed.close, self)

    def get_target(self) -> ContainerRow | None:
        """The container that the actions are done to."""
        return self.model.row

    # Asked in the parts' threads.

    def _read_events(self, evidence: Evidence) -> FeedPart | None:
        if self.events.is_paused or self.events.is_full:
            return None
        if self._is_flood:  # every second look is enough where all lines are new at each
            self._is_flood = False
            return None
        if self._feed is None:
            self._feed = evidence.open_feed(self.container)
        return self._feed.read(FEED_EVENTS_MAX)

    def _read_earlier(self, run: int, index: int, wanted: Filter) -> tuple[Event, ...]:
        """What is before a receipt; with a filter as far back as one is found that it wants."""
        found: tuple[Event, ...] = ()
        for _ in range(LOOKS_BACK_MAX):
            part = self._read_before(run, index)
            found = part + found
            if not part or len(found) >= PAST_MAX or any(is_match(wanted, one) for one in part):
                break
            run, index = part[0].run, part[0].event_index
        return found

    def _read_before(self, run: int, index: int) -> tuple[Event, ...]:
        assert self._feed is not None  # whoever asks has seen a receipt of it
        return self._feed.read_before(run, index, FEED_EVENTS_MAX).events

    def _read_details(self) -> Details | None:
        if self.model.gone_ns:
            return None  # what was seen of it stays
        return self.source.containers.read_details(self.container)

    def _read_log(self) -> tuple[LogLine, ...] | None:
        if self._tab != "logs":
            return None
        return self.source.containers.read_log(self.container, tables.LOG_LINES_MAX)

    # What comes back.

    def upon_overview(self, overview: Overview) -> None:
        self.model.take_overview(overview)
        self.set_about(self.model.name)
        self._show_head()
        if self._tab == "plots":
            self._show_plots()

    def upon_facts(self, facts: Facts) -> None:
        if facts.value is None:
            return  # it was not to be asked just then
        if facts.name == "events":
            self.events.take(cast("FeedPart", facts.value))
            self._is_flood = self.events.is_sampled
            self._show_events()
        elif facts.name == "details":
            self.model.take_details(cast("Details", facts.value))
            self._show_head()
            self._show_lists()
        elif facts.name == "log":
            self._log = cast("tuple[LogLine, ...]", facts.value)
            self._show_log()
        elif facts.name == "earlier receipts":
            self._is_reading = False
            self._take_earlier(cast("tuple[Event, ...]", facts.value))
        elif facts.name.startswith("before "):
            self._fill(facts.name, cast("tuple[Event, ...]", facts.value))
        else:
            if facts.name.startswith(VERIFY):
                self._take_verdicts(cast("tuple[Verdict, ...]", facts.value), facts.at_ns)
            super().upon_facts(facts)

    def upon_error(self, facts: Facts) -> None:
        if facts.name == "earlier receipts":
            self._is_reading = False
        super().upon_error(facts)

    def upon_filter(self, found: Filter) -> None:
        self._words[self._tab] = self.filter_text
        if self._tab == "events":
            self.events.set_filter(found)
        self._show_tab()

    # What is shown.

    def _table(self, name: str) -> VirtualTable[Any]:
        return self.query_one(f"#{name}", VirtualTable)

    def _note(self, words: str) -> None:
        self.query_one(TabLine).note = words

    def _show_head(self) -> None:
        verdicts = (*self.dock.verdicts, *self._checked)
        lines = write_head(self.model, verdicts, self.dock.clock())
        self.query_one("#head", LinesView).show(lines)

    def _show_tab(self) -> None:
        if self._tab == "events":
            self._show_events()
        elif self._tab == "logs":
            self._show_log()
        elif self._tab == "plots":
            self._show_plots()
        else:
            self._show_lists()

    def _show_events(self) -> None:
        table = self._table("events")
        is_newest = table.cursor >= len(table.rows) - 1
        table.set_rows(tuple(self.events.shown))
        if is_newest:
            table.move_to(len(table.rows) - 1)
        self.events.is_held = not is_newest
        if self.events.filter.terms and not table.rows:
            table.set_empty("nothing matches of what was read: b looks further back")
        if self._tab == "events":
            trouble = f" · {make_harmless(self.events.trouble)}" if self.events.trouble else ""
            self._note(self.events.describe() + trouble)

    def _show_lists(self) -> None:
        details, tab = self.model.details, self._tab
        if details is None or (tab not in LISTS and tab != "settings"):
            return
        trouble = f" · {make_harmless(details.trouble)}" if details.trouble else ""
        if tab == "settings":
            view = self.query_one("#settings", LinesView)
            view.show(tables.write_settings(details, max(40, self.size.width - 2)))
            self._note(f"its settings{trouble}")
            return
        rows = LISTS[tab](details, self.dock.clock())
        shown = tables.match_rows(rows, self._words.get(tab, ""))
        self._table(tab).set_rows(shown)
        words = tables.describe_more(details, tab, len(shown), len(rows))
        where = f" · {make_harmless(details.policy_path)}" if tab == "rules" else ""
        self._note(words + where + trouble)

    def _show_log(self) -> None:
        width = self.size.width - 1 if self._is_wrapped else 0
        lines = tables.write_log(self._log, self._words.get("logs", ""), width)
        view = self.query_one("#logs", LinesView)
        view.show(lines)
        if self._tab == "logs":
            way = "follows" if view.is_following else "stands still: f follows"
            self._note(f"the newest {len(self._log):,} lines · {way}")

    def _show_plots(self) -> None:
        until_ns = self.model.at_ns
        for name, _, unit in PLOTS:
            points = self.model.histories[name].get_points()
            curve = Curve(points, until_ns - PLOT_SPAN_NS, until_ns, unit)
            self.query_one(f"#plot-{name}", PlotView).curve = curve
        self._note("the last five minutes, as far as this screen was open")

    def _take_verdicts(self, verdicts: tuple[Verdict, ...], at_ns: int) -> None:
        """What a verification found; nothing found, and not stopped before its end, is whole."""
        is_stopped = self._progress is not None and self._progress.is_stopped
        if not verdicts and not is_stopped:
            verdicts = (Verdict(True, container=self.container, checked_ns=at_ns),)
        self._checked = verdicts
        self._show_head()

    def _take_earlier(self, events: tuple[Event, ...]) -> None:
        table = self._table("events")
        count = self.events.take_before(events)
        table.set_rows(tuple(self.events.shown))
        self.events.is_held = True
        if count and self.events.filter.terms:
            table.move_to(count - 1)
        words = f"{len(events):,} earlier receipts read, {count:,} of them shown"
        self.say(words if events else "there are no earlier receipts of this run")
        self._note(self.events.describe())

    def _fill(self, name: str, events: tuple[Event, ...]) -> None:
        gap = next((one for one in self.events.shown if get_item_key(one) == name), None)
        if isinstance(gap, Gap):
            self.events.fill(gap, events)
            self._table("events").set_rows(tuple(self.events.shown))
            self._note(self.events.describe())

    # Keys.

    def action_show_tab(self, name: str) -> None:
        self._tab = name
        self.filter_text = self._words.get(name, "")
        self.query_one(TabLine).here = name
        self.query_one(ContentSwitcher).current = name
        self._note("")
        self._show_tab()
        if name == "logs" and self._log_reader is not None:
            self._log_reader.ask_now()
        focused = self.query_one(f"#{name}")
        self.set_focus(focused if focused.can_focus else None)
        self.dock.hand_down(self)  # the footer has the keys of what is focused

    def action_turn_tab(self, by: int) -> None:
        names = [tab.name for tab in TABS]
        self.action_show_tab(names[(names.index(self._tab) + by) % len(names)])

    def action_hold(self) -> None:
        self.events.is_paused = not self.events.is_paused
        self._show_events()

    def action_denials(self) -> None:
        self.dock.open_place("policy", self.container)

    def action_earlier(self) -> None:
        """Read on before the first line, unless that is being done."""
        before = self.events.get_earlier()
        if self._is_reading or self._tab != "events":
            return
        if before is None:
            self.say("no earlier receipts here: docklock receipts lists all of them")
            return
        ask = partial(self._read_earlier, *before, self.events.filter)
        self._is_reading = self.call_once("evidence", "earlier receipts", ask)

    def action_follow(self) -> None:
        if self._tab == "logs":
            view = self.query_one("#logs", LinesView)
            view.is_following = not view.is_following
            view.scroll_end(animate=False)
            self._show_log()
        elif self._tab == "events":
            self.events.is_paused = self.events.is_held = False
            table = self._table("events")
            table.move_to(len(table.rows) - 1)

    def action_wrap(self) -> None:
        self._is_wrapped = not self._is_wrapped
        self._show_log()

    def on_virtual_table_moved(self, moved: VirtualTable.Moved) -> None:
        """Who comes to the first line wants to see what was before it; with a filter b searches."""
        table = moved.table
        if table.id != "events" or table.cursor or self.events.filter.terms:
            return
        if len(table.rows) > 1 and table.has_focus and self.events.get_earlier() is not None:
            self.action_earlier()

    def on_virtual_table_chosen(self, chosen: VirtualTable.Chosen) -> None:
        item = chosen.row
        if isinstance(item, Event):
            self.dock.open_place("receipt", self.container, item.run, item.event_index)
        elif isinstance(item, Gap):
            ask = partial(self._read_before, item.run, item.before)
            self.call_once("evidence", get_item_key(item), ask)

    def on_resize(self) -> None:
        self._show_tab()


LISTS: dict[str, Callable[[Details, int], list[tables.Row]]] = {
    "processes": tables.list_processes,
    "files": lambda details, _now_ns: tables.list_files(details),
    "network": lambda details, _now_ns: tables.list_network(details),
    "rules": lambda details, _now_ns: tables.list_rules(details),
}


def _make_table(name: str, columns: tuple[Column, ...]) -> VirtualTable[tables.Row]:
    return VirtualTable(
        columns,
        lambda row: row.key,
        lambda row, key: row.cells[key],
        empty=EMPTY[name],
        id=name,
    )


def _draw_item(item: Item, column: str) -> Cell:
    return write_item(item).get(column, Cell(""))
