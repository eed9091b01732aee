"""A docklock of one's own for each test module (tests/e2e/conftest.py), and its source."""

from __future__ import annotations

import pytest

from docklock.console.door import open_source
from docklock.console.source import Source
from tests.e2e.conftest import Docklock, busybox_tree, dock

__all__ = ["busybox_tree", "dock"]


@pytest.fixture(scope="module")
def source(dock: Docklock) -> Source:
    return open_source(["--root", str(dock.root)])
