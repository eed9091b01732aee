"""What each tenant has at a server, counted as it comes, and whether it may have more.

Counted from the rows when the store is opened, then beside each commit. A day's receipts are those
since the first batch of the day, of which an act says how many there were before it.
Not here: the rules (quota), who sets them (access), what is answered (intake, ingest).
Invariant: nothing of what is too much is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci import quota
from chainlite.bpci.act import Act, Kind
from chainlite.bpci.quota import Quota, Totals
from chainlite.cage.refusal import Refusal

if TYPE_CHECKING:
    from chainlite.bpci.access import Access
    from chainlite.bpci.store import Store
    from chainlite.bpci.verification import Verdict
    from chainlite.ledger.offer import Offer


class Exceeded(NamedTuple):
    """Which quota (of quota.NAMES), and why."""

    which: int
    why: str


def measure(batch: Offer, verdict: Verdict) -> Quota:
    """What of a batch would be kept, as quotas count it."""
    items = batch.items[: verdict.leaves]
    size = sum([len(one.leaf) + len(one.body) for one in items])
    return Quota(verdict.taken.receipts if verdict.taken else 0, size, 0)


class Tally:
    """The counts of a store's tenants; one thread writes, others may read."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store, self._access = store, access
        self._totals: dict[str, Totals] = {}
        self.recount()

    def recount(self) -> None:
        """As the rows say: after a commit that failed."""
        self._totals = {one.tenant: Totals(*one[1:]) for one in self._store.read_totals()}

    def get(self, tenant: str) -> Totals:
        """What it has."""
        return self._totals.get(tenant, Totals())

    def get_used(self, tenant: str, now_ms: int) -> Quota:
        """As quotas count it: receipts of today."""
        has = self.get(tenant)
        before = self._access.find_day(tenant, now_ms)
        return Quota(0 if before is None else has.receipts - before, has.bytes, has.hosts)

    def add(self, tenant: str, *, hosts: int = 0, receipts: int = 0, stored_bytes: int = 0) -> None:
        """What a commit adds."""
        has = self.get(tenant)
        self._totals[tenant] = Totals(
            has.hosts + hosts, has.receipts + receipts, has.bytes + stored_bytes
        )

    def check_host(self, tenant: str) -> None:
        """Refusal where the tenant may have no further host."""
        limit = self._access.get_quota(tenant).hosts
        if self.get(tenant).hosts >= limit:
            raise Refusal(403, "quota", f"the tenant's quota is {limit} hosts")

    def judge(
        self, tenant: str, host: bytes, more: Quota, now_ms: int, acts: list[Act]
    ) -> Exceeded | None:
        """Whether the tenant may have `more` of this host; None: it may.

        `acts` are those of the commit that it would be in, and get what has to be written down.
        """
        limits = self._access.get_quota(tenant)
        if limits == Quota():
            return None
        day, has = quota.get_day(now_ms), self.get(tenant)
        before = self._access.find_day(tenant, now_ms)
        for act in acts:
            if act.kind is Kind.DAY and act.tenant == tenant:
                before = act.numbers[1]
        used = Quota(0 if before is None else has.receipts - before, has.bytes, 0)
        which = quota.find_exceeded(limits, used, more)
        if which < 0:
            if before is None and limits.receipts_per_day < quota.UNLIMITED:
                acts.append(Act(Kind.DAY, now_ms, tenant, numbers=(day, has.receipts)))
            return None
        act = Act(Kind.EXCEED, now_ms, tenant, name=host, numbers=(which, day))
        known = [one for one in acts if (one.kind, one.tenant) == (act.kind, tenant)]
        is_known = self._access.is_excess_known(tenant, which, day)
        if not is_known and not any(one.numbers == act.numbers for one in known):
            acts.append(act)
        name = quota.NAMES[which].replace("_", " ")
        why = f"the tenant's quota of {name} is {limits[which]}, of which {used[which]} are used"
        return Exceeded(which, f"{why}, and this batch is {more[which]} more")
