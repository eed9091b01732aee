"""What a server's export says, judged by whom the verifier trusts: exit codes, JSON, lines.

Not here: the checks (exported). Invariants: whole and trusted is said only where the server's keys
and every host's were named and none was revoked; what of the range is not here is said, by whose
word; an export of which parts are missing is refused. Source: README.md of this room, "Export".
"""

from __future__ import annotations

from chainlite import checkpoint, tlogproof
from chainlite.codec import U64_MAX
from chainlite.export_frames import GAPS, RUN_ANY, Scope
from chainlite.exported import HostPart, Part, read_parts
from chainlite.keys import compute_host_id
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ranged import NOTHING_LATER, RangedRun
from chainlite.report import (
    EXIT_TAMPERED,
    EXIT_UNTRUSTED,
    EXIT_WHOLE,
    SeenLog,
    describe_anchor,
    escape,
    format_time,
    judge_logs,
    render_cosignatures,
)
from chainlite.verify import is_revoked

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chainlite.cosignature import Cosignature
    from chainlite.report import Trust

NS = 10**9
GAPS_SHOWN_MAX = 1000
GONE, HOSTS_GAP = "erased", "the host's own gap"


class Missing(NamedTuple):
    """What of the range is not here: leaves of a host where `container` is empty, else receipts.

    `last` is None where nobody knows how many.
    """

    host: str
    container: str
    run: int
    first: int
    last: int | None
    why: str


class RunSummary(NamedTuple):
    """What all parts show of one run."""

    container: str
    app: str
    run: int
    first: int
    end: int
    receipts: int
    segments: int
    redacted: int
    state: str
    is_revoked: bool


class HostSummary(NamedTuple):
    """What all parts show of one host, and which state of its log named witnesses cosigned."""

    host: str
    is_trusted: bool
    log_size: int
    held_size: int
    held_ms: int
    server_size: int
    runs: tuple[RunSummary, ...]
    log: SeenLog | None
    by: tuple[Cosignature, ...]
    refusal: str


class Exported(NamedTuple):
    """A whole file under a trust; `refusal` is why it is not what it says, or nothing."""

    scope: Scope
    parts: int
    sealed_ms: int
    hosts: tuple[HostSummary, ...]
    missing: tuple[Missing, ...]
    is_server_trusted: bool
    refusal: str

    @property
    def code(self) -> int:
        """The exit code."""
        if self.refusal or any(host.refusal for host in self.hosts):
            return EXIT_TAMPERED
        is_trusted = self.is_server_trusted and all(host.is_trusted for host in self.hosts)
        return EXIT_WHOLE if is_trusted else EXIT_UNTRUSTED


def check_export_file(
    read: Callable[[int], bytes], trust: Trust, *, as_json: bool
) -> tuple[str, int]:
    """What to print about a server's export, and the exit code. SpecError: it is none."""
    import json

    parts, why = read_parts(read)
    if why:
        bad = {"ok": False, "first_bad": {"part": len(parts), "why": why}}
        shown = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(why)}\n"
        return shown, EXIT_TAMPERED
    found = judge_parts(parts, trust)
    if as_json:
        return json.dumps(describe_export(found)) + "\n", found.code
    return render_export(found), found.code


def judge_parts(parts: list[Part], trust: Trust) -> Exported:
    """What the verifier may believe of parts that hold."""
    by_host = dict[bytes, list[HostPart]]()
    for part in parts:
        for host in part.hosts:
            by_host.setdefault(host.opened.host, []).append(host)
    hosts = tuple([_sum_host(name, found, trust) for name, found in by_host.items()])
    missing = [one for found in by_host.values() for one in _find_missing(found)]
    first, last = parts[0].scope, parts[-1].seal
    assert last is not None, "a part ends with its seal"
    refusal = ""
    if last.after is not None:
        refusal = "the parts that follow are not here: it goes on"
    if first.start is not None:
        refusal = "the parts before are not here: it begins within"
    if trust.note and not any(_is_of(trust.note, name) for name in by_host):
        refusal = "the checkpoint is of a log that is not in it"
    is_named = trust.log_keys == first.log_keys
    scope = first._replace(start=None)
    return Exported(scope, len(parts), last.time_ms, hosts, tuple(missing), is_named, refusal)


def _sum_host(name: bytes, found: list[HostPart], trust: Trust) -> HostSummary:
    last = found[-1]
    host_keys, held = last.opened.keys, last.held
    assert host_keys is not None and held is not None, "each host begins with its key and these"
    runs = _sum_runs(found)
    logs = {log.size: log for one in found for log in one.opened.logs}
    log: SeenLog | None = None
    by: tuple[Cosignature, ...] = ()
    refusal = ""
    if logs:
        asked = trust if trust.note and _is_of(trust.note, name) else trust._replace(note=b"")
        log, by, refusal = judge_logs(tuple(logs.values()), host_keys.publics, asked)[:3]
    if trust.is_anchor_required and not refusal and (log is None or log.size < last.log_size):
        refusal = "the newest state of the host's log here is not anchored"
    is_trusted = trust.is_named(name.hex()) and not any(run.is_revoked for run in runs)
    note = tlogproof.parse_log_proof(held.proof).note
    server_size = checkpoint.parse_claim(note).size
    return HostSummary(
        name.hex(), is_trusted, last.log_size, held.held.size, held.time_ms, server_size, runs,
        log, by, refusal,
    )  # fmt: skip


def _is_of(note: bytes, host: bytes) -> bool:
    return checkpoint.parse_claim(note).origin == checkpoint.get_origin(host)


def _sum_runs(found: list[HostPart]) -> tuple[RunSummary, ...]:
    """Each run once, though parts may have ended within it."""
    summed = dict[tuple[str, int], RunSummary]()
    for part in found:
        for ranged in part.runs:
            run, key = ranged.run, (ranged.run.genesis.container.hex(), ranged.run.genesis.run)
            made = RunSummary(
                key[0], run.genesis.app, key[1], ranged.begin, run.event_count, ranged.receipts,
                run.segments, run.redacted, _name_state(ranged), is_revoked(ranged, run),
            )  # fmt: skip
            old = summed.get(key)
            if old is not None:
                made = made._replace(
                    first=old.first, receipts=old.receipts + made.receipts,
                    segments=old.segments + made.segments,
                    redacted=old.redacted + made.redacted,
                    is_revoked=old.is_revoked or made.is_revoked,
                )  # fmt: skip
            summed[key] = made
    return tuple(summed.values())


def _name_state(ranged: RangedRun) -> str:
    from chainlite.bundle import STATES

    state = STATES[ranged.run.state]
    return state if state != "open" else ranged.end


def _find_missing(found: list[HostPart]) -> list[Missing]:
    """What the range should have and has not, as the host or the server says."""
    missing, host = [], found[-1].opened.host.hex()
    if found[-1].gap is not None:
        kind, first, end = found[-1].gap
        missing.append(Missing(host, "", 0, first, end - 1 if end else None, GAPS[kind]))
    for part in found:
        for ranged in part.runs:
            genesis = ranged.run.genesis
            key = (host, genesis.container.hex(), genesis.run)
            missing += [Missing(*key, first, last, GONE) for first, last in ranged.erased]
            for event in ranged.gap_receipts[:GAPS_SHOWN_MAX]:
                index = event.event_index
                count = dict(event.labels).get("count", "unknown")
                why = f"{HOSTS_GAP}: {count} before it"
                missing.append(Missing(*key, index, index, why))
            if ranged.end == NOTHING_LATER:
                missing.append(Missing(*key, ranged.run.event_count, None, GAPS[0]))
    return missing


def describe_export(found: Exported) -> dict[str, Any]:
    """The export as JSON shows it: u64 as decimal strings, bytes as hex."""
    return {
        "ok": found.code != EXIT_TAMPERED,
        "trusted": found.code == EXIT_WHOLE,
        "refused": found.refusal or None,
        "server": compute_host_id(found.scope.public).hex(),
        "server_trusted": found.is_server_trusted,
        "sealed_ms": str(found.sealed_ms),
        "parts": found.parts,
        "scope": describe_scope(found.scope),
        "receipts": str(sum(run.receipts for host in found.hosts for run in host.runs)),
        "hosts": [_describe_host(host) for host in found.hosts],
        "missing": [
            {
                "host": one.host,
                "container": one.container or None,
                "run": one.run if one.container else None,
                "what": "receipts" if one.container else "leaves",
                "first": str(one.first),
                "last": None if one.last is None else str(one.last),
                "why": one.why,
            }
            for one in found.missing
        ],
    }


def describe_scope(scope: Scope) -> dict[str, Any]:
    """What was asked for; null leaves nothing out."""
    return {
        "tenant": scope.tenant,
        "host": scope.host.hex() or None,
        "container": scope.container.hex() or None,
        "app": scope.app or None,
        "run": None if scope.run == RUN_ANY else scope.run,
        "first": str(scope.first),
        "last": None if scope.last == U64_MAX else str(scope.last),
        "from": str(scope.time_from),
        "to": None if scope.time_to == U64_MAX else str(scope.time_to),
    }


def _describe_host(host: HostSummary) -> dict[str, Any]:
    return {
        "host": host.host,
        "trusted": host.is_trusted,
        "refused": host.refusal or None,
        "anchored_to": describe_anchor(host.log, host.by),
        "log_size": str(host.log_size),
        "held": {
            "size": str(host.held_size),
            "time_ms": str(host.held_ms),
            "server_log_size": str(host.server_size),
        },
        "runs": [
            {
                "container": run.container,
                "app": run.app,
                "run": run.run,
                "state": run.state,
                "first": str(run.first),
                "end": str(run.end),
                "receipts": str(run.receipts),
                "segments": run.segments,
                "redacted": run.redacted,
                "revoked": run.is_revoked,
            }
            for run in host.runs
        ],
    }


def render_export(found: Exported) -> str:
    """The export for people: the verdict first, then each host, then what is missing."""
    lines = [f"REFUSED: {escape(found.refusal)}"] if found.refusal else []
    lines += [f"REFUSED: host {one.host[:16]}: {escape(one.refusal)}" for one in found.hosts
              if one.refusal]  # fmt: skip
    server = f"server {compute_host_id(found.scope.public).hex()[:16]}"
    when = format_time(found.sealed_ms // 1000)
    if found.is_server_trusted:
        lines.append(f"whole: sealed by {server} at {when}; {_render_scope(found.scope)}")
    else:
        lines.append(
            f"UNTRUSTED: whole, but sealed by {server}, keys you did not name, at {when}; "
            f"{_render_scope(found.scope)}"
        )
    for host in found.hosts:
        lines += _render_host(host)
    lines += [f"  MISSING: {_render_missing(one)}" for one in found.missing]
    if not found.missing:
        lines.append("  nothing is missing between the first and the last of each run")
    return "\n".join(lines) + "\n"


def _render_scope(scope: Scope) -> str:
    parts = [f"tenant {escape(scope.tenant)}"]
    if scope.app:
        parts.append(f"app {escape(scope.app)}")
    if scope.container:
        parts.append(f"container {scope.container.hex()[:12]}")
    if scope.run != RUN_ANY:
        parts.append(f"run {scope.run}")
    if scope.first or scope.last != U64_MAX:
        parts.append(f"receipts {scope.first} to {_or_end(scope.last, str(scope.last))}")
    if scope.time_from or scope.time_to != U64_MAX:
        since = format_time(scope.time_from // NS)
        parts.append(f"{since} to {_or_end(scope.time_to, format_time(scope.time_to // NS))}")
    return ", ".join(parts)


def _or_end(value: int, text: str) -> str:
    return "the end" if value == U64_MAX else text


def _render_host(host: HostSummary) -> list[str]:
    named = "" if host.is_trusted else "UNTRUSTED, a key you did not name: "
    if any(run.is_revoked for run in host.runs):
        named = "UNTRUSTED, it has revoked a key that speaks for a run: "
    receipts = sum(run.receipts for run in host.runs)
    lines = [
        f"  {named}host {host.host[:16]}: {receipts} receipts proven by its signature, "
        f"in its log of {host.log_size} leaves",
        f"    held by the server up to leaf {host.held_size} at {format_time(host.held_ms // 1000)}"
        f", in its own log of {host.server_size}",
    ]
    for run in host.runs:
        redacted = f", {run.redacted} values redacted" if run.redacted else ""
        lines.append(
            f"    run {run.run} of container {run.container[:12]} ({escape(run.app)}) {run.state}: "
            f"{_render_receipts(run)}{redacted}"
        )
    if host.log is None:
        return [*lines, "    its log is anchored by nobody that you named"]
    cosigned = render_cosignatures(host.by)
    return [*lines, f"    its log is anchored up to leaf {host.log.size} by {cosigned}"]


def _render_receipts(run: RunSummary) -> str:
    if not run.receipts:
        return "no receipt in the range"
    return f"{run.receipts} receipts, {run.first} to {run.end - 1}, in {run.segments} segments"


def _render_missing(one: Missing) -> str:
    what = "receipts" if one.container else "leaves"
    last = "on" if one.last is None else f"to {one.last}"
    of = f" of run {one.run} of container {one.container[:12]}" if one.container else ""
    return f"host {one.host[:16]}: {what} {one.first} {last}{of}: {escape(one.why)}"
