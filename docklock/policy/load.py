"""A user's word for a policy -> Compiled, through a cache of compiled policies on disk.

Not here: reading and compiling (parse.py, compile.py), imported only when the cache has nothing.
Cache file: <policies>/cache/<key>; key = SHA-256 over what the result depends on (compiler version,
machine, capabilities, the policy's directory, its bytes). Layout: magic 8 bytes, SHA-256 of the
rest 32, u32 big-endian length of the JSON table, table, program.
Invariants: a file that is cut or changed, or one of whose bases changed, is compiled anew; a file
appears whole or not at all.
Whoever can write there is root and could as well change the installed program; what a container ran
under is the digest in its genesis.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.sha2 import sha256
from docklock.capability import DEFAULT_CAPABILITIES
from docklock.json_text import encode_json, parse_json
from docklock.paths import Paths
from docklock.policy.decision import Arm, Check, Compiled, Rule
from docklock.policy.shipped import find_policy, is_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "Arm",
    "Compiled",
    "Rule",
    "compile_source",
    "load_policy",
    "read_base",
    "read_source",
]

COMPILER_VERSION = 2  # part of the cache's key; raise it when the same source gives another result
MAGIC = b"dlpolicy"
Bases = list[tuple[str, str]]  # file, SHA-256 in hexadecimal
_kept: dict[str, tuple[Compiled, Bases]] = {}  # by key
CACHE_FILE_BYTES_MAX = 4_194_304
CACHE_FILES_MAX = 1024  # so many are looked through for one digest
SOURCE_BYTES_MAX = 262_144


def load_policy(
    name_or_file: str,
    paths: Paths,
    *,
    capabilities: Iterable[str] = DEFAULT_CAPABILITIES,
    arch: str = "",
) -> Compiled:
    """The policy for a container with this bounding set, on this machine unless `arch` is named."""
    path = find_policy(name_or_file)
    source = read_source(path)
    machine = arch or os.uname().machine
    held = sorted(set(capabilities))
    key = compute_key(source, machine, held, os.path.dirname(os.path.abspath(path)))
    cached = _take_kept(key) or _read_cache(f"{paths.policies}/cache/{key}")
    if cached is not None:
        return cached
    bases: Bases = []

    def read(word: str, where: str) -> tuple[str, bytes]:
        base, data = read_base(word, where)
        bases.append((base, sha256(data).hexdigest()))
        return base, data

    compiled = compile_source(source, path, machine, held, read=read)
    _write_cache(f"{paths.policies}/cache", key, encode_cache(compiled, bases))
    return compiled


def keep_cached(paths: Paths, count: int) -> None:
    """Hold the newest cached policies in memory: forks of this process share them."""
    _kept.update(_iterate_cache(paths, count))


def find_compiled(paths: Paths, digest: bytes) -> Compiled | None:
    """The policy of this digest, if it was compiled here: whatever its file says by now."""
    for _, (compiled, _) in _iterate_cache(paths, CACHE_FILES_MAX):
        if compiled.digest == digest:
            return compiled
    return None


def _iterate_cache(paths: Paths, count: int) -> Iterator[tuple[str, tuple[Compiled, Bases]]]:
    """The newest cached policies by their keys; fewer if they are removed meanwhile."""
    directory = f"{paths.policies}/cache"
    try:
        files = [entry for entry in os.scandir(directory) if not entry.name.startswith(".")]
        files.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        for entry in files[:count]:
            with open(entry.path, "rb", buffering=0) as file:
                found = parse_cache(file.read(CACHE_FILE_BYTES_MAX))
            if found is not None:
                yield entry.name, found
    except OSError:
        return  # they are read when they are wanted


def read_source(path: str) -> bytes:
    """The bytes of a policy file. SpecError if there is none or it is too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(SOURCE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise SpecError(f"policy {path!r}: cannot be read: {reason}") from None
    if len(data) > SOURCE_BYTES_MAX:
        raise SpecError(f"policy {path!r}: longer than {SOURCE_BYTES_MAX} bytes")
    return data


def read_base(word: str, where: str) -> tuple[str, bytes]:
    """(file, bytes) of what the policy at `where` calls `word`: a profile, or a file beside it."""
    path = find_policy(word)
    if is_file_name(word):
        path = os.path.normpath(os.path.join(os.path.dirname(where), word))
    return path, read_source(path)


def compile_source(
    source: bytes,
    where: str,
    machine: str,
    capabilities: Iterable[str],
    *,
    read: Callable[[str, str], tuple[str, bytes]] = read_base,
) -> Compiled:
    """Parse, with what it extends, and compile, past any cache."""
    from docklock.policy.compile import compile_policy
    from docklock.policy.inherit import resolve_policy
    from docklock.policy.machines import get_machine

    model = resolve_policy(source, where, read).model
    return compile_policy(model, get_machine(machine), frozenset(capabilities))


def compute_key(source: bytes, machine: str, capabilities: list[str], directory: str) -> str:
    """The cache's file name: what the result depends on, but for the bases, in hexadecimal."""
    head = f"{COMPILER_VERSION}\n{machine}\n{','.join(capabilities)}\n{directory}\n"
    return sha256(head.encode("utf-8", "surrogateescape") + source).hexdigest()


def encode_cache(compiled: Compiled, bases: Bases) -> bytes:
    """The bytes of a cache file; `bases` are file and SHA-256 of what the policy extends."""
    table = [
        bases,
        compiled.name,
        compiled.digest.hex(),
        compiled.arch,
        list(compiled.closed),
        [[key, rule] for key, rule in compiled.rules.items()],
        [[key, arms] for key, arms in compiled.arms.items()],
        compiled.kills_on_worker_death,
        compiled.architectures,
    ]
    text = encode_json(table).encode("ascii")
    rest = len(text).to_bytes(4, "big") + text + compiled.program
    return MAGIC + sha256(rest).digest() + rest


def parse_cache(data: bytes) -> tuple[Compiled, Bases] | None:
    """The inverse of encode_cache; None for anything that it did not write."""
    if data[:8] != MAGIC or sha256(data[40:]).digest() != data[8:40]:
        return None
    end = 44 + int.from_bytes(data[40:44], "big")
    bases, name, digest, arch, closed, rules, arms, kills, more = parse_json(data[44:end])
    compiled = Compiled(
        name,
        bytes.fromhex(digest),
        data[end:],
        arch,
        {key: _make_rule(rule) for key, rule in rules},
        {key: tuple([_make_arm(arm) for arm in one]) for key, one in arms},
        tuple(closed),
        kills,
        tuple(more),
    )
    return compiled, [(path, base) for path, base in bases]


def _make_rule(fields: list[object]) -> Rule:
    name, op, action, errno, strings, masks = fields
    pairs = tuple([(i, kind) for i, kind in strings])  # type: ignore[attr-defined]
    return Rule(name, op, action, errno, pairs, tuple(masks))  # type: ignore[arg-type]


def _make_arm(fields: list[list[object]]) -> Arm:
    when, unless, rule = fields
    return Arm(
        tuple(Check(*check) for check in when),  # type: ignore[misc]
        tuple(Check(*check) for check in unless),  # type: ignore[misc]
        _make_rule(rule),
    )


def _read_cache(path: str) -> Compiled | None:
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(CACHE_FILE_BYTES_MAX)
    except OSError:
        return None
    return _check_bases(parse_cache(data))


def _take_kept(key: str) -> Compiled | None:
    return _check_bases(_kept.get(key))


def _check_bases(found: tuple[Compiled, Bases] | None) -> Compiled | None:
    """The policy, if it was compiled with the bases that are there now."""
    if found is None or any(not _is_same(base, digest) for base, digest in found[1]):
        return None
    return found[0]


def _is_same(path: str, digest: str) -> bool:
    """Whether a base is still the file that the cached policy was compiled with."""
    try:
        return sha256(read_source(path)).hexdigest() == digest
    except SpecError:
        return False


def _write_cache(directory: str, key: str, data: bytes) -> None:
    """Best effort: a host whose state cannot be written compiles each time."""
    temporary = f"{directory}/.{key}.{os.getpid()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, f"{directory}/{key}")
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
