"""Make host logs of many leaves under a root of a test's own, and what is served of them."""

from __future__ import annotations

from pathlib import Path

from chainlite import checkpoint, cosignature, merkle, tile
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.tiles import read_log_keys, read_published, read_tile
from docklock.paths import Paths


def grow(paths: Paths, count: int) -> int:
    """Append operations in one transaction; the log's size."""
    with HostLog(paths, ensure_host_key(paths)) as log:
        with log.write():
            for number in range(count):
                labels = (("number", str(number)),)
                log.append_operation("exec", b"\x01" * 32, labels)
        return log.get_size()


def check_served(paths: Paths) -> checkpoint.Checkpoint:
    """What a stranger checks, from the files alone: both signatures, tiles, bundles, root."""
    state = cosignature.check_checkpoint(read_published(paths), read_log_keys(paths))
    hashes: list[bytes] = []
    for one in tile.get_new_tiles(0, state.size):
        data = read_tile(paths, one)
        if one.level == tile.ENTRIES:
            leaves = tile.parse_bundle(data, one.width)
            hashes += [merkle.compute_leaf_hash(leaf) for leaf in leaves]
    assert merkle.compute_root(hashes) == state.root
    for one in tile.get_new_tiles(0, state.size):
        if one.level == tile.ENTRIES:
            continue
        step, first = tile.WIDTH**one.level, one.number * tile.WIDTH
        wanted = [
            merkle.compute_root(hashes[n * step : (n + 1) * step])
            for n in range(first, first + one.width)
        ]
        assert read_tile(paths, one) == b"".join(wanted)
    return state


def get_files(paths: Paths) -> dict[str, bytes]:
    """Every file of the log's directory."""
    top = Path(paths.log)
    return {
        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
    }
