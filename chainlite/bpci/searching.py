"""Search what a server holds: receipts by host, container, syscall, path and time. Unproven.

Bodies are sealed, so a search narrows by the segments' rows, then opens boxes, a bounded number for
each call, and says where it goes on. What it finds is looked at, not verified: each receipt has the
address by which its range is had with all proofs (exporting).
Not here: who may ask, what a query says (asking). Invariants: a segment of another tenant is never
opened; work and answer are bounded; asking on until there is no cursor comes to all that is held,
but for a segment of more than SPAN_MAX_NS, which is found by its first hour.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite import bundle, receipt, redaction, segment
from chainlite.bpci.asking import Search, SearchPlace
from chainlite.bpci.opening import iterate_hosts, open_segment, open_tenant
from chainlite.bpci.rows import INTEGER_MAX
from chainlite.bpci.store import StoreDamage
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Host, Place, Store
    from chainlite.redaction import Event

ROWS_MAX = 1 << 14
"""Segments that are looked at by their rows in one call."""
OPENED_MAX = 32
"""Boxes that are opened in one call: 32,768 receipts at most."""
VALUES_BYTES_MAX = 1 << 20
"""Of values in one answer; what goes beyond is in the next one."""
SPAN_MAX_NS = 3600 * 10**9
"""A segment is of one epoch, a minute: longer ones are of a clock that was set."""
STEP = 512
PATH = "path"


class Found(NamedTuple):
    """What one call found; `after` is where it goes on, None where all was looked at.

    `damaged` are segments that do not open: leaf and why. `erased`: of so many nothing is left.
    """

    receipts: list[dict[str, Any]]
    damaged: list[dict[str, Any]]
    erased: int
    after: SearchPlace | None


def search(store: Store, key: ServerKey, tenant: str, asked: Search, *, with_values: bool) -> Found:
    """Look on from where `asked` says."""
    with store.moment():
        return _Search(store, key, tenant, asked, with_values=with_values).run()


class _Search:
    """One call."""

    def __init__(
        self, store: Store, key: ServerKey, tenant: str, asked: Search, *, with_values: bool
    ) -> None:
        self._store, self._tenant, self._asked = store, tenant, asked
        self._tenant_key = open_tenant(store, key, tenant)
        self._with_values = with_values
        self._names = {asked.syscall, f"syscall.{asked.syscall}"} if asked.syscall else set()
        self._needles = [receipt.encode_name(name) for name in self._names]
        self._rows = self._opened = self._bytes = self._erased = 0
        self._receipts: list[dict[str, Any]] = []
        self._damaged: list[dict[str, Any]] = []

    def run(self) -> Found:
        """Look until there is no more, or enough."""
        after = self._find_after()
        return Found(self._receipts, self._damaged, self._erased, after)

    def _find_after(self) -> SearchPlace | None:
        asked = self._asked
        first = asked.host or (asked.start.host if asked.start is not None else b"")
        for host in iterate_hosts(self._store, self._tenant, first):
            if asked.host not in (b"", host.host):
                break
            for place in self._iterate_places(host):
                after = self._look(place)
                if after is not None:
                    return after
        return None

    def _iterate_places(self, host: Host) -> Iterator[Place]:
        """Segments that may have what is asked for, in order, from where the search goes on."""
        asked, name = self._asked, host.host
        start = asked.start if asked.start is not None and asked.start.host == name else None
        if asked.container:
            # the segment that has receipt `first` may begin so much before it
            begin = (asked.run, max(0, asked.first - segment.EVENTS_MAX + 1))
            run, index = (start.first, start.second) if start is not None else begin
            while rows := self._store.read_container_places(
                name, asked.container, run, index, STEP
            ):
                yield from rows
                run, index = rows[-1].run, rows[-1].first_index + 1
            return
        time, leaf = max(0, min(asked.time_from, INTEGER_MAX) - SPAN_MAX_NS), -1
        if start is not None:
            time, leaf = start.first, start.second - 1
        while rows := self._store.read_places(name, time, leaf, STEP):
            for row in rows:
                if row.time_first > asked.time_to:
                    return  # they are in order of it
                yield row
            time, leaf = rows[-1].time_first, rows[-1].leaf_index

    def _look(self, place: Place) -> SearchPlace | None:
        """Look at one segment; where to go on if there is enough."""
        asked, start = self._asked, self._asked.start
        here = self._locate(place, 0)
        first = start.event_index if start is not None and here[:3] == start[:3] else 0
        is_outside = place.time_last < asked.time_from or place.time_first > asked.time_to
        if self._rows >= ROWS_MAX or (self._opened >= OPENED_MAX and not is_outside):
            return self._locate(place, first)
        self._rows += 1
        if is_outside:
            return None
        self._opened += 1
        try:
            return self._read(place, first)
        except (SpecError, StoreDamage) as error:
            host, leaf = place.host.hex(), str(place.leaf_index)
            self._damaged.append({"host": host, "leaf_index": leaf, "why": str(error)})
        return None

    def _locate(self, place: Place, event_index: int) -> SearchPlace:
        if self._asked.container:
            return SearchPlace(place.host, place.run, place.first_index, event_index)
        return SearchPlace(place.host, place.time_first, place.leaf_index, event_index)

    def _read(self, place: Place, first: int) -> SearchPlace | None:
        """The receipts of one segment that are asked for, from receipt `first` on."""
        found = self._store.read_segments(place.host, place.leaf_index, 1)
        if not found or found[0].leaf_index != place.leaf_index:
            raise StoreDamage(f"segment at leaf {place.leaf_index}: it is missing")
        opened = open_segment(self._store, self._tenant, self._tenant_key, found[0])
        if opened.body.is_erased:
            self._erased += 1
            return None
        parts = (opened.leaf.header, opened.leaf.signature, opened.body.secret)
        stored = bundle.StoredSegment(*parts, opened.body.leaf_tags, opened.body.packed)
        body = segment.unpack_body(stored.body)
        if self._needles and not any(needle in body for needle in self._needles):
            return None
        for event in redaction.iterate_events(stored, body):
            if event.receipt.event_index < first or not self._is_asked(event):
                continue
            if len(self._receipts) >= self._asked.limit or self._bytes > VALUES_BYTES_MAX:
                return self._locate(place, event.receipt.event_index)
            self._receipts.append(self._describe(place, event))
        return None

    def _is_asked(self, event: Event) -> bool:
        asked = self._asked
        if not asked.time_from <= event.receipt.time <= asked.time_to:
            return False
        if (event.receipt.run, event.receipt.event_index) < (asked.run, asked.first):
            return False
        if self._names and event.receipt.op not in self._names:
            return False
        return not asked.path or any(
            name.rstrip("0123456789") == PATH and value is not None and _is_path(value, asked.path)
            for (name, _), value in zip(event.receipt.commitments, event.values, strict=True)
        )

    def _describe(self, place: Place, event: Event) -> dict[str, Any]:
        """A receipt with its address, and the range that proves it."""
        shown, container = event.receipt, place.container.hex()
        index = shown.event_index
        address = f"/v1/audit/{container}/range?host={place.host.hex()}&run={place.run}"
        found: dict[str, Any] = {
            "proven": False,
            "host": place.host.hex(),
            "leaf_index": str(place.leaf_index),
            "index": str(index),
            "range": f"{address}&first={index}&last={index}",
            "receipt": receipt.describe(shown),
        }
        if self._with_values:
            names = [name for name, _ in shown.commitments]
            values = dict(zip(names, event.values, strict=True))
            found["values"] = describe_values(values)
            self._bytes += sum(len(value or b"") for value in event.values)
        return found


def describe_values(values: dict[str, bytes | None]) -> dict[str, str | None]:
    """Text where they are UTF-8, else under `NAME_base64`; null where they are redacted."""
    shown: dict[str, str | None] = {}
    for name, value in values.items():
        try:
            shown[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            shown[f"{name}_base64"] = base64.b64encode(value or b"").decode()
    return shown


def _is_path(value: bytes, path: bytes) -> bool:
    value = value.rstrip(b"\0")
    return value.startswith(path[:-1]) if path.endswith(b"*") else value == path
