"""LogBlocks and PoE bundles on the chain: only work whose evidence is available counts.

Not here: what they are (chainlite.logblock, chainlite.economy). Invariants: the blocks of one
(notary, host, app) follow each other; a block's log is a prefix of an available anchor, by proof;
a bundle has all that its window has here, of every host, and nothing else; one bundle per window,
and what comes after it counts in none. Source: CHAIN.md, "Transactions, mempool, state".
"""

from __future__ import annotations

from hashlib import sha256

from chainlite import domains, keys, logblock, merkle
from chainlite.economy import poe_bundle
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import records
from chainlite.ledger.operations import split_proof
from chainlite.ledger.records import ACTIVE, Host, NotaryHead, PoeWindow, Span
from chainlite.ledger.view import Refused

if TYPE_CHECKING:
    from chainlite.ledger.operations import NotaryBlock, NotaryBundle
    from chainlite.ledger.tx import Tx
    from chainlite.ledger.view import View
    from chainlite.logblock import LogBlock

NO_BUNDLE = bytes(32)
NO_BLOCKS = NotaryHead(0, logblock.ZERO_HASH, 0, 0, logblock.ZERO_TOTALS, ())
HEIGHT_BEFORE_ALL = 2**64 - 1
"""Written for "no block before": its successor, modulo 2^64, is height 0."""


def apply_block(view: View, _tx: Tx, operation: NotaryBlock) -> None:
    """A LogBlock becomes the head of its chain and counts in the window of its time."""
    block = _check_notary_block(view, operation)
    key = records.get_head_key(block.notary, block.host, block.app)
    head = view.find(key, NotaryHead) or NO_BLOCKS
    if (block.height, block.previous) != (head.height, head.hash):
        raise Refused(
            f"the next block of this chain is {head.height}", later=block.height > head.height
        )
    if block.time <= head.time or block.log_size < head.log_size:
        raise Refused("the block's time, or its host's log, goes back")
    if any(new < old for old, new in zip(head.totals, block.totals, strict=True)):
        raise Refused("a counter of usage falls")
    block_hash = logblock.compute_block_hash(operation.block)
    spans = _extend_spans(view, head, block, block_hash)
    view.put(
        key,
        NotaryHead(block.height + 1, block_hash, block.time, block.log_size, block.totals, spans),
    )


def _check_notary_block(view: View, operation: NotaryBlock) -> LogBlock:
    """The block: signed, of a host that is here, and its log available."""
    try:
        block = logblock.decode_block(operation.block)
    except SpecError as error:
        raise Refused(str(error)) from None
    signed = domains.SIGN_LOGBLOCK, operation.block, operation.signature
    _check_notary(block.notary, operation.notary, *signed)
    host = view.find(records.HOST + block.host, Host)
    if host is None or host.status != ACTIVE:
        raise Refused("the LogBlock's host is not registered, or has forked")
    point = operation.point
    if point > host.available:
        raise Refused("the anchor that the LogBlock stands on is not available", later=True)
    root = (
        host.available_root if point == host.available else records.find_point(host.points, point)
    )
    if root is None or block.log_size == 0:
        raise Refused("the anchor that the LogBlock stands on is not known any more")
    if not merkle.is_consistent(
        block.log_size, point, split_proof(operation.proof), block.log_root, root
    ):
        raise Refused("the LogBlock's log is not the one that is anchored")
    return block


def _check_notary(
    notary: bytes, public: bytes, tag: bytes, message: bytes, signature: bytes
) -> None:
    """The key is the one that the notary's id is of, and signed the message."""
    named = notary == logblock.compute_notary_id(public)
    if not named or not keys.is_signed(public, tag, message, signature):
        raise Refused("it is not signed by its notary")


def _extend_spans(
    view: View, head: NotaryHead, block: LogBlock, block_hash: bytes
) -> tuple[Span, ...]:
    """The spans of the chain after a block; the window's row counts a host that is new to it."""
    start = poe_bundle.find_window(block.time).start
    row = records.get_windows_key(block.notary, block.app)
    windows = {one.start: one for one in view.find(row, tuple) or ()}
    window = windows.get(start, PoeWindow(start, 0, NO_BUNDLE, 0, 1))
    if window.bundle_hash != NO_BUNDLE:
        return head.spans
    last = (block.height, block_hash, block.totals)
    if head.spans and head.spans[-1].start == start:
        return (*head.spans[:-1], Span(*head.spans[-1][:4], *last))
    before = ((head.height - 1) % 2**64, head.hash, head.totals)
    windows[start] = window._replace(hosts=window.hosts + 1)
    view.put(row, tuple([windows[one] for one in sorted(windows)][-records.BUNDLES_KEPT :]))
    return (*head.spans, Span(start, *before, *last))[-records.WINDOWS_KEPT :]


def apply_bundle(view: View, _tx: Tx, operation: NotaryBundle) -> None:
    """An app's window is settled: the bundle's parts are what the chain has, host by host."""
    try:
        bundle = poe_bundle.decode_bundle(operation.bundle)
    except SpecError as error:
        raise Refused(str(error)) from None
    signed = domains.SIGN_POE_BUNDLE, operation.bundle, operation.signature
    _check_notary(bundle.notary, operation.notary, *signed)
    start, seconds = bundle.window
    if seconds != poe_bundle.WINDOW_SECONDS:
        raise Refused(f"a window on the chain has {poe_bundle.WINDOW_SECONDS} s")
    if view.timestamp_ms < (start + seconds) * 1000:
        raise Refused("the window is not over", later=True)
    row = records.get_windows_key(bundle.notary, bundle.app)
    windows = {one.start: one for one in view.find(row, tuple) or ()}
    window = windows.get(start)
    if window is None or window.bundle_hash != NO_BUNDLE:
        raise Refused("the window has no LogBlocks here, or has its bundle")
    if len(bundle.parts) != window.hosts:
        raise Refused(f"the bundle has {len(bundle.parts)} hosts; the window has {window.hosts}")
    for part in bundle.parts:
        if part != _make_part(view, bundle, part.host):
            raise Refused(f"the part of host {part.host.hex()[:12]} is not what the chain has")
    digest = sha256(operation.bundle).digest()
    windows[start] = PoeWindow(start, window.hosts, digest, *bundle.phi)
    view.put(row, tuple([windows[one] for one in sorted(windows)]))


def _make_part(view: View, bundle: poe_bundle.PoeBundle, host: bytes) -> poe_bundle.Part | None:
    """What the chain has of a host in the bundle's window."""
    head = view.find(records.get_head_key(bundle.notary, host, bundle.app), NotaryHead)
    for span in head.spans if head else ():
        if span.start == bundle.window.start:
            first = (span.before_height + 1) % 2**64
            usage = zip(span.before_totals, span.last_totals, strict=True)
            used = tuple([now - then for then, now in usage])
            return poe_bundle.Part(
                host, first, span.last_height, span.before_hash, span.last_hash, used
            )
    return None
