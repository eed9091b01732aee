"""What a log serves, read over HTTP: its checkpoint and as many of its tiles as a question needs.

Not here: what the tiles mean (chainlite.tile), what is done with the answer (witness.py).
Invariant: at most TILES_MAX tiles are fetched for one question. Source: C2SP tlog-tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import checkpoint, tile
from chainlite.note import NOTE_LIMIT_BYTES
from docklock.witness.client import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from docklock.witness.client import Client

    Found = TypeVar("Found")

TILES_MAX = 512


class _Wanted(Exception):
    """A tile that was not fetched yet."""

    def __init__(self, wanted: tile.Tile) -> None:
        super().__init__(wanted)
        self.wanted = wanted


async def fetch_checkpoint(log: Client) -> bytes:
    """The note that a log serves now; PeerError."""
    got = await log.get("/checkpoint", NOTE_LIMIT_BYTES)
    if got.status != 200:
        raise PeerError(f"{log.base}: no checkpoint (status {got.status})")
    return got.body


async def ask_tree(
    log: Client, served: bytes, question: Callable[[Callable[[int, int], bytes]], Found]
) -> Found:
    """What `question` makes of the tree under `served`: it is given a reader of its hashes.

    PeerError where a tile is not served; whatever `question` raises. Nothing is believed here: the
    question itself holds what it is given against the checkpoint.
    """
    tiles: dict[tile.Tile, bytes] = {}

    def read(wanted: tile.Tile) -> bytes:
        if wanted not in tiles:
            raise _Wanted(wanted)
        return tiles[wanted]

    tree = tile.TileTree(checkpoint.parse_claim(served).size, read)
    while True:
        try:
            return question(tree.read_node)
        except _Wanted as missing:
            if len(tiles) >= TILES_MAX:
                raise PeerError(f"{log.base}: more than {TILES_MAX} tiles were needed") from None
            path = f"/{tile.encode_path(missing.wanted)}"
            got = await log.get(path, tile.TILE_BYTES)
            if got.status != 200:
                raise PeerError(f"{log.base}{path}: status {got.status}") from None
            tiles[missing.wanted] = got.body
