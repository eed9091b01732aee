"""What calls cost: an account fills with time, a call takes its price, proper use gets part back.

Prices double with each level of abuse, and good calls lower the level. Not here: where accounts
are kept (store for actors, strangers for addresses). Invariants: integers only, so that all
workers reckon alike; a balance is never below zero or above the tariff's; who waits as long as
Retry-After says is let through; who is full and at level 0 is as who was never here.
Source: README.md, section Credits.
"""

from __future__ import annotations

from typing import NamedTuple

LEVEL_MAX = 6
STRIKES_OF_LEVEL = 8
GOOD_OF_LEVEL = 16


class Tariff(NamedTuple):
    """In thousandths of a credit: what an account holds at most, and how fast it fills."""

    capacity_m: int = 1_000_000
    refill_m_per_s: int = 20_000
    earned_percent: int = 50
    """Of what a call cost, where it was answered with a status below 400."""


class Account(NamedTuple):
    """What an actor or a stranger has left; `at_ms` is when that was reckoned."""

    balance_m: int
    at_ms: int
    level: int
    strikes: int
    good: int


class Charged(NamedTuple):
    """The account after a call asked to be let through; `price_m` is what it paid, or would have.

    `retry_after_s` is 0 where it is let through.
    """

    account: Account
    price_m: int
    retry_after_s: int


class Change(NamedTuple):
    """What happened to an account at `at_ms`: it paid, or what it had paid was proper use, strikes.

    `earned_of_m`: the price of a call that was proper use, else 0.
    """

    at_ms: int
    paid_m: int
    earned_of_m: int
    strikes: int


def open_account(tariff: Tariff, now_ms: int) -> Account:
    """Of one who was never here: full."""
    return Account(tariff.capacity_m, now_ms, 0, 0, 0)


def fill(account: Account, tariff: Tariff, now_ms: int) -> Account:
    """The account at `now_ms`; a clock that went back fills nothing."""
    passed_ms = now_ms - account.at_ms
    if passed_ms <= 0:
        return account
    filled = account.balance_m + passed_ms * tariff.refill_m_per_s // 1000
    _, _, level, strikes, good = account
    return Account(min(filled, tariff.capacity_m), now_ms, level, strikes, good)


def charge(account: Account, tariff: Tariff, cost_m: int, now_ms: int) -> Charged:
    """Take a call's price, doubled for each level; refused where the account has less.

    A refused call takes nothing and is a strike: who does not wait pays more.
    """
    account = fill(account, tariff, now_ms)
    balance_m, at_ms, level, strikes, good = account
    price_m = min(cost_m << level, tariff.capacity_m)
    if balance_m >= price_m:
        return Charged(Account(balance_m - price_m, at_ms, level, strikes, good), price_m, 0)
    account = strike(account, 1)
    price_m = get_price(account, tariff, cost_m)
    wanted_m = price_m - account.balance_m
    return Charged(account, price_m, -(-wanted_m // tariff.refill_m_per_s) + 1)


def get_price(account: Account, tariff: Tariff, cost_m: int) -> int:
    """A call's price at the account's level; never more than a full account holds."""
    return min(cost_m << account.level, tariff.capacity_m)


def earn(account: Account, tariff: Tariff, price_m: int) -> Account:
    """The account after a call that it paid `price_m` for was proper use."""
    balance_m = account.balance_m + price_m * tariff.earned_percent // 100
    level, strikes, good = account.level, account.strikes, account.good + 1
    if good >= GOOD_OF_LEVEL:
        level, strikes, good = max(0, level - 1), 0, 0
    return Account(min(balance_m, tariff.capacity_m), account.at_ms, level, strikes, good)


def strike(account: Account, strikes: int) -> Account:
    """The account after abuse: each STRIKES_OF_LEVEL are a level, and good calls count anew."""
    strikes += account.strikes
    level = min(LEVEL_MAX, account.level + strikes // STRIKES_OF_LEVEL)
    return account._replace(level=level, strikes=strikes % STRIKES_OF_LEVEL, good=0)


def encode_pass(account: Account, tariff: Tariff, price_m: int) -> str:
    """X-Rate-Pass: whole credits left, what this call took of them, how fast they come, the level.

    A dictionary of integers and of decimals with three digits (RFC 9651).
    """
    return (
        f"left={account.balance_m // 1000}, price={price_m // 1000}.{price_m % 1000:03},"
        f" refill={tariff.refill_m_per_s // 1000}, level={account.level}"
    )


def apply(account: Account, tariff: Tariff, event: Change) -> Account:
    """The account after what has happened already: whoever wrote meanwhile, it is added."""
    now_ms, paid_m, earned_of_m, strikes = event
    account = fill(account, tariff, now_ms)
    if paid_m:
        account = account._replace(balance_m=max(0, account.balance_m - paid_m))
    if earned_of_m:
        account = earn(account, tariff, earned_of_m)
    return strike(account, strikes) if strikes else account
