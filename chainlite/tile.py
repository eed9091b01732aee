"""Tiles: a log's hashes and entries as files of up to 256 (C2SP tlog-tiles). Pure.

Not here: who stores and serves them (docklock.evidence.tiles, tile_server), the checkpoint that
says how many there are (checkpoint). Words: tile `number` of `level` has `width` hashes, each over
256 ** level leaves; an entry bundle is at level ENTRIES and beside the tiles of level 0.
Invariants: a path has one spelling; a bundle decodes to leaves that encode to the same bytes.
Source: C2SP tlog-tiles.
"""

from __future__ import annotations

from chainlite import merkle
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HEIGHT = 8
WIDTH = 256
LEVEL_MAX = 63
NUMBER_MAX = 2**55
"""A log has less than 2 ** 63 leaves."""
ENTRIES = -1
ENTRY_LIMIT_BYTES = 65535
BUNDLE_LIMIT_BYTES = WIDTH * (2 + ENTRY_LIMIT_BYTES)
TILE_BYTES = WIDTH * merkle.HASH_BYTES
_PATH_LIMIT = 100


class Tile(NamedTuple):
    """A tile or bundle by its place; `width` is 256, or less for the last one of its level."""

    level: int
    number: int
    width: int


def encode_path(tile: Tile) -> str:
    """`tile/<L>/<N>[.p/<W>]`, the address below the log's own."""
    assert 0 < tile.width <= WIDTH and 0 <= tile.number <= NUMBER_MAX
    number, parts = tile.number, list[str]()
    while True:
        number, rest = divmod(number, 1000)
        parts.append(f"{rest:03}" if not parts else f"x{rest:03}")
        if not number:
            break
    level = "entries" if tile.level == ENTRIES else str(tile.level)
    suffix = "" if tile.width == WIDTH else f".p/{tile.width}"
    return f"tile/{level}/{'/'.join(reversed(parts))}{suffix}"


def parse_path(path: str) -> Tile:
    """The tile of a path; SpecError for one in another spelling."""
    head, _, suffix = path.partition(".p/")
    parts = head.split("/")
    try:
        if len(path) > _PATH_LIMIT or not path.isascii() or len(parts) < 3 or parts[0] != "tile":
            raise ValueError
        level = ENTRIES if parts[1] == "entries" else int(parts[1])
        number = int("".join([part.removeprefix("x") for part in parts[2:]]))
        tile = Tile(level, number, int(suffix) if suffix else WIDTH)
        if not ENTRIES <= level <= LEVEL_MAX or number > NUMBER_MAX or not 0 < tile.width <= WIDTH:
            raise ValueError
    except ValueError:
        raise SpecError("tile: not a tile's path") from None
    if encode_path(tile) != path:
        raise SpecError("tile: not a tile's path in its one spelling")
    return tile


def get_width(level: int, number: int, tree_size: int) -> int:
    """How many hashes the tile has in a tree of this size: 0 to 256."""
    count = tree_size >> (HEIGHT * max(level, 0))
    return min(max(count - number * WIDTH, 0), WIDTH)


def get_new_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """The bundles and tiles of a tree that a tree of the first `old_size` leaves has not.

    Level by level, entries first, in order of their numbers.
    """
    for level in (ENTRIES, *range((LEVEL_MAX + 1) // HEIGHT)):
        shift = HEIGHT * max(level, 0)
        if not new_size >> shift:
            return
        old, new = old_size >> shift, new_size >> shift
        if old == new:
            continue
        for number in range(old // WIDTH, (new - 1) // WIDTH + 1):
            yield Tile(level, number, get_width(level, number, new_size))


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """The entries of a bundle: each a u16 length and its bytes."""
    sizes = list(map(len, leaves))
    heads = {size: size.to_bytes(2, "big") for size in set(sizes)}
    parts = [b""] * (2 * len(leaves))
    parts[::2] = [heads[size] for size in sizes]
    parts[1::2] = leaves
    return b"".join(parts)


def parse_bundle(data: bytes, width: int) -> tuple[bytes, ...]:
    """The leaves of a bundle; SpecError where it has not exactly `width` of them."""
    leaves, at = list[bytes](), 0
    while at < len(data) and len(leaves) < width:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            break
        leaves.append(data[at + 2 : end])
        at = end
    if at != len(data) or len(leaves) != width:
        raise SpecError(f"entry bundle: has not {width} whole entries and nothing more")
    return tuple(leaves)


def split_hashes(data: bytes, width: int) -> tuple[bytes, ...]:
    """The hashes of a tile; SpecError where it has not exactly `width`."""
    if len(data) != width * merkle.HASH_BYTES:
        raise SpecError(f"tile: {len(data)} bytes, not {width * merkle.HASH_BYTES}")
    step = merkle.HASH_BYTES
    return tuple([data[at : at + step] for at in range(0, len(data), step)])


class TileTree:
    """A tree of `tree_size` leaves whose tiles `read` gives: `read_node` is for merkle's proofs.

    Nothing is believed of a tile before a root that was computed from it is that of a checkpoint.
    """

    __slots__ = ("_cache", "_read", "tree_size")

    def __init__(self, tree_size: int, read: Callable[[Tile], bytes]) -> None:
        """`read` raises what it likes for a tile that is not there."""
        self.tree_size = tree_size
        self._read = read
        self._cache: dict[tuple[int, int], tuple[bytes, ...]] = {}

    def get_hashes(self, level: int, number: int) -> tuple[bytes, ...]:
        """The hashes of a tile, kept from then on."""
        key = (level, number)
        if key not in self._cache:
            width = get_width(level, number, self.tree_size)
            if width == 0:
                raise TamperError(f"tile {number} of level {level} is beyond the tree")
            data = self._read(Tile(level, number, width))
            self._cache[key] = split_hashes(data, width)
        return self._cache[key]

    def read_node(self, level: int, number: int) -> bytes:
        """The hash of the complete subtree over leaves from `number << level` on."""
        tile_level, inner = divmod(level, HEIGHT)
        first = number << inner
        hashes = self.get_hashes(tile_level, first // WIDTH)
        at = first % WIDTH
        nodes = hashes[at : at + (1 << inner)]
        if len(nodes) != 1 << inner:
            raise TamperError(f"tile {first // WIDTH} of level {tile_level} is too short")
        return merkle.compute_root(nodes)

    def compute_root(self) -> bytes:
        """The root that the tiles give."""
        return merkle.compute_tree_root(self.tree_size, self.read_node)
