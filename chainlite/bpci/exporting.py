"""Collect what a server holds of a range into sealed parts, verified as they are written.

Every frame passes the verification that the auditor's passes, so that a row which was changed, or
is gone, ends the part with its place, and is never shown as good. A part is bounded: where it is
full its seal says where the next one begins.
Not here: the frames (chainlite.export_frames) and their checks (chainlite.exported), who may ask
(reading). Invariants: what is collected is of the moment in which the caller reads; a part has at
least one segment, or moves on by a container, so that asking on comes to the end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chainlite import bundle, checkpoint, hostlog, merkle, segment
from chainlite import export_frames as frames
from chainlite.bpci import own_log
from chainlite.bpci.acknowledgement import (
    Held,
    encode_acknowledgement,
    encode_held,
    sign_acknowledgement,
)
from chainlite.bpci.known_host import decode_progress, decode_run, find_newest_publics
from chainlite.bpci.opening import iterate_hosts, open_segment, open_tenant
from chainlite.bpci.rows import get_header, make_reader
from chainlite.bpci.store import Ranges, StoreDamage
from chainlite.codec import U64_MAX
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.export_frames import Position, Scope, Seal
from chainlite.exported import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.opening import Opened
    from chainlite.bpci.store import Host, Segment, Store
    from chainlite.bpci.store import Run as RunRow
    from chainlite.ledger.offer import Body

FILL_BYTES = 4 << 20
"""A part that has so much takes no further segment."""
SCANNED_MAX = 4096
"""Containers that are looked at for one part."""
LEAVES_MAX = 1 << 15
"""Starts and ends of one container."""
STEP = 256
HASHES_CACHED_MAX = 1 << 14
NO_CONTAINER = bytes(32)


class BadCursor(SpecError):
    """A range was to go on where nothing begins."""

    def __init__(self) -> None:
        super().__init__("cursor: nothing begins there")


class _Run(NamedTuple):
    """A run by its leaves; `exit_leaf` is -1 while it is open."""

    genesis: segment.Genesis
    start: hostlog.Start
    start_leaf: int
    exit_leaf: int
    exit_time: int


def make_scope(key: ServerKey, tenant: str) -> Scope:
    """All that the server has of a tenant: `_replace` narrows it."""
    return Scope(key.pair.public, key.log_keys[1].public, tenant)


def write_part(
    store: Store,
    key: ServerKey,
    scope: Scope,
    write: Callable[[bytes], object],
    now_ms: int,
    fill_bytes: int = FILL_BYTES,
) -> Part:
    """Write one part of a range; what an auditor sees of it.

    BadCursor: the range begins where nothing does. StateError: there is no such tenant.
    StoreDamage: what is stored does not hold, and where: what was written is not an export.
    """
    part, collector = Part(), _Collector(store, key, scope, now_ms, fill_bytes)
    digest = bundle.compute_first_digest(frames.LAYOUT)
    write(bundle.EXPORT_MAGIC)
    try:
        for kind, payload in collector.collect():
            part.upon_frame(bundle.Frame(kind, payload, digest, is_intact=True))
            data, digest = bundle.encode_frame(kind, payload, digest)
            write(data)
            collector.written += len(data)
        seal = Seal(now_ms, collector.after)
        payload = frames.sign_seal(key.pair, digest, seal)
        part.upon_frame(bundle.Frame(frames.SEAL, payload, digest, is_intact=True))
    except BadCursor:
        raise
    except (SpecError, TamperError) as error:
        raise StoreDamage(f"{part.describe_place()}: {error}") from None
    write(bundle.encode_frame(frames.SEAL, payload, digest)[0])
    return part


def write_export(
    store: Store,
    key: ServerKey,
    scope: Scope,
    write: Callable[[bytes], object],
    now_ms: int,
    fill_bytes: int = FILL_BYTES,
) -> int:
    """Write all parts of a range, of one moment; how many. Errors as those of `write_part`."""
    count = 0
    with store.moment():
        while True:
            after = write_part(store, key, scope, write, now_ms, fill_bytes).after
            count += 1
            if after is None:
                return count
            scope = scope._replace(start=after)


def is_known(store: Store, scope: Scope) -> bool:
    """Whether the tenant has the scope's container, or one of its app's name."""
    hosts = iterate_hosts(store, scope.tenant)
    return any(_has_container(store, row.host, scope) for row in hosts)


def _has_container(store: Store, host: bytes, scope: Scope) -> bool:
    if scope.container:
        return store.find_run(host, scope.container) is not None
    after = b""
    while rows := store.read_runs(host, after, STEP):
        if any(_get_app(row) == scope.app for row in rows):
            return True
        after = rows[-1].container
    return False


def _get_app(row: RunRow) -> str:
    return segment.decode_genesis(decode_run(row).genesis).app


class _Host:
    """One host while its frames are collected; `size` is that of its checkpoint."""

    def __init__(self, store: Store, row: Host, tenant_key: bytes) -> None:
        self.store, self.row, self._tenant_key = store, row, tenant_key
        self.size = checkpoint.parse_claim(row.note).size if row.note else 0
        self.read = lru_cache(HASHES_CACHED_MAX)(make_reader(store, row.host, {}))

    def get_logged(self, index: int) -> bundle.LoggedLeaf:
        """A leaf with its proof under the checkpoint."""
        found = self.store.read_leaves(self.row.host, index, 1)
        if not 0 <= index < self.size or not found or found[0].leaf_index != index:
            raise StoreDamage(f"leaf {index} is missing")
        proof = merkle.compute_inclusion(index, self.size, self.read)
        return bundle.LoggedLeaf(index, found[0].data, proof)

    def find_segment(self, run: _Run, index: int) -> Segment | None:
        """The segment of a run that has this receipt, if the checkpoint has it."""
        genesis = run.genesis
        found = self.store.find_segments(self.row.host, genesis.container, genesis.run, index, 1)
        if not found or found[0].leaf_index >= self.size:
            return None
        return found[0]

    def open(self, row: Segment) -> Opened:
        """What came with a segment, and its leaf."""
        return open_segment(self.store, self.row.tenant, self._tenant_key, row)


class _Collector:
    """The frames of one part but its seal; `after` is where it ended, once it is full."""

    def __init__(
        self, store: Store, key: ServerKey, scope: Scope, now_ms: int, fill_bytes: int
    ) -> None:
        self._store, self._key, self._scope = store, key, scope
        self._now_ms, self._fill_bytes = now_ms, fill_bytes
        self.written = self._scanned = 0
        self.after: Position | None = None
        start = scope.start
        self._wanted = start[:3] if start is not None and start.event_index else None
        self._has_moved = False

    def collect(self) -> Iterator[tuple[int, bytes]]:
        """Kind and payload of each."""
        scope = self._scope
        yield frames.SCOPE, frames.encode_scope(scope)
        tenant_key = open_tenant(self._store, self._key, scope.tenant)
        for row in self._find_hosts():
            if self._is_full():
                self.after = Position(row.host, NO_CONTAINER, 0, 0, 0)
            else:
                yield from self._collect_host(_Host(self._store, row, tenant_key))
                self._has_moved = True
            if self.after is not None:
                return
        if self._wanted is not None:
            raise BadCursor

    def _is_full(self) -> bool:
        is_full = self.written >= self._fill_bytes or self._scanned >= SCANNED_MAX
        return is_full and self._has_moved

    def _find_hosts(self) -> Iterator[Host]:
        """The tenant's hosts from where the part begins on, in order."""
        scope = self._scope
        first = scope.host or (scope.start.host if scope.start is not None else b"")
        for row in iterate_hosts(self._store, scope.tenant, first):
            if scope.host not in (b"", row.host):
                return
            yield row

    def _collect_host(self, host: _Host) -> Iterator[tuple[int, bytes]]:
        row, start = host.row, self._scope.start
        key_leaves = decode_progress(row).key_leaves if row.progress else ()
        yield bundle.HOST_KEY, self._find_enrolled(row, key_leaves)
        for data in key_leaves if host.size else ():
            leaf = hostlog.decode_leaf(data)
            assert isinstance(leaf, hostlog.Key | hostlog.Revocation), "it was taken as one"
            if 0 < leaf.leaf_index < host.size:
                yield bundle.KEY, bundle.encode_logged_leaf(host.get_logged(leaf.leaf_index))
        if row.note:
            yield bundle.CHECKPOINT, row.note
        is_continued = start is not None and start.host == row.host
        old_size = start.log_size if start is not None and is_continued else 0
        yield frames.HELD, self._make_held(host, old_size)
        if row.size > host.size or not row.size:
            kind = frames.NO_NOTE if row.size else frames.NO_LEAF
            yield frames.GAP, frames.encode_gap(frames.Gap(kind, host.size, row.size))
        for found in self._find_containers(host):
            yield from self._collect_container(host, found)
            self._has_moved = True
            if self.after is not None:
                return

    def _find_enrolled(self, row: Host, key_leaves: tuple[bytes, ...]) -> bytes:
        if not key_leaves:
            return find_newest_publics(self._store, self._key, row.host)[0]
        leaf = hostlog.decode_leaf(key_leaves[0])
        assert isinstance(leaf, hostlog.Key), "it was taken as the first"
        return leaf.public

    def _make_held(self, host: _Host, old_size: int) -> bytes:
        """The server's word on the host's log, and what ties the checkpoint to it and before it."""
        row, store = host.row, self._store
        total, note = store.find_log()
        if row.log_leaf >= total:
            raise StoreDamage("the server's log has not the leaf that says what is held")
        held = Held(row.host, row.size, row.root)
        if own_log.is_behind_of(store, row):
            raise StateError("the server's log is being restored, and does not say what is held")
        proof = own_log.prove(store, row.log_leaf, total, note, encode_held(held))
        made = sign_acknowledgement(self._key.pair, held, self._now_ms, proof)
        tied, continued = tuple[bytes, ...](), tuple[bytes, ...]()
        if old_size > host.size:
            raise BadCursor
        if host.size:
            tied = merkle.compute_consistency(host.size, row.size, host.read)
        if old_size:
            continued = merkle.compute_consistency(old_size, host.size, host.read)
        found = frames.HeldFrame(encode_acknowledgement(made), tied, continued)
        return frames.encode_held_frame(found)

    def _find_containers(self, host: _Host) -> Iterator[RunRow]:
        """The containers to be shown, in order; `after` is set where the part is full."""
        scope, start, store, name = self._scope, self._scope.start, self._store, host.row.host
        after = b""
        if scope.container:
            after = _get_before(scope.container)
        if start is not None and start.host == name:
            after = max(after, _get_before(start.container))
        while rows := store.read_runs(name, after, STEP):
            for row in rows:
                if scope.container and row.container != scope.container:
                    return
                if self._is_full():
                    self.after = Position(name, row.container, 0, 0, host.size)
                    return
                self._scanned += 1
                if scope.app in ("", _get_app(row)):
                    yield row
                self._has_moved = True
            after = rows[-1].container

    def _collect_container(self, host: _Host, row: RunRow) -> Iterator[tuple[int, bytes]]:
        start, name, container = self._scope.start, host.row.host, row.container
        first = start.run if start is not None and start[:2] == (name, container) else 0
        for run in self._choose_runs(host, row):
            if run.genesis.run < first:
                continue
            if self._is_full():
                self.after = Position(name, container, run.genesis.run, 0, host.size)
                return
            yield from self._collect_run(host, run)
            if self.after is not None:
                return
            self._has_moved = True

    def _choose_runs(self, host: _Host, row: RunRow) -> list[_Run]:
        """From the first run that touches the range to the last, and all between."""
        runs = self._read_runs(host, row.container)
        self._check_runs(host, row, runs)
        touching = [number for number, run in enumerate(runs) if self._is_touching(host, run)]
        return runs[touching[0] : touching[-1] + 1] if touching else []

    def _read_runs(self, host: _Host, container: bytes) -> list[_Run]:
        leaves = self._store.read_container_leaves(host.row.host, container, LEAVES_MAX)
        if len(leaves) == LEAVES_MAX:
            raise StateError(f"container {container.hex()[:12]}: more runs than can be shown")
        runs = list[_Run]()
        for row in leaves:
            if row.leaf_index >= host.size:
                break
            leaf = hostlog.decode_leaf(row.data)
            if isinstance(leaf, hostlog.Start):
                genesis = segment.decode_genesis(leaf.genesis)
                runs.append(_Run(genesis, leaf, row.leaf_index, -1, U64_MAX))
            elif isinstance(leaf, hostlog.Exit) and runs:
                runs[-1] = runs[-1]._replace(exit_leaf=row.leaf_index, exit_time=leaf.time)
        return runs

    def _check_runs(self, host: _Host, row: RunRow, runs: list[_Run]) -> None:
        """None is missing, as far as the row of the last one says how many there are."""
        state = decode_run(row)
        wanted = segment.decode_genesis(state.genesis).run
        is_short = state.start_leaf < host.size and len(runs) != wanted + 1
        if is_short or [run.genesis.run for run in runs] != list(range(len(runs))):
            raise StoreDamage(f"container {row.container.hex()[:12]}: a run's start is missing")
        if host.size < host.row.size or not runs:
            return  # the row is of leaves that are not shown
        touched = self._store.find_touched(
            row.host, row.container, wanted, host.size, _get_ranges(self._scope)
        )
        if touched.event_count != state.event_count:
            raise StoreDamage(f"container {row.container.hex()[:12]}: receipts are missing")

    def _is_touching(self, host: _Host, run: _Run) -> bool:
        scope = self._scope
        if scope.run not in (frames.RUN_ANY, run.genesis.run):
            return False
        if run.genesis.time <= scope.time_to and run.exit_time >= scope.time_from:
            return True
        touched = self._store.find_touched(
            host.row.host, *run.genesis[1:3], host.size, _get_ranges(scope)
        )
        return 0 <= touched.first <= touched.last

    def _collect_run(self, host: _Host, run: _Run) -> Iterator[tuple[int, bytes]]:
        """Start, the segment before, segments, and what shows how it ends."""
        name, genesis, scope = host.row.host, run.genesis, self._scope
        if self._wanted not in (None, genesis[:3]):
            raise BadCursor
        touched = self._store.find_touched(name, *genesis[1:3], host.size, _get_ranges(scope))
        yield bundle.START, bundle.encode_logged_leaf(host.get_logged(run.start_leaf))
        index = touched.first if touched.first >= 0 else touched.event_count
        if self._wanted is not None and scope.start is not None:
            index, self._wanted = scope.start.event_index, None
        if index:
            before = host.find_segment(run, index - 1)
            if before is None or before.first_index + before.event_count != index:
                raise BadCursor
            yield frames.LEAF, _encode_leaf(host, before, frames.BEFORE)
        row = host.find_segment(run, index)
        while row is not None and row.first_index <= touched.last:
            if self._is_full():
                self.after = Position(*genesis[:3], row.first_index, host.size)
                return
            is_unnamed = row.first_index == index > 0
            yield from self._collect_segment(host, run, row, is_unnamed=is_unnamed)
            self._has_moved = True
            row = host.find_segment(run, row.first_index + row.event_count)
        if row is not None:
            yield frames.LEAF, _encode_leaf(host, row, frames.AFTER)
        elif run.exit_leaf >= 0:
            yield bundle.EXIT, bundle.encode_logged_leaf(host.get_logged(run.exit_leaf))
        else:
            gap = frames.Gap(frames.NOTHING_LATER, touched.event_count, U64_MAX)
            yield frames.GAP, frames.encode_gap(gap)

    def _collect_segment(
        self, host: _Host, run: _Run, row: Segment, *, is_unnamed: bool
    ) -> Iterator[tuple[int, bytes]]:
        """Its certificates, or where those before it are not here its own alone; body and place."""
        logged, (leaf, header, body) = host.get_logged(row.leaf_index), host.open(row)
        if is_unnamed:
            yield frames.NAMED, _find_certificate(host, run, header, body)
        else:
            for certificate in body.certificates:
                yield bundle.CERTIFICATE, certificate
        if body.is_erased:
            left = frames.LeafFrame(frames.ERASED, logged)
            yield frames.LEAF, frames.encode_leaf_frame(left)
            return
        parts = (leaf.header, leaf.signature, body.secret, body.leaf_tags, body.packed)
        stored = bundle.StoredSegment(*parts)
        yield stored.kind, bundle.encode_segment(stored)
        yield bundle.PLACE, bundle.encode_place(bundle.Place(row.leaf_index, logged.proof))


def _find_certificate(host: _Host, run: _Run, header: segment.Header, body: Body) -> bytes:
    """The certificate of a segment's epoch: it came with the epoch's first segment."""
    epoch = header.epoch
    if not epoch:
        return run.start.certificate
    first, end = 0, header.first_index
    while first < end and not body.certificates:
        found = host.find_segment(run, (first + end) // 2)
        if found is None:
            raise StoreDamage(f"receipt {(first + end) // 2} is missing")
        if get_header(host.get_logged(found.leaf_index).leaf).epoch < epoch:
            first = found.first_index + found.event_count
        else:
            end = found.first_index
    if not body.certificates and first < header.first_index:
        found = host.find_segment(run, first)
        assert found is not None, "it was found just now"
        body = host.open(found).body
    if not body.certificates:
        raise StoreDamage(f"the certificate of epoch {epoch} is missing")
    return body.certificates[-1][: segment.CERTIFICATE_BYTES]


def _encode_leaf(host: _Host, row: Segment, role: int) -> bytes:
    return frames.encode_leaf_frame(frames.LeafFrame(role, host.get_logged(row.leaf_index)))


def _get_ranges(scope: Scope) -> Ranges:
    return Ranges(scope.first, scope.last, scope.time_from, scope.time_to)


def _get_before(container: bytes) -> bytes:
    """What sorts just before a container's id."""
    if not any(container):
        return b""
    return (int.from_bytes(container, "big") - 1).to_bytes(len(container), "big")
