"""Check the LogBlocks that a server has stored: each against its notary's signature, its chain, and
the leaves of the host that it groups; how far runs are said to be notarised; and the PoE bundles,
each against the LogBlocks of its window.

Not here: the leaves themselves (audit), what is kept in the first place (handed). Invariant: it
writes nothing, and one damaged chain hides no other. What is not noticed: a chain whose newest
blocks, or bundles, were taken away together with what they say of runs, and the host's stored bytes
mended; its notary hands them in again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog
from chainlite.bpci.billed import check_usage, read_signed
from chainlite.bpci.handed import (
    NotYet,
    decode_leaves,
    measure_block,
    measure_bundle,
    open_chain,
)
from chainlite.bpci.rows import get_header
from chainlite.bpci.store import Notarised, StoreDamage
from chainlite.errors import SpecError, TamperError
from chainlite.logblock import SignedHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.store import Bundle, LogBlock, Store
    from chainlite.logblock import ChainEnd

STEP = 256


class BadBlock(NamedTuple):
    """A row that differs: its table, the LogBlock's height, the leaf or the window, and why."""

    table: str
    place: int
    why: str


def audit_blocks(store: Store, host: bytes) -> Iterator[BadBlock]:
    """Every row of a host that differs."""
    ends: dict[tuple[bytes, str], ChainEnd] = {}
    spent, found = set[tuple[bytes, str]](), dict[Notarised, int]()
    after: tuple[bytes, str, int] = (b"", "", -1)
    while rows := store.read_blocks(host, *after, STEP):
        for row in rows:
            name = (row.notary_key, row.app)
            end = ends.setdefault(name, open_chain(host, *name, None))
            if name in spent:
                continue  # what follows from a damaged block says nothing more
            try:
                for notarised in _check(store, row, end):
                    found[notarised._replace(leaf_index=0)] = notarised.leaf_index
            except (SpecError, TamperError) as error:
                yield BadBlock("logblocks", row.height, str(error))
                spent.add(name)
        after = rows[-1][1:4]
    yield from _check_runs(store, host, spent, found)
    yield from _check_bundles(store, host)


def measure_blocks(store: Store, host: bytes) -> int:
    """The bytes of a host's LogBlocks and PoE bundles that are stored."""
    size, after = 0, (b"", "", -1)
    while rows := store.read_blocks(host, *after, STEP):
        size += sum(map(measure_block, rows))
        after = rows[-1][1:4]
    return size + sum(map(measure_bundle, _iterate_bundles(store, host)))


def _iterate_bundles(store: Store, host: bytes) -> Iterator[Bundle]:
    after: tuple[bytes, str, int] = (b"", "", -1)
    while rows := store.read_bundles(host, *after, STEP):
        yield from rows
        after = rows[-1][1:4]


def _check_bundles(store: Store, host: bytes) -> Iterator[BadBlock]:
    """Each as when it came, and no window of a chain is missing between two others."""
    heights: dict[tuple[bytes, str], int] = {}
    for row in _iterate_bundles(store, host):
        name = (row.notary_key, row.app)
        try:
            made = read_signed(row)
            if made.window.start != row.start:
                raise TamperError("it is of another window")
            part, height = made.parts[0], heights.get(name, 0)
            heights[name] = part.last_height + 1
            if part.first_height != height:
                raise TamperError("the bundle before it is missing")
            check_usage(store, row, made)
        except NotYet as error:
            yield BadBlock("logblocks", part.last_height, str(error))
        except StoreDamage:
            continue  # a LogBlock of it is damaged, and named
        except (SpecError, TamperError) as error:
            yield BadBlock("bundles", row.start, str(error))


def _check(store: Store, row: LogBlock, end: ChainEnd) -> list[Notarised]:
    """How far runs are with this block; TamperError if it is not the next of its chain."""
    if row.height != end.height:
        raise TamperError(f"LogBlock {end.height} is missing before it")
    segments, runs = list[SignedHeader](), list[Notarised]()
    for place in decode_leaves(row.leaves):
        leaves = store.read_leaves(row.host, place, 1)
        if not leaves or leaves[0].leaf_index != place or leaves[0].kind != hostlog.SEGMENT_KIND:
            raise TamperError(f"leaf {place} is no segment that is held")
        leaf = hostlog.decode_leaf(leaves[0].data)
        assert isinstance(leaf, hostlog.Segment), "its kind says so"
        segments.append(SignedHeader(*leaf))
        header = get_header(leaves[0].data)
        runs.append(Notarised(*row[:3], header.container, header.run, place))
    end.take(row.block, row.signature, segments, row.notary_key)
    return runs


def _check_runs(
    store: Store, host: bytes, spent: set[tuple[bytes, str]], found: dict[Notarised, int]
) -> Iterator[BadBlock]:
    after = Notarised(host, b"", "", b"", -1, 0)
    while rows := store.read_notarised(after, STEP):
        for row in rows:
            wanted = found.pop(row._replace(leaf_index=0), None)
            if wanted != row.leaf_index and row[1:3] not in spent:
                yield BadBlock("notarised", row.leaf_index, "it does not follow from the LogBlocks")
        after = rows[-1]
    for missing, place in found.items():
        if missing[1:3] not in spent:
            yield BadBlock("notarised", place, "it is missing")
