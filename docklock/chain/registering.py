"""Who a node is to others, and who others are to it: its settings, its registration, its peers'.

Not here: what a registration says (chainlite.net.registration), how those of validators are found
by the chain itself (meeting). Invariants: the registration on disk is of the key, certificate and
settings that lie beside it; a peer's file holds what that peer signed for this chain.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.genesis import Member
from chainlite.net.peers_file import ListedPeer, parse_peers
from chainlite.net.registration import (
    REGISTRATION_BYTES_MAX,
    Registration,
    compute_certificate_hash,
    decode_registration,
    encode_registration,
    sign_registration,
)
from chainlite.net.transport import PEERS_MAX, PeerId
from docklock.chain.directory import read_bounded, write_whole
from docklock.chain.settings import (
    FILE_BYTES_MAX,
    NodeSettings,
    format_address,
    format_settings,
    parse_settings,
)

if TYPE_CHECKING:
    from chainlite.keys import Signer
    from chainlite.net.tls import NodeCertificate
    from docklock.chain.directory import Chain, ChainDirectory

SUFFIX = ".registration"
LIST_BYTES_MAX = 65_536
"""As much as a file of people may have (chainlite.toml_lines)."""


def read_settings(directory: ChainDirectory) -> NodeSettings:
    """What node.toml says, or what holds without one; SpecError."""
    if not os.path.exists(directory.settings):
        return NodeSettings()
    return parse_settings(read_bounded(directory.settings, FILE_BYTES_MAX), directory.settings)


def write_settings(directory: ChainDirectory, settings: NodeSettings) -> None:
    """Replace node.toml."""
    write_whole(directory.settings, format_settings(settings).encode(), 0o644)


def make_member(settings: NodeSettings, public: bytes, certificate: NodeCertificate) -> Member:
    """This node as a genesis and a vote name it; StateError if nobody could dial it."""
    if settings.address is None:
        raise StateError(
            "a validator is dialled by others: give --listen HOST:PORT "
            "(and --address HOST:PORT where others reach it by another name)"
        )
    address = format_address(settings.address)
    digest = compute_certificate_hash(certificate.der)
    return Member(public, settings.operator, address, digest)


def ensure_registration(
    directory: ChainDirectory,
    chain: Chain,
    settings: NodeSettings,
    key: Signer,
    certificate: NodeCertificate,
    now_ms: int,
) -> Registration:
    """The node's registration, signed anew where settings or certificate are not as it says."""
    old = _read_own(directory, chain)
    addresses = (settings.address,) if settings.address else ()
    wanted = Registration(
        chain.id,
        PeerId(key.public),
        max(now_ms, old.serial + 1) if old else now_ms,
        certificate.der,
        addresses,
        settings.operator,
    )
    if old is not None and old._replace(serial=0, signature=b"") == wanted._replace(serial=0):
        return old
    made = sign_registration(wanted, key)
    write_whole(directory.registration, encode_registration(made), 0o644)
    return made


def read_registration(directory: ChainDirectory, chain: Chain) -> Registration:
    """The node's own registration; StateError before it was made."""
    found = _read_own(directory, chain)
    if found is None:
        raise StateError(
            f"{directory.registration} is not there: "
            f"`docklock chain init --dir {directory.path}` makes it"
        )
    return found


def _read_own(directory: ChainDirectory, chain: Chain) -> Registration | None:
    if not os.path.exists(directory.registration):
        return None
    data = read_bounded(directory.registration, REGISTRATION_BYTES_MAX)
    try:
        return decode_registration(data, chain.id)
    except SpecError as error:
        raise TamperError(
            f"{directory.registration}: {error}: remove the file, and the next start makes another"
        ) from None


def read_peers(directory: ChainDirectory, chain: Chain) -> list[Registration]:
    """What `peers` holds, by key; SpecError names a file that is no registration."""
    if not os.path.isdir(directory.peers):
        return []
    names = sorted(name for name in os.listdir(directory.peers) if name.endswith(SUFFIX))
    if len(names) > PEERS_MAX:
        raise SpecError(f"{directory.peers}: {len(names)} files, at most {PEERS_MAX}")
    return [read_peer_file(f"{directory.peers}/{name}", chain) for name in names]


def read_listed(directory: ChainDirectory, chain: Chain) -> list[ListedPeer]:
    """The nodes of peers.toml, and of `peers` those that are not in it; SpecError."""
    found: dict[PeerId, ListedPeer] = {}
    if os.path.exists(directory.peers_toml):
        data = read_bounded(directory.peers_toml, LIST_BYTES_MAX)
        for one in parse_peers(data, directory.peers_toml, chain.id):
            found[one.registration.node] = one
    for registration in read_peers(directory, chain):
        listed = ListedPeer(registration, registration.addresses, ())
        found.setdefault(registration.node, listed)
    return list(found.values())


def read_peer_file(path: str, chain: Chain) -> Registration:
    """The registration in a file; SpecError names it where it holds none of this chain."""
    data = read_bounded(path, REGISTRATION_BYTES_MAX)
    try:
        return decode_registration(data, chain.id)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def keep_peer(directory: ChainDirectory, registration: Registration) -> None:
    """Know a peer from now on, by what it signed last."""
    path = get_peer_path(directory, registration.node)
    write_whole(path, encode_registration(registration), 0o644)


def forget_peer(directory: ChainDirectory, node: bytes) -> None:
    """Remove a peer's file; StateError if there is none."""
    path = get_peer_path(directory, node)
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise StateError(f"{path}: no such peer; `docklock chain peers` lists them") from None


def get_peer_path(directory: ChainDirectory, node: bytes) -> str:
    """Where a peer's registration lies."""
    return f"{directory.peers}/{node.hex()}{SUFFIX}"
