from __future__ import annotations

import random

from tui.view.cells import GAP, Column, fit_columns
from tui.view.rows import COLUMNS


def test_columns_never_take_more_than_the_width_and_the_needed_ones_stay(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        columns = tuple(
            Column(str(n), "", rng.randrange(1, 20), rng.randrange(4), rng.randrange(3), widest=40)
            for n in range(rng.randrange(1, 12))
        )
        width = rng.randrange(1, 250)
        fitted = fit_columns(columns, width)
        needed = [column for column in columns if column.priority == 0]
        assert fitted
        kept = [column for column, _ in fitted]
        assert [c for c in kept if c.priority == 0] == needed or len(kept) == 1
        assert kept == [column for column in columns if column in kept]
        used = sum(room for _, room in fitted) + GAP * (len(fitted) - 1)
        least = sum(c.width for c in kept) + GAP * (len(kept) - 1)
        assert used <= max(width, least)
        assert all(column.width <= room for column, room in fitted)


def test_eighty_columns_show_state_cpu_memory_receipts_denials_anchor_and_trouble() -> None:
    narrow = {column.key for column, _ in fit_columns(COLUMNS, 80)}
    assert {"name", "status", "cpu", "memory", "receipts_s", "denials", "anchor"} <= narrow
    assert {c.key for c, _ in fit_columns(COLUMNS, 250)} == {c.key for c in COLUMNS}
