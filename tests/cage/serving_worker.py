"""A worker of a server: its cage, over a socket, on a store that other workers share.

Started by test_workers as `python -m tests.cage.serving_worker DIRECTORY CAPACITY REFILL`; prints
its port, and ends by SIGTERM or SIGKILL.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from chainlite.cage.prices import Tariff
from tests.cage.callers import Bench


class Now:
    """Time as it is."""

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000


def main(directory: str, capacity_m: str, refill_m: str) -> None:
    clock: Any = Now()
    tariff = Tariff(int(capacity_m), int(refill_m), 0)
    bench = Bench(Path(directory), clock=clock, tariff=tariff)
    config = uvicorn.Config(bench.cage, log_level="warning", lifespan="off", http="h11")
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listening])
    bench.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
