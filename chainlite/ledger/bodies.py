"""Verify a range of a host's log together with the bodies of its segments. Pure.

What a node knows of a host's log is its size, its complete subtrees, the host's keys and where each
run stands; `verify_offer` says what the next leaves make of that, or which leaf is bad and why. All
that an evidence file's verifier checks is checked, by the same code (verify): each signature up to
the host's key, root and chain from the receipts, no receipt missing between two segments. That a
leaf is in the log needs no path: the leaves are all there, and they hash to what the host has
signed. No value can come with an offer's body: nothing has its salt. Who takes values too (bpci)
brings the decoder of bodies that have them.
Not here: the bytes of an offer (offer), what is kept (body_store), who is asked (availability).
Invariants: a range is taken whole or not at all; what was taken before is not read again.
Source: RFC 6962; README.md of this room, "Bodies".
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, domains, hostlog, merkle, segment
from chainlite.codec import (
    Reader,
    encode_bytes,
    encode_head,
    encode_u8,
    encode_u32,
    encode_u64,
)
from chainlite.errors import SpecError, TamperError
from chainlite.hostkeys import KEYS_MAX, HostKeys
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.offer import KEY_LEAF_LIMIT_BYTES, Body, Item, Offer, decode_body
from chainlite.logkeys import MldsaKeys
from chainlite.report import Logged
from chainlite.verify import Run, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Decode = Callable[[bytes, segment.Header], Body]

VERSION = 1
OPEN_MAX = 1 << 16
"""Runs of one host that are open at once."""
ENDED_MAX = 1 << 14
"""Containers of which the end of the last run is kept: for the run that follows it."""
RUNS_MAX = OPEN_MAX + ENDED_MAX
MLDSA_LEAF_LIMIT_BYTES = 8192
GENESIS_LIMIT_BYTES = 2048
"""Of a genesis without its closed names, which only its hash needs."""


class RunState(NamedTuple):
    """Where the last run of a container stands: `genesis` and `certificate` are encoded, the former
    without image and closed names; `state` indexes bundle.STATES."""

    genesis: bytes
    certificate: bytes
    start_leaf: int
    event_count: int
    head: bytes
    state: int


class Progress(NamedTuple):
    """How far a host's log is verified: `frontier` are the hashes of its complete subtrees, the
    largest first, `key_leaves` its key records and revocations, `mldsa_leaf` its newest ML-DSA key.
    `forgotten` counts containers whose end is not kept any more."""

    host: bytes
    size: int = 0
    receipts: int = 0
    forgotten: int = 0
    frontier: tuple[bytes, ...] = ()
    key_leaves: tuple[bytes, ...] = ()
    mldsa_leaf: bytes = b""

    @property
    def root(self) -> bytes:
        """The root of the log up to here."""
        return merkle.compute_frontier_root(self.frontier)


class Taken(NamedTuple):
    """What a range makes of a host: where it stands then, and the runs that moved, by container."""

    progress: Progress
    root: bytes
    receipts: int
    runs: dict[bytes, RunState]
    nodes: tuple[bytes, ...] = ()
    """The hashes of the subtrees that its leaves completed, in order; not kept with the rest."""


class HostBodies:
    """What a node knows of one host's log. `apply` alone changes it."""

    __slots__ = ("_ended", "_open", "progress")

    def __init__(self, host: bytes) -> None:
        self.progress = Progress(host)
        self._open: dict[bytes, RunState] = {}
        self._ended: dict[bytes, RunState] = {}

    def find_run(self, container: bytes) -> RunState | None:
        """Where the container's last run stands; None if nothing is known of it."""
        return self._open.get(container) or self._ended.get(container)

    def apply(self, taken: Taken) -> None:
        """The range is taken: go on from its end."""
        forgotten = taken.progress.forgotten
        for container, run in taken.runs.items():
            self._open.pop(container, None)
            self._ended.pop(container, None)
            (self._open if run.state == bundle.OPEN else self._ended)[container] = run
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
            forgotten += 1
        self.progress = taken.progress._replace(forgotten=forgotten)

    def make_snapshot(self) -> Taken:
        """What makes this of nothing."""
        return Taken(self.progress, self.progress.root, 0, self._ended | self._open)

    def count_open(self) -> int:
        """How many runs are open."""
        return len(self._open)


def decode_bare(data: bytes, _: segment.Header) -> Body:
    """The body of an offer, without values."""
    return decode_body(data)


def verify_offer(known: HostBodies, offer: Offer, decode: Decode = decode_bare) -> Taken:
    """What these leaves and bodies make of what is known of the host. `known` stays as it is.

    TamperError where they contradict themselves, what is known, or the host's note; SpecError where
    they do not read, or do not begin where the host stands. Both name the leaf.
    """
    progress = known.progress
    if offer.host != progress.host or offer.start != progress.size:
        raise SpecError(
            f"offer: leaf {offer.start} of host {offer.host.hex()[:16]} on; "
            f"leaf {progress.size} of {progress.host.hex()[:16]} is wanted"
        )
    taking = Taking(known, decode)
    taken = taking.upon_items(offer.items)
    assert taking.keys is not None, "there is a leaf"
    check_note(offer, taking.keys, taken.root)
    return taken


def verify_items(known: HostBodies, items: Sequence[Item]) -> Taken:
    """As `verify_offer`, where the caller knows by other means that the leaves are the host's."""
    return Taking(known, decode_bare).upon_items(items)


class _InLog(Verification):
    """One container's run while its leaves pass by: in the log they are, says the root."""

    leaf_index = 0

    def _check_logged(self, payload: bytes) -> tuple[int, object]:
        return self.leaf_index, hostlog.decode_leaf(payload)


class Bad(NamedTuple):
    """The leaf at which a range fails, the receipts that it is about, if any, and why."""

    leaf_index: int
    first: int
    last: int | None
    why: str


class Taking:
    """The leaves of one range while they pass by; `bad` once one has failed: then it is spent."""

    bad: Bad | None = None

    def __init__(self, known: HostBodies, decode: Decode) -> None:
        progress = known.progress
        self._known, self._host, self._decode = known, progress.host, decode
        self.index, self.frontier = progress.size, list(progress.frontier)
        self._key_leaves = list(progress.key_leaves)
        self._mldsa_leaf = progress.mldsa_leaf
        self._nodes: list[bytes] = []
        self._receipts = 0
        self._open = known.count_open()
        self._runs: dict[bytes, _InLog] = {}
        self.keys: HostKeys | None = None
        if self._key_leaves:
            self.keys = read_keys(progress.host, self._key_leaves)

    def upon_items(self, items: Sequence[Item]) -> Taken:
        """All leaves of the range, and what they make of the host."""
        for item in items:
            self.upon_item(item)
        return self._finish()

    def upon_item(self, item: Item) -> None:
        """The next leaf."""
        verified: _InLog | None = None
        try:
            leaf = hostlog.decode_leaf(item.leaf)
            if self.keys is None and not isinstance(leaf, hostlog.Key):
                raise TamperError("the log does not begin with the host's key")
            verified = self._find_run(leaf)
            self._take(leaf, item, verified)
        except (SpecError, TamperError) as error:
            first, last = verified.span if verified is not None else (0, None)
            where = f"leaf {self.index} of host {self._host.hex()[:16]}"
            if last is not None:
                where += f", receipts {first} to {last}" if last > first else f", receipt {first}"
            self.bad = Bad(self.index, first, last, str(error))
            raise type(error)(f"{where}: {error}") from None
        self._nodes += merkle.add_leaf(self.frontier, self.index, item.leaf)
        self.index += 1

    def _take(self, leaf: hostlog.Leaf, item: Item, run: _InLog | None) -> None:
        """What each kind of leaf asks for; `run` is that of its container, if it has one."""
        if item.body and not isinstance(leaf, hostlog.Segment):
            raise SpecError("a leaf that is no segment's has a body")
        if isinstance(leaf, hostlog.Segment):
            assert run is not None, "a segment names its container"
            self._take_segment(leaf, item, run)
        elif isinstance(leaf, hostlog.Start):
            assert run is not None, "a start names its container"
            self._open += 1
            if self._open > OPEN_MAX:
                raise SpecError(f"more than {OPEN_MAX} runs are open")
            run.upon_start(_frame(bundle.START, item.leaf))
        elif isinstance(leaf, hostlog.Exit):
            assert run is not None, "an exit names its container"
            run.upon_exit(_frame(bundle.EXIT, item.leaf))
            self._open -= 1
        elif isinstance(leaf, hostlog.Boot | hostlog.Operation):
            if leaf.host != self._host:
                raise TamperError("the record is of another host")
            if isinstance(leaf, hostlog.Boot) and leaf.previous_size != self.index:
                raise TamperError(f"the boot record says that it is leaf {leaf.previous_size}")
        else:
            self._take_key(leaf, item.leaf)

    def _take_key(
        self, leaf: hostlog.Key | hostlog.MldsaKey | hostlog.Revocation, data: bytes
    ) -> None:
        """The host's first or next key, or a revocation, or the ML-DSA key that goes with it."""
        if self.keys is None:
            self.keys = read_keys(self._host, [data])
        elif isinstance(leaf, hostlog.MldsaKey):
            known = MldsaKeys()
            if self._mldsa_leaf:
                old = hostlog.decode_leaf(self._mldsa_leaf)
                assert isinstance(old, hostlog.MldsaKey), "it was taken as one"
                known.newest = old
            known.take(leaf, self.keys)
        else:
            self.keys.take(leaf)
        if leaf.leaf_index != self.index:
            raise TamperError(f"the key record says that it is leaf {leaf.leaf_index}")
        if isinstance(leaf, hostlog.MldsaKey):
            self._mldsa_leaf = data
        else:
            self._key_leaves.append(data)

    def _take_segment(self, leaf: hostlog.Segment, item: Item, run: _InLog) -> None:
        """A segment with its body, and the certificates since the last one."""
        header = segment.decode_header(leaf.header)
        body = self._decode(item.body, header)
        for certificate in body.certificates:
            run.upon_certificate(_frame(bundle.CERTIFICATE, certificate))
        tags_size = header.event_count * segment.LEAF_TAG_BYTES
        if not body.is_erased and len(body.leaf_tags) != tags_size:
            raise SpecError("the segment has another number of leaf tags")
        # In an offer no secret and no salt: no value can be the one committed to.
        parts = (leaf.header, leaf.signature, body.secret, body.leaf_tags, body.packed)
        stored = bundle.StoredSegment(*parts)
        run.take_segment(header, stored, has_receipts=not body.is_erased)
        self._receipts += header.event_count

    def _finish(self) -> Taken:
        old = self._known.progress
        progress = Progress(
            self._host, self.index, old.receipts + self._receipts, old.forgotten,
            tuple(self.frontier), tuple(self._key_leaves), self._mldsa_leaf,
        )  # fmt: skip
        runs = {container: _save(run.runs[-1]) for container, run in self._runs.items()}
        return Taken(progress, progress.root, self._receipts, runs, tuple(self._nodes))

    def _find_run(self, leaf: hostlog.Leaf) -> _InLog | None:
        """The run that the leaf is of, or continues; None for a leaf of none."""
        if isinstance(leaf, hostlog.Start):
            genesis = segment.decode_genesis(leaf.genesis)
            container = genesis.container
        elif isinstance(leaf, hostlog.Segment):
            container = segment.decode_header(leaf.header).container
        elif isinstance(leaf, hostlog.Exit):
            container = leaf.container
        else:
            return None
        run = self._runs.get(container)
        if run is None:
            saved = self._known.find_run(container)
            if saved is None and isinstance(leaf, hostlog.Start) and self._known.progress.forgotten:
                saved = _make_forgotten(genesis, leaf.certificate)
            run = self._runs[container] = self._restore(saved)
        run.leaf_index = self.index
        run.span = (0, None)
        return run

    def _restore(self, saved: RunState | None) -> _InLog:
        """The verification of a container as it was after its last leaf."""
        run = _InLog()
        run.keys, run.host = self.keys, self._host
        if saved is not None:
            restored = _restore_run(saved)
            run.runs, run.runs_before = [restored], restored.genesis.run
        return run


def read_keys(host: bytes, leaves: list[bytes]) -> HostKeys:
    """The host's keys as these records say; TamperError if they do not follow from its id."""
    found: HostKeys | None = None
    for data in leaves:
        leaf = hostlog.decode_leaf(data)
        if found is None:
            if not isinstance(leaf, hostlog.Key):
                raise TamperError("the log does not begin with the host's key")
            found = HostKeys(leaf.public)
            if found.host != host:
                raise TamperError("the enrolled key is another host's")
        if not isinstance(leaf, hostlog.Key | hostlog.Revocation):
            raise TamperError("the leaf is not a key record")
        found.take(leaf)
    assert found is not None, "there is a first record"
    return found


def check_note(offer: Offer, known: HostKeys, root: bytes) -> None:
    """The host signed a log that continues these leaves, with its newest key.

    `known` are its keys up to the last of them, and take the later ones; `root` is theirs.
    """
    end = offer.end
    for data in offer.later_keys:
        leaf = hostlog.decode_leaf(data)
        if not isinstance(leaf, hostlog.Key | hostlog.Revocation) or leaf.leaf_index < end:
            raise SpecError("offer: a later key is not a record of a later leaf")
        known.take(leaf)
    state = checkpoint.parse_checkpoint(offer.note, known.public)
    if state.origin != checkpoint.get_origin(offer.host):
        raise TamperError("offer: the note is of another log")
    if not merkle.is_consistent(end, state.size, offer.proof, root, state.root):
        raise TamperError(
            f"leaf {end - 1} of host {offer.host.hex()[:16]}: the log of {state.size} leaves that "
            f"the host has signed does not continue these {end}: a leaf is another, or it forked"
        )


def _frame(kind: int, payload: bytes) -> bundle.Frame:
    return bundle.Frame(kind, payload, b"", is_intact=True)


def _save(run: Run) -> RunState:
    genesis = segment.encode_genesis(run.genesis._replace(image="", closed=()))
    certificate = segment.encode_certificate(run.certificate)
    start = run.logged[0].leaf_index if run.logged else 0
    return RunState(genesis, certificate, start, run.event_count, run.chain_hash, run.state)


def _restore_run(saved: RunState) -> Run:
    run = Run(hostlog.Start(saved.genesis, saved.certificate, b""))
    run.chain_hash, run.event_count, run.state = saved.head, saved.event_count, saved.state
    run.logged = [Logged(saved.start_leaf, 0, is_end=False)]
    return run


def _make_forgotten(genesis: segment.Genesis, certificate: bytes) -> RunState | None:
    """The end of the run before as the new one names it, where it is not kept any more."""
    if genesis.run == 0:
        return None
    before = segment.encode_genesis(genesis._replace(run=genesis.run - 1, image="", closed=()))
    return RunState(before, certificate, 0, 0, genesis.previous, bundle.CLOSED)


def encode_taken(taken: Taken) -> bytes:
    """What a range makes of a host, or a whole host's snapshot, as it is kept."""
    p = taken.progress
    parts = [
        encode_head(domains.HOST_BODIES, VERSION),
        p.host,
        encode_u64(p.size),
        encode_u64(p.receipts),
        encode_u64(p.forgotten),
        bundle.encode_proof(p.frontier),
        encode_u32(len(p.key_leaves)),
        *[encode_bytes(leaf) for leaf in p.key_leaves],
        encode_bytes(p.mldsa_leaf),
        encode_u64(taken.receipts),
        encode_u32(len(taken.runs)),
    ]
    return b"".join(parts + [encode_run(run) for run in taken.runs.values()])


def encode_run(run: RunState) -> bytes:
    """Where a container's last run stands, as it is kept."""
    return b"".join(
        (
            encode_bytes(run.genesis),
            run.certificate,
            encode_u64(run.start_leaf),
            encode_u64(run.event_count),
            run.head,
            encode_u8(run.state),
        )
    )


def read_run(r: Reader) -> RunState:
    """The run at the reader; SpecError if there is none."""
    return RunState(
        r.read_bytes(GENESIS_LIMIT_BYTES), r.read_fixed(segment.CERTIFICATE_BYTES), r.read_u64(),
        r.read_u64(), r.read_fixed(32), r.read_u8(limit=bundle.CUT),
    )  # fmt: skip


def decode_taken(data: bytes) -> Taken:
    """What these bytes say; SpecError for any that `encode_taken` does not write."""
    r = Reader(data, "state of a host's bodies")
    r.read_head(domains.HOST_BODIES, VERSION)
    counts = (r.read_fixed(32), r.read_u64(), r.read_u64(), r.read_u64())
    frontier = bundle.read_proof(r)
    count = r.read_u32(limit=KEYS_MAX)
    key_leaves = tuple([r.read_bytes(KEY_LEAF_LIMIT_BYTES) for _ in range(count)])
    progress = Progress(*counts, frontier, key_leaves, r.read_bytes(MLDSA_LEAF_LIMIT_BYTES))
    receipts, runs = r.read_u64(), dict[bytes, RunState]()
    for _ in range(r.read_u32(limit=RUNS_MAX)):
        run = read_run(r)
        runs[segment.decode_genesis(run.genesis).container] = run
    r.finish()
    if len(frontier) != progress.size.bit_count():
        raise SpecError("state of a host's bodies: its subtrees are not those of its size")
    return Taken(progress, progress.root, receipts, runs)
