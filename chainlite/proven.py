"""What a proof of one event shows, judged by whom the verifier trusts, and said: JSON, lines.

Not here: the proof's bytes and its checks (proof). Invariant: all that is told was checked, and
what it rests on is told with it. Source: README.md of this room, "Proof of one event".
"""

from __future__ import annotations

from chainlite import receipt, segment
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.quorum import describe_standing
from chainlite.report import (
    SeenLog,
    Trust,
    Verdict,
    describe_anchor,
    escape,
    format_time,
    judge_logs,
    render_anchoring,
    render_cosignatures,
    render_signer,
)

if TYPE_CHECKING:
    from typing import Any


class Proven(NamedTuple):
    """What a proof shows; `certificate` is that of the receipt's epoch, which the log names.

    `is_certified` where those that lead to it from the host's key on are in it; `is_revoked` where
    the host has said that the key they begin with is not to be trusted there.
    """

    host: str
    publics: tuple[bytes, ...]
    event: receipt.Receipt
    values: tuple[tuple[str, bytes | None], ...]
    leaf_index: int
    log: SeenLog
    certificate: segment.Certificate
    is_certified: bool
    is_revoked: bool = False


def judge_proof(proven: Proven, trust: Trust) -> Verdict:
    """What the verifier may believe. SpecError: the named checkpoint is not one of this host."""
    log, by, refusal, standing = judge_logs((proven.log,), proven.publics, trust)
    if not refusal and trust.is_anchor_required and log is None:
        refusal = "the receipt is not anchored"
    is_trusted = trust.is_named(proven.host) and not proven.is_revoked
    return Verdict(is_trusted, log, by, (), refusal, standing)


def describe_proof(proven: Proven, verdict: Verdict) -> dict[str, Any]:
    """The proof as JSON shows it; values are hex, null where they are not told."""
    return {
        "ok": not verdict.refusal,
        "trusted": verdict.is_trusted,
        "anchored_to": describe_anchor(verdict.log, verdict.by),
        "policy": describe_standing(verdict.standing),
        "refused": verdict.refusal or None,
        "host": proven.host,
        "epoch": _describe_epoch(proven.certificate),
        "certified": proven.is_certified,
        "revoked": proven.is_revoked,
        "leaf_index": proven.leaf_index,
        "log": {"size": proven.log.size, "root": proven.log.root.hex()},
        "receipt": receipt.describe(proven.event),
        "values_hex": {
            name: None if value is None else value.hex() for name, value in proven.values
        },
    }


def _describe_epoch(certificate: segment.Certificate) -> dict[str, Any]:
    """When the epoch began, says the host; its checkpoint is null where it names none."""
    c = certificate
    return {
        "epoch": c.epoch,
        "first_index": str(c.first_index),
        "issuer": segment.ISSUERS[c.issuer],
        "boot": c.boot.hex(),
        "boottime": str(c.boottime),
        "time": str(c.time),
        "not_before_checkpoint": None if c.checkpoint == segment.ZERO_HASH else c.checkpoint.hex(),
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
    lines += _render_epoch(proven)
    for name, value in proven.values:
        text = "(redacted)" if value is None else escape(value.decode(errors="backslashreplace"))
        lines.append(f"  {escape(name)}={text}")
    if verdict.log is not None:
        lines.append(f"  anchored by {render_cosignatures(verdict.by)}")
    lines += render_anchoring(verdict)
    return "\n".join(lines) + "\n"


def _render_epoch(proven: Proven) -> list[str]:
    """What the epoch's certificate says, and what holds it."""
    c = proven.certificate
    when = f"{format_time(c.time // 10**9)}, {c.boottime // 10**9} s after boot {c.boot.hex()}"
    recovered = ", after a crash" if c.issuer == segment.BY_RECOVERY else ""
    known = "names no cosigned checkpoint: only the host's clock says when"
    if c.checkpoint != segment.ZERO_HASH:
        known = f"not before others had cosigned the checkpoint with SHA-256 {c.checkpoint.hex()}"
    return [
        f"  its epoch {c.epoch} began at the host's time {when}{recovered}",
        f"    {known}",
        f"    this certificate is {render_holder(proven)}",
    ]


def render_holder(proven: Proven) -> str:
    """What shows that the epoch's certificate is the host's."""
    if proven.is_certified:
        return "signed from the host's key on, and named in the host's log"
    return "named in the host's log, which alone holds it: those before it are not in the proof"
