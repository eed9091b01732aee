"""`docklock keys init|show|rotate|revoke`: this host's signing key.

Not here: the files (docklock.evidence.keyring) and the records of the log (rotation).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from docklock.paths import Paths


def run_keys(argv: list[str], paths: Paths) -> int:
    """Make, show, change or revoke the key; prints what is public of it."""
    from docklock.evidence import keyring, rotation

    options = _parse(argv)
    if options.verb == "init":
        keyring.ensure_host_key(paths)
    elif options.verb == "rotate":
        rotation.rotate_host_key(paths)
    elif options.verb == "revoke":
        rotation.revoke_host_key(paths, options.number, options.from_leaf)
    shown = describe_keys(paths)
    if options.format == "json":
        import json

        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        sys.stdout.write(render_keys(shown))
    return 0


def describe_keys(paths: Paths) -> dict[str, Any]:
    """What is public of the host's keys; the enrolled one names the host."""
    from chainlite.checkpoint import get_origin
    from chainlite.hostkeys import HostKeys
    from chainlite.keys import encode_verifier
    from docklock.evidence import host_log, key_file, keyring

    enrolled = keyring.get_public_key(paths)
    found = HostKeys(enrolled)
    if host_log.has_host_log(paths):
        with host_log.HostLog(paths, None) as log:
            found = log.read_keys(enrolled)
    name = get_origin(found.host)
    has_file = keyring.has_host_key(paths)
    return {
        "fingerprint": found.host.hex(),
        "public_key": enrolled.hex(),
        "verifier": encode_verifier(name, enrolled),
        "number": found.number,
        "sealed": has_file and bool(key_file.read_head(keyring.get_key_path(paths)).is_sealed),
        "keys": [
            {
                "number": record.number,
                "public_key": record.public.hex(),
                "verifier": encode_verifier(name, record.public),
                "first_leaf": record.first_index,
                "revoked_from": record.revoked_from,
            }
            for record in found.records
        ],
    }


def render_keys(shown: dict[str, Any]) -> str:
    """The same for people: the fingerprint first, the keys after it if there was a rotation."""
    lines = [f"fingerprint {shown['fingerprint']}", f"public key  {shown['verifier']}"]
    if shown["sealed"]:
        lines.append("sealed      with the systemd credential docklock-host-key")
    for key in shown["keys"] if shown["number"] else ():
        line = f"key {key['number']:<7} {key['verifier']} from leaf {key['first_leaf']}"
        if key["revoked_from"] is not None:
            line += f", revoked from leaf {key['revoked_from']}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _parse(argv: list[str]) -> argparse.Namespace:
    from chainlite.errors import SpecError
    from docklock.cli.arguments import Parser

    parser = Parser(
        prog="docklock keys",
        description="This host's signing key.",
        epilog="rotate: the next key, signed by the one before, which is overwritten on disk. "
        "revoke: say in the log that a key (of now, if none is named) is not to be trusted from "
        "a leaf of the log on (from now on, if none is named); the key of now is rotated first.",
        examples=(
            "docklock keys show",
            "docklock keys rotate",
            "docklock keys revoke 0 --from-leaf 120",
        ),
    )
    parser.add_argument("verb", choices=("init", "show", "rotate", "revoke"))
    parser.add_argument("number", metavar="NUMBER", nargs="?", type=int, help="revoke this key")
    parser.add_argument("--from-leaf", metavar="INDEX", type=int, help="revoke: from here on")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: one object"
    )
    options = parser.parse_args(argv)
    if options.verb != "revoke" and (options.number is not None or options.from_leaf is not None):
        raise SpecError(f"keys {options.verb}: NUMBER and --from-leaf are for revoke")
    return options
