"""A timer is readable when it runs out, once, and not when it is unset."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from docklock.kernel.timer import clear_timer, make_timer, set_timer


@pytest.fixture
def timer() -> Iterator[int]:
    fd = make_timer()
    yield fd
    os.close(fd)


def is_readable(fd: int, limit_s: float) -> bool:
    return bool(select.select([fd], [], [], limit_s)[0])


def test_it_runs_out_once(timer: int) -> None:
    assert not is_readable(timer, 0)
    clear_timer(timer)
    set_timer(timer, 0.01)
    assert is_readable(timer, 5)
    clear_timer(timer)
    assert not is_readable(timer, 0.05)
    set_timer(timer, 1e-12)
    assert is_readable(timer, 5)


def test_it_can_be_unset_and_set_again(timer: int) -> None:
    set_timer(timer, 0.02)
    set_timer(timer, 0)
    assert not is_readable(timer, 0.1)
    set_timer(timer, 1.01)
    assert not is_readable(timer, 0.5)
    assert is_readable(timer, 5)
