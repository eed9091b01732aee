"""Evidence on its way to servers, as a screen shows it. Pure.

Not here: where it is asked (docklock.console), how it is drawn. On a server the rows are the hosts
that its evidence comes from; both are called by `what`. Invariants: the worst comes first; the sum
says how many are not well; no more than HISTORIES_MAX curves are kept, and what has none is said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui.view.cells import Cell, Column
from tui.view.describing import Description, describe, make_pair
from tui.view.history import History
from tui.view.moments import format_age, format_day
from tui.view.plot import Curve
from tui.view.text import make_harmless
from tui.view.units import NOBODY_KNOWS, write_amount, write_count, write_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docklock.console.facts import Acknowledgement, ServerSync, SyncFacts

NS_PER_MS = 1_000_000
NAME_MAX = 80
WHY_MAX = 200
LATE_AFTER_S = 60.0
PLOT_NS = 600_000_000_000
HISTORIES_MAX = 32
"""Hosts have a few servers; a server with a thousand hosts has the curve of the worst alone."""
WORST = ""
"""The name under which the largest lag of all is kept."""

FIELDS = ("name", "state", "trouble", "lag", "bytes", "seconds", "failures", "contradictions")
ORDERS = ("worst", "name", "lag", "failures")
SERVER_COLUMNS = (
    Column("name", "NAME", 14, grow=2, widest=40),
    Column("state", "STATE", 14),
    Column("acknowledged", "ACKNOWLEDGED", 15, is_right=True, grow=1, widest=24),
    Column("lag", "LEAVES", 7, priority=2, is_right=True),
    Column("bytes", "BYTES", 8, priority=5, is_right=True),
    Column("seconds", "BEHIND", 8, is_right=True),
    Column("failures", "FAILED", 6, priority=3, is_right=True),
    Column("next", "NEXT TRY", 9, priority=4, is_right=True),
    Column("contradictions", "CONTRADICTIONS", 14, priority=6, is_right=True),
    Column("trouble", "TROUBLE", 20, priority=1, grow=4),
)
ACKNOWLEDGED_COLUMNS = (
    Column("time", "ACKNOWLEDGED (UTC)", 19),
    Column("age", "AGE", 7, priority=2, is_right=True),
    Column("server", "BY", 18, grow=1, widest=60),
    Column("size", "HOST LOG SIZE", 14, is_right=True),
    Column("server_size", "ITS OWN LOG", 14, priority=1, is_right=True),
)
SERVER_WORDS = {"seconds": "SILENT", "contradictions": "ALERTS"}
"""On a server the time is since a host was heard; how long its own log is by now nobody knows."""
SIGNS = {"well": ("+", "good"), "busy": ("~", "warn"), "away": ("!", "warn"),
         "refused": ("✗", "bad"), "contradicted": ("✗", "bad"), "tampered": ("✗", "bad"),
         "alerted": ("✗", "bad"), "silent": ("!", "warn"), "revoked": ("✗", "bad"),
         "never heard": ("?", "warn")}  # fmt: skip
MEANINGS = {
    "busy": "It was reached and had too much to do; it is tried again by itself.",
    "away": "It could not be reached. Evidence is kept here and sent once it is back.",
    "refused": "It takes nothing from this host: enrol it with docklock sync enrol, or look at "
    "what it says.",
    "contradicted": "It has signed what cannot be true, or this host's log was cut or restored. "
    "What was signed is kept here as evidence; docklock sync status tells of it.",
    "tampered": "This host's own log or files do not hold. To see where: 1, then V verifies all.",
    "alerted": "The server has found that what was sent does not hold, and has signed that.",
    "silent": "Runs of this host are open, and nothing has come of them: it is down, cut off, or "
    "holds its evidence back.",
    "revoked": "Its key was revoked: nothing that it signs is taken any more.",
    "never heard": "It is enrolled, and has sent nothing yet.",
}
HOW_TO = (
    ("Who is it for", "A server holds a copy of this host's evidence and signs what it holds, so "
     "that nobody on this host can take it back."),
    ("To have one", "docklock bpci serve on another host; [[server]] in the agent's configuration "
     "here, then docklock sync enrol SERVER GRANT, and docklock sync run or the agent."),
)  # fmt: skip


class LagHistory:
    """How far behind each was, as it was seen; and the worst of all."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}

    def add(self, facts: SyncFacts, at_ns: int) -> None:
        """Take one look. What is gone keeps its past until the room is needed."""
        lags = {server.name: float(server.lag_s) for server in facts.servers}
        self._keep(WORST, max(lags.values(), default=-1.0), at_ns)
        for name in list(lags)[:HISTORIES_MAX] if len(lags) <= HISTORIES_MAX else ():
            self._keep(name, lags[name], at_ns)
        while len(self._histories) > 2 * HISTORIES_MAX:
            del self._histories[next(name for name in self._histories if name != WORST)]

    def make_curve(self, name: str, now_ns: int, *, is_server: bool = False) -> tuple[str, Curve]:
        """Whose curve it is in words, and the curve: of `name` if it is kept, else the worst."""
        history = self._histories.get(name) if name else None
        what = "silence" if is_server else "lag"
        words = (
            f"{what} of {make_harmless(name, NAME_MAX)}" if history else f"longest {what} of all"
        )
        history = history or self._histories.get(WORST) or History()
        points = history.get_points()
        since_ns = max(now_ns - PLOT_NS, points[0].at_ns if points else 0)
        return words, Curve(points, min(since_ns, now_ns - 10**10), now_ns, "s")

    def _keep(self, name: str, lag_s: float, at_ns: int) -> None:
        self._histories.setdefault(name, History()).add(at_ns, lag_s)


def make_head(facts: SyncFacts, *, is_server: bool) -> tuple[Cell, ...]:
    """How many there are, how many are not well, and the worst lag."""
    what, count = "hosts" if is_server else "servers", len(facts.servers)
    since, found = ("silent", "alerts") if is_server else ("behind", "contradictions kept")
    if not count:
        words = f"no {what} yet" if is_server else "this host's evidence goes to no server"
        return (Cell(words, "warn"), _cell(facts.trouble, "warn"))
    unwell = sum(not is_well(one) for one in facts.servers)
    lags = [one for one in facts.servers if one.lag_leaves >= 0]
    contradicted = sum(one.contradictions for one in facts.servers)
    return (
        Cell(f"{count:,} {what if count > 1 else what[:-1]}", "accent"),
        Cell(f"✗ {unwell:,} not well" if unwell else "+ all well", "bad" if unwell else "good"),
        Cell(f"most leaves behind {write_count(max(s.lag_leaves for s in lags))}" if lags else ""),
        Cell(f"longest {since} {write_span(max(s.lag_s for s in facts.servers))}"),
        Cell(f"✗ {contradicted:,} {found}" if contradicted else "", "bad"),
        _cell(facts.trouble, "warn"),
    )


def is_well(server: ServerSync) -> bool:
    """Whether nobody needs to look at it.

    Of a server's hosts lag is silence, which an idle one is in too: the source says which is silent
    for too long.
    """
    is_late = server.log_size >= 0 and server.lag_s > LATE_AFTER_S
    return (
        SIGNS.get(server.state, ("", "bad"))[1] == "good"
        and not (server.failures or server.contradictions or server.trouble or is_late)
    )  # fmt: skip


def sort_servers(
    servers: Iterable[ServerSync], order: str, *, is_reversed: bool = False
) -> list[ServerSync]:
    """By one of ORDERS; the worst first, names from a."""
    keys: dict[str, Callable[[ServerSync], tuple[object, ...]]] = {
        "worst": lambda s: (-s.contradictions, is_well(s), -s.failures, -s.lag_s, s.name),
        "name": lambda s: (s.name.lower(), s.name),
        "lag": lambda s: (-s.lag_leaves, s.name),
        "failures": lambda s: (-s.failures, s.name),
    }
    return sorted(servers, key=keys[order], reverse=is_reversed)


def get_server_cell(server: ServerSync, column: str, now_ns: int) -> Cell:
    """One cell of a server's (or a host's) row."""
    if column == "name":
        return _cell(server.name, "", NAME_MAX)
    if column == "state":
        return make_state(server.state)
    if column == "acknowledged":
        return Cell(_tell_acknowledged(server))
    if column == "lag":
        return Cell(write_count(server.lag_leaves), "" if server.lag_leaves > 0 else "dim")
    if column == "bytes":
        return Cell(write_amount(server.lag_bytes, "B"))
    if column == "seconds":
        return Cell(write_span(server.lag_s), "warn" if server.lag_s > LATE_AFTER_S else "")
    if column == "failures":
        return Cell(write_count(server.failures), "warn" if server.failures else "dim")
    if column == "next":
        return Cell(tell_next(server.next_try_ms, now_ns))
    if column == "contradictions":
        words = f"✗ {server.contradictions:,}" if server.contradictions else "0"
        return Cell(words, "bad" if server.contradictions else "dim")
    return _cell(server.trouble, "warn")


def get_server_field(server: ServerSync, field: str) -> str | float:
    """What a filter looks at."""
    texts = {"name": server.name, "state": server.state, "trouble": server.trouble}
    if field in texts:
        return texts[field]
    numbers = {"lag": server.lag_leaves, "bytes": server.lag_bytes, "seconds": server.lag_s,
               "failures": server.failures}  # fmt: skip
    return float(numbers.get(field, server.contradictions))


def make_state(state: str) -> Cell:
    """A state's word with its sign; one that is not known here is drawn as a warning."""
    sign, tone = SIGNS.get(state, ("?", "warn"))
    return Cell(make_harmless(f"{sign} {state or 'unknown'}", NAME_MAX), tone)


def tell_next(next_try_ms: int, now_ns: int) -> str:
    """When it is tried again: in 12 s, now."""
    if next_try_ms <= 0:
        return NOBODY_KNOWS
    left_s = (next_try_ms * NS_PER_MS - now_ns) / 1e9
    return f"in {write_span(left_s)}" if left_s >= 1 else "now"


def get_acknowledged_cell(one: Acknowledgement, column: str, now_ns: int) -> Cell:
    """One cell of an acknowledgement's row."""
    at_ns = one.time_ms * NS_PER_MS
    if column == "time":
        return Cell(format_day(at_ns))
    if column == "age":
        return Cell(format_age(at_ns, now_ns), "dim")
    if column == "server":
        return _cell(one.server, "", NAME_MAX)
    return Cell(write_count(one.size if column == "size" else one.server_size))


def describe_server(server: ServerSync, now_ns: int, *, is_server: bool) -> Description:
    """All that is known of one, and what its state means."""
    state, at_ns = make_state(server.state), server.acknowledged_ms * NS_PER_MS
    last = f"{format_day(at_ns)} UTC, {format_age(at_ns, now_ns)} ago" if at_ns > 0 else "never"
    size = write_amount(server.lag_bytes, "B")
    lag = f"{write_count(server.lag_leaves)} leaves, {size}, behind {write_span(server.lag_s)}"
    return describe(
        f"{'Host' if is_server else 'Server'} {server.name}",
        (
            make_pair("url", server.url),
            make_pair("state", state.text, state.tone),
            make_pair("acknowledged", f"{_tell_acknowledged(server)} leaves"),
            make_pair("not acknowledged", "" if is_server else lag),
            make_pair("silent for", write_span(server.lag_s) if is_server else ""),
            make_pair("last acknowledged", last),
            make_pair("failed tries", "" if is_server else f"{server.failures:,} in a row"),
            make_pair("next try", "" if is_server else tell_next(server.next_try_ms, now_ns)),
            make_pair("alerts" if is_server else "contradictions",
                      f"{server.contradictions:,}{'' if is_server else ' kept as evidence'}",
                      "bad" if server.contradictions else ""),
            make_pair("trouble", server.trouble, "warn"),
        ),
        (
            ("What it means", MEANINGS.get(server.state, "")),
            ("Try now", "docklock sync now" if not is_server and not is_well(server) else ""),
        ),
    )  # fmt: skip


def describe_acknowledgement(one: Acknowledgement, now_ns: int) -> Description:
    """What a server has signed."""
    at_ns = one.time_ms * NS_PER_MS
    return describe(
        f"Acknowledgement of {one.server}",
        (
            make_pair("by", one.server),
            make_pair("signed", f"{format_day(at_ns)} UTC, {format_age(at_ns, now_ns)} ago"),
            make_pair("host log", f"the first {write_count(one.size)} leaves"),
            make_pair("its own log", f"{write_count(one.server_size)} leaves at that time"
                      if one.server_size >= 0 else ""),
        ),
        (
            ("What it means", "The server has signed that it holds these leaves and their bodies: "
             "whoever changes them here later is found out."),
            ("Prove it", f"docklock sync proof {one.server}"),
        ),
    )  # fmt: skip


def describe_nothing(facts: SyncFacts, note: str = "") -> Description:
    """Where there is no server: why one would want one, and how to get it."""
    pairs = (make_pair("", facts.trouble, "warn"), make_pair("", note))
    return describe("Sync", pairs, HOW_TO)


def get_columns(*, is_server: bool) -> tuple[Column, ...]:
    """The columns of servers, or of a server's hosts: these it does not try, they come."""
    if not is_server:
        return SERVER_COLUMNS
    kept = (c for c in SERVER_COLUMNS if c.key not in ("lag", "bytes", "failures", "next"))
    return tuple(replace(c, title=SERVER_WORDS.get(c.key, c.title)) for c in kept)


def _tell_acknowledged(server: ServerSync) -> str:
    held = write_count(server.acknowledged)
    return f"{held} of {write_count(server.log_size)}" if server.log_size >= 0 else held


def _cell(text: str, tone: str = "", limit: int = WHY_MAX) -> Cell:
    return Cell(make_harmless(text, limit), tone)
