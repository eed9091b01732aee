"""A container's lock: who holds it, and what is left of one that was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.lifecycle import acquire_live, hold_stopped, is_held, is_live, make_directories
from docklock.paths import get_paths

ID = "ab" * 32


def test_a_command_that_holds_a_container_is_no_run(tmp_path: Path) -> None:
    """Repair, which makes no lock, sees whose a dead one was; a later run's is a run's again."""
    paths = get_paths(str(tmp_path))
    make_directories(paths)
    fd = hold_stopped(paths, ID)
    assert is_live(paths, ID)
    with pytest.raises(StateError, match="is held by another command"):
        acquire_live(paths, ID)
    os.close(fd)  # as a killed command does
    fd = acquire_live(paths, ID, is_new=False)
    assert is_held(fd)
    os.close(fd)
    fd = acquire_live(paths, ID)
    assert not is_held(fd)
    os.close(fd)
