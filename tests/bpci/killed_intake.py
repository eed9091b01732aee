"""Takes batches until it is killed, or kills itself; says each acknowledgement once it has it.

`killed_intake.py ROOT SERVER HOST POINT SEED`, with the top of the repository on PYTHONPATH. At the
POINTth of the steps below it kills itself (0: it is killed from outside).
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainlite.bpci.sqlite_store import SqliteStore
from docklock.paths import get_paths
from tests.bpci.batches import make_data
from tests.bpci.servers import Server
from tests.ledger.offered import get_size


def die_at(point: int, *more: tuple[object, str]) -> None:
    """Before or after the POINTth of these calls, and of `more`."""
    count = 0

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            nonlocal count
            for is_before in (True, False):
                count += 1
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                if is_before:
                    result = call(*args, **named)
            return result

        return counted

    steps = ((SqliteStore, "commit"), (SqliteStore, "_write"), (os, "replace"), *more)
    for owner, name in steps:
        setattr(owner, name, wrap(getattr(owner, name)))


def main(root: str, directory: str, host: bytes, point: int, seed: int) -> None:
    paths, rng = get_paths(root), random.Random(seed)
    size = get_size(paths)
    with Server(Path(directory)) as server:
        if point:
            die_at(point)
        at = server.get_size(host)
        while at < size:
            data = []
            for _ in range(rng.randint(1, 3)):
                start, at = at, min(at + rng.randint(1, 2), size)
                data += [make_data(paths, start, at)] if start < at else []
            for answer in server.take(host, *data):
                print(answer.acknowledgement.hex(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), *map(int, sys.argv[4:]))
