"""Check the whole host log: every leaf under the checkpoint, and what the leaves say together.

Not here: one container's receipts (export.verify_container). Holds against whoever edits host.db
without the host's key; what root can still do is in this room's README.md.
"""

from __future__ import annotations

import os

from chainlite import checkpoint, hostlog, keys, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key

if TYPE_CHECKING:
    from docklock.paths import Paths


class LogReport(NamedTuple):
    """The log's size, the containers it names in order, and why it fails, or nothing."""

    size: int
    containers: tuple[str, ...]
    why: str


class State:
    """What the leaves said so far."""

    def __init__(self, host: bytes) -> None:
        self.host = host
        self.numbers: dict[bytes, int] = {}
        self.open: dict[bytes, int] = {}
        self.runs: dict[bytes, int] = {}

    def take(self, index: int, data: bytes) -> None:
        """One leaf; TamperError if it contradicts those before it."""
        leaf = hostlog.decode_leaf(data)
        if isinstance(leaf, hostlog.Start):
            self._take_start(segment.decode_genesis(leaf.genesis))
        elif isinstance(leaf, hostlog.Exit):
            if self.open.pop(leaf.container, None) != leaf.run:
                raise TamperError(f"container {leaf.container.hex()[:12]} ended without a start")
        elif isinstance(leaf, hostlog.Segment):
            header = segment.decode_header(leaf.header)
            if self.open.get(header.container) != header.run:
                raise TamperError(f"container {header.container.hex()[:12]}: a segment of no run")
        elif leaf.host != self.host:
            raise TamperError(f"leaf {index} is of another host")
        elif isinstance(leaf, hostlog.Boot) and leaf.previous_size != index:
            raise TamperError(f"the boot record at {index} names a size of {leaf.previous_size}")

    def _take_start(self, genesis: segment.Genesis) -> None:
        container, name = genesis.container, genesis.container.hex()[:12]
        number = self.numbers.setdefault(container, len(self.numbers))
        if genesis.number != number:
            raise TamperError(f"container {name} has number {genesis.number}, not {number}")
        if container in self.open or genesis.run != self.runs.get(container, -1) + 1:
            raise TamperError(f"container {name}: run {genesis.run} is out of order")
        self.open[container] = self.runs[container] = genesis.run


def audit_log(paths: Paths) -> LogReport:
    """Check this host's log against its key."""
    public = get_public_key(paths)
    state = State(keys.compute_host_id(public))
    hashes: list[bytes] = []
    why = ""
    with HostLog(paths, None) as log, log.read():
        try:
            for expected, (index, data) in enumerate(log.iterate_leaves()):
                if index != expected:
                    raise TamperError(f"leaf {expected} is missing")
                hashes.append(merkle.compute_leaf_hash(data))
                state.take(index, data)
            signed = checkpoint.parse_checkpoint(log.get_note(), public)
            if (signed.size, signed.root) != (len(hashes), merkle.compute_root(hashes)):
                raise TamperError("the leaves are not those under the signed checkpoint")
            _check_runs(log, state)
            _check_strangers(paths, state)
        except (TamperError, SpecError) as error:
            why = str(error)
    return LogReport(len(hashes), tuple(name.hex() for name in state.numbers), why)


def _check_runs(log: HostLog, state: State) -> None:
    """The table that names runs must say what the leaves say."""
    said = {(run.container, run.run) for run in log.get_runs() if run.exit_leaf is None}
    if said != {(container.hex(), run) for container, run in state.open.items()}:
        raise TamperError("the table of runs names other open runs than the leaves")
    if {run.container for run in log.get_runs()} != {name.hex() for name in state.numbers}:
        raise TamperError("the table of runs names other containers than the leaves")


def _check_strangers(paths: Paths, state: State) -> None:
    names = os.listdir(paths.evidence) if os.path.isdir(paths.evidence) else []
    stores = {name.removesuffix(".db") for name in names if name.endswith(".db")}
    strangers = sorted(stores - {name.hex() for name in state.numbers})
    if strangers:
        raise TamperError(f"container {strangers[0][:12]} has evidence but no start in the log")
