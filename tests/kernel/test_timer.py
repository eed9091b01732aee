"""timerfd: it fires at its interval, counts what was missed, and reaches no other program."""

from __future__ import annotations

import os
import select
import time

import pytest

from docklock.errors import KernelError
from docklock.kernel.timer import make_timer, read_timer

INTERVAL_NS = 20_000_000


def test_a_timer_fires_and_counts_what_nobody_read() -> None:
    fd = make_timer(INTERVAL_NS)
    try:
        assert read_timer(fd) == 0
        assert not os.get_inheritable(fd)
        began = time.monotonic()
        assert select.select([fd], [], [], 5)[0]
        assert time.monotonic() - began > 0.015
        time.sleep(0.1)
        assert 4 <= read_timer(fd) <= 20
        assert read_timer(fd) == 0
    finally:
        os.close(fd)


def test_an_interval_that_is_none_is_an_error() -> None:
    with pytest.raises(KernelError, match="set a timer"):
        make_timer(-1)
