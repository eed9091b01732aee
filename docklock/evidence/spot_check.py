"""Check single leaves of the host's log, and the segment that a leaf stands for, as `verify` does.

The log is the index: each segment that was ever signed has its leaf, so a walk over the leaves
finds what was changed in a container's file, what was taken out of it, and that it is gone. One
segment is checked as an export's range of one segment is (chainlite.ranged): its place under the
signed checkpoint, its signature by its epoch's key, its certificate, its root, its hash chain from
the segment before, each receipt and value.
Not here: in which order leaves are looked at (docklock.console.host_checks), what leaves say
together (audit), whole containers (export). Invariant: nothing is written.
"""

from __future__ import annotations

import os

from chainlite import bundle, hostlog, merkle, segment
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.export_frames import BEFORE, LEAF, NAMED, LeafFrame, Scope, encode_leaf_frame
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ranged import RangedRun
from chainlite.report import FirstBad, describe_place
from chainlite.verify import Verification
from docklock.evidence import container_store as store
from docklock.evidence.database import sqlite3
from docklock.evidence.export import encode_logged, get_anchor, iterate_opening, open_container
from docklock.evidence.notarising import describe_unreadable
from docklock.evidence.published import PUBLISHED, read_published_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.evidence.host_log import HostLog
    from docklock.paths import Paths

THE_LOG = "the host's log"
ITS_FILE = "its evidence file"


class Problem(NamedTuple):
    """What does not hold; `container` is empty where it is the log itself."""

    container: str
    where: str
    why: str


class Continued(NamedTuple):
    """A state of the log that was seen: each later one must continue it."""

    size: int
    root: bytes


class Moment:
    """The log at one moment: within `log.read()`. TamperError if its keys or note do not hold."""

    def __init__(self, paths: Paths, log: HostLog, public: bytes) -> None:
        self._paths, self._log = paths, log
        self._opened = Verification()
        try:
            for kind, payload in iterate_opening(log, public):
                self._opened.upon_frame(bundle.Frame(kind, payload, b"", is_intact=True))
        except sqlite3.Error as error:
            raise describe_unreadable(THE_LOG, error) from None
        assert self._opened.checkpoint is not None
        self.size, self.root = self._opened.checkpoint.size, self._opened.checkpoint.root

    def check_log(self, before: Continued) -> None:
        """TamperError unless the tree has the signed root and continues what was seen or kept."""
        log = self._log
        try:
            if log.get_size() != self.size or log.compute_root(self.size) != self.root:
                raise TamperError("its hashes are not those under the signed checkpoint")
            published = read_published_size(f"{self._paths.log}/{PUBLISHED}")
            if max(published, before.size) > self.size:
                raise TamperError(
                    f"it has {self.size} leaves, and had {max(published, before.size)}: it was cut "
                    "or restored"
                )
            self._check_continues(before)
            for note in log.get_cosigned_notes(1):
                anchor = bundle.encode_anchor(get_anchor(log, note))
                self._opened.upon_frame(bundle.Frame(bundle.ANCHOR, anchor, b"", is_intact=True))
        except SpecError as error:
            raise TamperError(str(error)) from None
        except sqlite3.Error as error:
            raise describe_unreadable(THE_LOG, error) from None

    def _check_continues(self, before: Continued) -> None:
        if not before.size or before == (self.size, self.root):
            return
        proof = self._log.get_consistency(before.size, self.size)
        if not merkle.is_consistent(before.size, self.size, proof, before.root, self.root):
            raise TamperError(
                f"it does not continue the {before.size} leaves that it had: it was rewritten"
            )

    def check_leaf(self, index: int) -> Problem | None:
        """What is wrong with a leaf, or with the segment that it stands for. StateError: not now.

        A container whose file is gone is one problem, whichever of its leaves is looked at.
        """
        leaf_place = f"leaf {index} of {THE_LOG}"
        try:
            data = self._log.get_leaf(index)
            proof = self._log.get_proof(index, self.size)
            leaf_hash = merkle.compute_leaf_hash(data)
            if not merkle.is_included(leaf_hash, index, self.size, proof, self.root):
                raise TamperError("it is not the one under the signed checkpoint")
            leaf = hostlog.decode_leaf(data)
            if not isinstance(leaf, hostlog.Segment):
                return None
            header = segment.decode_header(leaf.header)
        except (TamperError, SpecError) as error:
            return Problem("", leaf_place, str(error))
        except sqlite3.Error as error:
            return _judge_error("", leaf_place, THE_LOG, error)
        return self._check_segment(index, header, data)

    def _check_segment(self, index: int, header: segment.Header, leaf: bytes) -> Problem | None:
        container = header.container.hex()
        if not os.path.exists(store.get_store_path(self._paths, container)):
            return Problem(container, ITS_FILE, "is gone")
        run = RangedRun(
            self._opened, Scope(b"", b"", "", first=header.first_index), is_resumed=False
        )
        run.span = header.first_index, header.first_index + header.event_count - 1
        place = describe_place(FirstBad(header.run, *run.span, ""))
        try:
            with open_container(self._paths, container) as db:
                if db is None:
                    raise TamperError("the container's evidence file is empty")
                for kind, payload in self._collect(db, index, header, leaf):
                    run.upon_frame(bundle.Frame(kind, payload, b"", is_intact=True))
        except (TamperError, SpecError) as error:
            where = describe_place(FirstBad(header.run, *run.span, ""))
            return Problem(container, where, str(error))
        except sqlite3.Error as error:
            return _judge_error(container, place, ITS_FILE, error)
        return None

    def _collect(
        self, db: sqlite3.Connection, index: int, header: segment.Header, leaf: bytes
    ) -> Iterator[tuple[int, bytes]]:
        """The frames of this one segment, after what stands before it in its run."""
        log, run = self._log, header.run
        row = store.find_segment(db, run, header.first_index)
        if row is None:
            raise TamperError("the host's log has a segment that the container's file has not")
        if not all(isinstance(part, bytes) for part in row[5:10]):
            raise TamperError("a row of the container's file has another type than was written")
        if leaf != hostlog.encode_segment(hostlog.Segment(row.header, row.signature)):
            raise TamperError("the host's log has another header for these receipts")
        [record] = log.get_runs(header.container.hex(), run) or [None]
        if record is None:
            raise TamperError(f"run {run} is not in the host's table of runs")
        yield bundle.START, encode_logged(log, record.start_leaf, self.size)
        epochs = store.iterate_epochs(db, run)
        before = log.find_segment_before(header.container, run, index)
        if before is not None:
            logged = bundle.LoggedLeaf(*before, log.get_proof(before[0], self.size))
            yield LEAF, encode_leaf_frame(LeafFrame(BEFORE, logged))
            yield NAMED, self._find_certificate(db, header, record.start_leaf)
            epochs = iter(())
        for one in epochs:
            if one.epoch <= header.epoch:
                yield bundle.CERTIFICATE, one.certificate + one.signature
        stored = bundle.StoredSegment(*row[5:10])
        yield stored.kind, bundle.encode_segment(stored)

    def _find_certificate(
        self, db: sqlite3.Connection, header: segment.Header, start_leaf: int
    ) -> bytes:
        """The one that the segment's header names."""
        if header.epoch:
            for row in store.iterate_epochs(db, header.run, header.epoch - 1):
                return row.certificate
            raise TamperError(f"the certificate of epoch {header.epoch} is gone")
        start = hostlog.decode_leaf(self._log.get_leaf(start_leaf))
        assert isinstance(start, hostlog.Start), "the frame before was taken"
        return start.certificate


def find_missing_files(paths: Paths, log: HostLog) -> list[Problem]:
    """Containers that have ended with receipts, and whose file is not there."""
    try:
        names = frozenset(os.listdir(paths.evidence))
    except FileNotFoundError:
        names = frozenset()
    wanted = dict.fromkeys(run.container for run in log.get_runs() if run.event_count)
    return [Problem(one, ITS_FILE, "is gone") for one in wanted if f"{one}.db" not in names]


def _judge_error(container: str, place: str, what: str, error: sqlite3.Error) -> Problem:
    """A problem, unless it is one that passes: then a StateError."""
    found = describe_unreadable(what, error)
    if isinstance(found, StateError):
        raise found from None
    return Problem(container, place, str(found))
