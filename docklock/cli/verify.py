"""`docklock verify [CONTAINER|--all|FILE]`: is the evidence whole, signed by whom you named, and
who else has seen it.

Not here: the checks (chainlite.verify, docklock.evidence.audit) and what they are worth
(chainlite.report). Exit: 0 whole and trusted; 3 tampered, or not anchored as asked for; 4 whole but
signed by a key that was not named; 2 not evidence; 1 no such container.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from docklock.agent.config import POLICY_DEFAULT

if TYPE_CHECKING:
    from argparse import Namespace

    from chainlite.report import Trust
    from docklock.paths import Paths


CALL = b"DOCKLOCK-CALL\0"
"""How a record of a call at a server begins."""


def run_verify(argv: list[str], paths: Paths) -> int:
    """Verify a container, a file, or everything (also when nothing is named)."""
    from chainlite.errors import SpecError
    from chainlite.trust import add_trust_options, read_trust
    from docklock.cli.arguments import Parser, add_format
    from docklock.evidence import keyring

    parser = Parser(
        prog="docklock verify",
        description="Check evidence; nothing named means --all.",
        examples=(
            "docklock verify web",
            "docklock verify --all",
            "docklock verify --host-key host.pub web.evidence",
        ),
    )
    parser.add_argument("target", metavar="CONTAINER|FILE", nargs="?", default="")
    parser.add_argument("--all", action="store_true", help="the host log and every container")
    add_format(parser, "one object")
    parser.add_argument(
        "--against", metavar="PEER", default="",
        help="compare this host's log with what a witness holds of it: its URL, or its name",
    )  # fmt: skip
    add_trust_options(parser)
    options = parser.parse_args(argv)
    if options.all and options.target:
        raise SpecError("verify: name a container, or --all, not both")
    if not options.witness_policy and not options.witness_key and os.path.exists(POLICY_DEFAULT):
        options.witness_policy = POLICY_DEFAULT
    genesis = f"{paths.state}/chain/genesis"
    if not options.genesis and _is_of_chain(options) and os.path.exists(genesis):
        options.genesis = genesis
    own = keyring.get_fingerprint(paths) if keyring.has_host_key(paths) else ""
    trust = read_trust(options, own, _get_own_notary(paths))
    if own and not options.host_key and not trust.log_keys and _is_log_proof(options.target):
        from docklock.evidence.tiles import read_log_keys

        trust = trust._replace(log_keys=read_log_keys(paths))
    if options.target:
        text, code = _verify_target(paths, options.target, trust, as_json=options.json)
    else:
        text, code = _verify_all(paths, trust, as_json=options.json)
    if options.against:
        text, code = _verify_against(
            paths, options.against, trust, text, code, as_json=options.json
        )
    sys.stdout.write(text)
    return code


def _verify_against(
    paths: Paths, peer: str, trust: Trust, text: str, code: int, *, as_json: bool
) -> tuple[str, int]:
    """The verdict with what a peer holds of this host's log; exit 3 if it is another history."""
    import asyncio
    import json

    from chainlite import report
    from docklock.witness.against import compare_with, find_url

    size, problem = asyncio.run(compare_with(paths, find_url(peer, trust.policy), peer))
    if as_json:
        whole = json.loads(text)
        whole["against"] = {"peer": peer, "size": size, "why": problem or None}
        whole["ok"] = whole["ok"] and not problem
        text = json.dumps(whole) + "\n"
    elif problem:
        text = f"TAMPERED: {report.escape(problem)}\n{text}"
    else:
        text = f"the log continues the {size} leaves that {report.escape(peer)} holds\n{text}"
    return text, report.EXIT_TAMPERED if problem else code


def _is_log_proof(target: str) -> bool:
    """Whether it is a file that begins as a tlog-proof does: then this host's own keys serve."""
    from chainlite.tlogproof import MAGIC

    return _begins(target, MAGIC)


def _is_of_chain(options: Namespace) -> bool:
    """Whether a chain's genesis is needed: that of this host's own node serves."""
    named = options.final or options.header_checkpoint
    magics = (b"DOCKLOCK-FINAL\0", b"DOCKLOCK-FORK\0")
    return bool(named) or any(_begins(options.target, magic) for magic in magics)


def _begins(target: str, magic: bytes) -> bool:
    try:
        with open(target, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _verify_target(paths: Paths, target: str, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    from chainlite.errors import StateError
    from chainlite.verify import check_file, show_report
    from docklock.client import flush
    from docklock.evidence.export import verify_container
    from docklock.evidence.reading import find_evidence

    container = ""
    if "/" not in target:
        try:
            container = find_evidence(paths, target)
        except StateError:
            if not os.path.isfile(target):
                raise
    if container:
        flush(paths, container)
        report = verify_container(paths, container, _get_notes(trust))
        return show_report(report, trust, as_json=as_json)
    try:
        with open(target, "rb") as file:
            if _begins(target, CALL):
                from chainlite.bpci.call_report import show_call_record
                from chainlite.cage.call_record import RECORD_BYTES_MAX

                return show_call_record(file.read(RECORD_BYTES_MAX), trust, as_json=as_json)
            return check_file(file.read, trust, as_json=as_json)
    except OSError as error:
        raise StateError(f"{target}: cannot read it: {error.strerror}") from None


def _get_own_notary(paths: Paths) -> str:
    """The fingerprint of this host's notary; empty if it has none, or cannot be read."""
    from chainlite.errors import DocklockError
    from docklock.evidence.notary_key import get_notary_fingerprint

    try:
        return get_notary_fingerprint(paths)
    except DocklockError:
        return ""


def _get_notes(trust: Trust) -> tuple[bytes, ...]:
    return (trust.note,) if trust.note else ()


def _verify_all(paths: Paths, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    import json

    from chainlite import report
    from docklock.evidence.audit import audit_log
    from docklock.evidence.export import verify_container

    notes = _get_notes(trust)
    log = audit_log(paths, notes)
    reports = [verify_container(paths, container, notes) for container in log.containers]
    verdicts = [report.judge(one, trust) for one in reports]
    described = [
        report.describe_report(one, verdict) for one, verdict in zip(reports, verdicts, strict=True)
    ]
    bad: list[dict[str, Any]] = [
        {"run": None, "range": [0, None], "why": f"host log: {why}"} for why in log.problems
    ]
    for shown in described:
        if shown["first_bad"]:
            bad.append(shown["first_bad"] | {"container": shown["container"]})
    is_refused = any(verdict.refusal for verdict in verdicts)
    is_revoked = any(one.revoked_runs for one in reports)
    trusted = trust.is_named(log.host) and not is_revoked
    whole: dict[str, Any] = {
        "ok": not bad and not is_refused,
        "trusted": trusted,
        "anchored_to": next((one["anchored_to"] for one in described if one["anchored_to"]), None),
        "policy": next((one["policy"] for one in described if one["policy"]), None),
        "receipts": sum(one.receipts for one in reports),
        "segments": sum(one.segments for one in reports),
        "first_bad": bad[0] if bad else None,
        "log": {
            "size": log.size,
            "ok": not log.problems,
            "why": log.why,
            "problems": list(log.problems),
        },
        "containers": described,
    }
    if as_json:
        text = json.dumps(whole) + "\n"
    else:
        lines = [f"TAMPERED: {report.escape(why)}" for why in log.problems]
        text = "\n".join(lines or ["whole"])
        text = f"host log: {log.size} leaves: {text}\n"
        for one, verdict in zip(reports, verdicts, strict=True):
            where = f"{one.container[:12]}: " if one.first_bad is not None else ""
            text += where + report.render_report(one, verdict)
    if bad or is_refused:
        return text, report.EXIT_TAMPERED
    return text, report.EXIT_WHOLE if trusted else report.EXIT_UNTRUSTED
