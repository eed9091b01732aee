"""A process that grows, publishes, cosigns and rotates a host log until it is killed.

`killed_writer.py ROOT SEEN SEED POINT`: at the POINTth call of the functions below that change
files it kills itself (0: it is killed from outside). What it has published it appends to SEEN,
which stands for everybody outside.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from docklock.evidence import rotation, tiles
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.paths import get_paths
from tests.chainlite.samples import WITNESS, WITNESS_KEY, cosignature

CHANGES = ("open", "write", "writev", "fsync", "rename", "unlink", "link", "mkdir")
LEAVES_MAX = 150


def die_at(point: int) -> None:
    """Before the POINTth of these calls: the one before it is done, this one is not."""
    count = 0

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)

        return counted

    for name in CHANGES:
        setattr(os, name, wrap(getattr(os, name)))


def main(root: str, seen: str, seed: int, point: int) -> None:
    paths, rng = get_paths(root), random.Random(seed)
    key = ensure_host_key(paths)
    said = os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if point:
        die_at(point)
    print("ready", flush=True)
    while True:
        with HostLog(paths, key) as log, log.write():
            for _ in range(rng.randint(1, LEAVES_MAX)):
                log.append_operation("exec", b"\x01" * 32, (("n", str(rng.random())),))
        note = tiles.publish(paths)
        os.write(said, note + b"\0")
        if rng.random() < 0.4:
            store_cosigned(paths, cosignature.cosign(note, WITNESS.name, WITNESS_KEY, 1))
        if rng.random() < 0.2:
            rotation.rotate_host_key(paths)
            key = ensure_host_key(paths)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
