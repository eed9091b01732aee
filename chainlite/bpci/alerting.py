"""What is wrong with a tenant's hosts, as those are told who may see it: alerts, silence, quotas.

Alerts are rows, raised by what hosts sent. Silence is reckoned when it is asked for: since the
newest time that a host itself has signed. A quota that was met is told for QUOTA_DAYS.
Not here: raising alerts (intake), quotas (access), who may ask (reading).
Invariant: nothing is said of another tenant's host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite import hostlog, segment
from chainlite.bpci import at_rest
from chainlite.bpci.alert import Evidence, decode_evidence
from chainlite.bpci.opening import iterate_hosts, open_tenant
from chainlite.bpci.quota import NAMES, get_day
from chainlite.bpci.store import StoreDamage
from chainlite.errors import SpecError, TamperError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.bpci.access import Excess
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Alert, Host, Store

LAG, QUOTA = "lag", "quota"
QUOTA_DAYS = 2
"""Today and yesterday: a quota of receipts is whole again at midnight."""
ALERTS_OF_HOST_MAX = 64
HOSTS_MAX = 256
"""Of which one answer speaks."""
NS_OF_MS = 10**6


def list_alerts(
    store: Store, key: ServerKey, tenant: str, host: bytes, first: bytes, lag_s: int, now_ms: int
) -> tuple[list[dict[str, Any]], bytes]:
    """What is wrong with a tenant's hosts, or one of them, from host `first` on.

    And the host with which the next answer begins; empty where this was the last.
    """
    tenant_key = open_tenant(store, key, tenant)
    found = list[dict[str, Any]]()
    for number, row in enumerate(iterate_hosts(store, tenant, host or first)):
        if host not in (b"", row.host):
            break
        if number >= HOSTS_MAX:
            return found, row.host
        for alert in store.read_alerts(row.host, 0, ALERTS_OF_HOST_MAX):
            found.append(_show_alert(alert, _open(alert, tenant, tenant_key)))
        silent_ms = _find_silence(store, row, now_ms)
        if silent_ms > lag_s * 1000:
            found.append(_show_silence(row, silent_ms, now_ms))
    return found, b""


def find_evidence(
    store: Store, key: ServerKey, tenant: str, host: bytes, kind: str, leaf_index: int
) -> Evidence | None:
    """What shows that an alert is right; None where the tenant has no such alert."""
    row = store.find_host(host)
    alert = store.find_alert(host, kind, leaf_index)
    if row is None or row.tenant != tenant or alert is None:
        return None
    return _open(alert, tenant, open_tenant(store, key, tenant))


def _open(alert: Alert, tenant: str, tenant_key: bytes) -> Evidence:
    label = at_rest.label_alert(tenant, *alert[:4], alert.erased)
    try:
        return decode_evidence(at_rest.unseal(alert.box, tenant_key, label))
    except (SpecError, TamperError) as error:
        where = f"host {alert.host.hex()[:16]}, alert {alert.kind} at leaf {alert.leaf_index}"
        raise StoreDamage(f"{where}: {error}") from None


def list_excesses(
    excesses: Mapping[tuple[str, int], Excess], tenant: str, host: bytes, now_ms: int
) -> list[dict[str, Any]]:
    """Quotas of a tenant that were met of late, by this host or any, the newest time of each."""
    since = get_day(now_ms) - QUOTA_DAYS
    return [
        _show_excess(one)
        for (whose, _), one in sorted(excesses.items())
        if whose == tenant and one.day > since and host in (b"", one.host)
    ]


def _show_excess(excess: Excess) -> dict[str, Any]:
    return {
        "kind": QUOTA,
        "host": excess.host.hex(),
        "leaf_index": "-1",
        "time_ms": str(excess.time_ms),
        "first": None,
        "last": None,
        "why": f"the quota {NAMES[excess.which]} of its tenant was met, first by this host",
        "proof": None,
    }


def _show_alert(alert: Alert, evidence: Evidence) -> dict[str, Any]:
    trouble = evidence.trouble
    has_receipts = trouble.first >= 0
    path = f"/v1/alerts/{alert.host.hex()}/{alert.kind}/{alert.leaf_index}/proof"
    return {
        "kind": alert.kind,
        "host": alert.host.hex(),
        "leaf_index": str(alert.leaf_index),
        "time_ms": str(alert.time_ms),
        "first": str(trouble.first) if has_receipts else None,
        "last": str(trouble.last) if has_receipts else None,
        "why": trouble.why,
        "proof": path if trouble.proof else None,
    }


def _show_silence(row: Host, silent_ms: int, now_ms: int) -> dict[str, Any]:
    return {
        "kind": LAG,
        "host": row.host.hex(),
        "leaf_index": str(row.size - 1),
        "time_ms": str(now_ms),
        "first": None,
        "last": None,
        "why": f"nothing newer than {silent_ms // 1000} s; {row.open_runs} of its runs are open",
        "proof": None,
    }


def _find_silence(store: Store, row: Host, now_ms: int) -> int:
    """How long ago, by its own clock, the host's newest leaf is; -1 where it was never heard."""
    newest_ns = read_newest_ns(store, row)
    return -1 if newest_ns < 0 else max(0, now_ms - newest_ns // NS_OF_MS)


def read_newest_ns(store: Store, row: Host) -> int:
    """When the host wrote its newest leaf, Unix ns, says the host; -1 where it was never heard."""
    found = store.read_leaves(row.host, row.size - 1, 1) if row.size else []
    if not found:
        return -1
    try:
        return get_time(hostlog.decode_leaf(found[0].data))
    except SpecError as error:
        raise StoreDamage(f"host {row.host.hex()[:16]}, leaf {row.size - 1}: {error}") from None


def get_time(leaf: hostlog.Leaf) -> int:
    """When a host wrote a leaf, Unix ns, says the host."""
    if isinstance(leaf, hostlog.Segment):
        return segment.decode_header(leaf.header).time_last
    if isinstance(leaf, hostlog.Start):
        return segment.decode_genesis(leaf.genesis).time
    return leaf.time
