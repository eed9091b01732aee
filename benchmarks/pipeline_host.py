"""The container of the benchmark `pipeline`: calls at a rate, recorded as in any run.

Run as `pipeline_host.py ROOT RATE SECONDS APP`: a worker in a process of its own writes attempts,
the recorder here makes receipts of them, signs and commits. Half of them have a path. Its last
line: attempts, and seconds until all were durable and the run closed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from attempting import RULES, write_attempts

from docklock.evidence.recorder import RunRecorder
from docklock.paths import get_paths

CONTAINERS = {"load": "cd" * 32, "warm": "ce" * 32}
"""By app: the one that is measured, and one before it."""
TICK_S = 0.005
VALUE_EVERY = 2


def pace(rate: float, seconds: float) -> Iterator[range]:
    """What is due each tick, until the time is over; what is late is made up for."""
    began, done, total = time.monotonic(), 0, int(rate * seconds)
    while done < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        yield range(done, due)
        done = due
        time.sleep(TICK_S)


def main() -> None:
    root, rate, seconds, app = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    recorder = RunRecorder.begin(
        get_paths(root, f"{root}/run"),
        container_id=CONTAINERS[app], run=0, app=app, image_digest="sha256:" + "ab" * 32,
        policy_digest=bytes(32), closed=(), sign_each=False, rules=RULES,
    )  # fmt: skip
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        write_attempts(recorder, pace(rate, seconds), value_every=VALUE_EVERY)
        os._exit(0)
    recorder.append("runtime.start", decision=0, plane=2, seen=1)
    recorder.begin_commits()
    os.waitpid(pid, 0)
    recorder.close(0)
    print(int(rate * seconds), time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main()
