"""All else about one container of this host: settings, processes, files, sockets, rules.

Each part that cannot be read says so in `trouble`, and the others are shown. What takes long (the
walk through changed files, the policy, the counts of a run that has ended) is kept for a while, of
the last CONTAINERS_KEPT containers. Not here: the row (host_containers), what a section reads.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import DocklockError
from chainlite.receipt import DECISIONS
from docklock import client
from docklock.cgroup.sampling import read_interfaces
from docklock.cli.policy_questions import resolve_name
from docklock.cli.top import get_user_name
from docklock.console.facts import FileChange, Process
from docklock.console.host_files import find_changes
from docklock.console.host_meters import find_cgroup
from docklock.console.host_settings import list_settings
from docklock.console.host_sockets import read_connections
from docklock.console.rule_hits import DECISIONS as DECISION_OF
from docklock.console.rule_hits import list_rules
from docklock.evidence import container_store
from docklock.evidence.counts import parse_counts
from docklock.evidence.database import sqlite3
from docklock.evidence.reading import has_store, read_segment
from docklock.lifecycle import RUNNING
from docklock.policy.shipped import find_policy
from docklock.processes import NS_PER_S, read_processes
from docklock.runtime import read_spec
from docklock.supervisor.task import get_overlay

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.console.facts import Connection, RuleHits
    from docklock.console.host_records import Record
    from docklock.paths import Paths
    from docklock.policy.inherit import Resolved

PROCESSES_MAX, FILES_MAX, CONNECTIONS_MAX = 512, 512, 256
CONTAINERS_KEPT = 4
FILES_APART_NS = SETTINGS_APART_NS = 5_000_000_000
SOCKETS_APART_NS = 3_000_000_000
"""The kernel looks through all sockets of the machine for each table: milliseconds."""
COUNTS_TIMEOUT_S = 0.3
COUNTED_MAX = 20_000
"""Receipts of a run that has ended are counted up to so many: a second of work at most."""
Counts = dict[tuple[str, str], int]


class Parts(NamedTuple):
    """What Details has besides its row."""

    settings: tuple[tuple[str, str], ...] = ()
    processes: tuple[Process, ...] = ()
    files: tuple[FileChange, ...] = ()
    interfaces: tuple[tuple[str, int, int], ...] = ()
    connections: tuple[Connection, ...] = ()
    policy_path: str = ""
    rules: tuple[RuleHits, ...] = ()
    more: tuple[tuple[str, int], ...] = ()
    trouble: str = ""


class Kept:
    """Of one container what is not read at each look."""

    def __init__(self) -> None:
        self.files: tuple[FileChange, ...] = ()
        self.files_more = 0
        self.files_ns = -FILES_APART_NS
        self.settings: tuple[tuple[str, str], ...] = ()
        self.settings_mark: tuple[int, int] = (-1, 0)  # the record's version, five seconds
        self.connections: tuple[list[Connection], int] = [], 0
        self.connections_ns = -SOCKETS_APART_NS
        self.policy: Resolved | None = None
        self.policy_mark: tuple[object, ...] = ()
        self.counts: tuple[int, Counts] | None = None  # of an ended run
        self.mute_run = -1  # whose guard knows no counts: it would put each question on record


class HostDetails:
    """The sections of one container after another. One thread at a time."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._kept: dict[str, Kept] = {}

    def read(self, record: Record) -> Parts:
        """All sections of a container that was just looked at."""
        kept = self._kept.pop(record.id, None) or Kept()
        self._kept[record.id] = kept  # the last is the newest
        while len(self._kept) > CONTAINERS_KEPT:
            del self._kept[next(iter(self._kept))]
        parts = Parts()
        sections: tuple[Callable[[Record, Kept, Parts], Parts], ...] = (
            self._add_settings,
            self._add_files,
            self._add_rules,
        )
        if record.state.status == RUNNING:
            sections += (self._add_processes, self._add_network)
        for add in sections:
            try:
                parts = add(record, kept, parts)
            except (DocklockError, sqlite3.Error, OSError, ValueError) as error:
                parts = parts._replace(trouble="; ".join(filter(None, (parts.trouble, str(error)))))
        return parts

    def _add_settings(self, record: Record, kept: Kept, parts: Parts) -> Parts:
        mark = record.version, time.monotonic_ns() // SETTINGS_APART_NS
        if kept.settings_mark != mark:
            kept.settings, kept.settings_mark = list_settings(self._paths, record), mark
        return parts._replace(settings=kept.settings)

    def _add_files(self, record: Record, kept: Kept, parts: Parts) -> Parts:
        assert record.container is not None
        overlay, now_ns = get_overlay(record.container), time.monotonic_ns()
        if overlay is None:
            return parts
        if now_ns - kept.files_ns >= FILES_APART_NS:
            mounts = [one.destination for one in read_spec(record.container).mounts]
            found = find_changes(overlay, mounts, FILES_MAX)
            kept.files, kept.files_more = tuple(found.changes), found.more
            kept.files_ns = time.monotonic_ns()
        parts = parts._replace(files=kept.files)
        return add_more(parts, "files", kept.files_more)

    def _add_processes(self, record: Record, _kept: Kept, parts: Parts) -> Parts:
        cgroup = find_cgroup(record)
        pids = cgroup.list_pids() if cgroup is not None else ()
        shown = [
            Process(
                pid=one.pid,
                parent=one.parent,
                user=get_user_name(one.uid),
                started_ns=one.started_ns,
                cpu_s=one.cpu_ns / NS_PER_S,
                memory_bytes=one.memory_bytes,
                command=one.command,
            )
            for one in read_processes(pids[:PROCESSES_MAX])
        ]
        parts = parts._replace(processes=tuple(shown))
        return add_more(parts, "processes", max(0, len(pids) - PROCESSES_MAX))

    def _add_network(self, record: Record, kept: Kept, parts: Parts) -> Parts:
        pid, now_ns = record.state.pid, time.monotonic_ns()
        if now_ns - kept.connections_ns >= SOCKETS_APART_NS:
            kept.connections = read_connections(pid, CONNECTIONS_MAX)
            kept.connections_ns = now_ns
        found, more = kept.connections
        parts = parts._replace(interfaces=tuple(read_interfaces(pid)), connections=tuple(found))
        return add_more(parts, "connections", more)

    def _add_rules(self, record: Record, kept: Kept, parts: Parts) -> Parts:
        assert record.container is not None
        name = record.container.policy
        path = find_policy(name)
        parts = parts._replace(policy_path=os.path.abspath(path))
        status = os.stat(path)
        mark = (path, status.st_ino, status.st_mtime_ns, status.st_size)
        if kept.policy is None or kept.policy_mark != mark:
            kept.policy, kept.policy_mark = resolve_name(name), mark
        return parts._replace(rules=list_rules(kept.policy, self._read_counts(record, kept)))

    def _read_counts(self, record: Record, kept: Kept) -> Counts | None:
        """By op and decision; None if nobody knows."""
        run = record.state.run
        if record.state.status != RUNNING:
            if kept.counts is None or kept.counts[0] != run:
                counts = count_stored(self._paths, record.id, run)
                kept.counts = (run, counts) if counts is not None else None
            return kept.counts[1] if kept.counts is not None else None
        if kept.mute_run == run:
            return None
        try:
            told: dict[str, Any] = client.read_counts(self._paths, record.id, COUNTS_TIMEOUT_S)
            found: Counts = {}
            for (op, done), times in parse_counts(told).items():
                key = op, DECISION_OF.get(done, done)
                found[key] = found.get(key, 0) + times
        except client.GoneError:
            return None  # it has just ended
        except (DocklockError, ValueError):
            kept.mute_run = run
            return None
        return found


def add_more(parts: Parts, what: str, count: int) -> Parts:
    """Say that something was cut off: how much, or -1 for more than anybody counted."""
    return parts._replace(more=(*parts.more, (what, count))) if count else parts


def count_stored(paths: Paths, container: str, run: int) -> Counts | None:
    """The receipts of an ended run by op and decision; None if there are none, or too many."""
    if run < 0 or not has_store(paths, container):
        return None
    db = container_store.open_store(paths, container)
    try:
        is_laid_out = container_store.has_tables(db)
        if not is_laid_out or container_store.get_event_count(db, run) > COUNTED_MAX:
            return None
        found: Counts = {}
        for row in container_store.iterate_segments(db, run):
            for shown in read_segment(row):
                key = shown.receipt.op, DECISIONS[shown.receipt.decision]
                found[key] = found.get(key, 0) + 1
        return found
    finally:
        db.close()
