"""Accounts of addresses from which nothing signed came: public reads, bad signatures, replays.

In memory and bounded: what nobody signed never writes to a disk. An actor pays only for what it
signed; who sends in its name without its key pays here. Not here: what a call costs (prices),
actors' accounts (store). Invariant: at most ADDRESSES_MAX accounts; the one that was used longest
ago makes room.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from chainlite.cage import prices
from chainlite.cage.refusal import Refusal

if TYPE_CHECKING:
    from chainlite.cage.prices import Account, Charged, Tariff

ADDRESSES_MAX = 65_536
ABUSE_M = 10_000
"""What a message that is not let through costs its address, before doubling."""
ABUSE_STRIKES = 2


class Strangers:
    """The accounts of one worker."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def check(self, address: str, now_ms: int) -> None:
        """Refusal (429) where the address could not pay for one more abuse; costs nothing."""
        account = self._accounts.get(address)
        if account is not None:
            account = prices.fill(account, self._tariff, now_ms)
            wanted_m = prices.get_price(account, self._tariff, ABUSE_M) - account.balance_m
            if wanted_m > 0:
                seconds = -(-wanted_m // self._tariff.refill_m_per_s) + 1
                raise refuse_flood(seconds)

    def pay(self, address: str, cost_m: int, now_ms: int) -> Charged:
        """A call's price; Refusal (429) where the address cannot pay it."""
        account = self._get(address, now_ms)
        charged = prices.charge(account, self._tariff, cost_m, now_ms)
        self._put(address, charged.account)
        if charged.retry_after_s:
            raise refuse_flood(charged.retry_after_s)
        return charged

    def earn(self, address: str, price_m: int, now_ms: int) -> None:
        """A call that was paid for was proper use."""
        self._put(address, prices.earn(self._get(address, now_ms), self._tariff, price_m))

    def punish(self, address: str, now_ms: int) -> None:
        """Something that nobody signed, or that was changed, came from there."""
        account = prices.fill(self._get(address, now_ms), self._tariff, now_ms)
        price_m = prices.get_price(account, self._tariff, ABUSE_M)
        account = account._replace(balance_m=max(0, account.balance_m - price_m))
        self._put(address, prices.strike(account, ABUSE_STRIKES))

    def _get(self, address: str, now_ms: int) -> Account:
        return self._accounts.get(address) or prices.open_account(self._tariff, now_ms)

    def _put(self, address: str, account: Account) -> None:
        self._accounts[address] = account
        self._accounts.move_to_end(address)
        if len(self._accounts) > ADDRESSES_MAX:
            self._accounts.popitem(last=False)


def refuse_flood(seconds: int) -> Refusal:
    """Too many calls: come again in so many seconds."""
    return Refusal(429, "too-many", "no credits left for this call", retry_after_s=seconds)
