"""The recorder's condition wakes whoever waits, and its thread can be waited for."""

from __future__ import annotations

import time

from docklock.evidence.waiting import Condition, Thread

LIMIT_S = 20.0


def test_all_who_wait_are_woken_and_hold_the_lock_one_at_a_time() -> None:
    condition, woken, ready = Condition(), [], []

    def wait() -> None:
        with condition:
            ready.append(1)
            condition.wait(LIMIT_S)
            count = len(woken)
            time.sleep(0.001)
            woken.append(count)

    threads = [Thread(wait) for _ in range(8)]
    end = time.monotonic() + LIMIT_S
    while len(ready) < 8 and time.monotonic() < end:
        time.sleep(0.001)
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()
    assert woken == list(range(8))
    assert time.monotonic() < end


def test_a_wait_ends_with_its_limit_and_leaves_nothing_to_wake() -> None:
    condition = Condition()
    with condition:
        began = time.monotonic()
        for limit in (0.02, 0.0, -1.0):
            condition.wait(limit)
        assert 0.02 <= time.monotonic() - began < LIMIT_S
        condition.notify_all()


def test_two_threads_hand_over_many_times() -> None:
    condition, turn, done = Condition(), [0], []

    def play(own: int) -> None:
        for _ in range(500):
            with condition:
                while turn[0] % 2 != own:
                    condition.wait(LIMIT_S)
                turn[0] += 1
                condition.notify_all()
        done.append(own)

    threads = [Thread(lambda: play(0)), Thread(lambda: play(1))]
    for thread in threads:
        thread.join()
    assert (turn, sorted(done)) == ([1000], [0, 1])
