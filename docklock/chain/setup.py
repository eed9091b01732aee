"""Make a node, make a genesis of several nodes' entries, join a chain.

Not here: the files as such (directory, registering, node_key), the process (process). Invariants: a
node that is there keeps its key and its chain; a genesis is refused before anything is written.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError, StateError
from chainlite.ledger.genesis import (
    Genesis,
    Member,
    Parameters,
    check_genesis,
    encode_genesis,
    parse_members,
)
from chainlite.quorum_file import Wrong
from docklock.chain.directory import (
    hold_lock,
    join_chain,
    make_directory,
    read_bounded,
    read_chain,
)
from docklock.chain.node_key import ensure_certificate, ensure_node_key, load_node_key
from docklock.chain.registering import (
    ensure_registration,
    make_member,
    read_settings,
    write_settings,
)
from docklock.chain.settings import FILE_BYTES_MAX, NodeSettings, complete

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docklock.chain.directory import Chain, ChainDirectory

VALIDATOR, FOLLOWER = "validator", "follower"


class Made(NamedTuple):
    """A node: its key; as a genesis names it, None if nobody can dial it; its chain, if any."""

    public: bytes
    member: Member | None
    chain: Chain | None
    role: str


def init_node(directory: ChainDirectory, wanted: dict[str, object], chain: Chain | None) -> Made:
    """Make what is missing of a node: key, certificate, settings, and of `chain` its registration.

    `wanted` are fields of NodeSettings that were asked for. StateError while its process runs.
    """
    make_directory(directory)
    lock = hold_lock(directory)
    try:
        if chain is not None:
            join_chain(directory, chain)
        elif os.path.exists(directory.genesis):
            chain = read_chain(directory)
        settings = _settle(directory, wanted)
        public = ensure_node_key(directory)
        certificate = ensure_certificate(directory, public)
        member = make_member(settings, public, certificate) if settings.address else None
        if chain is not None:
            key = load_node_key(directory)
            try:
                now_ms = time.time_ns() // 1_000_000
                ensure_registration(directory, chain, settings, key, certificate, now_ms)
            finally:
                key.erase()
        return Made(public, member, chain, _get_role(chain, public))
    finally:
        os.close(lock)


def _settle(directory: ChainDirectory, wanted: dict[str, object]) -> NodeSettings:
    """The settings with what was asked for, written if that is news."""
    before = read_settings(directory)
    try:
        address = {} if "listen" not in wanted else {"address": None}
        after = complete(NodeSettings(**(before._asdict() | address | wanted)))
    except Wrong as why:
        raise SpecError(f"--{why.key}: {why}") from None
    if after != before or not os.path.exists(directory.settings):
        write_settings(directory, after)
    return after


def _get_role(chain: Chain | None, public: bytes) -> str:
    if chain is None:
        return ""
    members = chain.genesis.members
    return VALIDATOR if any(public == member.public for member in members) else FOLLOWER


def make_genesis(
    name: str, time_ms: int, members: Iterable[Member], parameters: Parameters
) -> Genesis:
    """A genesis of these validators; SpecError if a chain cannot begin so."""
    genesis = Genesis(name, time_ms, parameters, tuple(sorted(members)))
    check_genesis(genesis)
    encode_genesis(genesis)
    return genesis


def read_entries(paths: Iterable[str]) -> list[Member]:
    """The validators that files name, as `docklock chain init` prints them; SpecError for two
    entries of one key."""
    found: dict[bytes, str] = {}
    members = []
    for path in paths:
        for member in parse_members(read_bounded(path, FILE_BYTES_MAX), path):
            if member.public in found:
                raise SpecError(f"{path}: its key is that of {found[member.public]}")
            found[member.public] = path
            members.append(member)
    return members


def parse_parameters(texts: Iterable[str]) -> Parameters:
    """Parameters of texts KEY=VALUE; SpecError for one that is not known or not a number."""
    found: dict[str, int] = {}
    for text in texts:
        key, has_value, value = text.partition("=")
        if key not in Parameters._fields:
            raise SpecError(f"{text}: known parameters are {', '.join(Parameters._fields)}")
        if not has_value or not value.isdigit() or not value.isascii() or len(value) > 18:
            raise SpecError(f"{text}: want {key}=NUMBER")
        found[key] = int(value)
    return Parameters(**found)


def check_unused(path: str) -> None:
    """StateError if a file is there that would be written over."""
    if os.path.lexists(path):
        raise StateError(f"{path} is there already: choose another name with -o")
