"""What a server makes of a batch: what of it is kept, and what is wrong with the rest. Pure.

The leaves and bodies are verified by the code that validators run (ledger.bodies). Here is what a
validator does not need: the honest part before a bad leaf, and the proof against a host that tells
two stories. A batch that does not begin where the server stands changes nothing, but is looked at:
a host whose log was set back, or forked, shows itself there.
Not here: who keeps it and answers (intake). Invariants: what is kept is verified to the last bit
and is under a tree that the host has signed; a fork's file is one that `docklock verify` takes.
"""

from __future__ import annotations

from chainlite import checkpoint, hostlog, merkle, segment
from chainlite.bpci.batch import decode_segment_body
from chainlite.errors import SpecError, TamperError
from chainlite.fork import encode_fork, find_served_fork
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.bodies import Bad, HostBodies, Taken, Taking, check_note, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.hostkeys import HostKeys
    from chainlite.ledger.offer import Offer

    Read = Callable[[int, int], bytes]

FORK, ROLLBACK, GAP, RECEIPT, FUTURE = "fork", "rollback", "gap", "receipt", "future"
"""What an alert says: another history; an older one that went on; receipts are missing; a receipt
or record does not hold; times ahead of the server's clock."""
LOGBLOCK, POE = "logblock", "poe"
"""And what LogBlocks and PoE bundles show: their notary has signed what cannot be true (handed,
billed)."""
NO_RECEIPT = -1


class Trouble(NamedTuple):
    """What is wrong, at which leaf and with which receipts (NO_RECEIPT: of none, or of a fork).

    `proof` is a fork's file where one can be made, of `poe` what the notary signed against itself;
    else it is empty, and the batch says it all.
    """

    kind: str
    leaf_index: int
    first: int
    last: int
    why: str
    proof: bytes = b""


class Verdict(NamedTuple):
    """What the first `leaves` make of the host; `note` is the host's where they reach it."""

    taken: Taken | None
    leaves: int = 0
    note: bytes = b""
    trouble: Trouble | None = None


def judge_batch(known: HostBodies, batch: Offer) -> Verdict:
    """What a batch that begins where the host stands is worth. `known` stays as it is.

    SpecError: its note is not one that the host has signed.
    """
    assert (batch.host, batch.start) == (known.progress.host, known.progress.size)
    taking = Taking(known, decode_segment_body)
    try:
        taken = taking.upon_items(batch.items)
    except (SpecError, TamperError):
        assert taking.bad is not None, "a leaf has failed"
        return _keep_honest(known, batch, taking.bad)
    assert taking.keys is not None, "there is a leaf"
    try:
        check_note(batch, taking.keys, taken.root)
    except TamperError as error:
        return Verdict(None, trouble=_make_unproven(batch.end - 1, str(error)))
    is_reached = checkpoint.parse_claim(batch.note).size == batch.end
    return Verdict(taken, len(batch.items), batch.note if is_reached else b"")


def _keep_honest(known: HostBodies, batch: Offer, bad: Bad) -> Verdict:
    """What comes before the bad leaf, if all leaves are those that the host has signed."""
    try:
        _check_leaves(known, batch)
    except TamperError as error:
        why = f"{bad.why}; and the host has not signed these leaves: {error}"
        return Verdict(None, trouble=_make_unproven(bad.leaf_index, why))
    count = bad.leaf_index - batch.start
    taken = Taking(known, decode_segment_body).upon_items(batch.items[:count]) if count else None
    kind = RECEIPT
    if _is_ahead(known, taken, batch.items[count].leaf):
        kind = GAP
    first, last = (NO_RECEIPT, NO_RECEIPT) if bad.last is None else (bad.first, bad.last)
    return Verdict(taken, count, trouble=Trouble(kind, bad.leaf_index, first, last, bad.why))


def _check_leaves(known: HostBodies, batch: Offer) -> None:
    """Whether the leaves alone, without what they mean, are under the host's note."""
    progress = known.progress
    frontier = list(progress.frontier)
    keys = read_keys(batch.host, list(progress.key_leaves)) if progress.key_leaves else None
    for index, item in enumerate(batch.items, progress.size):
        merkle.add_leaf(frontier, index, item.leaf)
        if keys is None:
            keys = read_keys(batch.host, [item.leaf])
        elif item.leaf[:1] and item.leaf[0] in hostlog.KEY_KINDS:
            leaf = hostlog.decode_leaf(item.leaf)
            assert isinstance(leaf, hostlog.Key | hostlog.Revocation), "its kind says so"
            keys.take(leaf)
    assert keys is not None, "there is a leaf"
    check_note(batch, keys, merkle.compute_frontier_root(frontier))


def _is_ahead(known: HostBodies, taken: Taken | None, data: bytes) -> bool:
    """Whether a leaf speaks of receipts after some that never came."""
    try:
        leaf = hostlog.decode_leaf(data)
        if isinstance(leaf, hostlog.Exit):
            container, run_number, count = leaf.container, leaf.run, leaf.event_count
        elif isinstance(leaf, hostlog.Segment):
            header = segment.decode_header(leaf.header)
            container, run_number, count = header.container, header.run, header.first_index
        else:
            return False
    except SpecError:
        return False
    run = (taken.runs if taken else {}).get(container) or known.find_run(container)
    if run is None or segment.decode_genesis(run.genesis).run != run_number:
        return False
    return count > run.event_count


def find_future(batch: Offer, verdict: Verdict, limit_ns: int) -> Trouble | None:
    """The first segment of what is kept whose times are above this one, a time ahead of now."""
    for index, item in enumerate(batch.items[: verdict.leaves], batch.start):
        if item.leaf[0] != hostlog.SEGMENT_KIND:
            continue
        leaf = hostlog.decode_leaf(item.leaf)
        assert isinstance(leaf, hostlog.Segment), "its kind says so"
        header = segment.decode_header(leaf.header)
        if header.time_last > limit_ns:
            first, last = header.first_index, header.first_index + header.event_count - 1
            why = f"its last receipt is of {header.time_last} ns, which is still to come"
            return Trouble(FUTURE, index, first, last, why)
    return None


def find_contradiction(known: HostBodies, note: bytes, read: Read, batch: Offer) -> Trouble | None:
    """What a batch that does not begin where the host stands shows against the host, if anything.

    `note` is the newest of its checkpoints that what is held reaches ("" if none); `read` gives
    the hashes of the tree that is held. SpecError: the host has not signed the batch's note.
    """
    progress = known.progress
    if not progress.size or batch.start > progress.size:
        return None
    try:
        records = _get_records(progress.key_leaves, progress.size, batch)
        keys = read_keys(batch.host, list(records))
    except TamperError as error:
        return _make_unproven(progress.size, str(error))
    claim = checkpoint.parse_checkpoint(batch.note, *keys.publics)
    if claim.origin != checkpoint.get_origin(batch.host):
        raise SpecError("batch: the note is of another log")
    if claim.size <= progress.size:
        if merkle.compute_tree_root(claim.size, read) == claim.root:
            return None
        kind = ROLLBACK if claim.size < progress.size else FORK
        why = f"the host has signed another history of {claim.size} leaves than the one held"
        proof = _prove(keys, records, batch.note, note, read)
        return Trouble(kind, claim.size - 1, NO_RECEIPT, NO_RECEIPT, why, proof)
    number = _find_other_leaf(batch, progress.size, read)
    if number is None:
        return None
    mixed = _mix(batch, read)
    proof = b""
    if claim.size == batch.end and merkle.compute_tree_root(claim.size, mixed) == claim.root:
        proof = _prove(keys, records, note, batch.note, mixed)
    why = f"leaf {number} is another than the one held"
    return Trouble(FORK, number, NO_RECEIPT, NO_RECEIPT, why, proof)


def get_newest_key(known: HostBodies, batch: Offer) -> bytes:
    """The host's newest key, as what is known and the records that a batch brings say.

    Each record is signed by the key before it. TamperError where one does not follow.
    """
    progress = known.progress
    records = _get_records(progress.key_leaves, progress.size, batch)
    if not records:
        raise SpecError("batch: it does not bring the host's first key")
    return read_keys(batch.host, list(records)).public


def _get_records(known: tuple[bytes, ...], size: int, batch: Offer) -> tuple[bytes, ...]:
    """The host's key records: the known ones, and those that the batch brings from `size` on."""
    found = list(known)
    for data in (*[item.leaf for item in batch.items], *batch.later_keys):
        if data[:1] and data[0] in hostlog.KEY_KINDS:
            leaf = hostlog.decode_leaf(data)
            assert isinstance(leaf, hostlog.Key | hostlog.Revocation), "its kind says so"
            if leaf.leaf_index >= size:
                found.append(data)
    return tuple(found)


def _find_other_leaf(batch: Offer, held_size: int, read: Read) -> int | None:
    for index in range(batch.start, min(batch.end, held_size)):
        if merkle.compute_leaf_hash(batch.items[index - batch.start].leaf) != read(0, index):
            return index
    return None


def _mix(batch: Offer, read: Read) -> Read:
    """The hashes of the tree of what is held before the batch, and the batch's leaves."""

    def read_mixed(level: int, number: int) -> bytes:
        if (number + 1) << level <= batch.start:
            return read(level, number)
        if not level:
            return merkle.compute_leaf_hash(batch.items[number - batch.start].leaf)
        left = read_mixed(level - 1, 2 * number)
        return merkle.compute_node_hash(left, read_mixed(level - 1, 2 * number + 1))

    return read_mixed


def _prove(
    keys: HostKeys, records: tuple[bytes, ...], seen: bytes, served: bytes, read: Read
) -> bytes:
    """The fork's file of a smaller note and the tree of a larger one; empty if it is not shown."""
    if not seen or not served:
        return b""
    try:
        fork = find_served_fork(keys.publics, seen, served, read, records[1:])
    except SpecError:
        return b""
    return encode_fork(fork) if fork is not None else b""


def _make_unproven(leaf_index: int, why: str) -> Trouble:
    return Trouble(FORK, leaf_index, NO_RECEIPT, NO_RECEIPT, why)
