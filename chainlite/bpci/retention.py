"""Erase what a tenant keeps no longer, a few rows in each of the writer's turns.

Of a segment that ended before the cutoff nothing is left but its leaf and its certificates, so that
the log and all that is signed in it verify on; of an alert from before it, all but the batch. An
act says when it began and under which rule, another one what was erased; then the files lose the
last byte of it. What is erased is dated by its host, as the segment's leaf says.
Not here: who sets the rule (office), what an audit makes of erased rows (audit).
Invariants: nothing is erased before an act says so; where the last byte cannot be lost now, since
somebody reads, the run fails and the next one does it; a row whose box does not open stays for the
audit to name, and holds up no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci import at_rest
from chainlite.bpci.access import FOR_EVER
from chainlite.bpci.act import Act, Kind
from chainlite.bpci.alert import decode_evidence, encode_evidence
from chainlite.bpci.batch import decode_body, encode_body
from chainlite.bpci.quota import DAY_MS
from chainlite.bpci.store import Changes
from chainlite.errors import DocklockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.intake import Intake
    from chainlite.bpci.known_host import KnownHost
    from chainlite.bpci.store import Alert, Segment, Store

STEP = 64
"""Rows of one turn: of a body in a box of megabytes each byte is written over."""
HOSTS_STEP = 256


class Erased(NamedTuple):
    """What a run has erased of a tenant so far, and rows that it could not open."""

    tenant: str
    segments: int = 0
    alerts: int = 0
    damaged: int = 0
    is_done: bool = False


def erase_tenants(intake: Intake, store: Store, now_ms: int) -> Iterator[Erased]:
    """All tenants that have a rule; each step is one turn of the writer."""
    for tenant in store.read_tenants():
        if intake.access.get_retention(tenant.name) != FOR_EVER:
            yield from erase_tenant(intake, store, tenant.name, now_ms)


def erase_tenant(intake: Intake, store: Store, tenant: str, now_ms: int) -> Iterator[Erased]:
    """One tenant under its rule; the last step `is_done`. If nothing is old nothing is written."""
    days = intake.access.get_retention(tenant)
    cutoff_ns = max(0, now_ms - days * DAY_MS) * 10**6
    found, is_begun = Erased(tenant), False
    last = intake.access.erasures.get(tenant)
    if days == FOR_EVER:
        yield found._replace(is_done=True)
        return
    for host in _list_hosts(store, tenant):
        skip, alerts = 0, _list_alerts(store, host, cutoff_ns)
        while True:
            segments = store.read_old_segments(host, cutoff_ns, skip, STEP)
            if not segments and not alerts:
                break
            if not is_begun:
                is_begun = True
                intake.act(Act(Kind.ERASE, now_ms, tenant, numbers=(cutoff_ns, days)))
            done = _erase_rows(intake, host, segments, alerts)
            skip += len(segments) - done.segments
            found = found._replace(
                segments=found.segments + done.segments, alerts=found.alerts + done.alerts,
                damaged=found.damaged + done.damaged,
            )  # fmt: skip
            alerts = []
            yield found
    if is_begun or (last is not None and not last.is_done):
        at_ns = cutoff_ns if is_begun or last is None else last.cutoff_ns
        numbers = (at_ns, found.segments, found.alerts)
        intake.act(Act(Kind.ERASED, now_ms, tenant, numbers=numbers))
    store.purge()  # also what an earlier run could not, since somebody read
    yield found._replace(is_done=True)


def _list_hosts(store: Store, tenant: str) -> Iterator[bytes]:
    after = b""
    while rows := store.read_hosts(after, HOSTS_STEP):
        yield from [row.host for row in rows if row.tenant == tenant]
        after = rows[-1].host


def _list_alerts(store: Store, host: bytes, cutoff_ns: int) -> list[Alert]:
    return [
        one
        for one in store.read_alerts(host, 0, STEP)
        if not one.erased and one.time_ms * 10**6 < cutoff_ns
    ]


def _erase_rows(
    intake: Intake, host: bytes, segments: list[Segment], alerts: list[Alert]
) -> Erased:
    """One commit: what is left of these in place of them."""
    known = intake.find(host)
    assert known is not None, "its row was read just now"
    tenant, size, damaged = known.row.tenant, 0, 0
    key = intake.open_tenant(tenant)
    left: list[Segment] = []
    left_alerts: list[Alert] = []
    for one in segments:
        try:
            body = decode_body(
                at_rest.unseal(one.box, key, at_rest.label_segment(tenant, host, one.leaf_index))
            )
        except DocklockError:
            damaged += 1
            continue
        rest = encode_body(body._replace(leaf_tags=b"", packed=b"", secret=b""))
        label = at_rest.label_segment(tenant, host, one.leaf_index, 1)
        left.append(one._replace(box=at_rest.seal(rest, key, label), erased=1))
        size += len(left[-1].box) - len(one.box)
    for alert in alerts:
        label = at_rest.label_alert(tenant, *alert[:4])
        try:
            evidence = decode_evidence(at_rest.unseal(alert.box, key, label))
        except DocklockError:
            damaged += 1
            continue
        rest = encode_evidence(evidence._replace(batch=b""))
        label = at_rest.label_alert(tenant, *alert[:4], erased=1)
        left_alerts.append(alert._replace(box=at_rest.seal(rest, key, label), erased=1))
        size += len(left_alerts[-1].box) - len(alert.box)
    _commit(intake, known, left, left_alerts, size)
    return Erased(tenant, len(left), len(left_alerts), damaged)


def _commit(
    intake: Intake, known: KnownHost, left: list[Segment], alerts: list[Alert], size: int
) -> None:
    row = known.row._replace(stored_bytes=known.row.stored_bytes + size)
    intake.commit_rows(known, row, Changes(hosts=[row], erased_segments=left, erased_alerts=alerts))
