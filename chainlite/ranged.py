"""One run of an export: a range of its receipts, checked as evidence is. Pure.

It may begin within, miss bodies that were erased, and end before its end: then the leaves of the
segments around are there, which the host's log holds, and where a certificate before is not there
the log holds its own, which the segment's header names (as in a proof of one event).
Not here: what is around runs (exported). Invariants: every receipt that is shown is under its
epoch's signature, root and chain, and its segment is a leaf of the host's log; between the first
and the last nothing is left out without being named; what is left out on either side is outside.
"""

from __future__ import annotations

from chainlite import bundle, domains, hostlog, keys, receipt, segment
from chainlite.codec import encode_text
from chainlite.export_frames import (
    AFTER,
    BEFORE,
    LEAF,
    NAMED,
    Scope,
    decode_leaf_frame,
)
from chainlite.lean import TYPE_CHECKING
from chainlite.verify import Run, Verification

if TYPE_CHECKING:
    from collections.abc import Callable

GAP_OP = "gap"
"""What a host signs in place of receipts that it knows to be missing."""
_GAP_BYTES = encode_text(GAP_OP)
OPEN, ENDED, GOES_ON, NOTHING_LATER = "open", "ended", "goes on", "nothing later"
"""How a range ends: not yet; with the run's exit; before a segment that is outside; with what the
server holds."""


class RangedRun(Verification):
    """Takes the frames of one run in order; TamperError at the first bad one.

    `begin` is its first receipt here; `erased` are ranges without their bodies, `gap_receipts` the
    host's own words that some are missing.
    """

    def __init__(self, opened: Verification, scope: Scope, *, is_resumed: bool) -> None:
        """Of the host that was `opened`. `is_resumed`: the part before ended within this run."""
        super().__init__()
        self.keys, self.host, self.checkpoint = opened.keys, opened.host, opened.checkpoint
        self._scope, self.is_resumed = scope, is_resumed
        self.begin, self.begin_hash = 0, b""
        self.erased: list[tuple[int, int]] = []
        self.gap_receipts: list[receipt.Receipt] = []
        self.end = OPEN
        self._needs_place = self._is_unnamed = False

    @property
    def run(self) -> Run:
        """The run; there is one after the first frame."""
        return self.runs[-1]

    @property
    def receipts(self) -> int:
        """How many are shown."""
        erased = sum(last - first + 1 for first, last in self.erased)
        return self.run.event_count - self.begin - erased

    def upon_frame(self, frame: bundle.Frame) -> None:
        """Check one frame against all before it."""
        if self.end != OPEN:
            self.refuse(f"a frame of kind {frame.kind} follows the end of a run")
        if self._needs_place and frame.kind != bundle.PLACE:
            self.refuse("a segment's place in the host's log is missing")
        take = _UPON.get(frame.kind)
        if take is None:
            self.refuse(f"a frame of kind {frame.kind} is out of its order")
        take(self, frame)
        self.span = (self.run.event_count, None)

    def continue_run(self, before: RangedRun) -> None:
        """The run before this one of the same container was shown to its end."""
        self.runs, self.runs_before = [before.run], before.run.genesis.run

    def upon_start(self, frame: bundle.Frame) -> None:
        """The run's start, as evidence has it; the run before need not be here."""
        if not self.runs:
            start = hostlog.decode_leaf(bundle.decode_logged_leaf(frame.payload).leaf)
            if not isinstance(start, hostlog.Start):
                self.refuse("the leaf is not a run's start")
            genesis = segment.decode_genesis(start.genesis)
            if genesis.run:
                self.runs, self.runs_before = [_make_before(start, genesis)], genesis.run - 1
        super().upon_start(frame)
        self.begin_hash = self.run.chain_hash

    def upon_certificate(self, frame: bundle.Frame) -> None:
        """The next epoch's, signed by the one before, which has to be known."""
        if self._is_unnamed:
            self.refuse("the certificate before it is not known")
        super().upon_certificate(frame)

    def upon_named(self, frame: bundle.Frame) -> None:
        """The certificate that the next segment names: the log, which has that leaf, holds it."""
        run, genesis = self.run, self.run.genesis
        certificate = segment.decode_certificate(frame.payload)
        if not self._is_unnamed or certificate.epoch < run.certificate.epoch:
            self.refuse("a certificate is out of its order")
        if certificate[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the certificate is of another run")
        if certificate.first_index > run.event_count:
            self.refuse("the certificate starts at a later receipt")
        run.certificate = certificate
        run.certificate_hash = segment.compute_certificate_hash(frame.payload)
        self._is_unnamed = False

    def upon_segment(self, frame: bundle.Frame) -> None:
        """A segment with its body; its place follows."""
        if self._is_unnamed:
            self.refuse("the segment's certificate is missing")
        header, stored = bundle.decode_segment(frame.payload, frame.kind)
        self.take_segment(header, stored)
        self._needs_place = True
        body = segment.unpack_body(stored.body)
        if _GAP_BYTES not in body:
            return
        for raw, _, _ in receipt.iterate_frames(body, header.event_count):
            if _GAP_BYTES in raw and (event := receipt.decode_receipt(raw)).op == GAP_OP:
                self.gap_receipts.append(event)

    def upon_place(self, frame: bundle.Frame) -> None:
        """Where the segment lies in the host's log."""
        if not self._needs_place:
            self.refuse("a place belongs to no segment")
        super().upon_place(frame)
        self._needs_place = False

    def upon_leaf(self, frame: bundle.Frame) -> None:
        """A segment without its body: before the range, erased in it, or after it."""
        found = decode_leaf_frame(frame.payload)
        leaf_index, leaf = self._check_logged(bundle.encode_logged_leaf(found.logged))
        if not isinstance(leaf, hostlog.Segment):
            self.refuse("the leaf is no segment's")
        header, run, genesis = segment.decode_header(leaf.header), self.run, self.run.genesis
        if header[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the segment is of another run")
        last = header.first_index + header.event_count - 1
        if found.role == BEFORE:
            self._check_before(header, last)
        elif header.first_index != run.event_count:
            self._refuse_hole(run, header.first_index)
        self._add_logged(run, leaf_index, is_end=False)
        if found.role == AFTER:
            scope = self._scope
            if header.time_first <= scope.time_to and header.first_index <= scope.last:
                self.refuse("a segment of the range is said to be after it")
            self.end = GOES_ON
            return
        if found.role == BEFORE:
            self.begin, self.begin_hash, self._is_unnamed = last + 1, header.head, True
        else:
            self._check_erased(header, leaf.signature, leaf.header)
            self.erased.append((header.first_index, last))
        run.chain_hash, run.event_count = header.head, last + 1
        run.logged[-1] = run.logged[-1]._replace(event_count=run.event_count)

    def _check_before(self, header: segment.Header, last: int) -> None:
        run, scope = self.run, self._scope
        if run.segments or run.event_count or self.erased:
            self.refuse("a segment before the range is out of its order")
        is_outside = header.time_last < scope.time_from or last < scope.first
        if not self.is_resumed and not is_outside:
            self.refuse("a segment of the range is said to be before it")
        if not self.is_resumed:
            run.is_revoked = run.is_revoked or self._may_be_revoked()

    def _may_be_revoked(self) -> bool:
        """Whether a key that may have recovered the run before the range is not to be trusted."""
        known, size = self._get_keys(), self._get_log().size
        first = known.get_at(self.run.logged[0].leaf_index).number
        later = [one.revoked_from for one in known.records[first + 1 :]]
        return any(since is not None and since <= size for since in later)

    def _check_erased(self, header: segment.Header, signature: bytes, data: bytes) -> None:
        """As a segment whose receipts are not looked at."""
        run = self.run
        if self._is_unnamed or header.certificate_hash != run.certificate_hash:
            self.refuse("the segment's certificate is missing")
        if not keys.is_signed(run.certificate.public, domains.SIGN_SEGMENT, data, signature):
            self.refuse("the segment's header is not signed by its epoch's key")

    def upon_exit(self, frame: bundle.Frame) -> None:
        """The run's end."""
        super().upon_exit(frame)
        self.end = ENDED

    def upon_nothing_later(self, first: int) -> None:
        """The server holds no later receipt of the run."""
        if self.end != OPEN or self._needs_place or first != self.run.event_count:
            self.refuse("what is said not to be held is not what follows")
        self.end = NOTHING_LATER

    def check_cut(self) -> None:
        """The part may end here, within the run."""
        if self._needs_place:
            self.refuse("a segment's place in the host's log is missing")


def _make_before(start: hostlog.Start, genesis: segment.Genesis) -> Run:
    """The end of the run before as this one names it."""
    earlier = segment.encode_genesis(genesis._replace(run=genesis.run - 1))
    before = Run(hostlog.Start(earlier, start.certificate, b""))
    before.chain_hash, before.state = genesis.previous, bundle.CLOSED
    return before


_UPON: dict[int, Callable[[RangedRun, bundle.Frame], None]] = {
    bundle.START: RangedRun.upon_start,
    bundle.CERTIFICATE: RangedRun.upon_certificate,
    bundle.SEGMENT: RangedRun.upon_segment,
    bundle.REDACTED: RangedRun.upon_segment,
    bundle.PLACE: RangedRun.upon_place,
    bundle.EXIT: RangedRun.upon_exit,
    LEAF: RangedRun.upon_leaf,
    NAMED: RangedRun.upon_named,
}
FRAMES = frozenset(_UPON)
