"""kill -9 at many points of writing the log: what others saw is never taken back."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from chainlite import checkpoint
from docklock.evidence import audit
from docklock.evidence.host_log import HostLog
from docklock.evidence.log_check import check_log
from docklock.evidence.tiles import publish, read_published
from docklock.paths import Paths
from tests.evidence.logs import check_served, grow
from tests.evidence.recording import ROOT, make_paths

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
KILLS = 500 if FULL else 14
KILLS_PER_LOG = 20
POINT_MAX = 220
DELAY_MAX_S = 0.12
WRITER = Path(__file__).with_name("killed_writer.py")


def kill_one(paths: Paths, seen: Path, rng: random.Random) -> None:
    """Let a writer run to a random point: of its own calls, or of time (within SQLite as well)."""
    point = rng.choice([0, rng.randint(1, POINT_MAX)])
    process = subprocess.Popen(
        [sys.executable, str(WRITER), paths.state, str(seen), str(rng.getrandbits(32)), str(point)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() in ("ready\n", "")
        if not point:
            time.sleep(rng.uniform(0, DELAY_MAX_S))
            process.kill()
        assert process.wait(60) == -signal.SIGKILL


def has_log(paths: Paths) -> bool:
    """Whether the log was ever committed to: a kill may leave an empty file before that."""
    if not os.path.exists(paths.host_db):
        return False
    db = sqlite3.connect(paths.host_db)
    try:
        return bool(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def read_seen(paths: Paths, seen: Path) -> list[checkpoint.Checkpoint]:
    """All that anybody outside was shown, or can be by now: published and cosigned."""
    notes = seen.read_bytes().split(b"\0")[:-1] if seen.exists() else []
    if has_log(paths):
        with HostLog(paths, None) as log:
            notes += log.get_cosigned_notes(1000)
    return [checkpoint.parse_claim(note) for note in (*notes, read_published(paths)) if note]


def test_no_checkpoint_below_a_published_or_cosigned_one_is_ever_signed(tmp_path: Path) -> None:
    rng = random.Random(500)
    for number in range(KILLS):
        if number % KILLS_PER_LOG == 0:
            paths, seen = make_paths(tmp_path / str(number)), tmp_path / f"{number}.seen"
            before: list[checkpoint.Checkpoint] = []
        kill_one(paths, seen, rng)
        before += [state for state in read_seen(paths, seen) if state not in before]
        if read_published(paths):
            # As the kill left it: what is published is signed by both keys, and whole.
            left = check_log(paths)
            assert left.defects == (), (number, left.render())
        if not has_log(paths):
            continue
        with HostLog(paths, None) as log:
            size = log.get_size()
            for state in before:
                assert state.size <= size, number
                assert log.compute_root(state.size) == state.root, number
        after_size = grow(paths, 1)
        published = checkpoint.parse_claim(publish(paths))
        assert published.size >= after_size
        assert published.size > max([state.size for state in before], default=0)
        assert check_served(paths) == published
        before.append(published)
    assert audit.audit_log(paths).problems == ()
    assert check_log(paths).defects == ()


def test_two_publishers_and_a_writer_at_once_leave_one_whole_log(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 10)
    program = (
        "import sys; from docklock.paths import get_paths; from docklock.evidence.tiles import "
        "publish\nfor _ in range(15): publish(get_paths(sys.argv[1]))"
    )
    publishers = [
        subprocess.Popen([sys.executable, "-c", program, paths.state], cwd=ROOT) for _ in range(2)
    ]
    for _ in range(30):
        grow(paths, 20)
    assert [process.wait(60) for process in publishers] == [0, 0]
    publish(paths)
    assert check_served(paths).size == 10 + 600 + 3
    assert check_log(paths).defects == ()
