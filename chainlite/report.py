"""What verification found, judged by whom the verifier trusts, and said: exit codes, JSON, lines.

Not here: the checks themselves (verify). Invariants: nothing counts as anchored but what a named
witness cosigned, under a checkpoint that the evidence's own log continues; what else is whole is
called that host's word. Source: README.md of this room, "What a report says".
"""

from __future__ import annotations

from chainlite import checkpoint
from chainlite.cosignature import Cosignature, Witness, get_cosignatures
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.quorum import describe_standing, judge_quorum, render_standing

if TYPE_CHECKING:
    from typing import Any

    from chainlite.note import VerifierKey
    from chainlite.proofs.light import Final
    from chainlite.proofs.trusted import Trusted
    from chainlite.quorum import Quorum, Standing

EXIT_WHOLE, EXIT_NOT_EVIDENCE, EXIT_TAMPERED, EXIT_UNTRUSTED = 0, 2, 3, 4
UNIX_TIME_MAX = 253_402_300_799
"""The last second of the year 9999: later ones are shown as numbers."""


class FirstBad(NamedTuple):
    """Where evidence first fails: receipts `first` to `last` of a run (None: no end known)."""

    run: int | None
    first: int
    last: int | None
    why: str


class Logged(NamedTuple):
    """Leaf `leaf_index` of the host's log binds a run's first `event_count` receipts.

    `is_end` where it is the exit, so that nothing follows.
    """

    leaf_index: int
    event_count: int
    is_end: bool


class RunReport(NamedTuple):
    """What was checked of one run; `state` is open, closed or cut; `logged` in the log's order."""

    run: int
    state: str
    receipts: int
    segments: int
    head: str
    redacted: int
    logged: tuple[Logged, ...]


class SeenLog(NamedTuple):
    """A state of the host's log which the evidence is consistent with, and its signed note."""

    size: int
    root: bytes
    note: bytes


class Report(NamedTuple):
    """What verification found; `host` is the fingerprint of the key that signed.

    `publics` are the host's keys, the enrolled one first; `logs` the states of its log, the
    evidence's own first, then its anchors. `revoked_runs` began, or were recovered, under a key
    where the host has said that it is not to be trusted.
    """

    host: str
    publics: tuple[bytes, ...]
    container: str
    app: str
    receipts: int
    segments: int
    redacted: int
    runs: tuple[RunReport, ...]
    logs: tuple[SeenLog, ...]
    first_bad: FirstBad | None
    revoked_runs: tuple[int, ...] = ()


class Trust(NamedTuple):
    """Whom the verifier believes and what they ask for; `fingerprint` is the host key's, or empty.

    `note` is a checkpoint from outside which the host's log must continue, or empty. `log_keys`
    are both keys of a host's log, which a tlog-proof asks for. Under a `policy` nothing counts as
    anchored but what its quorum cosigned; `witnesses` has the keys of its members, too. `notary`
    is the fingerprint of a notary's key, or empty. `chain` is what is believed of a chain at
    `now_ms`, and `finals` the states of host logs that were shown final on it. `others` are
    fingerprints of more hosts.
    """

    fingerprint: str = ""
    witnesses: tuple[Witness, ...] = ()
    note: bytes = b""
    is_anchor_required: bool = False
    log_keys: tuple[VerifierKey, ...] = ()
    policy: Quorum | None = None
    notary: str = ""
    chain: Trusted | None = None
    now_ms: int = 0
    finals: tuple[Final, ...] = ()
    others: tuple[str, ...] = ()

    def is_named(self, host: str) -> bool:
        """Whether the verifier has named this host's key."""
        return host == self.fingerprint or host in self.others


class Verdict(NamedTuple):
    """A report under a Trust: the newest state of the log that named witnesses cosigned.

    `anchored` has, for each run, what that state binds (None: nothing); `refusal` says what was
    asked for and is not so, or nothing; `standing` who of the trust's policy has cosigned it.
    """

    is_trusted: bool
    log: SeenLog | None
    by: tuple[Cosignature, ...]
    anchored: tuple[Logged | None, ...]
    refusal: str
    standing: Standing | None = None


def judge(report: Report, trust: Trust) -> Verdict:
    """What the verifier may believe. SpecError: the named checkpoint is not one of this host."""
    is_trusted = trust.is_named(report.host) and not report.revoked_runs
    nothing = tuple(None for _ in report.runs)
    if report.first_bad is not None or not report.logs:
        return Verdict(is_trusted, None, (), nothing, "")
    log, by, refusal, standing = judge_logs(report.logs, report.publics, trust)
    anchored = tuple([find_logged(run, log) for run in report.runs]) if log else nothing
    if not refusal and trust.is_anchor_required:
        refusal = _find_unanchored(report, anchored)
    return Verdict(is_trusted, log, by, anchored, refusal, standing)


def judge_logs(
    logs: tuple[SeenLog, ...], publics: tuple[bytes, ...], trust: Trust
) -> tuple[SeenLog | None, tuple[Cosignature, ...], str, Standing | None]:
    """The newest of these states that a named witness cosigned, by whom, and what speaks against.

    What speaks against is that the trust's own checkpoint is not among them. Under a policy it is
    the newest that meets it; where none does, `Standing` is that of the one that came nearest.
    """
    refusal = _compare(logs, publics, trust.note) if trust.note else ""
    if trust.note and not refusal:
        named = checkpoint.parse_claim(trust.note)
        logs = (*logs, SeenLog(named.size, named.root, trust.note))
    nearest: Standing | None = None
    for log in sorted(logs, key=lambda log: log.size, reverse=True):
        by = get_cosignatures(log.note, trust.witnesses)
        standing = judge_quorum(trust.policy, by) if trust.policy else None
        if is_anchored(trust, by):
            return log, by, refusal, standing
        if standing and (nearest is None or len(standing.names) > len(nearest.names)):
            nearest = standing
    return None, (), refusal, nearest


def is_anchored(trust: Trust, by: tuple[Cosignature, ...]) -> bool:
    """Whether these cosignatures, of witnesses that the verifier named, are enough for them."""
    return bool(by) and (trust.policy is None or judge_quorum(trust.policy, by).is_met)


def _compare(logs: tuple[SeenLog, ...], publics: tuple[bytes, ...], note: bytes) -> str:
    """Why evidence with these states of the log does not go with a checkpoint from outside."""
    named, origin = checkpoint.parse_claim(note), checkpoint.parse_claim(logs[0].note).origin
    if named.origin != origin:
        return f"the checkpoint is of the log {named.origin}, this evidence of {origin}"
    checkpoint.parse_checkpoint(note, *publics)
    same = [log for log in logs if log.size == named.size]
    if not same:
        return (
            f"this evidence does not show that its log of {logs[0].size} leaves continues "
            f"the checkpoint of {named.size}: have it written anew with that checkpoint"
        )
    if any(log.root != named.root for log in same):
        return (
            f"the host's log of {named.size} leaves is not the one under the checkpoint: "
            "it was forked or rewritten"
        )
    return ""


def find_logged(run: RunReport, log: SeenLog) -> Logged | None:
    """The newest leaf of the run that this state of the log has."""
    return next((leaf for leaf in reversed(run.logged) if leaf.leaf_index < log.size), None)


def _find_unanchored(report: Report, anchored: tuple[Logged | None, ...]) -> str:
    for run, leaf in zip(report.runs, anchored, strict=True):
        count = leaf.event_count if leaf else 0
        if count < run.receipts:
            return f"receipts {count} to {run.receipts - 1} of run {run.run} are not anchored"
        if leaf is None or not (leaf.is_end or run.state == "open"):
            part = "end" if leaf else "start"
            return f"the {part} of run {run.run} is not anchored"
    return ""


def compute_exit_code(report: Report, verdict: Verdict) -> int:
    """0 whole and trusted, 3 tampered or not as asked for, 4 whole but of a key not named.

    4 also for a key that its host has revoked.
    """
    if report.first_bad is not None or verdict.refusal:
        return EXIT_TAMPERED
    return EXIT_WHOLE if verdict.is_trusted else EXIT_UNTRUSTED


def describe_report(report: Report, verdict: Verdict) -> dict[str, Any]:
    """The report as JSON shows it."""
    bad = report.first_bad
    first_bad: dict[str, Any] | None = None
    if bad is not None:
        place = {"index": bad.first} if bad.first == bad.last else {"range": [bad.first, bad.last]}
        first_bad = {"run": bad.run, **place, "why": bad.why}
    return {
        "ok": bad is None and not verdict.refusal,
        "trusted": verdict.is_trusted,
        "anchored_to": describe_anchor(verdict.log, verdict.by),
        "policy": describe_standing(verdict.standing),
        "refused": verdict.refusal or None,
        "host": report.host,
        "container": report.container,
        "app": report.app,
        "receipts": report.receipts,
        "segments": report.segments,
        "redacted": report.redacted,
        "first_bad": first_bad,
        "revoked_runs": list(report.revoked_runs),
        "runs": [
            {
                "run": run.run,
                "state": run.state,
                "receipts": run.receipts,
                "segments": run.segments,
                "head": run.head,
                "redacted": run.redacted,
                "anchored_receipts": leaf.event_count if leaf else 0,
                "anchored_whole": is_anchored_whole(run, leaf),
            }
            for run, leaf in zip(report.runs, verdict.anchored, strict=True)
        ],
    }


def describe_anchor(log: SeenLog | None, by: tuple[Cosignature, ...]) -> dict[str, Any] | None:
    """Size and root of the anchored log and who cosigned it when, as JSON shows it."""
    if log is None:
        return None
    return {
        "size": log.size,
        "root": log.root.hex(),
        "by": [{"name": one.name, "time": format_time(one.time)} for one in by],
    }


def is_anchored_whole(run: RunReport, leaf: Logged | None) -> bool:
    """Whether nothing of the run, as it is reported, lies outside the anchor."""
    return leaf is not None and leaf.event_count == run.receipts and leaf.is_end


def describe_bad(bad: FirstBad) -> str:
    """One line: which receipts, and why."""
    return f"{describe_place(bad)}: {bad.why}"


def describe_place(bad: FirstBad) -> str:
    """Which receipts."""
    run = "" if bad.run is None else f" of run {bad.run}"
    if bad.first == bad.last:
        return f"receipt {bad.first}{run}"
    end = "the end" if bad.last is None else str(bad.last)
    return f"receipts {bad.first} to {end}{run}"


def render_report(report: Report, verdict: Verdict) -> str:
    """The report for people: a few lines, the verdict first."""
    if report.first_bad is not None:
        return f"TAMPERED: {escape(describe_bad(report.first_bad))}\n"
    lines = [f"REFUSED: {escape(verdict.refusal)}"] if verdict.refusal else []
    about = f"container {report.container[:12]} ({escape(report.app)})"
    if report.revoked_runs:
        runs = ", ".join(str(run) for run in report.revoked_runs)
        signer = f"UNTRUSTED: whole, but host {report.host[:16]} has revoked the key of run {runs}"
    else:
        signer = render_signer(report.host, is_trusted=verdict.is_trusted)
    lines.append(f"{signer}; {about}")
    for run, leaf in zip(report.runs, verdict.anchored, strict=True):
        redacted = f", {run.redacted} values redacted" if run.redacted else ""
        counts = f"{run.receipts} receipts in {run.segments} segments{redacted}"
        lines.append(f"  run {run.run} {run.state}: {counts}")
        if verdict.log is not None:
            lines.append(f"    {_render_anchored(run, leaf, verdict.by)}")
    lines += render_anchoring(verdict)
    return "\n".join(lines) + "\n"


def render_anchoring(verdict: Verdict) -> list[str]:
    """Whether nobody has anchored it, and how the policy stands, if there is one."""
    lines = []
    if verdict.log is None:
        lines.append("  anchored by nobody that you named: this is that host's word")
    if verdict.standing is not None:
        lines.append(f"  {escape(render_standing(verdict.standing))}")
    return lines


def render_signer(host: str, *, is_trusted: bool) -> str:
    """Whose signatures hold, and whether you named them."""
    signer = f"host {host[:16]}"
    if is_trusted:
        return f"whole: signed by {signer}"
    return f"UNTRUSTED: whole, but signed by {signer}, a key you did not name"


def render_cosignatures(by: tuple[Cosignature, ...]) -> str:
    """Who cosigned, and when."""
    return ", ".join(f"{one.name} at {format_time(one.time)}" for one in by)


def _render_anchored(run: RunReport, leaf: Logged | None, by: tuple[Cosignature, ...]) -> str:
    if leaf is None:
        return "not anchored: this host's word"
    through = f"through index {leaf.event_count - 1}" if leaf.event_count else "at its start"
    rest = "" if is_anchored_whole(run, leaf) else "; the rest is this host's word"
    return f"anchored {through} by {render_cosignatures(by)}{rest}"


def escape(text: str) -> str:
    """The text without what could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_time(time_s: int) -> str:
    """Unix seconds as RFC 3339 in UTC."""
    from datetime import UTC, datetime

    if time_s > UNIX_TIME_MAX:
        return f"{time_s} s"
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
