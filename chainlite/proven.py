"""What a proof of one event shows, judged by whom the verifier trusts, and said: JSON, lines.

Not here: the proof's bytes and its checks (proof). Invariant: all that is told was checked, and by
whose word it stands is told with it. Source: README.md of this room, "Proof of one event".
"""

from __future__ import annotations

from chainlite import receipt
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.report import (
    SeenLog,
    Trust,
    Verdict,
    describe_anchor,
    escape,
    format_time,
    judge_logs,
    render_cosignatures,
    render_signer,
)

if TYPE_CHECKING:
    from typing import Any


class Proven(NamedTuple):
    """What a proof shows; `is_certified` where the certificates are in it.

    `is_revoked` where the host has said that the key they begin with is not to be trusted there.
    """

    host: str
    publics: tuple[bytes, ...]
    event: receipt.Receipt
    values: tuple[tuple[str, bytes | None], ...]
    leaf_index: int
    log: SeenLog
    is_certified: bool
    is_revoked: bool = False


def judge_proof(proven: Proven, trust: Trust) -> Verdict:
    """What the verifier may believe. SpecError: the named checkpoint is not one of this host."""
    log, by, refusal = judge_logs((proven.log,), proven.publics, trust)
    if not refusal and trust.is_anchor_required and log is None:
        refusal = "the receipt is not anchored"
    is_trusted = proven.host == trust.fingerprint and not proven.is_revoked
    return Verdict(is_trusted, log, by, (), refusal)


def describe_proof(proven: Proven, verdict: Verdict) -> dict[str, Any]:
    """The proof as JSON shows it; values are hex, null where they are not told."""
    return {
        "ok": not verdict.refusal,
        "trusted": verdict.is_trusted,
        "anchored_to": describe_anchor(verdict.log, verdict.by),
        "refused": verdict.refusal or None,
        "host": proven.host,
        "certified": proven.is_certified,
        "revoked": proven.is_revoked,
        "leaf_index": proven.leaf_index,
        "log": {"size": proven.log.size, "root": proven.log.root.hex()},
        "receipt": receipt.describe(proven.event),
        "values_hex": {
            name: None if value is None else value.hex() for name, value in proven.values
        },
    }


def render_proof(proven: Proven, verdict: Verdict) -> str:
    """The proof for people: the verdict, the receipt, where it lies, and by whose word."""
    event = proven.event
    lines = [f"REFUSED: {escape(verdict.refusal)}"] if verdict.refusal else []
    about = f"container {event.container.hex()[:12]} ({escape(event.app)})"
    signer = render_signer(proven.host, is_trusted=verdict.is_trusted)
    if proven.is_revoked:
        signer = f"UNTRUSTED: whole, but host {proven.host[:16]} has revoked the key of this run"
    lines.append(f"{signer}; {about}")
    decision = receipt.DECISIONS[event.decision] + (f" errno {event.errno}" if event.errno else "")
    when = format_time(event.time // 10**9)
    lines.append(f"  receipt {event.event_index} of run {event.run}: {escape(event.op)} {decision}")
    lines.append(f"  the host's time {when}; leaf {proven.leaf_index} of {proven.log.size}")
    for name, value in proven.values:
        text = "(redacted)" if value is None else escape(value.decode(errors="backslashreplace"))
        lines.append(f"  {escape(name)}={text}")
    if verdict.log is None:
        lines.append("  anchored by nobody that you named: this is that host's word")
    else:
        lines.append(f"  anchored by {render_cosignatures(verdict.by)}")
    return "\n".join(lines) + "\n"
