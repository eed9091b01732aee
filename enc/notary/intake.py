"""Verify what a host shows, run by run, from where the notary stands. Pure.

Not here: the checks themselves (chainlite.verify does them all, as for an evidence file), what is
kept (store), what a block is made of (chain). A segment counts once its signature, its place in
its run, its receipts under root and chain, its epoch's certificates up to the host's key, the
run's start and the segment's own leaf in the host's log are all checked. Invariants: what a run
brings after its first bad frame is not looked at, so nothing bridges a hole; a run is taken up
again where it stood, and its bad place is tried anew.
"""

from __future__ import annotations

from chainlite import bundle, hostlog, logblock, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.report import Logged
from chainlite.verify import Run, Verification
from enc.notary.chain import Taken
from enc.notary.source import RunName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from enc.notary.source import HostView

    Step: TypeAlias = "Moved | Bad"

IN_A_RUN = frozenset(
    (bundle.CERTIFICATE, bundle.SEGMENT, bundle.REDACTED, bundle.PLACE, bundle.EXIT)
)
"""Frames that follow a run's start."""


class RunState(NamedTuple):
    """How far a run is notarised, and all that its next segment is checked against.

    `start` is its leaf, `certificate` that of its epoch now. `held` says why it stands still, or
    nothing.
    """

    name: RunName
    app: str
    start_leaf: int
    last_leaf: int
    start: bytes
    certificate: bytes
    head: bytes
    event_count: int
    usage: tuple[int, ...]
    state: int = bundle.OPEN
    held: str = ""


class Moved(NamedTuple):
    """The run has come to `run`, with a segment or without one."""

    run: RunState
    taken: Taken | None


class Bad(NamedTuple):
    """The run stands still at receipt `first_index`; `run` is None if its start is bad.

    `evidence` is the frame that is bad, its kind in the first byte; empty if there is none.
    """

    run: RunState | None
    first_index: int
    why: str
    evidence: bytes


def take_run(
    opened: Verification, view: HostView, name: RunName, saved: RunState | None,
    before: RunState | None,
) -> Iterator[Step]:  # fmt: skip
    """What there is of a run after `saved`; of a new one after `before`, the run before it.

    Ends after a Bad.
    """
    taking = _Taking(opened, saved, before)
    stands = (saved.event_count, taking.get_epoch(), saved.last_leaf) if saved else (0, 0, -1)
    frame = b""
    try:
        if saved is None:
            frame = _join(bundle.START, view.read_start(name))
            yield taking.upon_start(name, frame[1:])
            frame = b""
        for kind, payload in view.read_run(name, *stands):
            frame = _join(kind, payload)
            moved = taking.upon_frame(kind, payload)
            frame = b""
            if moved is not None:
                yield moved
        taking.check_end()
    except (TamperError, SpecError) as error:
        yield Bad(taking.moved, taking.get_event_count(), str(error), frame)


def _join(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + payload


def end_run(opened: Verification, run: RunState, payload: bytes) -> RunState:
    """A run that stands still, as its exit in the host's log says it ended; TamperError.

    For the run that follows: it names the head of this one.
    """
    log = opened.checkpoint
    assert log is not None, "the host is opened"
    try:
        logged = bundle.decode_logged_leaf(payload)
        leaf = hostlog.decode_leaf(logged.leaf)
    except SpecError as error:
        raise TamperError(str(error)) from None
    leaf_hash = merkle.compute_leaf_hash(logged.leaf)
    if not merkle.is_included(leaf_hash, logged.leaf_index, log.size, logged.proof, log.root):
        raise TamperError("the exit of the run before is not in the host's log")
    if not isinstance(leaf, hostlog.Exit) or leaf[:3] != (opened.host, *run.name):
        raise TamperError("the exit of the run before is another leaf")
    state = bundle.CUT if leaf.cut else bundle.CLOSED
    return run._replace(
        event_count=leaf.event_count, head=leaf.head, last_leaf=logged.leaf_index, state=state
    )


class _Taking:
    """A verification that begins where the notary stands."""

    def __init__(
        self, opened: Verification, saved: RunState | None, before: RunState | None
    ) -> None:
        assert opened.keys is not None, "the host is opened"
        self._state = state = Verification()
        state.keys, state.host = opened.keys, opened.host
        state.checkpoint, state.logs = opened.checkpoint, opened.logs
        self.moved = saved
        known = saved or before
        if known is not None:
            state.runs = [_restore(known)]
            state.runs_before = known.name.run
            state.runs[0].is_revoked = opened.keys.is_revoked_at(known.start_leaf)
        self._certificate = saved.certificate if saved else b""
        self._segment: tuple[segment.Header, bundle.StoredSegment] | None = None

    def get_epoch(self) -> int:
        """The epoch that the run stands in."""
        return self._state.runs[-1].certificate.epoch

    def get_event_count(self) -> int:
        """The receipt at which the run stands."""
        return self.moved.event_count if self.moved else 0

    def upon_start(self, name: RunName, payload: bytes) -> Moved:
        """The run's start: in the log, on top of the run before."""
        self._state.upon_frame(bundle.Frame(bundle.START, payload, b"", is_intact=True))
        logged = bundle.decode_logged_leaf(payload)
        start = hostlog.decode_leaf(logged.leaf)
        assert isinstance(start, hostlog.Start), "it was verified as one"
        run = self._state.runs[-1]
        genesis = run.genesis
        if (genesis.container, genesis.run) != name:
            raise TamperError("the start is of another run")
        self._certificate = start.certificate
        self.moved = RunState(
            name, genesis.app, logged.leaf_index, logged.leaf_index, logged.leaf,
            start.certificate, run.chain_hash, 0, logblock.ZERO_TOTALS,
        )  # fmt: skip
        self._check_revoked(run)
        return Moved(self.moved, None)

    def upon_frame(self, kind: int, payload: bytes) -> Moved | None:
        """The next frame of the run; what it moves, if it does."""
        state, run = self._state, self._state.runs[-1]
        if (kind == bundle.PLACE) != (self._segment is not None):
            raise TamperError("a segment is not shown in the host's log")
        if kind not in IN_A_RUN:
            raise TamperError(f"a frame of kind {kind} does not belong in a run")
        state.upon_frame(bundle.Frame(kind, payload, b"", is_intact=True))
        if kind == bundle.CERTIFICATE:
            self._certificate = payload[: segment.CERTIFICATE_BYTES]
        self._check_revoked(run)
        if kind in (bundle.SEGMENT, bundle.REDACTED):
            self._segment = bundle.decode_segment(payload, kind)
        if kind == bundle.PLACE:
            return self._move_on(run)
        if kind == bundle.EXIT:
            assert self.moved is not None, "a run begins with its start"
            last = run.logged[-1].leaf_index
            self.moved = self.moved._replace(state=run.state, last_leaf=last, held="")
            return Moved(self.moved, None)
        return None

    def check_end(self) -> None:
        """TamperError where the last segment was not shown in the log."""
        if self._segment is not None:
            raise TamperError("a segment is not shown in the host's log")

    def _move_on(self, run: Run) -> Moved:
        assert self._segment is not None and self.moved is not None
        header, stored = self._segment
        before, self._segment = self.moved.usage, None
        logblock.add_usage(logblock.ZERO_TOTALS, before, header.usage)
        self.moved = self.moved._replace(
            last_leaf=run.logged[-1].leaf_index,
            certificate=self._certificate,
            head=run.chain_hash,
            event_count=run.event_count,
            usage=header.usage,
            held="",
        )
        signed = logblock.SignedHeader(stored.header, stored.signature)
        return Moved(self.moved, Taken(signed, header.event_count, before, header.usage))

    def _check_revoked(self, run: Run) -> None:
        log = self._state.checkpoint
        assert log is not None, "the host is opened"
        by = run.recovered_by
        if run.is_revoked or (by and by.revoked_from is not None and by.revoked_from <= log.size):
            raise TamperError("the host has revoked the key that vouches for the run")


def _restore(saved: RunState) -> Run:
    """The run as a verification knows it after what was taken of it."""
    start = hostlog.decode_leaf(saved.start)
    assert isinstance(start, hostlog.Start), "it was verified as one"
    run = Run(start)
    run.certificate = segment.decode_certificate(saved.certificate)
    run.certificate_hash = segment.compute_certificate_hash(saved.certificate)
    run.chain_hash, run.event_count, run.state = saved.head, saved.event_count, saved.state
    run.segments = int(saved.event_count > 0)
    run.logged = [Logged(saved.start_leaf, 0, is_end=False)]
    if saved.last_leaf > saved.start_leaf:
        run.logged.append(Logged(saved.last_leaf, saved.event_count, is_end=False))
    return run
