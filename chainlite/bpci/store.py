"""What a server keeps, as rows, and what any store of them must do.

Not here: SQLite (sqlite_store), what the rows mean together (intake, own_log, audit), what a box
is sealed with (at_rest). A store believes nothing and checks nothing: the audit does.
Invariants that the conformance suite (tests/bpci/conformance.py) holds of every store: a commit is
whole or not there, and durable when it returns; what is read in a `moment` is of one; names are
data, whatever is in them. One writer at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from chainlite.errors import TamperError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

READ_MAX = 1 << 16
"""Rows that are read at once."""


class StoreDamage(TamperError):
    """What is stored contradicts itself: the server's trouble, whoever asks."""


class Tenant(NamedTuple):
    """Whose hosts these are; `sealed_key` opens with the server's key alone."""

    name: str
    sealed_key: bytes


class Host(NamedTuple):
    """A host as it stands.

    `enrolment` is its enrolled key, sealed; `progress` an encoded Taken without runs, empty before
    the first leaf; `note` the newest of its checkpoints that what is held reaches; `log_leaf` where
    the server's log says what is held, with this `root`; `stored_bytes` those of its leaves and of
    all boxes of its segments and alerts.
    """

    host: bytes
    tenant: str
    enrolment: bytes
    size: int
    receipts: int
    open_runs: int
    alerts: int
    progress: bytes
    note: bytes
    log_leaf: int
    root: bytes
    stored_bytes: int = 0


class Leaf(NamedTuple):
    """A leaf of a host's log (`host` empty: of the server's own). `hashes` are those of the
    subtrees that it completes, from its own upwards; `container` is empty where it is of none."""

    host: bytes
    leaf_index: int
    kind: int
    container: bytes
    data: bytes
    hashes: bytes


class Segment(NamedTuple):
    """What came with a segment's leaf, sealed; times are Unix ns. `erased`: 1 where retention has
    left no more of it than its certificates."""

    host: bytes
    leaf_index: int
    container: bytes
    run: int
    first_index: int
    event_count: int
    time_first: int
    time_last: int
    box: bytes
    erased: int = 0


class Place(NamedTuple):
    """Where a segment lies and what it is searched by: a Segment without its box."""

    host: bytes
    leaf_index: int
    container: bytes
    run: int
    first_index: int
    event_count: int
    time_first: int
    time_last: int


class Ranges(NamedTuple):
    """Receipts and times (Unix ns), both ends included."""

    first: int
    last: int
    time_from: int
    time_to: int


class Touched(NamedTuple):
    """Of a run's segments: where the first one begins that does not end before the ranges, and the
    last one that does not begin after them (-1: there is none); how many receipts there are."""

    first: int
    last: int
    event_count: int


class Run(NamedTuple):
    """Where a container's last run stands: an encoded ledger.bodies.RunState."""

    host: bytes
    container: bytes
    state: bytes


class Alert(NamedTuple):
    """What was wrong with what a host sent, sealed with its proof. The first of its kind at a leaf
    is kept. `erased`: 1 where retention has left it without its batch."""

    host: bytes
    kind: str
    leaf_index: int
    time_ms: int
    box: bytes
    erased: int = 0


class ActRow(NamedTuple):
    """An act (act_log) by its number, sealed."""

    number: int
    box: bytes


class TenantTotals(NamedTuple):
    """Sums over the rows of a tenant's hosts."""

    tenant: str
    hosts: int
    receipts: int
    stored_bytes: int


class LogBlock(NamedTuple):
    """A notary's block of a host's segments in an app; `leaves` are where they are, u64 each."""

    host: bytes
    notary_key: bytes
    app: str
    height: int
    block: bytes
    signature: bytes
    leaves: bytes


class Notarised(NamedTuple):
    """How far a run is in a chain of LogBlocks: the leaf of its last segment there."""

    host: bytes
    notary_key: bytes
    app: str
    container: bytes
    run: int
    leaf_index: int


class Bundle(NamedTuple):
    """A notary's PoE bundle of one window of an app on a host; `start` is the window's, Unix s."""

    host: bytes
    notary_key: bytes
    app: str
    start: int
    bundle: bytes
    signature: bytes


class Changes(NamedTuple):
    """What one commit writes: new rows, and hosts, runs, what is notarised and notes in place of
    older ones.

    `note` is the server's checkpoint over its log with
    these leaves; empty where no leaf joins it. Of `erased` rows the boxes take the place of older
    ones, of which no byte is left in the file.
    """

    tenants: Sequence[Tenant] = ()
    hosts: Sequence[Host] = ()
    leaves: Sequence[Leaf] = ()
    segments: Sequence[Segment] = ()
    runs: Sequence[Run] = ()
    alerts: Sequence[Alert] = ()
    acts: Sequence[ActRow] = ()
    erased_segments: Sequence[Segment] = ()
    erased_alerts: Sequence[Alert] = ()
    note: bytes = b""
    blocks: Sequence[LogBlock] = ()
    notarised: Sequence[Notarised] = ()
    bundles: Sequence[Bundle] = ()


class Store(Protocol):
    """The rows, and one writer. StateError: no room, try again; StoreDamage: it is damaged."""

    def commit(self, changes: Changes) -> None:
        """Write all of it, durably, or nothing."""

    def begin_log(self, tenants: Sequence[Tenant], acts: Sequence[ActRow], log_leaf: int) -> None:
        """The server's log is empty from now on, these tenants' keys and these acts are sealed as
        here, and each host's `log_leaf` is this. All of it, durably, or nothing."""

    def moment(self) -> AbstractContextManager[None]:
        """For `with`: all that is read in it is of one moment. Nothing may be committed in it."""

    def find_tenant(self, name: str) -> Tenant | None:
        """The tenant of this name."""

    def read_tenants(self) -> list[Tenant]:
        """All of them."""

    def find_host(self, host: bytes) -> Host | None:
        """The host as it stands."""

    def read_hosts(self, after: bytes, limit: int) -> list[Host]:
        """Hosts in order of their ids, after this one."""

    def find_run(self, host: bytes, container: bytes) -> Run | None:
        """Where the container's last run stands."""

    def read_runs(self, host: bytes, after: bytes, limit: int) -> list[Run]:
        """A host's containers in order of their ids, after this one."""

    def read_leaves(self, host: bytes, first: int, limit: int) -> list[Leaf]:
        """Leaves from this index on, in order; of the server's log for an empty host."""

    def find_hashes(self, host: bytes, leaf_index: int) -> bytes:
        """The hashes that a leaf has completed; empty if it is not there."""

    def read_segments(self, host: bytes, first: int, limit: int) -> list[Segment]:
        """Segments from this leaf on, in order."""

    def find_segments(
        self, host: bytes, container: bytes, run: int, first: int, limit: int
    ) -> list[Segment]:
        """A run's segments in order, from the one that has receipt `first` on."""

    def read_places(self, host: bytes, time_first: int, leaf_index: int, limit: int) -> list[Place]:
        """A host's segments in order of their first times, then leaves, after these."""

    def read_container_places(
        self, host: bytes, container: bytes, run: int, first_index: int, limit: int
    ) -> list[Place]:
        """A container's segments in order of runs and receipts, from these on."""

    def find_touched(
        self, host: bytes, container: bytes, run: int, size: int, ranges: Ranges
    ) -> Touched:
        """What of a run's segments below leaf `size` touches ranges of receipts and times."""

    def read_old_segments(
        self, host: bytes, before_ns: int, skip: int, limit: int
    ) -> list[Segment]:
        """Segments that are not erased and ended before this time, the oldest first, after so many
        of them."""

    def read_container_leaves(self, host: bytes, container: bytes, limit: int) -> list[Leaf]:
        """The container's leaves that are no segments, in order."""

    def find_alert(self, host: bytes, kind: str, leaf_index: int) -> Alert | None:
        """The alert of this kind at this leaf."""

    def read_alerts(self, host: bytes, first: int, limit: int) -> list[Alert]:
        """A host's alerts in order of leaf and kind, from this leaf on."""

    def find_newest_block(self, host: bytes, notary_key: bytes, app: str) -> LogBlock | None:
        """The newest LogBlock of a chain."""

    def find_block(self, host: bytes, notary_key: bytes, app: str, height: int) -> LogBlock | None:
        """The LogBlock at this height of a chain."""

    def read_blocks(
        self, host: bytes, notary_key: bytes, app: str, height: int, limit: int
    ) -> list[LogBlock]:
        """A host's LogBlocks in order of notary, app and height, after this one."""

    def find_notarised(
        self, host: bytes, notary_key: bytes, app: str, container: bytes, run: int
    ) -> Notarised | None:
        """How far a run is in a chain."""

    def read_notarised(self, after: Notarised, limit: int) -> list[Notarised]:
        """Of a host in order of notary, app, container and run, after this one."""

    def find_newest_bundle(self, host: bytes, notary_key: bytes, app: str) -> Bundle | None:
        """The bundle of a chain's newest window that has one."""

    def find_bundle(self, host: bytes, notary_key: bytes, app: str, start: int) -> Bundle | None:
        """The bundle of a chain's window."""

    def read_bundles(
        self, host: bytes, notary_key: bytes, app: str, start: int, limit: int
    ) -> list[Bundle]:
        """A host's bundles in order of notary, app and window, after this one."""

    def read_acts(self, first: int, limit: int) -> list[ActRow]:
        """Acts from this number on, in order."""

    def read_totals(self) -> list[TenantTotals]:
        """What each tenant has."""

    def purge(self) -> None:
        """Leave no byte of what was erased in any file of the store. StateError: it is read now."""

    def find_log(self) -> tuple[int, bytes]:
        """The size of the server's log, and its checkpoint: empty before the first leaf."""
