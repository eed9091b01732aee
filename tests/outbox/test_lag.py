"""How much a server lacks: exact where little waits, bounded work where much does."""

from __future__ import annotations

from pathlib import Path

import pytest

from docklock.evidence.export import open_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.offering import BATCH, make_range
from docklock.outbox import lag as lag_module
from docklock.outbox.lag import Lag, measure_lags
from tests.evidence.logs import grow
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import get_size


def test_a_small_lag_is_exact_and_near_what_is_sent(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    assert measure_lags(paths, [0, 7]) == (0, [Lag(), Lag()])
    for number in (1, 2):
        record(paths, make_id(number), count=50)
    first = get_size(paths)
    record(paths, make_id(3), count=50)
    grow(paths, 3)
    size, (whole, part, none, beyond) = measure_lags(paths, [0, first, get_size(paths), 10_000])
    assert (size, whole.leaves, part.leaves) == (get_size(paths), size, size - first)
    assert whole.is_exact and none == beyond == Lag() and 0 < part.age_s <= whole.age_s < 60
    total = 0
    with HostLog(paths, None) as log:
        total += sum(map(len, log.read_leaves(first, size - first)))
        made = make_range(paths, log, BATCH, first)
    with open_container(paths, make_id(3)) as db:
        assert db is not None
        for row in db.execute("SELECT secret, leaf_tags, body FROM segments").fetchall():
            total += sum(map(len, row))
    assert part.size_bytes == total
    assert made is not None and total < len(made.data) < 2 * total


def test_of_much_a_part_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_paths(tmp_path)
    for number in range(1, 30):
        record(paths, make_id(number), count=10)
    exact = measure_lags(paths, [0])[1][0]
    monkeypatch.setattr(lag_module, "FILES_MAX", 4)
    few = measure_lags(paths, [0])[1][0]
    monkeypatch.setattr(lag_module, "LEAVES_MAX", 40)
    less = measure_lags(paths, [0])[1][0]
    for one in (few, less):
        assert not one.is_exact and one.leaves == exact.leaves
        assert abs(one.size_bytes - exact.size_bytes) < exact.size_bytes // 5


def test_evidence_that_is_gone_is_no_error_here(tmp_path: Path) -> None:
    """Sending finds it; how far a server is can be told all the same."""
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=10)
    record(paths, make_id(2), count=10)
    for path in Path(paths.evidence).glob(f"{make_id(2)}.db*"):
        path.unlink()
    found = measure_lags(paths, [0])[1][0]
    assert found.leaves == get_size(paths) and not found.is_exact
