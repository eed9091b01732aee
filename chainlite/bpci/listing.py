"""Members, hosts, quotas and retention as people and programs are shown them: JSON objects.

Not here: who may see them (members), lines of text (docklock.cli). Numbers of 64 bits are texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.bpci.orders import show_limit
from chainlite.bpci.quota import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainlite.bpci.access import Access, Member
    from chainlite.bpci.store import Host
    from chainlite.bpci.tally import Tally


def show_member(member: Member) -> dict[str, object]:
    """Who is no host; `key` is its newest, in hex."""
    return {
        "name": member.member.hex(),
        "role": member.role.value,
        "tenant": member.tenant,
        "key": member.publics[-1].hex(),
        "keys": len(member.publics),
        "since_ms": str(member.since_ms),
        "by": member.by.hex(),
        "revoked_ms": str(member.revoked_ms) if member.revoked_ms else None,
    }


def show_host(row: Host, access: Access) -> dict[str, object]:
    """A host as it stands."""
    revoked_ms = access.revoked_hosts.get(row.host)
    return {
        "name": row.host.hex(),
        "role": "host",
        "tenant": row.tenant,
        "size": str(row.size),
        "receipts": str(row.receipts),
        "stored_bytes": str(row.stored_bytes),
        "alerts": row.alerts,
        "revoked_ms": None if revoked_ms is None else str(revoked_ms),
    }


def list_members(access: Access, tenant: str = "") -> list[dict[str, object]]:
    """Those of one tenant or ("") of all, by tenant, role and time."""
    found: Iterable[Member] = list(access.members.values())
    mine = [one for one in found if not tenant or one.tenant == tenant]
    mine.sort(key=lambda one: (one.tenant, one.role.value, one.since_ms, one.member))
    return [show_member(one) for one in mine]


def show_quota(tenant: str, access: Access, tally: Tally, now_ms: int) -> dict[str, object]:
    """What holds, who has set it, what is used, and the newest time that each was met."""
    limits, used = access.get_quota(tenant), tally.get_used(tenant, now_ms)
    parts = [access.get_quota_by(tenant, is_admins=one) for one in (False, True)]
    alerts = [
        {
            "kind": "quota", "quota": NAMES[which], "host": one.host.hex(),
            "time_ms": str(one.time_ms),
        }
        for which in range(len(NAMES))
        if (one := access.excesses.get((tenant, which))) is not None
    ]  # fmt: skip
    rows = zip(NAMES, limits, used, *parts, strict=True)
    shown: dict[str, object] = {"tenant": tenant}
    for name, limit, has, by_operator, by_admin in rows:
        shown[name] = {
            "limit": show_limit(limit), "used": has, "by_operator": show_limit(by_operator),
            "by_admin": show_limit(by_admin),
        }  # fmt: skip
    return {**shown, "alerts": alerts}


def show_retention(tenant: str, access: Access) -> dict[str, object]:
    """The rule, and what was erased the last time."""
    erasure, days = access.erasures.get(tenant), access.get_retention(tenant)
    last = None
    if erasure is not None:
        last = {
            "time_ms": str(erasure.time_ms), "days": erasure.days,
            "before_ms": str(erasure.cutoff_ns // 10**6), "is_done": erasure.is_done,
            "segments": erasure.segments, "alerts": erasure.alerts,
        }  # fmt: skip
    return {"tenant": tenant, "days": days or None, "erased": last}
