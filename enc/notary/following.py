"""Follow a host's log from checkpoint to checkpoint: every leaf is seen, once. Pure.

Not here: what runs bring (intake), what is durable (store). Invariants: the leaves seen so far and
those shown now have the root that the host signed, or nothing of them is taken: so a log that was
forked, rewritten or rolled back is refused, and no start, segment, exit or key record is hidden.
"""

from __future__ import annotations

from chainlite import bundle, hostlog, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.verify import Verification
from enc.notary.source import RunName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enc.notary.source import HostView


class SeenLog(NamedTuple):
    """How far a host's log was followed: its note, size, and the hashes of its complete subtrees,
    the largest first."""

    note: bytes = b""
    size: int = 0
    frontier: tuple[bytes, ...] = ()


class Followed(NamedTuple):
    """The host's keys and log now, how far it was followed, and the runs that have new leaves."""

    opened: Verification
    seen: SeenLog
    changed: tuple[RunName, ...]


class HostError(TamperError):
    """The host's log contradicts what was seen of it; `note` is the checkpoint it shows now."""

    def __init__(self, why: str, note: bytes) -> None:
        super().__init__(why)
        self.note = note


def follow(view: HostView, host: bytes, seen: SeenLog) -> Followed:
    """All leaves after those seen; HostError if they are not what the host has signed."""
    note = b""
    try:
        state = Verification()
        for kind, payload in view.read_opening():
            if kind not in bundle.OPENING:
                raise TamperError(f"a frame of kind {kind} does not open a host's log")
            state.upon_frame(bundle.Frame(kind, payload, b"", is_intact=True))
            note = payload if kind == bundle.CHECKPOINT else note
        log = state.checkpoint
        if log is None or state.host != host:
            raise TamperError("the log that is shown is of another host, or has no checkpoint")
        if log.size < seen.size:
            raise TamperError(
                f"the host's log has {log.size} leaves and had {seen.size}: it was rolled back, or "
                "restored from a snapshot"
            )
        frontier, changed = _read_leaves(state, view.read_leaves(seen.size), seen)
        if merkle.compute_frontier_root(frontier) != log.root:
            raise TamperError(
                f"the host's log of {log.size} leaves does not continue the {seen.size} that were "
                "seen: it was forked or rewritten"
            )
    except SpecError as error:
        raise HostError(str(error), note) from None
    except TamperError as error:
        raise HostError(str(error), note) from None
    return Followed(state, SeenLog(note, log.size, frontier), changed)


def _read_leaves(
    state: Verification, leaves: Iterable[bytes], seen: SeenLog
) -> tuple[tuple[bytes, ...], tuple[RunName, ...]]:
    """The frontier after these leaves, and the runs they name in order."""
    assert state.keys is not None and state.checkpoint is not None, "the log is open"
    last_key = max(0, state.keys.last_index)
    frontier, changed, index = list(seen.frontier), dict[RunName, None](), seen.size
    for data in leaves:
        if index == state.checkpoint.size:
            raise TamperError("more leaves are shown than the host has signed")
        merkle.add_leaf(frontier, index, data)
        leaf = hostlog.decode_leaf(data)
        if isinstance(leaf, hostlog.Key | hostlog.Revocation) and index > last_key:
            raise TamperError(f"the key record at leaf {index} is not among the host's keys")
        name = get_run_name(leaf)
        if name is not None:
            changed[name] = None
        index += 1
    if index != state.checkpoint.size:
        raise TamperError(f"leaf {index} of the host's log is missing")
    return tuple(frontier), tuple(changed)


def get_run_name(leaf: hostlog.Leaf) -> RunName | None:
    """The run that a leaf is of, if it is of one."""
    if isinstance(leaf, hostlog.Start):
        genesis = segment.decode_genesis(leaf.genesis)
        return RunName(genesis.container, genesis.run)
    if isinstance(leaf, hostlog.Segment):
        header = segment.decode_header(leaf.header)
        return RunName(header.container, header.run)
    if isinstance(leaf, hostlog.Exit):
        return RunName(leaf.container, leaf.run)
    return None
