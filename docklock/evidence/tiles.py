"""The host's log as files for everyone: tiles and entry bundles, then the checkpoint over them.

`log/` below the state directory is what `docklock log serve` serves: `checkpoint`, `tile/<L>/<N>`,
`tile/entries/<N>`, partial ones below `.p/`. Who edits a file there gains nothing: its hash is not
under the signed root. Not here: the tree and its leaves (host_log), whose copy this is; checks and
repair of both (log_check); paths and bundles as such (chainlite.tile).
Order of a publication, each step durable: the leaves are in host.db; bundles and tiles; the
checkpoint. Invariants: a checkpoint is signed by both keys and covers only what its files give; no
published checkpoint is smaller than the one before, or of another history; a full tile is never
changed; leaves hold no values, so neither does a bundle.
Source: C2SP tlog-tiles, tlog-checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time

from chainlite import checkpoint, cosignature, merkle, tile
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING
from chainlite.tlogproof import LogProof
from docklock.evidence.host_log import HostLog
from docklock.evidence.key_file import sync_directory
from docklock.evidence.keyring import ensure_host_key, get_public_key
from docklock.evidence.log_keys import ensure_log_key, get_log_keys
from docklock.evidence.published import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from chainlite.checkpoint import Checkpoint
    from chainlite.note import VerifierKey
    from chainlite.tile import Tile
    from docklock.evidence.keyring import HostKey
    from docklock.paths import Paths

BATCH_FILES = 64
"""Files that are written before they are synced together."""
TRIES = 5
"""A rotation by another process may come between the checkpoint that is read and the key."""
PART = ".part"


class LogLock:
    """For `with`: whoever writes the log's files, one at a time."""

    __slots__ = ("_fd",)

    def __init__(self, paths: Paths) -> None:
        """Wait for the lock."""
        os.makedirs(paths.log, mode=0o755, exist_ok=True)
        self._fd = os.open(paths.log, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def publish(paths: Paths, *, is_spoilt: bool = False) -> bytes:
    """Bring tiles and checkpoint up to the log of now; returns the checkpoint.

    With `is_spoilt` the checkpoint that lies there is no checkpoint, and all is written anew: the
    caller has seen that host.db reaches what was published. TamperError: host.db and what was
    published before are of two histories.
    """
    key = ensure_host_key(paths)
    ensure_log_key(paths, key)
    with LogLock(paths):
        for _ in range(TRIES):
            note = _publish(paths, key, b"" if is_spoilt else read_published(paths))
            if note:
                return note
    raise StateError("the host's key changed again and again: try again")


def read_published(paths: Paths) -> bytes:
    """The checkpoint that was published last; empty if there is none."""
    try:
        with open(f"{paths.log}/{PUBLISHED}", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def read_tile(paths: Paths, wanted: Tile) -> bytes:
    """The bytes of a tile or bundle; TamperError where its file is not there."""
    path = tile.encode_path(wanted)
    try:
        with open(f"{paths.log}/{path}", "rb") as file:
            return file.read(tile.BUNDLE_LIMIT_BYTES + 1)
    except OSError as error:
        raise TamperError(f"log/{path}: {error.strerror}") from None


def make_tile(log: HostLog, wanted: Tile) -> bytes:
    """The bytes of a tile or bundle from host.db; TamperError where they are not of its tree."""
    first = wanted.number * tile.WIDTH
    path = tile.encode_path(wanted)
    if wanted.level == tile.ENTRIES:
        leaves = log.read_leaves(first, wanted.width)
        hashes = [merkle.compute_leaf_hash(leaf) for leaf in leaves]
        if tuple(hashes) != log.read_hashes(0, first, wanted.width):
            raise TamperError(f"host.db: a leaf of {path} is not the one that was logged")
        return tile.encode_bundle(leaves)
    level = tile.HEIGHT * wanted.level
    nodes = log.read_hashes(level, first, wanted.width)
    if wanted.width == tile.WIDTH:
        above = log.read_hashes(level + tile.HEIGHT, wanted.number, 1)
        if merkle.compute_root(nodes) != above[0]:
            raise TamperError(f"host.db: the hashes of {path} are not those of the tree")
    return b"".join(nodes)


def write_tiles(paths: Paths, files: Iterable[tuple[Tile, bytes]]) -> None:
    """Write files durably under their names, in batches."""
    batch: list[tuple[str, bytes]] = []
    for where, data in files:
        batch.append((f"{paths.log}/{tile.encode_path(where)}", data))
        if len(batch) == BATCH_FILES:
            write_durably(paths.log, batch)
            batch = []
    write_durably(paths.log, batch)


def write_durably(top: str, files: list[tuple[str, bytes]]) -> None:
    """Each file whole under its name or not at all, then their directories up to `top`."""
    directories = set[str]()
    for path, data in files:
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        while directory not in directories:
            directories.add(directory)
            if directory == top:
                break
            directory = os.path.dirname(directory)
        fd = os.open(path + PART, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if os.write(fd, data) != len(data):
                raise StateError(f"{path}: cannot write it: the disk is full")
        finally:
            os.close(fd)
    for path, _ in files:
        fd = os.open(path + PART, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(path + PART, path)
    for directory in sorted(directories, key=len, reverse=True):
        sync_directory(directory)


def write_checkpoint(paths: Paths, note: bytes) -> None:
    """Publish a checkpoint whose files are there, durably."""
    write_durably(paths.log, [(f"{paths.log}/{PUBLISHED}", note)])


def make_log_proof(paths: Paths, leaf_index: int) -> LogProof:
    """Publish, then the proof of one leaf under that checkpoint, from the tiles alone."""
    note = publish(paths)
    size = checkpoint.parse_claim(note).size
    if not 0 <= leaf_index < size:
        raise SpecError(f"log proof: the log has {size} leaves, not {leaf_index}")
    tree = tile.TileTree(size, lambda wanted: read_tile(paths, wanted))
    number = leaf_index // tile.WIDTH
    bundle = tile.Tile(tile.ENTRIES, number, tile.get_width(tile.ENTRIES, number, size))
    leaves = tile.parse_bundle(read_tile(paths, bundle), bundle.width)
    path = merkle.compute_inclusion(leaf_index, size, tree.read_node)
    return LogProof(leaves[leaf_index % tile.WIDTH], leaf_index, path, note)


def read_log_keys(paths: Paths) -> tuple[VerifierKey, ...]:
    """The keys that sign this host's checkpoints now."""
    with HostLog(paths, None) as log, log.read():
        return get_log_keys(log, get_public_key(paths))


def _publish(paths: Paths, key: HostKey, before: bytes) -> bytes:
    """One publication after that one; empty if the key that signed the log has gone."""
    with HostLog(paths, None) as log, log.read():
        log_keys = get_log_keys(log, key.enrolled)
        note = log.get_note()
        state = checkpoint.parse_checkpoint(note, log_keys[0].public)
        if log.compute_root(state.size) != state.root:
            raise TamperError("host.db: the tree is not the one under its checkpoint")
        old = _check_before(log, before, state)
        if old == state and _is_signed(before, log_keys):
            return before
        new = tile.get_new_tiles(old.size, state.size)
        write_tiles(paths, ((one, make_tile(log, one)) for one in new))
        tree = tile.TileTree(state.size, lambda wanted: read_tile(paths, wanted))
        if tree.compute_root() != state.root:
            raise TamperError("log/tile: the tiles are not those of the tree")
        number = log.get_key_number()
    try:
        key.hold(number)
    except StateError:
        return b""
    signer = key.make_mldsa_signer()
    key.drop()
    if signer.public != log_keys[1].public:
        raise TamperError("the log names another ML-DSA key than the one of this host's key")
    whole = cosignature.cosign_mldsa(note, log_keys[1], signer.sign, int(time.time()))
    write_checkpoint(paths, whole)
    _remove_partial(paths, old.size, state.size)
    return whole


def _check_before(log: HostLog, before: bytes, state: Checkpoint) -> Checkpoint:
    """The state that was published before; TamperError if the log does not continue it."""
    if not before:
        return state._replace(size=0, root=merkle.EMPTY_ROOT)
    try:
        old = checkpoint.parse_claim(before)
    except SpecError as error:
        raise TamperError(f"log/{PUBLISHED}: {error}: `docklock log fsck` says more") from None
    if old.origin != state.origin:
        raise TamperError(f"log/{PUBLISHED}: is of {old.origin}, not of {state.origin}")
    if old.size > state.size:
        raise TamperError(
            f"host.db has {state.size} leaves, and a checkpoint of {old.size} was published: "
            "it was cut or restored: `docklock log fsck` says more"
        )
    if log.compute_root(old.size) != old.root:
        raise TamperError(f"another history of {old.size} leaves was published: a fork")
    return old


def _is_signed(note: bytes, log_keys: tuple[VerifierKey, ...]) -> bool:
    try:
        cosignature.check_checkpoint(note, log_keys)
    except SpecError:
        return False
    return True


def _remove_partial(paths: Paths, old_size: int, new_size: int) -> None:
    """Drop the partial tiles of those that are full now: C2SP lets a log do so."""
    for one in tile.get_new_tiles(old_size, new_size):
        if one.width == tile.WIDTH:
            shutil.rmtree(f"{paths.log}/{tile.encode_path(one)}.p", ignore_errors=True)
