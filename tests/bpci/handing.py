"""LogBlocks of a test's own host, by a real notary, as they are handed in."""

from __future__ import annotations

from chainlite import keys, logblock
from chainlite.bpci.handed import Handed, HandedBlock, encode_handed
from chainlite.economy import poe_bundle
from docklock.evidence.notary_key import ensure_notary_key
from docklock.notary import get_directory
from docklock.paths import Paths
from enc.notary.store import Store
from tests.enc.notarising import NOW_MS, notarise

HOUR_MS = poe_bundle.WINDOW_SECONDS * 1000
NOTARY = keys.make_key_pair(b"\x21" * 32)
"""Another one, whose blocks a test can make as it likes."""


def make_handed(paths: Paths, app: str = "web", *, is_new: bool = True) -> Handed:
    """All of the app's blocks; with `is_new` after one more that has what is new."""
    if is_new:
        notarise(paths, flush=True)
    with Store(get_directory(paths), None) as store:
        [number] = [number for number, _, name in store.get_chain_names() if name == app]
        blocks = tuple([
            HandedBlock(row.block, row.signature, body)
            for row, body in store.iterate_blocks(number)
        ])  # fmt: skip
        return Handed(store.get_public(), app, blocks)


def resign(handed: Handed, at: int, **changes: object) -> Handed:
    """The blocks up to `at`, by NOTARY, the last one with these changes."""
    made, previous = [], logblock.ZERO_HASH
    for number, one in enumerate(handed.blocks[: at + 1]):
        block = logblock.decode_block(one.block)._replace(
            notary=logblock.compute_notary_id(NOTARY.public), previous=previous
        )
        if number == at:
            block = block._replace(**changes)  # type: ignore[arg-type]
        data = logblock.encode_block(block)
        previous = logblock.compute_block_hash(data)
        made.append(HandedBlock(data, logblock.sign_block(data, NOTARY), one.body))
    return Handed(NOTARY.public, handed.app, tuple(made))


def make_handed_data(paths: Paths, app: str = "web") -> bytes:
    return encode_handed(make_handed(paths, app))


def make_bundles(paths: Paths, app: str = "web", *, hours: int) -> Handed:
    """The bundles of an app, so many hours after NOW_MS."""
    notarise(paths, NOW_MS + hours * HOUR_MS)
    with Store(get_directory(paths), None) as store:
        blocks = tuple([
            HandedBlock(row.bundle, row.signature, b"")
            for row in store.get_windows(app) if row.bundle
        ])  # fmt: skip
        return Handed(store.get_public(), app, blocks)


def sign_bundle(paths: Paths, made: poe_bundle.PoeBundle) -> HandedBlock:
    """Whatever it says, signed by the host's own notary."""
    data = poe_bundle.encode_bundle(made)
    return HandedBlock(data, poe_bundle.sign_bundle(data, ensure_notary_key(paths)), b"")
