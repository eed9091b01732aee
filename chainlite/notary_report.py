"""What a notary's file says, judged by whom the verifier trusts: exit codes, JSON, lines.

Not here: the checks (notarised). Invariant: whole and trusted is said only where the notary's key
and every host's key were named and none was revoked. Source: README.md of this room, "The notary's
file".
"""

from __future__ import annotations

from chainlite.economy.poe_index import DEFAULT_TERMS, Ratio, format_ratio
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.notarised import HostSection, NotaryVerification, read_file
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

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chainlite.cosignature import Cosignature
    from chainlite.economy.poe_bundle import PoeBundle
    from chainlite.report import Trust


class HostVerdict(NamedTuple):
    """One host of the file: is it named, and which state of its log named witnesses cosigned."""

    section: HostSection
    is_trusted: bool
    log: SeenLog | None
    by: tuple[Cosignature, ...]
    refusal: str


def check_notary_file(
    read: Callable[[int], bytes], trust: Trust, *, as_json: bool
) -> tuple[str, int]:
    """What to print about a notary's file, and the exit code. SpecError: it is none."""
    import json

    state, why = read_file(read)
    if why:
        bad = {"ok": False, "first_bad": {"why": why}}
        shown = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(why)}\n"
        return shown, EXIT_TAMPERED
    hosts = tuple([_judge_host(section, trust) for section in state.hosts])
    is_named = state.notary.hex() == trust.notary
    code = EXIT_WHOLE if is_named and all(host.is_trusted for host in hosts) else EXIT_UNTRUSTED
    if any(host.refusal for host in hosts):
        code = EXIT_TAMPERED
    if as_json:
        return json.dumps(_describe(state, hosts, code, is_named=is_named)) + "\n", code
    return _render(state, hosts, is_named=is_named), code


def _judge_host(section: HostSection, trust: Trust) -> HostVerdict:
    host_keys = section.opened.keys
    assert host_keys is not None, "a host's section begins with its key"
    is_trusted = trust.is_named(section.opened.host.hex()) and not section.revoked_runs
    log, by, refusal = judge_logs(tuple(section.opened.logs), host_keys.publics, trust)[:3]
    if trust.is_anchor_required and not refusal:
        last = section.blocks[-1].log_size if section.blocks else 0
        if log is None or log.size < last:
            refusal = "the newest LogBlocks name a state of the host's log that is not anchored"
    return HostVerdict(section, is_trusted, log, by, refusal)


def _describe(
    state: NotaryVerification, hosts: tuple[HostVerdict, ...], code: int, *, is_named: bool
) -> dict[str, Any]:
    return {
        "ok": code in (EXIT_WHOLE, EXIT_UNTRUSTED),
        "trusted": code == EXIT_WHOLE,
        "notary": state.notary.hex(),
        "notary_trusted": is_named,
        "app": state.app,
        "sealed": str(state.sealed_time),
        "hosts": [
            {
                "host": host.section.opened.host.hex(),
                "trusted": host.is_trusted,
                "refused": host.refusal or None,
                "anchored_to": describe_anchor(host.log, host.by),
                "logblocks": len(host.section.blocks),
                "segments": host.section.segments,
                "receipts": host.section.events,
                "runs": len(host.section.runs),
                "revoked_runs": [
                    {"container": container.hex(), "run": run}
                    for container, run in sorted(host.section.revoked_runs)
                ],
                "usage": [str(value) for value in _get_totals(host.section)],
            }
            for host in hosts
        ],
        "bundles": [describe_bundle(made) for made in state.bundles],
    }


def _get_totals(section: HostSection) -> tuple[int, ...]:
    return section.chain.totals if section.chain is not None else ()


def describe_bundle(made: PoeBundle) -> dict[str, Any]:
    """A PoE bundle as JSON shows it: fractions whole, decimals cut."""
    return {
        "app": made.app,
        "window": {"start": made.window.start, "seconds": made.window.seconds},
        "phi": _describe_ratio(made.phi),
        "gamma": _describe_ratio(made.gamma),
        "default_terms": made.terms == DEFAULT_TERMS,
        "terms": {
            "weights_ppm": list(made.terms.weights_ppm),
            "scales": [str(scale) for scale in made.terms.scales],
            "receipts_max": str(made.terms.receipts_max),
        },
        "parts": [
            {
                "host": part.host.hex(),
                "logblocks": [part.first_height, part.last_height],
                "last": part.last.hex(),
                "usage": [str(value) for value in part.usage],
            }
            for part in made.parts
        ],
    }


def _describe_ratio(ratio: Ratio) -> dict[str, str]:
    exact = f"{ratio.numerator}/{ratio.denominator}"
    return {"exact": exact, "shown": format_ratio(ratio)}


def _render(state: NotaryVerification, hosts: tuple[HostVerdict, ...], *, is_named: bool) -> str:
    notary = f"notary {state.notary.hex()[:16]}"
    lines = [f"REFUSED: {escape(host.refusal)}" for host in hosts if host.refusal]
    if is_named:
        lines.append(f"whole: signed by {notary}; app {escape(state.app)}")
    else:
        lines.append(
            f"UNTRUSTED: whole, but signed by {notary}, a key you did not name; "
            f"app {escape(state.app)}"
        )
    for host in hosts:
        lines += _render_host(host)
    lines += [f"  {render_bundle(made)}" for made in state.bundles]
    return "\n".join(lines) + "\n"


def _render_host(host: HostVerdict) -> list[str]:
    section, name = host.section, host.section.opened.host.hex()[:16]
    named = "" if host.is_trusted else "UNTRUSTED, a key you did not name: "
    if section.revoked_runs:
        named = "UNTRUSTED, it has revoked the key of a run: "
    lines = [
        f"  {named}host {name}: {len(section.blocks)} LogBlocks, {section.segments} segments, "
        f"{section.events} receipts of {len(section.runs)} runs"
    ]
    if host.log is None:
        return [*lines, "    its log is anchored by nobody that you named"]
    within = [block for block in section.blocks if block.log_size <= host.log.size]
    through = f"through LogBlock {within[-1].height}" if within else "at its start"
    return [*lines, f"    its log is anchored {through} by {render_cosignatures(host.by)}"]


def render_bundle(made: PoeBundle) -> str:
    """One line: the window, Phi and Gamma exactly and as decimals."""
    phi, gamma = made.phi, made.gamma
    terms = "" if made.terms == DEFAULT_TERMS else ", terms of an agreement"
    return (
        f"window {format_time(made.window.start)} +{made.window.seconds} s: "
        f"Phi {format_ratio(phi)} = {phi.numerator}/{phi.denominator}, "
        f"Gamma {format_ratio(gamma)} = {gamma.numerator}/{gamma.denominator}, "
        f"{len(made.parts)} active hosts{terms}"
    )
