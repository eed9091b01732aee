"""A worker of tests/cage/test_store.py: lets nonces through and says so, until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from chainlite.cage.base import parse_components
from chainlite.cage.refusal import Refusal
from chainlite.cage.signature import Signed
from chainlite.cage.store import CageStore

NOTHING = parse_components("()")


def make_signed(nonce: str, created_s: int, actor: str = "alice") -> Signed:
    return Signed("alice-1", b"", actor, created_s, nonce, NOTHING, b"base", b"signature")


def main() -> None:
    path, boot, now_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    store = CageStore(path, boot_id=boot, now_ms=now_s * 1000)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            store.admit(make_signed(line.strip(), now_s), 1, now_s * 1000)
        except Refusal as refusal:
            print(refusal.reason, flush=True)
        else:
            print("admitted", flush=True)


if __name__ == "__main__":
    main()
