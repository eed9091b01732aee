"""What a server knows of a host's log while it takes batches, on top of the store.

As validators' HostBodies, but runs are found in the store, so that none is forgotten and no more of
them are in memory than batches ask for. Not here: who writes it (intake).
Invariant: what was applied and is not yet committed is found here, before what the store has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from chainlite import bundle
from chainlite.bpci import at_rest
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.store import Host, Run, StoreDamage
from chainlite.codec import Reader
from chainlite.errors import SpecError, TamperError
from chainlite.ledger.bodies import (
    HostBodies,
    Progress,
    RunState,
    Taken,
    decode_taken,
    encode_run,
    encode_taken,
    read_keys,
    read_run,
)

if TYPE_CHECKING:
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Store

RUNS_CACHED_MAX = 1024
NEWEST_CACHED_MAX = 4096


class KnownHost(HostBodies):
    """One host; `row` is what is stored, or will be with the next commit."""

    __slots__ = ("_runs", "_store", "hashes", "row")

    def __init__(self, row: Host, store: Store) -> None:
        super().__init__(row.host)
        self.row, self._store = row, store
        if row.progress:
            self.progress = decode_progress(row)
        self._runs: dict[bytes, RunState] = {}
        self.hashes: dict[int, bytes] = {}
        """Of leaves that are not committed yet."""

    def find_run(self, container: bytes) -> RunState | None:
        """As HostBodies, from the store."""
        found = self._runs.get(container)
        if found is None:
            stored = self._store.find_run(self.row.host, container)
            if stored is None:
                return None
            found = self._runs[container] = decode_run(stored)
        return found

    def count_open(self) -> int:
        """How many runs are open."""
        return self.row.open_runs

    def apply(self, taken: Taken) -> None:
        """The range is taken: go on from its end."""
        open_runs = self.row.open_runs
        for container, run in taken.runs.items():
            before = self.find_run(container)
            open_runs -= before is not None and before.state == bundle.OPEN
            open_runs += run.state == bundle.OPEN
        self._runs.update(taken.runs)
        self.progress = taken.progress
        self.row = self.row._replace(
            size=taken.progress.size, receipts=taken.progress.receipts, open_runs=open_runs,
            progress=encode_progress(taken.progress),
        )  # fmt: skip

    def upon_commit(self) -> None:
        """All that was applied is in the store."""
        self.hashes.clear()
        if len(self._runs) > RUNS_CACHED_MAX:
            self._runs.clear()


def load_host(store: Store, vault: Vault, host: bytes) -> KnownHost | None:
    """The host as the store has it; None: none is there. StoreDamage: its row is not as sealed.

    So whoever writes rows moves no host to a tenant of theirs, and makes none.
    """
    row = store.find_host(host)
    if row is None:
        return None
    key = open_tenant(store, vault, row.tenant)
    try:
        at_rest.open_enrolment(row.enrolment, key, row.tenant, host)
    except TamperError as error:
        raise StoreDamage(f"host {host.hex()[:16]}: {error}") from None
    return KnownHost(row, store)


def open_tenant(store: Store, vault: Vault, name: str) -> bytes:
    """The key of a tenant's boxes; StoreDamage where it does not open."""
    tenant = store.find_tenant(name)
    if tenant is None:
        raise StoreDamage(f"tenant {name!r} is gone")
    try:
        return vault.open_tenant_key(name, tenant.sealed_key)
    except TamperError as error:
        raise StoreDamage(f"the key of tenant {name!r}: {error}") from None


def find_newest_publics(store: Store, key: ServerKey, host: bytes) -> tuple[bytes, ...]:
    """A host's newest key, as far as the server knows its log; none where it is not enrolled."""
    row = store.find_host(host)
    tenant = store.find_tenant(row.tenant) if row is not None else None
    if row is None or tenant is None:
        return ()
    if row.progress:
        return (_read_newest(host, decode_progress(row).key_leaves),)
    tenant_key = Vault(key).open_tenant_key(row.tenant, tenant.sealed_key)
    return (at_rest.open_enrolment(row.enrolment, tenant_key, row.tenant, host),)


@lru_cache(maxsize=NEWEST_CACHED_MAX)
def _read_newest(host: bytes, key_leaves: tuple[bytes, ...]) -> bytes:
    """The newest key of these records: each call asks for it, and each record is a signature."""
    return read_keys(host, list(key_leaves)).public


def encode_progress(progress: Progress) -> bytes:
    """How far a host is, without its runs."""
    return encode_taken(Taken(progress, progress.root, 0, {}))


def decode_progress(row: Host) -> Progress:
    """What a host's row says; StoreDamage where it contradicts itself."""
    try:
        progress = decode_taken(row.progress).progress
    except SpecError as error:
        raise StoreDamage(f"host {row.host.hex()[:16]}: {error}") from None
    if (progress.host, progress.size, progress.receipts) != (row.host, row.size, row.receipts):
        raise StoreDamage(f"host {row.host.hex()[:16]}: its row contradicts itself")
    return progress


def encode_run_row(host: bytes, container: bytes, run: RunState) -> Run:
    """The row of a container's last run."""
    return Run(host, container, encode_run(run))


def decode_run(row: Run) -> RunState:
    """What the row of a run says; StoreDamage for bytes that are none."""
    reader = Reader(row.state, "state of a run")
    try:
        run = read_run(reader)
        reader.finish()
    except SpecError as error:
        raise StoreDamage(f"container {row.container.hex()[:12]}: {error}") from None
    return run
