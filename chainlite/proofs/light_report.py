"""What a light proof shows, and which receipts of an evidence file are final: JSON, lines.

Not here: the checks (light, chainlite.verify). Invariants: what is told was checked, and what it
rests on is told with it; a receipt of a file is called final only where a state of the host's log
that the file itself shows is the very one that a final block holds.
"""

from __future__ import annotations

from chainlite import receipt
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.operations import VotesEvidence
from chainlite.report import (
    EXIT_TAMPERED,
    Logged,
    Report,
    escape,
    find_logged,
    format_time,
    is_anchored_whole,
    render_signer,
)

if TYPE_CHECKING:
    from typing import Any

    from chainlite.ledger.operations import ForkEvidence
    from chainlite.proofs.light import Final, Shown

LIES = {
    "validator": "said two things at one height and round, and was removed",
    "host": "signed two histories of its log",
}


class FinalRuns(NamedTuple):
    """The newest state of the host's log that is final and that a file shows.

    `runs` has, for each run of the file, what that state binds (None: nothing). `refusal` says
    what contradicts it, or nothing.
    """

    final: Final | None
    runs: tuple[Logged | None, ...]
    refusal: str


def find_final(report: Report, finals: tuple[Final, ...]) -> FinalRuns:
    """Which receipts of a report are final. SpecError: a proof is of another host."""
    nothing = tuple(None for _ in report.runs)
    if report.first_bad is not None:
        return FinalRuns(None, nothing, "")
    for final in finals:
        if final.host.hex() != report.host:
            raise SpecError(f"--final: it is of host {final.host.hex()[:16]}, not of this one")
    for final in sorted(finals, key=lambda one: one.log_size, reverse=True):
        for log in report.logs:
            if log.size != final.log_size:
                continue
            if log.root != final.log_root:
                why = (
                    f"the host's log of {log.size} leaves is not the one in block {final.height}: "
                    "it was forked or rewritten"
                )
                return FinalRuns(None, nothing, why)
            runs = tuple([find_logged(run, log) for run in report.runs])
            return FinalRuns(final, runs, "")
    if not finals:
        return FinalRuns(None, nothing, "")
    sizes = ", ".join(str(final.log_size) for final in finals)
    why = (
        f"this evidence does not show that its log continues the one of {sizes} leaves that is "
        "final: have it written anew with that anchor"
    )
    return FinalRuns(None, nothing, why)


def describe_final(final: Final) -> dict[str, Any]:
    """A final state of a host's log as JSON shows it."""
    return {
        "host": final.host.hex(),
        "log": {"size": final.log_size, "root": final.log_root.hex()},
        "height": final.height,
        "timestamp_ms": final.timestamp_ms,
        "block_hash": final.block_hash.hex(),
        "signers": [key.hex() for key in final.signers],
    }


def describe_shown(shown: Shown, *, is_trusted: bool) -> dict[str, Any]:
    """A light proof as JSON shows it; values are hex, null where they are not told."""
    described: dict[str, Any] = {"ok": True, "trusted": is_trusted, **describe_final(shown.final)}
    if shown.evidence is not None:
        described |= {"log": None, "submitted_by": described.pop("host")}
        described["convicted"] = {_get_word(shown.evidence): shown.evidence[0].hex()}
    if shown.event is not None:
        described["leaf_index"] = shown.leaf_index
        described["receipt"] = receipt.describe(shown.event)
        described["values_hex"] = {
            name: None if value is None else value.hex() for name, value in shown.values
        }
    return described


def render_shown(shown: Shown, *, is_trusted: bool) -> str:
    """A light proof for people: what is final, by whom, and the receipt."""
    final, event = shown.final, shown.event
    if shown.evidence is not None:
        word, accused = _get_word(shown.evidence), shown.evidence[0].hex()
        return f"{render_final(final)}\n  {word} {accused} {LIES[word]}\n"
    lines = [render_final(final), "  " + render_signer(final.host.hex(), is_trusted=is_trusted)]
    place = "" if event is None else f", leaf {shown.leaf_index} of"
    lines.append(f"  its log{place} {final.log_size} leaves, root {final.log_root.hex()[:16]}")
    if event is not None:
        decision = receipt.DECISIONS[event.decision]
        decision += f" errno {event.errno}" if event.errno else ""
        about = f"container {event.container.hex()[:12]} ({escape(event.app)})"
        lines.append(f"  {about}")
        lines.append(
            f"  receipt {event.event_index} of run {event.run}: {escape(event.op)} {decision}"
        )
        for name, value in shown.values:
            text = "(redacted)" if value is None else value.decode(errors="backslashreplace")
            lines.append(f"  {escape(name)}={escape(text)}")
    return "\n".join(lines) + "\n"


def _get_word(evidence: VotesEvidence | ForkEvidence) -> str:
    return "validator" if isinstance(evidence, VotesEvidence) else "host"


def render_final(final: Final) -> str:
    """One line: which block, when, and who sealed it."""
    when = format_time(final.timestamp_ms // 1000)
    block = f"block {final.height} ({final.block_hash.hex()[:16]}) of {when}"
    if not final.signers:
        return f"final: in {block}, under the header that you trust"
    signers = ", ".join(key.hex()[:8] for key in final.signers)
    return f"final: in {block}, sealed by {len(final.signers)} validators ({signers})"


def add_finals(
    report: Report, finals: tuple[Final, ...], text: str, described: dict[str, Any], code: int
) -> tuple[str, int]:
    """The lines and the exit code of a report with which receipts are final; also in its JSON."""
    found = find_final(report, finals)
    described["final"] = describe_final_runs(report, found)
    described["ok"] = described["ok"] and not found.refusal
    said = render_final_runs(report, found)
    if found.refusal:
        return said + text, EXIT_TAMPERED
    return text + said, code


def describe_final_runs(report: Report, found: FinalRuns) -> dict[str, Any]:
    """Which receipts of a file are final, as JSON shows it."""
    return {
        "ok": not found.refusal,
        "refused": found.refusal or None,
        "by": describe_final(found.final) if found.final is not None else None,
        "runs": [
            {
                "run": run.run,
                "final_receipts": leaf.event_count if leaf else 0,
                "final_whole": is_anchored_whole(run, leaf),
            }
            for run, leaf in zip(report.runs, found.runs, strict=True)
        ],
    }


def render_final_runs(report: Report, found: FinalRuns) -> str:
    """Which receipts of a file are final, for people."""
    if found.refusal:
        return f"REFUSED: {escape(found.refusal)}\n"
    if found.final is None:
        return ""
    lines = [render_final(found.final)]
    for run, leaf in zip(report.runs, found.runs, strict=True):
        if leaf is None:
            lines.append(f"  run {run.run}: nothing is final")
            continue
        through = f"through index {leaf.event_count - 1}" if leaf.event_count else "its start"
        rest = "" if is_anchored_whole(run, leaf) else "; the rest is this host's word"
        lines.append(f"  run {run.run}: final {through}{rest}")
    return "\n".join(lines) + "\n"
