"""`docklock keys init|show`: this host's signing key.

Not here: the files (docklock.evidence.keyring).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths


def run_keys(argv: list[str], paths: Paths) -> int:
    """Make the key if there is none (`init`), and print fingerprint and public key."""
    import argparse
    import json

    from chainlite.checkpoint import get_origin
    from chainlite.keys import compute_host_id, encode_verifier
    from docklock.evidence import keyring

    parser = argparse.ArgumentParser(prog="docklock keys", description="This host's signing key.")
    parser.add_argument("verb", choices=("init", "show"))
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args(argv)
    if options.verb == "init":
        public = keyring.ensure_host_key(paths).public
    else:
        public = keyring.get_public_key(paths)
    host = compute_host_id(public)
    verifier = encode_verifier(get_origin(host), public)
    if options.format == "json":
        shown = {"fingerprint": host.hex(), "public_key": public.hex(), "verifier": verifier}
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        sys.stdout.write(f"fingerprint {host.hex()}\npublic key  {verifier}\n")
    return 0
