"""kill -9 of a notary at many points: no segment is lost, none is in a LogBlock twice.

Half of the points are statements of its database (before the n-th one runs), the others moments.
After each kill a whole pass follows, sometimes one that is killed as well. 500 points in full.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from chainlite import keys, logblock
from docklock.evidence import keyring
from docklock.evidence.notarising import LocalSource
from docklock.evidence.notary_key import ensure_notary_key
from docklock.notary import get_directory
from docklock.paths import Paths
from enc.notary.notary import Notary
from enc.notary.store import Store
from tests.enc.notarising import NOW_MS, count_taken, export, notarise
from tests.evidence.recording import append, append_durably, begin, make_id, make_paths, record

POINTS, POINTS_SLICE = 500, 40
STATEMENTS_MAX = 4000
NEVER = 1 << 40


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = make_paths(tmp_path)
    live = begin(paths, make_id(1))
    for number in range(20):
        append_durably(live, number)
    for number in range(1500):
        append(live, number)
    live.close(0)
    record(paths, make_id(2), app="db", count=600)
    record(paths, make_id(3), app="db", count=5)
    return paths


EXPECTED = {
    (make_id(container), 0, n): 1
    for container, count in ((1, 1520), (2, 600), (3, 5))
    for n in range(count)
}


def notarise_until(paths: Paths, statement: int) -> int:
    """A pass in a process of its own that kills itself before its n-th statement; its pid."""
    pid = os.fork()
    if pid:
        return pid
    host, key = keys.compute_host_id(keyring.get_public_key(paths)), ensure_notary_key(paths)
    left = statement

    def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with Store(get_directory(paths), key.public) as store:
        store.db.set_trace_callback(count)
        Notary(store, host, LocalSource(paths), key).run_pass(NOW_MS)
        os._exit(min(255, (statement - left) // 16))


def run_killed(paths: Paths, random_: random.Random, pass_s: float, statements: int) -> bool:
    """One pass that is killed at a random statement or moment; whether it was."""
    if random_.random() < 0.5:
        pid = notarise_until(paths, random_.randrange(statements))
    else:
        pid = notarise_until(paths, NEVER)
        time.sleep(random_.uniform(0, pass_s))
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_kill_at_any_point_neither_loses_nor_doubles_a_segment(
    paths: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    ensure_notary_key(paths)
    began = time.monotonic()
    pid = notarise_until(paths, NEVER)
    statements = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * 16
    pass_s = time.monotonic() - began
    assert 64 <= statements < STATEMENTS_MAX
    killed, random_ = 0, random.Random(seed)
    points = POINTS if full else POINTS_SLICE
    for _ in range(points):
        shutil.rmtree(get_directory(paths), ignore_errors=True)
        while run_killed(paths, random_, pass_s, statements):
            killed += 1
            if random_.random() < 0.6:
                break
        assert notarise(paths, NOW_MS).troubles == ()
        assert notarise(paths, NOW_MS + logblock.OPEN_MS + 1).waiting == 0
        assert count_taken(paths) == EXPECTED
        assert notarise(paths, NOW_MS + logblock.OPEN_MS + 2).segments == 0
    assert killed > points / 2
    for app in ("web", "db"):
        text, code = export(paths, app, tmp_path / app)
        assert code == 0, text
