"""What the gate and the commits took, as a guard counts it."""

from __future__ import annotations

import time

import pytest

from docklock.evidence import figures
from docklock.evidence.attempts import ABORTED, DENY, HOLD, KILL, RECORD
from docklock.evidence.figures import Answers
from docklock.evidence.histogram import BOUNDS_NS, Histogram


def make_attempt(took_ns: int, done: int) -> tuple[tuple[int, ...], bytes]:
    """As the worker writes it now, `took_ns` after it had received it."""
    fields = [0] * 22
    fields[12], fields[13] = time.monotonic_ns() - took_ns, time.time_ns()
    fields[20] = done
    return tuple(fields), b""


def test_a_value_counts_under_the_first_bound_that_it_does_not_exceed() -> None:
    for number, bound in enumerate(BOUNDS_NS):
        one = Histogram()
        one.observe(bound)
        one.observe(bound + 1)
        assert one.counts[number : number + 2] == [1, 1]
        assert one.sum_ns == 2 * bound + 1
    assert list(BOUNDS_NS) == sorted(BOUNDS_NS)


def test_only_what_the_worker_answered_itself_is_an_answer() -> None:
    answers = Answers()
    answers.observe_attempts(
        [make_attempt(20_000_000, done) for done in (RECORD, DENY, HOLD, KILL, ABORTED)]
    )
    assert sum(answers.counts) == 2
    assert answers.counts[BOUNDS_NS.index(25_000_000)] == 2
    assert 40_000_000 <= answers.sum_ns < 45_000_000


def test_a_clock_that_was_set_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers()
    answers.observe_attempts([make_attempt(1_000, RECORD)])
    stale = make_attempt(1_000, RECORD)
    real = time.time_ns
    monkeypatch.setattr(figures.time, "time_ns", lambda: real() - 3600 * 10**9)
    answers.observe_attempts([stale])
    assert sum(answers.counts) == 1
    answers.observe_attempts([make_attempt(1_000, RECORD)])  # by the new time again
    assert sum(answers.counts) == 2
    assert answers.sum_ns < 10_000_000
