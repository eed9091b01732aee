"""`docklock log fsck`: hold host.db and the served files against the signed checkpoints.

What is right is what gives the root of the newest checkpoint that the host's key has signed and
that can be reached from any mixture of the copies (log_tree): database leaves, database hashes,
tiles, bundles. Each difference from it is a defect with its place. Not here: mending (log_repair),
what leaves say together (audit). Nothing is written.
"""

from __future__ import annotations

from hashlib import sha256  # of OpenSSL: this hashes much
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, hostlog, logkeys, merkle, tile
from chainlite.errors import SpecError
from docklock.evidence.key_file import read_head
from docklock.evidence.keyring import get_key_path, get_public_key, has_host_key
from docklock.evidence.log_copies import Database, Files, find_bad_pages, find_host_keys
from docklock.evidence.log_tree import Authentic, Chunk, compute_levels, find_authentic
from docklock.evidence.published import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chainlite.checkpoint import Checkpoint
    from chainlite.hostkeys import HostKeys
    from docklock.paths import Paths

LEAF_TABLE, NODE_TABLE = 0, 1
FILES, ROWS, DATABASE, NOTHING = "files", "rows", "database", "nothing"
"""What has to be written anew; NOTHING: no copy here can mend it."""
SHOWN_MAX = 100


class Defect(NamedTuple):
    """What is wrong where, and what has to be written to mend it.

    `at` is a tile's fields, or the table, level and number of a row; empty for what is neither.
    """

    place: str
    why: str
    mend: str
    at: tuple[int, ...] = ()


class Signed(NamedTuple):
    """A checkpoint of this host, by its key; `where` it lay."""

    state: Checkpoint
    note: bytes
    where: str


class LogCheck(NamedTuple):
    """What was found. `verified` is the newest checkpoint whose leaves are all here, `leaves` their
    hashes; `published` the one in `log/`, `newest` the newest that was signed.
    """

    defects: tuple[Defect, ...]
    verified: Signed | None
    newest: Signed | None
    published: Signed | None
    signed: tuple[Signed, ...]
    leaves: Authentic
    mended: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        """Whether something is wrong still."""
        return bool(self.defects)

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": not self.defects,
            "size": str(self.verified.state.size) if self.verified else None,
            "published": str(self.published.state.size) if self.published else None,
            "defects": [
                {"place": one.place, "why": one.why, "mend": one.mend} for one in self.defects
            ],
            "mended": list(self.mended),
        }

    def render(self) -> str:
        """For people: a line each."""
        lines = [f"mended: {what}" for what in self.mended]
        lines += [f"{defect.place}: {defect.why}" for defect in self.defects[:SHOWN_MAX]]
        if len(self.defects) > SHOWN_MAX:
            lines.append(f"and {len(self.defects) - SHOWN_MAX} more")
        size = f"{self.verified.state.size} leaves" if self.verified else "no leaves"
        hints = {FILES: "--repair", ROWS: "--repair", DATABASE: "--rebuild"}
        wanted = {hints[defect.mend] for defect in self.defects if defect.mend in hints}
        hint = f"; {max(wanted)} mends what it can" if wanted else ""
        whole = f"{len(self.defects)} defects{hint}" if self.defects else "nothing is wrong"
        lines.append(f"{size} verified under a signed checkpoint: {whole}")
        return "\n".join(lines) + "\n"


def check_log(paths: Paths) -> LogCheck:
    """All that is wrong with the log's copies. StateError where this host has no key."""
    from concurrent.futures import ThreadPoolExecutor

    database = Database(paths)
    try:
        with ThreadPoolExecutor(max_workers=1) as beside:
            pages = beside.submit(find_bad_pages, paths)
            return _Check(paths, database, Files(paths), pages.result).run()
    finally:
        database.close()


class _Check:
    """One check: what was read so far, and what of it is wrong."""

    def __init__(
        self, paths: Paths, database: Database, files: Files, get_pages: Callable[[], list[str]]
    ) -> None:
        """`get_pages` gives what is wrong with the database's pages, once that is known."""
        self._database, self._files, self._get_pages = database, files, get_pages
        self._enrolled = get_public_key(paths)
        self._signer = read_head(get_key_path(paths)).public if has_host_key(paths) else b""
        self._defects: list[Defect] = []
        self._suspects: set[int] = set()
        self._is_sound = True

    def run(self) -> LogCheck:
        """Read the copies, find what is authentic, compare."""
        known = self._find_keys()
        self._row = self._database.read_state()
        self._published = self._read_published(known)
        signed = self._collect_signed(known)
        size = max([one.state.size for one in signed], default=0)
        chunks = [self._read_chunk(number, size) for number in range(-(-size // tile.WIDTH))]
        verified, authentic = self._choose(chunks, signed)
        self._report_database(signed)
        if verified is not None:
            self._compare(verified, authentic)
            for one in signed:
                if one.state.size <= verified.state.size:
                    self._check_root(one, authentic)
        newest = signed[0] if signed else None
        found = (verified, newest, self._published, tuple(signed), authentic)
        return LogCheck(tuple(self._defects), *found)

    def _find_keys(self) -> HostKeys:
        leaves = [leaf for kind in hostlog.KEY_KINDS for leaf in self._database.read_kind(kind)]
        known = find_host_keys(self._enrolled, sorted(leaves, key=_get_place))
        if self._signer in known.publics:
            return known
        extent = self._files.get_extent()
        found: list[bytes] = []
        for number in range(-(-extent // tile.WIDTH)):
            width = min(tile.WIDTH, extent - number * tile.WIDTH)
            kept = self._files.read_leaves(number, width)
            found += [leaf for leaf in kept if leaf and leaf[0] in hostlog.KEY_KINDS]
        other = find_host_keys(self._enrolled, found)
        return known if known.number >= other.number else other

    def _read_published(self, known: HostKeys) -> Signed | None:
        data = self._files.read_name(PUBLISHED)
        if not data:
            if self._files.get_extent():
                self._report(f"log/{PUBLISHED}", "is missing, and its tiles are there", FILES)
            return None
        try:
            state = _parse_own(data, known)
            keys = [leaf.public for leaf in self._read_mldsa_keys()]
            _check_both(data, known, keys)
        except SpecError as error:
            self._report(f"log/{PUBLISHED}", str(error), FILES)
            return None
        return Signed(state, data, f"log/{PUBLISHED}")

    def _read_mldsa_keys(self) -> list[hostlog.MldsaKey]:
        found = []
        extent = self._files.get_extent()
        leaves = self._database.read_kind(hostlog.MLDSA_KEY_KIND)
        for number in range(-(-extent // tile.WIDTH)) if not leaves else ():
            width = min(tile.WIDTH, extent - number * tile.WIDTH)
            leaves += [leaf for leaf in self._files.read_leaves(number, width) if leaf]
        for data in leaves:
            if data[:1] != bytes([hostlog.MLDSA_KEY_KIND]):
                continue
            try:
                leaf = hostlog.decode_leaf(data)
            except SpecError:
                continue
            assert isinstance(leaf, hostlog.MldsaKey)
            found.append(leaf)
        return found

    def _collect_signed(self, known: HostKeys) -> list[Signed]:
        """All checkpoints of this log that are here, the newest first."""
        found = [self._published] if self._published else []
        notes = [(self._row.note, "host.db: state")] if self._row else []
        notes += [(note, "host.db: cosigned") for note in self._database.read_cosigned()]
        for note, where in notes:
            try:
                found.append(Signed(_parse_own(note, known), note, where))
            except SpecError as error:
                self._report(where, str(error), DATABASE)
        return sorted(found, key=lambda one: one.state.size, reverse=True)

    def _read_chunk(self, number: int, size: int) -> Chunk:
        """The copies of a chunk; one copy and its root where all agree, which is the fast way."""
        first = number * tile.WIDTH
        width = min(tile.WIDTH, size - first)
        served = tile.get_width(0, number, self._published.state.size) if self._published else 0
        leaves = self._database.read_leaves(first, width)
        kept = [leaf for leaf in leaves if leaf is not None]
        if len(kept) == width:
            whole = tuple([sha256(b"\0" + leaf).digest() for leaf in kept])
            if self._database.has_hashes(0, first, whole) and (
                not served or self._is_served(number, kept[:served], whole[:served])
            ):
                return Chunk((whole,), self._check_inner(number, whole))
        self._suspects.add(number)
        own = [sha256(b"\0" + leaf).digest() if leaf is not None else None for leaf in leaves]
        nodes = self._database.read_hashes(0, first, width)
        bundle = self._files.read_leaves(number, served)
        hashed = [sha256(b"\0" + leaf).digest() if leaf is not None else None for leaf in bundle]
        copies = (own, nodes, self._files.read_hashes(number, served), hashed)
        return Chunk(tuple([tuple(copy) for copy in copies]), b"")

    def _is_served(self, number: int, leaves: list[bytes], hashes: tuple[bytes, ...]) -> bool:
        """Whether tile and bundle of a chunk are of these leaves."""
        width = len(leaves)
        return self._files.read(tile.Tile(0, number, width)) == b"".join(
            hashes
        ) and self._files.read(tile.Tile(tile.ENTRIES, number, width)) == tile.encode_bundle(leaves)

    def _check_inner(self, number: int, whole: tuple[bytes, ...]) -> bytes:
        """Hold the database's hashes above these leaves against them; the root of a full chunk."""
        levels = compute_levels(whole)
        for level, wanted in enumerate(levels[1:], 1):
            first = number * tile.WIDTH >> level
            self._compare_nodes(level, first, wanted)
        return levels[-1][0] if len(whole) == tile.WIDTH else b""

    def _compare_nodes(self, level: int, first: int, wanted: tuple[bytes, ...]) -> None:
        if not wanted or self._database.has_hashes(level, first, wanted):
            return
        found = self._database.read_hashes(level, first, len(wanted))
        for number, (value, right) in enumerate(zip(found, wanted, strict=True), first):
            if value != right:
                why = "is missing" if value is None else "is not that of the leaves below it"
                place = f"host.db: hash {number} of level {level}"
                self._report(place, why, ROWS, (NODE_TABLE, level, number))

    def _choose(self, chunks: list[Chunk], signed: list[Signed]) -> tuple[Signed | None, Authentic]:
        """The newest checkpoint that the copies give."""
        for one in signed:
            found = find_authentic(chunks, one.state)
            if found is not None:
                return one, found
            why = f"no copy gives the root of {one.state.size} leaves that it names"
            self._report(one.where, why, NOTHING)
        return None, Authentic()

    def _report_database(self, signed: list[Signed]) -> None:
        newest = signed[0].state.size if signed else 0
        for line in self._get_pages() or filter(None, [self._database.error]):
            self._report("host.db", line, DATABASE)
            self._is_sound = False
        if self._row is None and self._is_sound:
            self._report("host.db: state", "is missing or unreadable", DATABASE)
        elif self._row is not None and self._row.size < newest:
            why = f"leaves {self._row.size} to {newest - 1} are missing: the last write was lost"
            self._report("host.db", why, DATABASE)
        elif self._row is not None:
            beyond = self._database.get_leaf_beyond(self._row.size)
            if beyond is not None:
                place = f"host.db: leaf {beyond}"
                self._report(place, "is beyond the checkpoint", ROWS, (LEAF_TABLE, 0, beyond))

    def _compare(self, verified: Signed, authentic: Authentic) -> None:
        """Name every place that differs from the leaves under the checkpoint."""
        has_rows = self._row is not None and self._is_sound
        for number in sorted(self._suspects):
            if number < len(authentic.chunks):
                self._compare_chunk(number, authentic.chunks[number], has_rows=has_rows)
        levels = compute_levels(authentic.full_roots) if authentic.full_roots else []
        if has_rows and self._row is not None:
            for level, wanted in enumerate(levels[1:], tile.HEIGHT + 1):
                self._compare_nodes(level, 0, wanted[: self._row.size >> level])
        size = min(self._published.state.size if self._published else 0, verified.state.size)
        for one in tile.get_new_tiles(0, size):
            if one.level > 0:
                above = levels[tile.HEIGHT * (one.level - 1)]
                first = one.number * tile.WIDTH
                self._compare_file(one, b"".join(above[first : first + one.width]))

    def _compare_chunk(self, number: int, right: tuple[bytes, ...], *, has_rows: bool) -> None:
        first = number * tile.WIDTH
        if has_rows and self._row is not None:
            count = min(len(right), max(self._row.size - first, 0))
            for at, leaf in enumerate(self._database.read_leaves(first, count) if count else []):
                if leaf is None or merkle.compute_leaf_hash(leaf) != right[at]:
                    why = "is missing" if leaf is None else "is not the one that was signed"
                    place = f"host.db: leaf {first + at}"
                    self._report(place, why, ROWS, (LEAF_TABLE, 0, first + at))
            if count:
                for level, wanted in enumerate(compute_levels(right[:count])):
                    self._compare_nodes(level, first >> level, wanted)
        size = self._published.state.size if self._published else 0
        width = min(tile.get_width(0, number, size), len(right))
        if width:
            self._compare_file(tile.Tile(0, number, width), b"".join(right[:width]))
            self._compare_bundle(tile.Tile(tile.ENTRIES, number, width), right)

    def _compare_file(self, one: tile.Tile, right: bytes) -> None:
        data, place = self._files.read(one), f"log/{tile.encode_path(one)}"
        if not data:
            self._report(place, "is missing", FILES, one)
        elif len(data) != len(right):
            self._report(place, f"has {len(data)} bytes, not {len(right)}: torn", FILES, one)
        elif data != right:
            step = merkle.HASH_BYTES
            bad = [at // step for at in range(0, len(right), step)
                   if data[at : at + step] != right[at : at + step]]  # fmt: skip
            self._report(place, f"hash {bad[0]} is not that of the tree", FILES, one)

    def _compare_bundle(self, one: tile.Tile, right: tuple[bytes, ...]) -> None:
        data, place = self._files.read(one), f"log/{tile.encode_path(one)}"
        if not data:
            self._report(place, "is missing", FILES, one)
            return
        leaves = self._files.read_leaves(one.number, one.width)
        for at, leaf in enumerate(leaves):
            if leaf is None or merkle.compute_leaf_hash(leaf) != right[at]:
                index = one.number * tile.WIDTH + at
                self._report(place, f"entry {at} is not leaf {index}", FILES, one)
                return
        size = sum(2 + len(leaf) for leaf in leaves if leaf is not None)
        if len(leaves) != one.width or size != len(data):
            why = f"{len(leaves)} of {one.width} entries are whole in {len(data)} bytes: torn"
            self._report(place, why, FILES, one)

    def _check_root(self, one: Signed, authentic: Authentic) -> None:
        if authentic.compute_root(one.state.size) != one.state.root:
            why = f"its {one.state.size} leaves are of another history: a fork"
            self._report(one.where, why, NOTHING)

    def _report(self, place: str, why: str, mend: str, at: tuple[int, ...] = ()) -> None:
        self._defects.append(Defect(place, why, mend, at))


def _get_place(leaf: bytes) -> int:
    try:
        record = hostlog.decode_leaf(leaf)
    except SpecError:
        return 0
    return record.leaf_index if isinstance(record, hostlog.Key | hostlog.Revocation) else 0


def _parse_own(note: bytes, known: HostKeys) -> Checkpoint:
    state = checkpoint.parse_checkpoint(note, *known.publics)
    if state.origin != checkpoint.get_origin(known.host):
        raise SpecError("checkpoint: it is of another log than this host's")
    return state


def _check_both(note: bytes, known: HostKeys, mldsa_publics: list[bytes]) -> None:
    """SpecError unless one of the host's keys and one of the log's ML-DSA keys have signed it."""
    why = SpecError("checkpoint: not signed by both of the log's keys")
    for public in known.publics:
        for mldsa_public in mldsa_publics:
            try:
                both = logkeys.get_log_keys(known.host, public, mldsa_public)
                cosignature.check_checkpoint(note, both)
            except SpecError:
                continue
            return
    raise why
