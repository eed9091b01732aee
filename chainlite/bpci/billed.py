"""PoE bundles that a host hands a server, beside the LogBlocks that are held.

A LogBlock is kept only with totals that its segments' headers add up to, so a window's usage, and
with it Phi and Gamma, are computed again of the LogBlocks in it, which are all of them: the ones
before and after are looked at, too. No body is needed, so one that was erased stands in no way.
Not here: LogBlocks (handed), a bundle's own rules (chainlite.economy.poe_bundle), who keeps it
(intake), HTTP (handing).
Invariants: a bundle that is kept is of this host alone, of one hour, and goes on where the bundle
before it ended, so that no LogBlock is billed twice or left out; what is signed and false is told
apart from what is not signed, and has a proof that needs nothing which is held.
Layout: README.md of this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import domains, keys, logblock
from chainlite.bpci.handed import (
    Contradiction,
    Handed,
    HandedBlock,
    Judged,
    NotYet,
    decode_handed,
    encode_handed,
    judge_handed,
)
from chainlite.bpci.store import Bundle, StoreDamage
from chainlite.bpci.verification import POE
from chainlite.codec import encode_bytes
from chainlite.economy import poe_bundle
from chainlite.errors import SpecError
from chainlite.notarised import compute_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.bpci.store import Host, LogBlock, Store
    from chainlite.economy.poe_bundle import PoeBundle


def decode_bundles(data: bytes) -> Handed:
    """What these bytes say, as decode_handed; the bodies are empty."""
    return decode_handed(data, poe_bundle.BUNDLE_LIMIT_BYTES, 0)


def judge_bundles(store: Store, host: Host, handed: Handed) -> Judged:
    """The rows of what is new and holds.

    SpecError: it does not read, or is not this host's, or not signed by its notary. NotYet: the
    LogBlocks, or the bundle before it, have not come. Contradiction: it is signed, and false.
    """
    rows = list[Bundle]()
    newest = store.find_newest_bundle(host.host, handed.public, handed.app)
    height = get_next_height(newest)
    for one in handed.blocks:
        row = Bundle(host.host, handed.public, handed.app, 0, one.block, one.signature)
        made = read_signed(row)
        row = row._replace(start=made.window.start)
        held = next((other for other in rows if other.start == row.start), None)
        held = held or store.find_bundle(*row[:4])
        if held is not None:
            _compare(store, row, held)
            continue
        check_usage(store, row, made)
        if made.parts[0].first_height != height:
            raise NotYet(f"its bundles bill up to LogBlock {height}, where the next one begins")
        height = made.parts[0].last_height + 1
        rows.append(row)
    return Judged(bundles=tuple(rows))


def judge_blocks(store: Store, host: Host, handed: Handed) -> Judged:
    """As judge_handed; and none is in a window that its notary has billed without it."""
    judged = judge_handed(store, host, handed)
    newest = store.find_newest_bundle(host.host, handed.public, handed.app)
    if newest is None or not judged.blocks:
        return judged
    window = _open_held(newest).window
    for row in judged.blocks:
        block = logblock.decode_block(row.block)
        if block.time < window.end * poe_bundle.NS:
            why = (
                f"LogBlock {block.height} is in the window at {window.start}, and is not in the "
                "PoE bundle that its notary signed of it"
            )
            raise _contradict(why, block.log_size - 1, [newest], [row])
    return judged


def get_next_height(newest: Bundle | None) -> int:
    """The first LogBlock that is not billed after this bundle, which is held."""
    return _open_held(newest).parts[0].last_height + 1 if newest else 0


def _open_held(row: Bundle) -> PoeBundle:
    """A bundle that is held, as its notary signed it."""
    try:
        made = read_signed(row)
    except SpecError as error:
        raise StoreDamage(str(error)) from None
    if made.window.start != row.start:
        raise StoreDamage(f"the PoE bundle at {row.start} is of another window")
    return made


def read_signed(row: Bundle) -> PoeBundle:
    """The bundle, whatever it says of usage; SpecError where it is not signed, or another's."""
    if not keys.is_signed(row.notary_key, domains.SIGN_POE_BUNDLE, row.bundle, row.signature):
        raise SpecError("PoE bundle: not signed by its notary")
    made = poe_bundle.read_bundle(row.bundle)
    notary = logblock.compute_notary_id(row.notary_key)
    if (made.notary, made.app) != (notary, row.app):
        raise SpecError("PoE bundle: of another notary or app than it is handed in as")
    if [part.host for part in made.parts] != [row.host]:
        raise SpecError("PoE bundle: not of the host that hands it in, and of it alone")
    if made.window.seconds != poe_bundle.WINDOW_SECONDS:
        raise SpecError(f"PoE bundle: a window here has {poe_bundle.WINDOW_SECONDS} s")
    return made


def check_usage(store: Store, row: Bundle, made: PoeBundle) -> None:
    """NotYet where its LogBlocks are not held; Contradiction where it is not what they give."""
    part = made.parts[0]
    newest = store.find_newest_block(*row[:3])
    count = newest.height + 1 if newest is not None else 0
    if part.last_height >= count:
        raise NotYet(f"{count} LogBlocks of its chain are held: it bills number {part.last_height}")
    heights = {part.first_height - 1, part.first_height, part.last_height, part.last_height + 1}
    blocks = [_find_block(store, row, at) for at in sorted(heights) if 0 <= at < count]
    points = [poe_bundle.make_point(one.block) for one in blocks]
    last = next(one for one in points if one.height == part.last_height)
    why = ""
    if not poe_bundle.is_phi_right(made):
        why = "its Phi is not what its usage and terms give"
    elif made.time < made.window.end * poe_bundle.NS:
        why = "it was made before its window was over"
    elif compute_parts(made.window, {row.host: points}) != made.parts:
        why = "its usage is not that of the LogBlocks in its window"
    if why:
        why = f"the PoE bundle of the window at {made.window.start} is signed, but {why}"
        raise _contradict(why, last.log_size - 1, [row], blocks)


def _compare(store: Store, row: Bundle, held: Bundle) -> None:
    """A window that has its bundle: the same, or the notary has signed two."""
    if row.bundle == held.bundle:
        return
    last = _find_block(store, held, get_next_height(held) - 1)
    why = f"its notary has signed another PoE bundle of the window at {row.start} than the one held"
    at = logblock.decode_block(last.block).log_size - 1
    raise _contradict(why, at, [held, row], ())


def _contradict(
    why: str, leaf_index: int, rows: Sequence[Bundle], blocks: Sequence[LogBlock]
) -> Contradiction:
    """With what the notary has signed against itself: bundles, LogBlocks, each as handed in."""
    made = (
        tuple([HandedBlock(one.bundle, one.signature, b"") for one in rows]),
        tuple([HandedBlock(one.block, one.signature, b"") for one in blocks]),
    )
    name = rows[0][1:3]
    proof = b"".join([encode_bytes(encode_handed(Handed(*name, part))) for part in made])
    return Contradiction(why, leaf_index, POE, proof)


def _find_block(store: Store, row: Bundle, height: int) -> LogBlock:
    """A LogBlock as its notary signed it: nobody is accused of what the store has lost."""
    found = store.find_block(*row[:3], height)
    if found is not None and logblock.decode_block(found.block).height == height:
        tag = domains.SIGN_LOGBLOCK
        if keys.is_signed(row.notary_key, tag, found.block, found.signature):
            return found
    raise StoreDamage(f"LogBlock {height} is missing, or not as its notary signed it")
