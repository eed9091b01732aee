"""Check all that a server has stored against what was signed, and name every row that differs.

Everything is verified again from the first leaf on: hosts' leaves and bodies by the code that took
them, hashes, the server's log up to its checkpoint, each of its leaves against the tree of the host
that it speaks of, and that every box opens in its place. A row that nothing else vouches for is
sealed, so that an edited one does not open.
Not here: evidence for others (audit_range). Invariants: it writes nothing; one damaged row hides
no other; what it names was changed, or lost, since it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import bundle, checkpoint, cosignature, hostlog, merkle
from chainlite.bpci import act_log, at_rest, own_log
from chainlite.bpci.access import Access
from chainlite.bpci.acknowledgement import decode_held
from chainlite.bpci.alert import decode_evidence
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.audit_blocks import audit_blocks, measure_blocks
from chainlite.bpci.batch import decode_body, decode_segment_body
from chainlite.bpci.known_host import decode_progress, encode_run_row
from chainlite.bpci.restoring import NOT_LOGGED
from chainlite.bpci.rows import make_leaf_row, make_reader, make_segment_row
from chainlite.errors import DocklockError, SpecError, TamperError
from chainlite.ledger.bodies import HostBodies, RunState, Taking, read_keys
from chainlite.ledger.offer import Item

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Host, Leaf, Segment, Store
    from chainlite.ledger.bodies import Taken
    from chainlite.ledger.offer import Body
    from chainlite.segment import Header

STEP = 256
"""Leaves that are read at once."""


class Damage(NamedTuple):
    """A row that is not as it was written: its table, whose it is, and where (-1: of no leaf)."""

    table: str
    name: str
    place: int
    why: str


def audit(
    store: Store, key: ServerKey, published_acts: str = "", *, is_restoring: bool = False
) -> Iterator[Damage]:
    """Every row that differs, of one moment, whatever is written meanwhile.

    `published_acts`: the file that says how many acts there are (act_log). While it is restored a
    server may hold more of a host than its log says. StateError or TamperError where the store
    itself cannot be read.
    """
    seen = None
    try:  # before the moment: what is written meanwhile may be more than it says, never less
        seen = act_log.read_published(key, published_acts) if published_acts else None
    except TamperError as error:
        yield Damage("acts", "server", -1, str(error))
    with store.moment():
        yield from _audit(store, key, seen, is_restoring=is_restoring)


def _audit(
    store: Store, key: ServerKey, seen: act_log.State | None = None, *, is_restoring: bool = False
) -> Iterator[Damage]:
    vault, tenants = Vault(key), dict[str, bytes]()
    for tenant in store.read_tenants():
        try:
            tenants[tenant.name] = vault.open_tenant_key(tenant.name, tenant.sealed_key)
        except TamperError as error:
            yield Damage("tenants", tenant.name, -1, str(error))
    access = Access()
    yield from _audit_acts(store, key, seen, access)
    yield from _audit_log(store, key, is_restoring=is_restoring)
    after = b""
    while rows := store.read_hosts(after, STEP):
        for row in rows:
            yield from _HostAudit(store, key, row, tenants, access, is_restoring=is_restoring).run()
        after = rows[-1].host


def _audit_acts(
    store: Store, key: ServerKey, seen: act_log.State | None, access: Access
) -> Iterator[Damage]:
    """Each act opens in its place and follows from those before; none is missing at the end."""
    state: act_log.State | None = act_log.State()
    for row, act, after in act_log.read_acts(store, key):
        if act is None:
            yield Damage("acts", "server", row.number, "the box does not open in this place")
        elif after is None and state is not None:
            why = "it does not follow from the one before it: acts are missing or were moved"
            yield Damage("acts", "server", row.number, why)
        state = after
        if act is not None:
            try:
                access.apply(act)
                if seen is not None and state is not None and state.size == seen.size:
                    act_log.check_published(state, seen)
            except TamperError as error:
                yield Damage("acts", "server", row.number, str(error))
    try:
        if seen is not None and state is not None and state.size < seen.size:
            act_log.check_published(state, seen)
    except TamperError as error:
        yield Damage("acts", "server", -1, str(error))


def _audit_log(store: Store, key: ServerKey, *, is_restoring: bool) -> Iterator[Damage]:
    """The server's log: its leaves and hashes, its checkpoint, and what it says of hosts."""
    frontier, size, sizes = list[bytes](), 0, dict[bytes, int]()
    total, note = store.find_log()
    while size < total:
        rows = store.read_leaves(own_log.OWNER, size, STEP)
        for row in rows:
            if row.leaf_index != size:
                yield Damage("leaves", "server", size, "it is missing")
                return
            hashes = b"".join(merkle.add_leaf(frontier, size, row.data))
            if row[2:4] != (own_log.KIND, b"") or row.hashes != hashes:
                yield Damage("leaves", "server", size, "its hashes are not those of its bytes")
            yield from _check_held(store, row, sizes)
            size += 1
    root = merkle.compute_frontier_root(frontier)
    if note or total:
        try:
            state = cosignature.check_checkpoint(note, key.log_keys)
        except SpecError as error:
            yield Damage("log", "server", -1, str(error))
            return
        if state != (key.origin, total, root):
            why = f"the checkpoint of {state.size} leaves is not of the {total} that are here"
            yield Damage("log", "server", -1, why)
    for host, held in sizes.items():
        found = store.find_host(host)
        size = found.size if found is not None else -1
        if size < held or (size > held and not is_restoring):
            why = f"the server's log says that {held} leaves are held"
            yield Damage("hosts", host.hex(), -1, why)


def _check_held(store: Store, row: Leaf, sizes: dict[bytes, int]) -> Iterator[Damage]:
    """What a leaf says was held is held still, with that root."""
    try:
        held = decode_held(row.data)
        if held.size < sizes.get(held.host, 0):
            raise TamperError("it says less than the one before it")
        sizes[held.host] = held.size
        read = make_reader(store, held.host, {})
        if merkle.compute_tree_root(held.size, read) != held.root:
            raise TamperError(f"host {held.host.hex()[:16]} has another tree of {held.size} leaves")
    except DocklockError as error:
        yield Damage("leaves", "server", row.leaf_index, str(error))


class _AllRuns(HostBodies):
    """As HostBodies, and no run is forgotten."""

    __slots__ = ("runs",)

    def __init__(self, host: bytes) -> None:
        super().__init__(host)
        self.runs: dict[bytes, RunState] = {}

    def find_run(self, container: bytes) -> RunState | None:
        return self.runs.get(container)

    def count_open(self) -> int:
        return sum(run.state == bundle.OPEN for run in self.runs.values())

    def apply(self, taken: Taken) -> None:
        self.runs.update(taken.runs)
        self.progress = taken.progress


class _HostAudit:
    """One host from its first leaf on.

    `_is_spent` once a leaf has failed: no later one can be verified; `_is_torn` once one is
    missing: no later hash can be computed. The rest of each row is still looked at.
    """

    def __init__(
        self, store: Store, key: ServerKey, row: Host, tenants: dict[str, bytes], access: Access,
        *, is_restoring: bool,
    ) -> None:  # fmt: skip
        self._store, self._key, self._row = store, key, row
        self._cutoff_ns = access.get_cutoff_ns(row.tenant)
        self._is_erased = False
        self._stored_bytes = 0
        self._tenant = tenants.get(row.tenant)
        self._name = row.host.hex()
        self._known = _AllRuns(row.host)
        self._frontier: list[bytes] = []
        self._is_spent = self._is_torn = False
        self._is_restoring = is_restoring

    def run(self) -> Iterator[Damage]:
        """All that differs."""
        row = self._row
        try:
            if self._tenant is None:
                raise TamperError(f"there is no tenant {row.tenant!r}")
            at_rest.open_enrolment(row.enrolment, self._tenant, row.tenant, row.host)
        except TamperError as error:
            yield self._name_damage("hosts", -1, f"enrolment: {error}")
        size = 0
        while leaves := self._store.read_leaves(row.host, size, STEP):
            end = leaves[-1].leaf_index + 1
            segments = {
                one.leaf_index: one
                for one in self._store.read_segments(row.host, size, end - size)
                if one.leaf_index < end
            }
            yield from self._check_range(size, leaves, segments)
            size = end
        for one in self._store.read_segments(row.host, size, STEP):
            yield self._name_damage("segments", one.leaf_index, "it has no leaf")
        yield from self._check_alerts()
        self._stored_bytes += measure_blocks(self._store, row.host)
        yield from self._check_end()
        for table, place, why in audit_blocks(self._store, row.host):
            yield self._name_damage(table, place, why)

    def _name_damage(self, table: str, place: int, why: str) -> Damage:
        return Damage(table, self._name, place, why)

    def _check_range(
        self, size: int, leaves: list[Leaf], segments: dict[int, Segment]
    ) -> Iterator[Damage]:
        taking = None if self._is_spent else Taking(self._known, self._decode)
        for expected, leaf in enumerate(leaves, size):
            if not self._is_torn and leaf.leaf_index != expected:
                yield self._name_damage("leaves", expected, "it is missing")
                self._is_torn = self._is_spent = True
            if not self._is_torn:
                hashes = merkle.add_leaf(self._frontier, leaf.leaf_index, leaf.data)
                if leaf.hashes != b"".join(hashes):
                    why = "its hashes are not those of its bytes"
                    yield self._name_damage("leaves", leaf.leaf_index, why)
            table, segment = "leaves", segments.pop(leaf.leaf_index, None)
            self._stored_bytes += len(leaf.data) + (len(segment.box) if segment else 0)
            try:
                if leaf != make_leaf_row(leaf.host, leaf.leaf_index, leaf.data, [leaf.hashes]):
                    raise TamperError("it is not as its bytes say")
                table = "segments"
                item = Item(leaf.data, self._open_body(leaf, segment))
                table = "leaves"
                if taking is not None and not self._is_spent:
                    taking.upon_item(item)
            except (SpecError, TamperError) as error:
                yield self._name_damage(table, leaf.leaf_index, str(error))
                self._is_spent = True
        for index in segments:
            yield self._name_damage("segments", index, "it has no leaf")
        if taking is not None and not self._is_spent:
            self._known.apply(taking.upon_items(()))

    def _open_body(self, leaf: Leaf, segment: Segment | None) -> bytes:
        """The body of a segment whose row says what its leaf says; empty for another leaf."""
        self._is_erased = False
        if leaf.kind != hostlog.SEGMENT_KIND:
            if segment is not None:
                raise TamperError("the leaf is no segment's")
            return b""
        if segment is None:
            raise TamperError("it is missing")
        if segment != make_segment_row(leaf, segment.box, int(segment.erased == 1)):
            raise TamperError("it is not as its leaf says")
        if segment.erased and segment.time_last >= self._cutoff_ns:
            raise TamperError("it was erased, and no act of retention says so")
        self._is_erased = bool(segment.erased)
        if self._tenant is None:
            raise TamperError("its tenant's key is missing")
        name = (self._row.tenant, leaf.host, leaf.leaf_index)
        label = at_rest.label_segment(*name, segment.erased)
        return at_rest.unseal(segment.box, self._tenant, label)

    def _decode(self, data: bytes, header: Header) -> Body:
        """The body of the segment just opened, or what retention has left of it."""
        if self._is_erased:
            return decode_body(data)._replace(is_erased=True)
        return decode_segment_body(data, header)

    def _check_end(self) -> Iterator[Damage]:
        """The host's own row, and its runs, are what follows from its leaves."""
        row, known = self._row, self._known
        if self._is_spent:
            return  # what follows from a damaged leaf says nothing more
        try:
            progress = decode_progress(row) if row.progress else known.progress._replace(size=0)
            if progress != known.progress or row.open_runs != known.count_open():
                raise TamperError("it is not what follows from the leaves")
            if row.stored_bytes != self._stored_bytes:
                raise TamperError(f"{self._stored_bytes} bytes are stored, not {row.stored_bytes}")
            if row.note:
                self._check_note()
            if not self._is_logged():
                raise TamperError("the server's log does not say so where it is named")
        except (SpecError, TamperError) as error:
            yield self._name_damage("hosts", -1, str(error))
        found = dict[bytes, bytes]()
        after = b""
        while runs := self._store.read_runs(row.host, after, STEP):
            found.update((run.container, run.state) for run in runs)
            after = runs[-1].container
        for container in sorted(known.runs.keys() | found.keys()):
            run = known.runs.get(container)
            wanted = encode_run_row(row.host, container, run).state if run else None
            if found.get(container) != wanted:
                why = f"container {container.hex()[:12]}: its state does not follow from the leaves"
                yield self._name_damage("runs", -1, why)

    def _is_logged(self) -> bool:
        """Whether the server's log says what is held; in a restore, so much of it as it has."""
        row, size = self._row, self._row.size
        if row.log_leaf == NOT_LOGGED:
            return self._is_restoring
        logged = self._store.read_leaves(own_log.OWNER, row.log_leaf, 1)
        if not logged:
            return False
        held = decode_held(logged[0].data)
        if self._is_restoring:
            size = min(held.size, size)
        root = merkle.compute_tree_root(size, make_reader(self._store, row.host, {}))
        return held == (row.host, size, row.root) and row.root == root

    def _check_note(self) -> None:
        progress = self._known.progress
        keys = read_keys(progress.host, list(progress.key_leaves))
        state = checkpoint.parse_checkpoint(self._row.note, *keys.publics)
        root = merkle.compute_tree_root(state.size, make_reader(self._store, progress.host, {}))
        if state != (checkpoint.get_origin(progress.host), state.size, root):
            raise TamperError("its note is of another tree")

    def _check_alerts(self) -> Iterator[Damage]:
        row, first = self._row, 0
        alerts = self._store.read_alerts(row.host, first, STEP)
        for alert in alerts:
            label = at_rest.label_alert(row.tenant, *alert[:4], int(alert.erased != 0))
            self._stored_bytes += len(alert.box)
            try:
                if alert.erased not in (0, 1):
                    raise TamperError("it is neither erased nor not")
                if alert.erased and alert.time_ms * 10**6 >= self._cutoff_ns:
                    raise TamperError("it was erased, and no act of retention says so")
                if self._tenant is not None:
                    decode_evidence(at_rest.unseal(alert.box, self._tenant, label))
            except (SpecError, TamperError) as error:
                yield self._name_damage("alerts", alert.leaf_index, str(error))
        if len(alerts) != row.alerts:
            why = f"{len(alerts)} alerts are here, not {row.alerts}"
            yield self._name_damage("alerts", -1, why)
