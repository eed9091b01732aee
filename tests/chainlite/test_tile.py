"""Tiles: paths in one spelling, widths as the specification computes them, trees from tiles."""

from __future__ import annotations

import random

import pytest

from chainlite import merkle, tile
from chainlite.errors import SpecError, TamperError
from chainlite.tile import ENTRIES, Tile


def make_tiles(leaves: list[bytes], size: int) -> dict[Tile, bytes]:
    """All tiles of a tree, from the specification's own definition (MTH of ranges)."""
    hashes = [merkle.compute_leaf_hash(leaf) for leaf in leaves[:size]]
    made = {}
    for one in tile.get_new_tiles(0, size):
        first = one.number * tile.WIDTH
        if one.level == ENTRIES:
            made[one] = tile.encode_bundle(leaves[first : first + one.width])
            continue
        step = tile.WIDTH**one.level
        numbers = range(first, first + one.width)
        made[one] = b"".join(
            [merkle.compute_root(hashes[n * step : (n + 1) * step]) for n in numbers]
        )
    return made


def test_the_specifications_example_of_a_path() -> None:
    assert tile.encode_path(Tile(0, 1234067, 256)) == "tile/0/x001/x234/067"
    assert tile.encode_path(Tile(ENTRIES, 0, 3)) == "tile/entries/000.p/3"


def test_the_specifications_example_of_a_tree_of_70000() -> None:
    tiles = [one for one in tile.get_new_tiles(0, 70_000) if one.level != ENTRIES]
    of = [[one.width for one in tiles if one.level == level] for level in range(4)]
    assert of == [[256] * 273 + [112], [256, 17], [1], []]
    tiles_256 = [one for one in tile.get_new_tiles(0, 256) if one.level != ENTRIES]
    assert tiles_256 == [Tile(0, 0, 256), Tile(1, 0, 1)]


def test_paths_come_back_and_have_one_spelling() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        level = rng.choice([ENTRIES, *range(64)])
        one = Tile(level, rng.getrandbits(rng.randint(1, 55)), rng.randint(1, 256))
        assert tile.parse_path(tile.encode_path(one)) == one


@pytest.mark.parametrize(
    "path",
    [
        "", "tile", "tile/0", "tile/0/", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/00",
        "tile/0/0000", "tile/0/x000/000", "tile/0/001/000", "tile/0/000.p/0", "tile/0/000.p/256",
        "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000/", "tile/0/../000", "/tile/0/000",
        "tile/0/0_0", "tile/0/+00", "tile/entries/x/000", "tile/0/000.p/1.p/1",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/" + "x999/" * 20 + "999", "tile/0/000\n", "tile/data/000", "tile/0/000.part",
    ],
)  # fmt: skip
def test_a_path_in_another_spelling_is_refused(path: str) -> None:
    with pytest.raises(SpecError):
        tile.parse_path(path)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 1000, 66_000])
def test_tiles_give_the_root_and_every_proof(size: int) -> None:
    leaves = [b"%d" % number for number in range(size)]
    made = make_tiles(leaves, size)
    tree = tile.TileTree(size, lambda one: made[one])
    hashes = [merkle.compute_leaf_hash(leaf) for leaf in leaves]
    root = merkle.compute_root(hashes)
    assert tree.compute_root() == root
    for index in {0, size - 1, size // 2, size // 3}:
        path = merkle.compute_inclusion(index, size, tree.read_node)
        assert merkle.is_included(hashes[index], index, size, path, root)
    for old in {1, max(1, size - 1), max(1, size // 2)}:
        path = merkle.compute_consistency(old, size, tree.read_node)
        assert merkle.is_consistent(old, size, path, merkle.compute_root(hashes[:old]), root)


def test_growing_writes_each_tile_that_a_tree_of_that_size_has() -> None:
    have: dict[tuple[int, int], int] = {}
    rng, size = random.Random(3), 0
    while size < 70_000:
        new = size + rng.choice([1, 3, 200, 256, 5000])
        for one in tile.get_new_tiles(size, new):
            assert have.get((one.level, one.number), 0) < one.width
            have[one.level, one.number] = one.width
        size = new
        want = {(one.level, one.number): one.width for one in tile.get_new_tiles(0, size)}
        assert have == want


def test_a_bundle_comes_back_and_nothing_else_is_one() -> None:
    leaves = (b"", b"a", b"x" * tile.ENTRY_LIMIT_BYTES)
    data = tile.encode_bundle(leaves)
    assert tile.parse_bundle(data, 3) == leaves
    for spoilt, width in ((data, 2), (data, 4), (data[:-1], 3), (data + b"\0", 3), (b"", 1)):
        with pytest.raises(SpecError):
            tile.parse_bundle(spoilt, width)


def test_a_tree_refuses_tiles_that_are_too_short_or_beyond_it() -> None:
    made = make_tiles([b"a"] * 300, 300)
    short = tile.TileTree(300, lambda one: made[one][:-32])
    with pytest.raises(SpecError):
        short.compute_root()
    with pytest.raises(TamperError):
        tile.TileTree(300, lambda one: made[one]).get_hashes(0, 2)
