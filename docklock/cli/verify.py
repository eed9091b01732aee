"""`docklock verify [CONTAINER|--all|FILE]`: is the evidence whole, and signed by whom you named.

Not here: the checks (chainlite.verify, docklock.evidence.audit). Exit: 0 whole and trusted, 3
tampered, 4 whole but signed by a key that was not named, 2 not evidence, 1 no such container.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainlite.verify import Report
    from docklock.paths import Paths


def run_verify(argv: list[str], paths: Paths) -> int:
    """Verify a container, a file, or everything (also when nothing is named)."""
    import argparse

    from chainlite.errors import SpecError
    from docklock.evidence import keyring

    parser = argparse.ArgumentParser(
        prog="docklock verify", description="Check evidence; nothing named means --all."
    )
    parser.add_argument("target", metavar="CONTAINER|FILE", nargs="?", default="")
    parser.add_argument("--all", action="store_true", help="the host log and every container")
    parser.add_argument("--host-key", metavar="FILE|FINGERPRINT", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.all and options.target:
        raise SpecError("verify: name a container, or --all, not both")
    fingerprint = ""
    if options.host_key:
        fingerprint = keyring.parse_host_key(options.host_key)
    elif keyring.has_host_key(paths):
        fingerprint = keyring.get_fingerprint(paths)
    if not options.target:
        return _verify_all(paths, fingerprint, as_json=options.json)
    report = _verify_target(paths, options.target)
    return _show_report(report, fingerprint, as_json=options.json)


def _verify_target(paths: Paths, target: str) -> Report:
    from chainlite.errors import StateError
    from chainlite.verify import verify_file
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
        return verify_container(paths, container)
    try:
        with open(target, "rb") as file:
            return verify_file(file.read)
    except OSError as error:
        raise StateError(f"{target}: cannot read it: {error.strerror}") from None


def _show_report(report: Report, fingerprint: str, *, as_json: bool) -> int:
    import json

    from chainlite import verify

    trusted = fingerprint == report.host
    if as_json:
        sys.stdout.write(json.dumps(verify.describe_report(report, trusted=trusted)) + "\n")
    else:
        sys.stdout.write(verify.render_report(report, trusted=trusted))
    return verify.compute_exit_code(report, trusted=trusted)


def _verify_all(paths: Paths, fingerprint: str, *, as_json: bool) -> int:
    import json

    from chainlite import verify
    from docklock.evidence.audit import audit_log
    from docklock.evidence.export import verify_container
    from docklock.evidence.keyring import get_fingerprint

    log = audit_log(paths)
    trusted = fingerprint == get_fingerprint(paths)
    reports = [verify_container(paths, container) for container in log.containers]
    described = [verify.describe_report(report, trusted=trusted) for report in reports]
    bad = [
        shown["first_bad"] | {"container": shown["container"]}
        for shown in described
        if not shown["ok"]
    ]
    if log.why:
        bad.insert(0, {"run": None, "range": [0, None], "why": f"host log: {log.why}"})
    whole: dict[str, Any] = {
        "ok": not bad,
        "trusted": trusted,
        "anchored_to": None,
        "receipts": sum(report.receipts for report in reports),
        "segments": sum(report.segments for report in reports),
        "first_bad": bad[0] if bad else None,
        "log": {"size": log.size, "ok": not log.why, "why": log.why},
        "containers": described,
    }
    if as_json:
        sys.stdout.write(json.dumps(whole) + "\n")
    else:
        verdict = f"TAMPERED: {log.why}" if log.why else "whole"
        sys.stdout.write(f"host log: {log.size} leaves: {verdict}\n")
        for report in reports:
            where = f"{report.container[:12]}: " if report.first_bad is not None else ""
            sys.stdout.write(where + verify.render_report(report, trusted=trusted))
    if bad:
        return verify.EXIT_TAMPERED
    return verify.EXIT_WHOLE if trusted else verify.EXIT_UNTRUSTED
