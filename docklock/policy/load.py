"""A user's word for a policy -> Compiled, through a cache of compiled policies on disk.

Not here: reading and compiling (parse.py, compile.py), imported only when the cache has nothing.
Cache file: <policies>/cache/<key>; key = SHA-256 over what the result depends on (compiler version,
machine, capabilities, source bytes). Layout: magic 8 bytes, SHA-256 of the rest 32, u32 big-endian
length of the JSON table, table, program.
Invariants: a file that is cut or changed is compiled anew; a file appears whole or not at all.
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
from docklock.policy.shipped import find_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Arm",
    "Compiled",
    "Rule",
    "compile_source",
    "load_policy",
    "read_source",
]

COMPILER_VERSION = 1  # part of the cache's key; raise it when the same source gives another result
MAGIC = b"dlpolicy"
CACHE_FILE_BYTES_MAX = 4_194_304
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
    key = compute_key(source, machine, held)
    cached = _read_cache(f"{paths.policies}/cache/{key}")
    if cached is not None:
        return cached
    compiled = compile_source(source, path, machine, held)
    _write_cache(f"{paths.policies}/cache", key, compiled)
    return compiled


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


def compile_source(
    source: bytes, where: str, machine: str, capabilities: Iterable[str]
) -> Compiled:
    """Parse and compile, past any cache."""
    from docklock.policy.compile import compile_policy
    from docklock.policy.machines import get_machine
    from docklock.policy.parse import parse_policy

    return compile_policy(
        parse_policy(source, where), get_machine(machine), frozenset(capabilities)
    )


def compute_key(source: bytes, machine: str, capabilities: list[str]) -> str:
    """The cache's file name: everything the result depends on, in hexadecimal."""
    head = f"{COMPILER_VERSION}\n{machine}\n{','.join(capabilities)}\n"
    return sha256(head.encode() + source).hexdigest()


def encode_cache(compiled: Compiled) -> bytes:
    """The bytes of a cache file."""
    table = [
        compiled.name,
        compiled.digest.hex(),
        compiled.arch,
        list(compiled.closed),
        [[nr, rule] for nr, rule in compiled.rules.items()],
        [[nr, arms] for nr, arms in compiled.arms.items()],
    ]
    text = encode_json(table).encode("ascii")
    rest = len(text).to_bytes(4, "big") + text + compiled.program
    return MAGIC + sha256(rest).digest() + rest


def parse_cache(data: bytes) -> Compiled | None:
    """The inverse of encode_cache; None for anything that it did not write."""
    if data[:8] != MAGIC or sha256(data[40:]).digest() != data[8:40]:
        return None
    end = 44 + int.from_bytes(data[40:44], "big")
    name, digest, arch, closed, rules, arms = parse_json(data[44:end])
    return Compiled(
        name,
        bytes.fromhex(digest),
        data[end:],
        arch,
        {nr: _make_rule(rule) for nr, rule in rules},
        {nr: tuple(_make_arm(arm) for arm in one) for nr, one in arms},
        tuple(closed),
    )


def _make_rule(fields: list[object]) -> Rule:
    name, op, action, errno, strings = fields
    return Rule(name, op, action, errno, tuple([(i, kind) for i, kind in strings]))  # type: ignore


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
    return parse_cache(data)


def _write_cache(directory: str, key: str, compiled: Compiled) -> None:
    """Best effort: a host whose state cannot be written compiles each time."""
    temporary = f"{directory}/.{key}.{os.getpid()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(encode_cache(compiled))
        os.replace(temporary, f"{directory}/{key}")
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
