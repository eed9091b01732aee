"""How much a tenant may have at a server, and what it has. Pure.

The operator sets a quota and the tenant's admin another one; the smaller of the two counts, so that
an admin can only give its tenant less. Not here: who sets them (access), who counts (totals).
"""

from __future__ import annotations

from chainlite.lean import NamedTuple

UNLIMITED = 2**64 - 1
DAY_MS = 24 * 3600 * 1000
RECEIPTS, BYTES, HOSTS = 0, 1, 2
NAMES = ("receipts_per_day", "bytes", "hosts")


class Quota(NamedTuple):
    """Receipts that are taken on one day (UTC), bytes that are stored, hosts that are enrolled."""

    receipts_per_day: int = UNLIMITED
    bytes: int = UNLIMITED
    hosts: int = UNLIMITED


class Totals(NamedTuple):
    """What a tenant has: hosts, receipts since the first, bytes that are stored of them now."""

    hosts: int = 0
    receipts: int = 0
    bytes: int = 0


def get_least(one: Quota, other: Quota) -> Quota:
    """The smaller of each."""
    return Quota(*map(min, one, other))


def get_day(time_ms: int) -> int:
    """The day since 1970, UTC."""
    return time_ms // DAY_MS


def compute_wait_s(time_ms: int) -> int:
    """Until the next day begins, in whole seconds."""
    return (DAY_MS - time_ms % DAY_MS + 999) // 1000


def find_exceeded(quota: Quota, used: Quota, more: Quota) -> int:
    """Which quota does not allow `more` beyond `used`; -1: all of them do."""
    for number, (limit, has, wants) in enumerate(zip(quota, used, more, strict=True)):
        if wants and has + wants > limit:
            return number
    return -1
