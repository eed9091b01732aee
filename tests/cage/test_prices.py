"""Credits: integers, bounded, the same for every worker; who waits as told is let through."""

from __future__ import annotations

import random

from chainlite.cage import prices
from chainlite.cage.prices import Account, Change, Tariff

TARIFF = Tariff(capacity_m=100_000, refill_m_per_s=3_000, earned_percent=50)


def make_account(choose: random.Random) -> Account:
    return Account(
        choose.randrange(TARIFF.capacity_m + 1), choose.randrange(10**6),
        choose.randrange(prices.LEVEL_MAX + 1), choose.randrange(prices.STRIKES_OF_LEVEL),
        choose.randrange(prices.GOOD_OF_LEVEL),
    )  # fmt: skip


def test_who_waits_as_told_is_let_through(seed: int) -> None:
    choose, refused = random.Random(seed), 0
    for _ in range(5_000):
        account, cost_m = make_account(choose), choose.randrange(1, 200_000)
        now_ms = account.at_ms + choose.randrange(10_000)
        charged = prices.charge(account, TARIFF, cost_m, now_ms)
        if charged.retry_after_s:
            refused += 1
            assert charged.account.balance_m == prices.fill(account, TARIFF, now_ms).balance_m
            later_ms = now_ms + charged.retry_after_s * 1000
            charged = prices.charge(charged.account, TARIFF, cost_m, later_ms)
        assert charged.retry_after_s == 0
        assert charged.price_m > 0
    assert refused > 500


def test_a_balance_stays_within_its_bounds_whatever_happens(seed: int) -> None:
    choose = random.Random(seed)
    account = prices.open_account(TARIFF, 0)
    for _ in range(20_000):
        event = Change(
            account.at_ms + choose.randrange(-100, 2_000), choose.choice((0, 1_000, 90_000)),
            choose.choice((0, 1_000, 90_000)), choose.choice((0, 0, 1, 9)),
        )  # fmt: skip
        account = prices.apply(account, TARIFF, event)
        assert 0 <= account.balance_m <= TARIFF.capacity_m
        assert 0 <= account.level <= prices.LEVEL_MAX
        assert 0 <= account.strikes < prices.STRIKES_OF_LEVEL
        assert 0 <= account.good < prices.GOOD_OF_LEVEL


def test_events_that_are_applied_later_leave_the_same_account(seed: int) -> None:
    """What one worker reckons as it goes is what the file says once its events are written."""
    choose = random.Random(seed)
    for _ in range(300):
        live = stored = prices.open_account(TARIFF, 0)
        events = []
        for step in range(40):
            now_ms, cost_m = step * choose.randrange(1, 500), choose.choice((500, 30_000))
            now_ms = max(now_ms, live.at_ms)
            charged = prices.charge(live, TARIFF, cost_m, now_ms)
            live = charged.account
            if charged.retry_after_s:
                events.append(Change(now_ms, 0, 0, 1))
                continue
            end = choose.choice((Change(now_ms, 0, charged.price_m, 0), Change(now_ms, 0, 0, 1)))
            live = prices.apply(live, TARIFF, end)
            events += [Change(now_ms, charged.price_m, 0, 0), end]
        for event in events:
            stored = prices.apply(stored, TARIFF, event)
        assert stored == live


def test_abuse_doubles_prices_and_proper_use_halves_them() -> None:
    account = prices.open_account(TARIFF, 0)
    for level in range(prices.LEVEL_MAX):
        assert prices.get_price(account, TARIFF, 1_000) == 1_000 << level
        account = prices.strike(account, prices.STRIKES_OF_LEVEL)
    assert prices.get_price(account, TARIFF, 1_000) == 64_000
    assert prices.get_price(account, TARIFF, 10_000) == TARIFF.capacity_m
    assert prices.strike(account, 999).level == prices.LEVEL_MAX
    for _ in range(prices.GOOD_OF_LEVEL):
        account = prices.earn(account, TARIFF, 0)
    assert prices.get_price(account, TARIFF, 1_000) == 32_000


def test_proper_use_earns_a_part_of_its_price_back() -> None:
    charged = prices.charge(prices.open_account(TARIFF, 0), TARIFF, 4_000, 0)
    assert (charged.account.balance_m, charged.price_m) == (96_000, 4_000)
    assert prices.earn(charged.account, TARIFF, charged.price_m).balance_m == 98_000
    text = prices.encode_pass(charged.account, TARIFF, charged.price_m)
    assert text == "left=96, price=4.000, refill=3, level=0"


def test_a_clock_that_goes_back_fills_nothing() -> None:
    account = Account(5_000, 10_000, 0, 0, 0)
    assert prices.fill(account, TARIFF, 9_000) == account
    assert prices.fill(account, TARIFF, 11_000).balance_m == 8_000
