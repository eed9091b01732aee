"""Witnesses of a test's own, killed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.witness.witnesses import Running

Make = Callable[[str], Running]


@pytest.fixture
def make_running(tmp_path: Path) -> Iterator[Make]:
    made: list[Running] = []

    def make(name: str) -> Running:
        made.append(Running(tmp_path, name))
        return made[-1]

    yield make
    for one in made:
        one.stop()
