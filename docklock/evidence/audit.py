"""Check the whole host log: every leaf under the checkpoint, and what the leaves say together.

Not here: one container's receipts (export.verify_container). Reported are: a leaf that is missing
or changed; a hole in the containers' numbers; a start, segment or exit without the others; an open
run that nobody records; a table of runs that says something else; evidence of no run; a log that
does not continue a checkpoint from outside. Holds against whoever edits host.db without the host's
key; what root can still do is in this room's README.md.
"""

from __future__ import annotations

import os

from chainlite import bundle, checkpoint, hostlog, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.hostkeys import HostKeys
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.logkeys import MldsaKeys
from docklock.evidence.database import sqlite3
from docklock.evidence.export import get_anchor
from docklock.evidence.host_log import HostLog, RunRecord
from docklock.evidence.keyring import get_public_key
from docklock.evidence.recovery import find_journals

if TYPE_CHECKING:
    from docklock.paths import Paths


class LogReport(NamedTuple):
    """The log's host and size, the containers it names in order, and all that is wrong with it."""

    host: str
    size: int
    containers: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def why(self) -> str:
        """What is wrong first, or nothing."""
        return self.problems[0] if self.problems else ""


class State:
    """What the leaves said so far, and what of it does not go together."""

    def __init__(self, enrolled: bytes) -> None:
        self.keys = HostKeys(enrolled)
        self.mldsa_keys = MldsaKeys()
        self.host = self.keys.host
        self.numbers: dict[bytes, int] = {}
        self.runs: dict[tuple[bytes, int], RunRecord] = {}
        self.problems: list[str] = []

    def take(self, index: int, data: bytes) -> None:
        """One leaf; SpecError if it is none."""
        leaf = hostlog.decode_leaf(data)
        if isinstance(leaf, hostlog.Start):
            self._take_start(index, segment.decode_genesis(leaf.genesis))
        elif isinstance(leaf, hostlog.Exit):
            self._take_exit(index, leaf)
        elif isinstance(leaf, hostlog.Segment):
            header = segment.decode_header(leaf.header)
            if self._find_open(header.container, header.run) is None:
                self._report(header.container, f"run {header.run} has receipts but no start")
        elif isinstance(leaf, hostlog.Key | hostlog.Revocation):
            if leaf.leaf_index != index:
                self.problems.append(f"leaf {index} says that it is {leaf.leaf_index}")
            self.keys.take(leaf)
        elif isinstance(leaf, hostlog.MldsaKey):
            if leaf.leaf_index != index:
                self.problems.append(f"leaf {index} says that it is {leaf.leaf_index}")
            self.mldsa_keys.take(leaf, self.keys)
        elif leaf.host != self.host:
            self.problems.append(f"leaf {index} is of another host")
        elif isinstance(leaf, hostlog.Boot) and leaf.previous_size != index:
            self.problems.append(
                f"the boot record at leaf {index} names a size of {leaf.previous_size}"
            )

    def _take_start(self, index: int, genesis: segment.Genesis) -> None:
        container, run = genesis.container, genesis.run
        number = self.numbers.get(container, max(self.numbers.values(), default=-1) + 1)
        if genesis.number > number and container not in self.numbers:
            last = genesis.number - 1
            hole = f"{number}" if last == number else f"{number} to {last}"
            self.problems.append(f"the start of container number {hole} is missing: a hole")
        elif genesis.number != number:
            self._report(container, f"it has number {genesis.number}, not {number}")
        self.numbers.setdefault(container, genesis.number)
        before = self.runs.get((container, run - 1))
        if run and before is None:
            self._report(container, f"run {run - 1} has no start")
        elif before is not None and before.exit_leaf is None:
            self._report(container, f"run {run - 1} has no exit, and run {run} started")
        if (container, run) in self.runs:
            self._report(container, f"run {run} started twice")
        name, head = container.hex(), segment.ZERO_HASH
        self.runs[container, run] = RunRecord(
            name, run, genesis.number, genesis.app, index, None, 0, head
        )

    def _take_exit(self, index: int, leaf: hostlog.Exit) -> None:
        run = self._find_open(leaf.container, leaf.run)
        if run is None:
            self._report(leaf.container, f"run {leaf.run} ended without a start")
            return
        self.runs[leaf.container, leaf.run] = run._replace(
            exit_leaf=index, event_count=leaf.event_count, head=leaf.head
        )

    def _find_open(self, container: bytes, number: int) -> RunRecord | None:
        run = self.runs.get((container, number))
        return run if run is not None and run.exit_leaf is None else None

    def _report(self, container: bytes, why: str) -> None:
        self.problems.append(f"container {container.hex()[:12]}: {why}")


def audit_log(paths: Paths, notes: tuple[bytes, ...] = ()) -> LogReport:
    """Check this host's log against its key, and against checkpoints of it from outside."""
    public = get_public_key(paths)
    state = State(public)
    hashes: list[bytes] = []
    with HostLog(paths, None) as log:
        with log.read():
            try:
                for expected, (index, data) in enumerate(log.iterate_leaves()):
                    if index != expected:
                        raise TamperError(f"leaf {expected} is missing")
                    hashes.append(merkle.compute_leaf_hash(data))
                    state.take(index, data)
                signed = checkpoint.parse_checkpoint(log.get_note(), state.keys.public)
                if (signed.size, signed.root) != (len(hashes), merkle.compute_root(hashes)):
                    raise TamperError("the leaves are not those under the signed checkpoint")
                for note in (*notes, *log.get_cosigned_notes(bundle.ANCHORS_MAX)):
                    _check_note(log, note, state.keys, hashes)
                _check_runs(log, state)
            except (TamperError, SpecError, sqlite3.Error) as error:
                state.problems.append(str(error))
        _check_files(paths, log, state)
    containers = tuple(name.hex() for name in state.numbers)
    return LogReport(state.host.hex(), len(hashes), containers, tuple(state.problems))


def _check_note(log: HostLog, note: bytes, known: HostKeys, hashes: list[bytes]) -> None:
    """The leaves begin with those under a checkpoint from outside."""
    get_anchor(log, note)
    old = checkpoint.parse_checkpoint(note, *known.publics)
    if merkle.compute_root(hashes[: old.size]) != old.root:
        raise TamperError(
            f"the first {old.size} leaves are not those under the checkpoint: "
            "the log was forked or rewritten"
        )


def _check_runs(log: HostLog, state: State) -> None:
    """The table that names runs must say what the leaves say."""
    said = {(bytes.fromhex(run.container), run.run): run for run in log.get_runs()}
    for key in sorted(said.keys() | state.runs.keys()):
        if said.get(key) != state.runs.get(key):
            name = f"container {key[0].hex()[:12]}: run {key[1]}"
            state.problems.append(f"{name} is not in the table of runs as in the leaves")


def _check_files(paths: Paths, log: HostLog, state: State) -> None:
    """Each open run has a recorder's journal; each file of evidence has a start."""
    names = os.listdir(paths.evidence) if os.path.isdir(paths.evidence) else []
    journals = set(find_journals(paths))
    orphans = [
        run
        for run in state.runs.values()
        if run.exit_leaf is None and run.container not in journals
    ]
    # One that ended meanwhile has its exit by now: the journal goes after it.
    now = {(run.container, run.run) for run in log.get_runs() if run.exit_leaf is not None}
    for run in orphans:
        if (run.container, run.run) not in now:
            state.problems.append(
                f"container {run.container[:12]}: run {run.run} has no exit, and nobody records it"
            )
    stores = {name.removesuffix(".db") for name in names if name.endswith(".db")}
    for stranger in sorted(stores - {name.hex() for name in state.numbers}):
        # One that started meanwhile is in the log by now.
        if not log.get_runs(stranger):
            state.problems.append(f"container {stranger[:12]} has evidence but no start in the log")
