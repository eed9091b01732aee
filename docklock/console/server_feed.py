"""Receipts of a container at a server, found by signed searches: the server's word, unproven.

Not here: their proof (server_receipt), the calls (server_line). Invariants: a container is searched
at most once in LOOK_EVERY_S and not at all while its host's log has not grown; of what comes the
newest are shown, and how many came is counted from what the server says of the run; a reader is
shown no values, and told so.
"""

from __future__ import annotations

import base64
import time
from errno import errorcode
from typing import TYPE_CHECKING

from chainlite.bpci.asking import LIMIT_MAX
from chainlite.errors import DocklockError
from docklock.console.events import show_value
from docklock.console.facts import Event, FeedPart
from docklock.console.server_line import reading
from docklock.console.source import FEED_EVENTS_MAX

if TYPE_CHECKING:
    from typing import Any

    from docklock.console.facts import ContainerRow
    from docklock.console.server_fleet import Fleet
    from docklock.console.server_line import Line

LOOK_EVERY_S = 2.0
CALLS_MAX = 8
"""Of one look: each opens 32 segments at the server."""
UNPROVEN = "unproven: the server's word"
NO_VALUES = "this key is a reader's, which is shown no values"
_BASE64 = "_base64"


class ServerFeed:
    """source.Feed of a container at a server."""

    def __init__(self, line: Line, fleet: Fleet, container: str) -> None:
        self._line, self._fleet, self._container = line, fleet, container
        self._next: tuple[int, int] | None = None  # run and index of what was not told yet
        self._looked_s = -LOOK_EVERY_S
        self._last = FeedPart()

    def read(self, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return self._last._replace(events=(), came=0)
        self._looked_s = now_s
        facts = self._fleet.look()
        row = self._fleet.find(self._container)
        if row is None:
            return FeedPart(trouble=facts.trouble or "the server has nothing of this container")
        try:
            self._last = self._read(row, limit)
        except DocklockError as error:
            self._last = self._last._replace(trouble=str(error))
            return self._last._replace(events=(), came=0)
        return self._last

    def _read(self, row: ContainerRow, limit: int) -> FeedPart:
        """What came since; of a run the newest `limit` alone are searched for."""
        end = (row.run, row.receipts)
        is_first = self._next is None
        since = self._next or (row.run, max(0, row.receipts - limit))
        begin = max(since, (row.run, max(0, row.receipts - limit)))
        events = search(self._line, row, begin, end, limit) if begin < end else ()
        same_run = since[0] == row.run
        came = len(events) if is_first else row.receipts - (since[1] if same_run else 0)
        self._next = max(since, end)
        return FeedPart(
            events, came=max(came, len(events)), total=row.receipts, run=row.run,
            is_end=row.status != "open", trouble=tell_trouble(self._fleet.look().role),
        )  # fmt: skip

    def read_before(self, run: int, index: int, limit: int = FEED_EVENTS_MAX) -> FeedPart:
        """Of this run alone: what is before its first receipt is another run's."""
        row = self._fleet.find(self._container)
        if row is None or index <= 0:
            return FeedPart(run=run)
        try:
            events = search(self._line, row, (run, max(0, index - limit)), (run, index), limit)
        except DocklockError as error:
            return FeedPart(run=run, trouble=str(error))
        return FeedPart(events, came=len(events), total=row.receipts, run=run)

    def close(self) -> None:
        pass


def tell_trouble(role: str) -> str:
    """What a reader has to know of the receipts it is shown."""
    return f"{UNPROVEN}; {NO_VALUES}" if role == "reader" else UNPROVEN


def search(
    line: Line, row: ContainerRow, begin: tuple[int, int], end: tuple[int, int], limit: int
) -> tuple[Event, ...]:
    """Receipts of a container from `begin` up to `end` (run, index), `limit` at most, in order."""
    found = find_receipts(line, row, begin, end, limit)
    with reading("/v1/search"):
        return tuple([make_event(one) for one in found])


def find_receipts(
    line: Line, row: ContainerRow, begin: tuple[int, int], end: tuple[int, int], limit: int
) -> list[dict[str, Any]]:
    """As `search`, as the server has said it."""
    query = {"host": row.host, "container": row.id, "run": str(begin[0]), "first": str(begin[1])}
    found: list[dict[str, Any]] = []
    for _ in range(CALLS_MAX):
        query["limit"] = str(min(limit - len(found), LIMIT_MAX))
        said = line.get("/v1/search", **query)
        with reading("/v1/search"):
            came = [one for one in said["receipts"] if begin <= get_place(one) < end]
            is_past = len(came) < len(said["receipts"])
            cursor = said["cursor"]
        found += came
        if not cursor or is_past or len(found) >= limit:
            break
        query["cursor"] = str(cursor)
    return found


def get_place(shown: dict[str, Any]) -> tuple[int, int]:
    """Run and index of a receipt that was found."""
    return int(shown["receipt"]["run"]), int(shown["receipt"]["index"])


def make_event(shown: dict[str, Any]) -> Event:
    """A receipt as a list shows it, as the server has said it."""
    receipt, values = shown["receipt"], shown.get("values", {})
    errno = int(receipt["errno"])
    return Event(
        run=int(receipt["run"]),
        event_index=int(receipt["index"]),
        time_ns=int(receipt["time"]),
        pid=int(receipt["pid"]),
        op=str(receipt["op"]),
        decision=str(receipt["decision"]),
        errno=errorcode.get(errno, str(errno)) if errno else "",
        values=tuple([_make_value(name, value) for name, value in values.items()]),
        labels=tuple([(str(name), str(text)) for name, text in receipt["labels"].items()]),
        host=str(shown["host"]),
        container=str(receipt["container"]),
    )


def _make_value(name: str, value: str | None) -> tuple[str, str]:
    if value is None:
        return name, show_value(name, None)
    if name.endswith(_BASE64):
        name = name.removesuffix(_BASE64)
        return name, show_value(name, base64.b64decode(value))
    return name, show_value(name, str(value).encode("utf-8", "surrogatepass"))
