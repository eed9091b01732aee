"""What this host's containers are and which status they have, read again only where it changed.

A record is read when its file is another (inode, time) than at the last look. In one look those
that are asked for first come first, then the others in turn, for as long as there is time: those
that have a guard, since they change by themselves, then those at rest. Not here: what they use.
Invariants: a look takes no lock of a container and reads no file twice that has not changed
(tests/console/test_host_records.py); whoever is removed is gone with the next look.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock.lifecycle import (
    STOPPED,
    Container,
    State,
    has_guard,
    list_containers,
    live_dir,
    names_dir,
    read_container,
    read_state,
)
from docklock.runtime import settle_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docklock.paths import Paths

SETTLED_NS = 1_000_000_000
"""A directory that changed within the last second may change again without another time."""


WRITTEN_NS = 50_000_000
"""Nor is a file's time another one with each change: the clock of files ticks every 10 ms at most,
and a new file may get the inode of the one before the last."""
LOST = "it lost its supervisor: the next docklock command mends it"


class Record:
    """One container as it was at the last look; `container` is None before the first."""

    __slots__ = ("_marks", "container", "id", "state", "trouble", "version")

    def __init__(self, container_id: str) -> None:
        self.id = container_id
        self.container: Container | None = None
        self.state = State()
        self.trouble = ""
        self.version = 0  # another one when anything of it has changed
        self._marks: tuple[tuple[int, int], ...] = ()

    def look(self, paths: Paths) -> None:
        """See what is on disk now. StateError if it is gone."""
        before = self.container, self.state, self.trouble
        directory = paths.container(self.id)
        marks = tuple(_mark(f"{directory}/{name}") for name in ("container.json", "state.json"))
        if marks != self._marks:
            self._read(paths)
            newest_ns = max(changed_ns for _, changed_ns in marks)
            self._marks = marks if time.time_ns() - newest_ns > WRITTEN_NS else ()
        if self._settle(paths) != self.state:
            self._read(paths)  # it may just have ended, and said so
            settled = self._settle(paths)
            if settled != self.state:
                if settled.status == STOPPED:  # not one that waits to be started again
                    self.trouble = self.trouble or LOST
                self.state, self._marks = settled, ()  # whoever mends it writes it anew
        self.version += before != (self.container, self.state, self.trouble)

    def _settle(self, paths: Paths) -> State:
        return settle_state(self.state, lambda: has_guard(paths, self.id))

    def _read(self, paths: Paths) -> None:
        self.trouble = ""
        try:
            self.container = read_container(paths, self.id)
            self.state = read_state(paths, self.id)
        except (StateError, TypeError) as error:  # TypeError: fields of another version
            if not os.path.isdir(paths.container(self.id)):
                raise StateError(f"No such container: {self.id}") from None
            self.container = self.container or Container(self.id, self.id[:12], "")
            self.trouble = str(error)


class Records:
    """All of them. One thread at a time."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.known: dict[str, Record] = {}
        self._listed_ns = 0
        self._turns = [0, 0]
        self._guarded: frozenset[str] = frozenset()

    def count_unread(self) -> int:
        """Those that nobody has looked at yet."""
        return sum([record.container is None for record in self.known.values()])

    def read_names(self) -> dict[str, str]:
        """What containers are called, by id: far quicker than to read them all."""
        try:
            with os.scandir(names_dir(self._paths)) as entries:
                return {os.readlink(entry.path): entry.name for entry in entries}
        except OSError:
            return {}  # a name that went meanwhile: the next look has them

    def iterate(
        self, first: Iterable[str], until_ns: int, unread_until_ns: int = 0
    ) -> Iterator[Record]:
        """Look at the `first`, and at others in turn until that monotonic time.

        Each is given after the look at it. Those that nobody has looked at yet come before the
        second look at any other, and may take until their own time.
        """
        known = self.known
        wanted = [known[one] for one in dict.fromkeys(first) if one in known]
        done = {record.id for record in wanted}
        others = [record for one, record in known.items() if one not in done]
        guarded = [record for record in others if record.id in self._guarded]
        at_rest = [record for record in others if record.id not in self._guarded]
        unread = [record for record in guarded + at_rest if record.container is None]
        yield from filter(self._look, wanted)
        yield from filter(self._look, iterate_until(unread, max(until_ns, unread_until_ns)))
        yield from filter(self._look, self._take_turns(0, guarded, until_ns))
        yield from filter(self._look, self._take_turns(1, at_rest, until_ns))

    def look(self, first: Iterable[str], until_ns: int) -> None:
        """As `refresh` and `iterate`, to its end."""
        self.refresh()
        for _ in self.iterate(first, until_ns):
            pass

    def find(self, container_id: str) -> Record:
        """One, looked at now. StateError if there is none."""
        record = self.known.setdefault(container_id, Record(container_id))
        try:
            record.look(self._paths)
        except StateError:
            self.known.pop(container_id, None)
            raise
        return record

    def _look(self, record: Record) -> bool:
        """False if it is gone."""
        try:
            record.look(self._paths)
        except StateError:
            self.known.pop(record.id, None)
            return False
        return True

    def refresh(self) -> None:
        """Who is there, and who has a guard or had one that died. StateError if nobody can say."""
        try:
            self._list_all()
        except FileNotFoundError:
            self.known.clear()  # no container was ever made here
        except OSError as error:
            raise StateError(f"{error}; docklock needs root") from None

    def _list_all(self) -> None:
        changed_ns = os.stat(self._paths.containers).st_mtime_ns
        if changed_ns != self._listed_ns:
            found = list_containers(self._paths)
            known = self.known
            self.known = {one: known.get(one) or Record(one) for one in found}
            is_settled = time.time_ns() - changed_ns > SETTLED_NS
            self._listed_ns = changed_ns if is_settled else 0
        live = live_dir(self._paths)
        self._guarded = frozenset(os.listdir(live) if os.path.isdir(live) else ())

    def _take_turns(self, group: int, records: list[Record], until_ns: int) -> Iterator[Record]:
        """As many as there is time for, beginning with the one after the last."""
        for _ in iterate_until(records, until_ns):
            self._turns[group] = (self._turns[group] + 1) % len(records)
            yield records[self._turns[group]]


def iterate_until(records: list[Record], until_ns: int) -> Iterator[Record]:
    """Those that there is time for."""
    for record in records:
        if time.monotonic_ns() >= until_ns:
            return
        yield record


def _mark(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)
