"""What auditors and readers ask of a server, as a query of an address says it. Pure.

Not here: who may ask, what is answered (reading). Invariants: a name that is not known, one that
comes twice, or a value that is not written as it should be is refused; what comes out is bounded.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from chainlite.codec import U64_MAX
from chainlite.errors import SpecError
from chainlite.export_frames import RUN_ANY, Position, Scope, decode_position
from chainlite.receipt import APP_LIMIT, OP_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES = 32
PATH_LIMIT = 4096
SYSCALL_LIMIT = OP_LIMIT - len("syscall.")
INDEX_MAX = U64_MAX // 2
LIMIT_DEFAULT, LIMIT_MAX = 100, 1000
HOSTS_MAX, CONTAINERS_MAX = 256, 1000
"""Of which one answer speaks."""
LAG_S_DEFAULT, LAG_S_MAX = 3600, 10**9
NS = 10**9
_HEX, _NUMBER = re.compile(r"[0-9a-f]*"), re.compile(r"0|[1-9][0-9]{0,19}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
RANGE_NAMES = frozenset(("host", "run", "first", "last", "from", "to", "cursor"))
EXPORT_NAMES = frozenset(("host", "container", "app", "from", "to", "cursor"))
SEARCH_NAMES = frozenset(
    ("host", "container", "run", "first", "syscall", "path", "from", "to", "cursor", "limit")
)
ALERT_NAMES = frozenset(("host", "lag_s", "cursor"))
HOSTS_NAMES = frozenset(("cursor",))
CONTAINERS_NAMES = frozenset(("host", "cursor"))

Query = dict[str, str]


class SearchPlace(NamedTuple):
    """Where a search goes on: `first` and `second` are a segment's time and leaf, or where a
    container is asked for its run and first receipt; `event_index` is the receipt."""

    host: bytes
    first: int
    second: int
    event_index: int


class ContainerPlace(NamedTuple):
    """After which container of which host a list of them goes on; empty from the first one on."""

    host: bytes = b""
    container: bytes = b""


class Search(NamedTuple):
    """What is looked for; empty names leave nothing out, times are Unix ns.

    `path` is that of a value, or, with a star at its end, how it begins. Of a container the search
    begins with receipt `first` of `run`.
    """

    host: bytes
    container: bytes
    syscall: str
    path: bytes
    time_from: int
    time_to: int
    limit: int
    start: SearchPlace | None
    run: int = 0
    first: int = 0


def read_query(pairs: Sequence[tuple[str, str]], names: frozenset[str]) -> Query:
    """The values by name; SpecError for a name that is not known, or comes twice."""
    found: Query = {}
    for name, value in pairs:
        if name not in names:
            raise SpecError(f"query: {name[:64]!r} is not one of {', '.join(sorted(names))}")
        if name in found:
            raise SpecError(f"query: {name} is there twice")
        if name != "path" and not is_text(value):
            raise SpecError(f"query: {name} is not UTF-8")
        found[name] = value
    return found


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: what came of other bytes cannot."""
    return not any("\ud800" <= one <= "\udfff" for one in value)


def narrow_range(scope: Scope, app: str, query: Query) -> Scope:
    """The range of one app: the id of a container, else a name."""
    narrow = parse_named(_narrow(scope, query), app)._replace(
        run=read_number(query, "run", RUN_ANY, RUN_ANY - 1),
        first=read_number(query, "first", 0, U64_MAX),
        last=read_number(query, "last", U64_MAX, U64_MAX),
    )
    if narrow.run == RUN_ANY and (narrow.first or narrow.last != U64_MAX):
        raise SpecError("query: first and last are receipts of a run: name it with run")
    if narrow.first > narrow.last:
        raise SpecError("query: last is before first")
    return narrow


def parse_named(scope: Scope, app: str) -> Scope:
    """Of a container by its id, or of all by this name."""
    if not app or not is_text(app) or len(app.encode()) > APP_LIMIT:
        raise SpecError("app: want the name or the id of a container")
    if len(app) == 2 * ID_BYTES and _HEX.fullmatch(app):
        return scope._replace(container=bytes.fromhex(app))
    return scope._replace(app=app)


def narrow_export(scope: Scope, query: Query) -> Scope:
    """Of all hosts and containers those that are named."""
    app = query.get("app", "")
    if len(app.encode()) > APP_LIMIT:
        raise SpecError("query: app is no name of a container")
    return _narrow(scope, query)._replace(container=read_id(query, "container"), app=app)


def _narrow(scope: Scope, query: Query) -> Scope:
    time_from, time_to = read_times(query)
    return scope._replace(
        host=read_id(query, "host"), time_from=time_from, time_to=time_to,
        start=parse_cursor(query.get("cursor", "")),
    )  # fmt: skip


def parse_cursor(text: str) -> Position | None:
    """The position of a cursor as an answer gave it; None where there is none."""
    if len(text) > 1024 or len(text) % 2 or not _HEX.fullmatch(text):
        raise SpecError("cursor: not one of this server")
    return decode_position(bytes.fromhex(text))


def parse_search(query: Query) -> Search:
    """What is looked for."""
    time_from, time_to = read_times(query)
    path = query.get("path", "").encode("utf-8", "surrogateescape")
    syscall = query.get("syscall", "").removeprefix("syscall.")
    if len(path) > PATH_LIMIT or len(syscall.encode("utf-8", "replace")) > OP_LIMIT - len(
        "syscall."
    ):
        raise SpecError("query: syscall or path is too long")
    limit = read_number(query, "limit", LIMIT_DEFAULT, LIMIT_MAX)
    if not limit:
        raise SpecError(f"query: limit: want 1 to {LIMIT_MAX}")
    start = _parse_search_cursor(query.get("cursor", ""))
    container = read_id(query, "container")
    run, first = (
        read_number(query, "run", 0, RUN_ANY - 1),
        read_number(query, "first", 0, INDEX_MAX),
    )
    if (run or first) and not container:
        raise SpecError("query: run and first are of a container: name it with container")
    return Search(
        read_id(query, "host"), container, syscall, path, time_from, time_to, limit, start, run,
        first,
    )  # fmt: skip


def parse_container_cursor(text: str) -> ContainerPlace:
    """After what a list of containers goes on."""
    if not text:
        return ContainerPlace()
    host, _, container = text.partition(".")
    if any(len(one) != 2 * ID_BYTES or not _HEX.fullmatch(one) for one in (host, container)):
        raise SpecError("cursor: not one of this server")
    return ContainerPlace(bytes.fromhex(host), bytes.fromhex(container))


def encode_search_cursor(place: SearchPlace) -> str:
    """The text that `cursor` takes."""
    return f"{place.host.hex()}.{place.first}.{place.second}.{place.event_index}"


def _parse_search_cursor(text: str) -> SearchPlace | None:
    if not text:
        return None
    host, *numbers = text.split(".")
    is_one = len(host) == 2 * ID_BYTES and _HEX.fullmatch(host) and len(numbers) == 3
    if not is_one or not all(_NUMBER.fullmatch(one) for one in numbers):
        raise SpecError("cursor: not one of this server")
    first, second, index = (int(one) for one in numbers)
    if max(first, second, index) > INDEX_MAX:
        raise SpecError("cursor: not one of this server")
    return SearchPlace(bytes.fromhex(host), first, second, index)


def read_id(query: Query, name: str) -> bytes:
    """A host's or container's id; empty where it is not asked for."""
    text = query.get(name, "")
    if not text:
        return b""
    if len(text) != 2 * ID_BYTES or not _HEX.fullmatch(text):
        raise SpecError(f"query: {name}: want 64 hex digits in small letters")
    return bytes.fromhex(text)


def read_number(query: Query, name: str, default: int, most: int) -> int:
    """A number in decimal digits, at most `most`."""
    text = query.get(name, "")
    if not text:
        return default
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise SpecError(f"query: {name}: want a number up to {most}")
    return int(text)


def read_times(query: Query) -> tuple[int, int]:
    """Unix ns of `from` and `to`."""
    times = parse_time(query.get("from", ""), 0), parse_time(query.get("to", ""), U64_MAX)
    if times[0] > times[1]:
        raise SpecError("query: to is before from")
    return times


def parse_time(text: str, default: int) -> int:
    """Unix ns of an RFC 3339 time, or of digits that are Unix ns."""
    if not text:
        return default
    if _NUMBER.fullmatch(text) and int(text) <= U64_MAX:
        return int(text)
    found = _TIME.fullmatch(text)
    if found is None:
        raise SpecError("time: want Unix nanoseconds, or RFC 3339 as 2026-11-28T09:30:00Z")
    part, zone = found.groups()
    try:
        moment = datetime.fromisoformat(text[:19] + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        raise SpecError("time: there is no such moment") from None
    whole = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS
    value = whole + int((part or ".0")[1:].ljust(9, "0"))
    if not 0 <= value <= U64_MAX:
        raise SpecError("time: before 1970, or too late")
    return value
