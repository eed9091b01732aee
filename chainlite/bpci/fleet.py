"""A tenant's hosts and their containers, as a reader is shown them: JSON objects.

Not here: who may see them (reading), what is wrong with them (alerting), receipts (searching).
Invariants: nothing is said of another tenant's; each answer looks at a bounded number of rows and
says where the next one begins. Of a container there is what its newest run's log says: the server
does not know whether it runs now. Numbers of 64 bits are texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite import bundle, segment
from chainlite.bpci.alerting import read_newest_ns
from chainlite.bpci.asking import CONTAINERS_MAX, HOSTS_MAX
from chainlite.bpci.known_host import decode_run
from chainlite.bpci.opening import iterate_hosts
from chainlite.bpci.store import StoreDamage
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.bpci.asking import ContainerPlace
    from chainlite.bpci.store import Host, Run, Store

STEP = 256


def list_hosts(
    store: Store, revoked: Mapping[bytes, int], tenant: str, first: bytes
) -> tuple[list[dict[str, Any]], bytes]:
    """A tenant's hosts from this one on, and that with which the next answer begins, or nothing."""
    found = list[dict[str, Any]]()
    with store.moment():
        for row in iterate_hosts(store, tenant, first):
            if len(found) >= HOSTS_MAX:
                return found, row.host
            found.append(_show_host(row, read_newest_ns(store, row), revoked.get(row.host)))
    return found, b""


def list_containers(
    store: Store, tenant: str, host: bytes, start: ContainerPlace
) -> tuple[list[dict[str, Any]], str]:
    """Containers by hosts and ids after `start`, of one host or of all; and the next cursor."""
    found = list[dict[str, Any]]()
    with store.moment():
        for row in iterate_hosts(store, tenant, start.host or host):
            if host not in (b"", row.host):
                break
            after = start.container if start.host == row.host else b""
            while runs := store.read_runs(row.host, after, STEP):
                for run in runs:
                    if len(found) >= CONTAINERS_MAX:
                        return found, f"{found[-1]['host']}.{found[-1]['container']}"
                    found.append(_show_container(run))
                    after = run.container
    return found, ""


def _show_host(row: Host, newest_ns: int, revoked_ms: int | None) -> dict[str, Any]:
    return {
        "host": row.host.hex(),
        "size": str(row.size),
        "receipts": str(row.receipts),
        "open_runs": row.open_runs,
        "alerts": row.alerts,
        "stored_bytes": str(row.stored_bytes),
        "newest_ns": None if newest_ns < 0 else str(newest_ns),
        "revoked_ms": None if revoked_ms is None else str(revoked_ms),
    }


def _show_container(row: Run) -> dict[str, Any]:
    state = decode_run(row)
    try:
        genesis = segment.decode_genesis(state.genesis)
    except SpecError as error:
        raise StoreDamage(f"container {row.container.hex()[:12]}: {error}") from None
    return {
        "host": row.host.hex(),
        "container": row.container.hex(),
        "app": genesis.app,
        "run": genesis.run,
        "state": bundle.STATES[state.state],
        "receipts": str(state.event_count),
        "started_ns": str(genesis.time),
        "policy": genesis.policy.hex(),
        "start_leaf": str(state.start_leaf),
    }
