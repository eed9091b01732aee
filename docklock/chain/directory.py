"""The directory of a node: what lies in it and under which names; written whole or not at all.

Not here: what the files hold (settings, node_key, chainlite.ledger.genesis, chainlite.net), the
process that runs on it (process). Invariants: one process has the lock; a file is whole under its
name, or absent; the genesis, once there, is never another. Layout: README.md of this room, "Files".
"""

from __future__ import annotations

import os

from chainlite import domains
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.genesis import (
    GENESIS_LIMIT_BYTES,
    compute_chain_id,
    decode_genesis,
    encode_genesis,
    format_genesis,
    parse_genesis,
)
from docklock.agent.lock import find_holder, hold_file
from docklock.evidence.key_file import sync_directory

if TYPE_CHECKING:
    from chainlite.ledger.genesis import Genesis
    from docklock.paths import Paths

ID_SHOWN = 16
"""So many hex digits of a chain's id or a key are shown to people."""


class ChainDirectory(NamedTuple):
    """The paths of a node's files."""

    path: str

    @property
    def genesis(self) -> str:
        return f"{self.path}/genesis"

    @property
    def genesis_toml(self) -> str:
        return f"{self.path}/genesis.toml"

    @property
    def settings(self) -> str:
        return f"{self.path}/node.toml"

    @property
    def key(self) -> str:
        return f"{self.path}/node.key"

    @property
    def certificate(self) -> str:
        return f"{self.path}/node.pem"

    @property
    def registration(self) -> str:
        return f"{self.path}/registration"

    @property
    def peers_toml(self) -> str:
        return f"{self.path}/peers.toml"

    @property
    def peers(self) -> str:
        return f"{self.path}/peers"

    @property
    def database(self) -> str:
        return f"{self.path}/chain.db"

    @property
    def votes(self) -> str:
        return f"{self.path}/votes"

    @property
    def bodies(self) -> str:
        return f"{self.path}/bodies"

    @property
    def halted(self) -> str:
        return f"{self.path}/halted"

    @property
    def lock(self) -> str:
        return f"{self.path}/lock"

    @property
    def socket(self) -> str:
        return f"{self.path}/control.sock"


class Chain(NamedTuple):
    """The chain that a directory is of; `encoded` is the genesis, of which `id` follows."""

    genesis: Genesis
    encoded: bytes
    id: bytes

    @property
    def short_id(self) -> str:
        """Enough of the id to tell chains apart."""
        return self.id.hex()[:ID_SHOWN]


def get_directory(paths: Paths, chosen: str | None) -> ChainDirectory:
    """The directory that was chosen, else the host's own. Makes nothing."""
    return ChainDirectory(os.path.abspath(chosen) if chosen else f"{paths.state}/chain")


def make_directory(directory: ChainDirectory) -> None:
    """The directory and its `peers`, for their owner alone."""
    os.makedirs(directory.path, mode=0o700, exist_ok=True)
    os.makedirs(directory.peers, mode=0o700, exist_ok=True)


def hold_lock(directory: ChainDirectory) -> int:
    """The lock of the node's process, for life; StateError if another one has it."""
    return hold_file(directory.lock, "another node")


def find_process(directory: ChainDirectory) -> str:
    """The process id of the node that runs on the directory; empty if none does."""
    return find_holder(directory.lock)


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file, durable and whole under its name, in the place of one that is there."""
    part = f"{path}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.replace(part, path)
    sync_directory(os.path.dirname(path))


def read_bounded(path: str, limit: int) -> bytes:
    """The bytes of a file that a person names; SpecError if there is none or it is too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot read it: {error.strerror}") from None
    if len(data) > limit:
        raise SpecError(f"{path}: above {limit} bytes")
    return data


def read_genesis_file(path: str) -> Chain:
    """The chain of a genesis that somebody handed over: the TOML file, or its canonical bytes."""
    data = read_bounded(path, GENESIS_LIMIT_BYTES)
    if data.startswith(domains.CHAIN_GENESIS):
        genesis = decode_genesis(data)
    else:
        genesis = parse_genesis(data, path)
    return make_chain(encode_genesis(genesis))


def join_chain(directory: ChainDirectory, chain: Chain) -> None:
    """Make the directory one of this chain, for good; StateError if it is of another."""
    if os.path.exists(directory.genesis):
        present = read_chain(directory)
        if present.id != chain.id:
            raise StateError(
                f"{directory.path} is of chain {present.genesis.name} ({present.short_id}), not "
                f"{chain.genesis.name} ({chain.short_id}): choose another directory with --dir"
            )
        return
    write_whole(directory.genesis_toml, format_genesis(chain.genesis).encode(), 0o644)
    write_whole(directory.genesis, chain.encoded, 0o644)


def read_chain(directory: ChainDirectory) -> Chain:
    """The chain that the directory is of; StateError before it has joined one."""
    try:
        with open(directory.genesis, "rb") as file:
            data = file.read(GENESIS_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise StateError(_say_missing(directory)) from None
    try:
        return make_chain(data)
    except SpecError as error:
        raise TamperError(
            f"{directory.genesis}: {error}: put back the genesis that the chain's others have"
        ) from None


def make_chain(encoded: bytes) -> Chain:
    """The chain of a genesis's canonical bytes; SpecError."""
    return Chain(decode_genesis(encoded), encoded, compute_chain_id(encoded))


def say_start(directory: ChainDirectory) -> str:
    """The command that starts the directory's node."""
    return f"docklock chain start --dir {directory.path}"


def _say_missing(directory: ChainDirectory) -> str:
    make = f"docklock chain init --dir {directory.path}"
    if os.path.exists(directory.key):
        return f"{directory.path} has a key but no chain yet: `{make} --genesis FILE` joins one"
    return (
        f"{directory.path} has no node yet: `{make}` makes one, "
        "`docklock chain devnet` a chain to try"
    )
