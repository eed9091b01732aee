"""Where a host's alerts come from: one function or class for each thing that can be wrong.

Not here: when each is asked, since when it is so, their order (host_alerts). Each tells only what
is written down or measured here; `since_ns` is 0 where nobody wrote it down.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from chainlite import checkpoint, fork, keys
from chainlite.errors import SpecError
from chainlite.report import escape
from docklock.chain.client import ask_node
from docklock.chain.directory import find_process, get_directory, read_bounded, say_start
from docklock.chain.reading import read_status as read_chain_status
from docklock.console.facts import Alert
from docklock.console.host_records import LOST, Record, Records
from docklock.evidence.keyring import get_public_key, has_host_key
from docklock.health import HEALTH_FILE, UNHEALTHY
from docklock.json_text import parse_json
from docklock.lifecycle import RUNNING
from docklock.notary import get_directory as get_notary_directory
from docklock.outbox.sent import STATES
from docklock.outbox.status import ServerStatus, find_servers, read_status
from docklock.witness.fork_files import list_forks
from enc.notary.store import Store

if TYPE_CHECKING:
    from docklock.paths import Paths

CRITICAL, WARNING, INFO = "critical", "warning", "info"
NS_PER_MS, NS_PER_S = 1_000_000, 1_000_000_000
LAG_S_MAX = 300.0
"""A server that lacks what is older is told; the outbox sends once in some seconds."""
FAILURES_MIN = 3
"""Tries in a row; one that failed is tried again in seconds."""
RESTARTS_MIN = 3
RESTARTED_WITHIN_NS = 600 * NS_PER_S
CHAIN_LAG_BLOCKS = 10
CHAIN_ASK_S = 3.0
DISK_CRITICAL_BYTES = 64 << 20
DISK_WARNING_BYTES = 1 << 30
DISK_WARNING_SHARE = 0.05
"""Less than this of the disk and less than DISK_WARNING_BYTES is nearly full."""
LOOK_NS = 10_000_000
FORKS_MAX = 64
WHY_CHARS_MAX = 500


class ContainerAlerts:
    """Unhealthy, restarted again and again, killed for memory, cut off, or unreadable."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._records = Records(paths)
        self._judged: dict[str, tuple[int, list[Alert]]] = {}

    def find(self) -> list[Alert]:
        self._records.look((), time.monotonic_ns() + LOOK_NS)
        now_ns, known = time.time_ns(), self._judged
        self._judged = {
            record.id: self._judge_anew(record, known.get(record.id), now_ns)
            for record in self._records.known.values()
            if record.container is not None
        }
        return [alert for _, found in self._judged.values() for alert in found]

    def _judge_anew(
        self, record: Record, known: tuple[int, list[Alert]] | None, now_ns: int
    ) -> tuple[int, list[Alert]]:
        """As before, where neither its files have changed nor time changes what they say."""
        assert record.container is not None
        is_steady = not record.container.health and record.state.restart_count < RESTARTS_MIN
        if known is not None and known[0] == record.version and is_steady:
            return known
        return record.version, self._judge(record, now_ns)

    def _judge(self, record: Record, now_ns: int) -> list[Alert]:
        container, state = record.container, record.state
        assert container is not None
        name, found = container.name, []

        def add(kind: str, level: str, why: str, since_ns: int, advice: str) -> None:
            found.append(Alert(kind, level, name, why, since_ns, record.id, advice))

        if record.trouble == LOST:
            add("lost", WARNING, record.trouble, state.started_ns, "docklock ps")
        elif record.trouble:
            add("unreadable", WARNING, record.trouble, 0, f"look at {self._paths.containers}")
        if container.health and state.status == RUNNING:
            status, streak = read_health(f"{container.bundle}/{HEALTH_FILE}")
            if status == UNHEALTHY:
                why = f"its check has failed {streak} times in a row"
                add("unhealthy", WARNING, why, 0, f"docklock inspect {name}, docklock logs {name}")
        changed_ns = max(state.started_ns, state.finished_ns)
        is_recent = now_ns - changed_ns < RESTARTED_WITHIN_NS
        if state.restart_count >= RESTARTS_MIN and is_recent and not state.is_stopped_by_user:
            why = f"restarted {state.restart_count} times, the last exit with {state.exit_code}"
            add("restarting", WARNING, why, changed_ns, f"docklock logs {name}")
        if state.oom_killed:
            why = "the kernel has killed processes of it for memory"
            add("oom", WARNING, why, changed_ns, f"docklock update --memory SIZE {name}")
        if state.is_cut:
            why = f"its guard ended with run {state.run}: what it did last may not be on record"
            add("gap", WARNING, why, state.finished_ns, f"docklock verify {name}")
        elif state.error:
            add("failed", WARNING, state.error, changed_ns, f"docklock inspect {name}")
        return found


def read_health(path: str) -> tuple[str, int]:
    """Status and failing streak of a container's check; empty before the first."""
    try:
        with open(path, encoding="utf-8") as file:
            fields = parse_json(file.read())
        return str(fields["status"]), int(fields["failing_streak"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


def find_forks(paths: Paths) -> list[Alert]:
    """Logs that have signed two histories, as a witness or this host has met them."""
    own = ""
    if has_host_key(paths):
        own = checkpoint.get_origin(keys.compute_host_id(get_public_key(paths)))
    found = []
    for path in list_forks(paths)[-FORKS_MAX:]:
        since_ns, advice = os.stat(path).st_mtime_ns, f"docklock verify {path}"
        try:
            kept = fork.decode_fork(read_bounded(path, fork.FORK_LIMIT_BYTES))
            states = [checkpoint.parse_claim(note) for note in (kept.first, kept.second)]
        except SpecError as error:
            found.append(Alert("fork", WARNING, path, f"cannot be read: {error}", since_ns))
            continue
        whose = "this host's log" if states[0].origin == own else states[0].origin
        sizes = " and ".join(str(state.size) for state in states)
        why = f"it has signed two histories, of {sizes} leaves"
        if states[0].origin == own:
            why += ": it was rolled back or restored, or its key is somebody else's too"
        found.append(Alert("fork", CRITICAL, whose, why, since_ns, advice=advice))
    return found


def find_servers_alerts(paths: Paths, config: str | None = None) -> list[Alert]:
    """What servers say is wrong with this host's evidence, and what is wrong with them."""
    return [
        alert
        for status in read_status(paths, find_servers(paths, config))
        for alert in judge_server(status)
    ]


def judge_server(status: ServerStatus) -> list[Alert]:
    """Of one server. Pure."""
    name, standing = status.server.name, status.standing
    state = STATES[standing.state]
    trouble = standing.trouble[:WHY_CHARS_MAX]
    tried_ns = standing.tried_ms * NS_PER_MS
    found = [
        Alert(
            one.kind, CRITICAL, name, f"the server says, from leaf {one.leaf} on: {one.why}",
            one.time_ms * NS_PER_MS, advice="docklock verify --all",
        )
        for one in status.alerts
    ]  # fmt: skip
    if status.contradictions or state == "contradicted":
        why = trouble or "it has signed what contradicts what it had signed before"
        if status.contradictions:
            why = f"{status.contradictions} of its answers are kept: {why}"
        advice = "docklock sync status; its operator has to explain"
        found.append(Alert("contradicted", CRITICAL, name, why, tried_ns, advice=advice))
    if state == "tampered":
        advice = "docklock verify --all says where"
        found.append(Alert("tampered", CRITICAL, name, trouble, tried_ns, advice=advice))
    if state == "refused":
        advice = "docklock sync enrol, or docklock sync now for its words"
        found.append(Alert("refused", WARNING, name, trouble, 0, advice=advice))
    if status.lag.age_s >= LAG_S_MAX or standing.failures >= FAILURES_MIN:
        why = f"{status.lag.leaves:,} leaves are not acknowledged, the oldest of them "
        why += f"{status.lag.age_s:,.0f} s old"
        if standing.failures:
            why += f"; {standing.failures} tries failed: {trouble}"
        since_ns = standing.acknowledged_ms * NS_PER_MS
        advice = "docklock sync status; docklock sync now"
        if status.lag.leaves or standing.failures:
            found.append(Alert("lag", WARNING, name, why, since_ns, advice=advice))
    return found


class NotaryAlerts:
    """What this host's notary set aside; read again only when its database has changed."""

    def __init__(self, paths: Paths) -> None:
        self._directory = get_notary_directory(paths)
        self._mark: tuple[int, ...] = ()
        self._found: list[Alert] = []

    def find(self) -> list[Alert]:
        mark = self._get_mark()
        if mark != self._mark:
            self._found = self._read() if mark else []
            self._mark = mark
        return self._found

    def _get_mark(self) -> tuple[int, ...]:
        marks: list[int] = []
        for suffix in ("", "-wal"):
            try:
                status = os.stat(f"{self._directory}/notary.db{suffix}")
                marks += (status.st_ino, status.st_mtime_ns, status.st_size)
            except FileNotFoundError:
                continue
        return tuple(marks)

    def _read(self) -> list[Alert]:
        found = []
        with Store(self._directory, None) as store:
            for row in store.iterate_aside():
                where = f"run {row.run} stands still at receipt {row.first_index}"
                advice = f"docklock notary aside {row.number}; docklock verify"
                container = row.container.hex()
                found.append(
                    Alert(
                        "notary", CRITICAL, container[:12] or "this host",
                        f"{where if row.container else 'the host stands still'}: "
                        f"{escape(row.why)[:WHY_CHARS_MAX]}",
                        row.time_ms * NS_PER_MS, container, advice,
                    )
                )  # fmt: skip
        return found


def find_chain(paths: Paths) -> list[Alert]:
    """A chain that halted, a node that does not run or lags, validators that lied."""
    directory = get_directory(paths, None)
    if not os.path.exists(directory.genesis):
        return []
    if find_process(directory):
        status = asyncio.run(ask_node(directory, "GET", "/status", timeout_s=CHAIN_ASK_S))
    else:
        status = read_chain_status(directory)
    name, found = str(status["chain"]), []
    head_ns = status["head_time_ms"] * NS_PER_MS
    if status["halted"]:
        advice = f"docklock chain status; {say_start(directory)} --repair"
        found.append(Alert("halted", CRITICAL, name, status["halted"], head_ns, advice=advice))
    elif not status["running"]:
        why = f"its node here does not run; the last block is {status['height']}"
        found.append(Alert("chain", WARNING, name, why, head_ns, advice=say_start(directory)))
    if not status["running"]:
        return found
    for key in status["accused"]:
        why = "it has signed two votes of one round: evidence is on its way to a block"
        found.append(Alert("fork", WARNING, f"validator {key[:16]}", why, 0))
    if status["waits_for"]:
        found.append(Alert("disk", CRITICAL, name, f"its node waits: {status['waits_for']}", 0))
    if status["lag"] >= CHAIN_LAG_BLOCKS:
        found.append(Alert("lag", WARNING, name, f"its node is {status['lag']} blocks behind", 0))
    sizes, up = status["validators"], status["validators_up"]
    if up < sizes["quorum"]:
        why = f"{up} of {sizes['n']} validators are connected, {sizes['quorum']} must agree"
        found.append(Alert("chain", CRITICAL, name, why, head_ns))
    return found


def find_disk(paths: Paths) -> list[Alert]:
    """Evidence waits for room: nothing that is held goes on without it."""
    directory = paths.state
    try:
        disk = os.statvfs(directory)
    except FileNotFoundError:
        return []
    free_bytes, all_bytes = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    is_low = free_bytes < min(DISK_WARNING_BYTES, DISK_WARNING_SHARE * all_bytes)
    if not is_low and free_bytes >= DISK_CRITICAL_BYTES:
        return []
    level = CRITICAL if free_bytes < DISK_CRITICAL_BYTES else WARNING
    why = f"{free_bytes >> 20:,} MiB of {all_bytes >> 20:,} are free: when it is full, calls wait"
    return [
        Alert("disk", level, directory, why, 0, advice="docklock system df, docklock system prune")
    ]
