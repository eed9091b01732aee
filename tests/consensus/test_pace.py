"""How long validators wait follows how long heights take, and not one outage."""

from __future__ import annotations

from chainlite.consensus.pace import HEIGHTS_KEPT, TIMEOUT_MAX_MS, Pace

LEAST_MS = 250


def test_three_outages_of_the_last_heights_change_nothing() -> None:
    pace = Pace()
    for number in range(3 * HEIGHTS_KEPT):
        pace.note(5_000 if number % HEIGHTS_KEPT in (0, 1, 40) else 30)
        assert pace.compute_base_timeout_ms(LEAST_MS) == LEAST_MS


def test_a_slow_network_is_waited_for_and_a_quick_one_soon_again() -> None:
    pace = Pace()
    for _ in range(4):
        pace.note(400)
    assert pace.compute_base_timeout_ms(LEAST_MS) == 1_600
    for _ in range(HEIGHTS_KEPT):
        pace.note(30)
    assert pace.compute_base_timeout_ms(LEAST_MS) == LEAST_MS
    for _ in range(4):
        pace.note(60_000)
    assert pace.compute_base_timeout_ms(LEAST_MS) == TIMEOUT_MAX_MS
