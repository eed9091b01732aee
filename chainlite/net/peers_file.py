"""peers.toml: the nodes that one knows to begin with; errors that name line and key. Pure.

Not here: reading the file, resolving names (mesh, introducer). A registration stands in the file as
its node signed it; addresses beside it are where this node reaches the other, and are told nobody.
"""

from __future__ import annotations

import binascii
from typing import Any, NamedTuple

from chainlite.errors import SpecError
from chainlite.net.registration import (
    ADDRESSES_MAX,
    Address,
    Registration,
    decode_registration,
    encode_registration,
    is_host,
)
from chainlite.net.transport import PEERS_MAX
from chainlite.quorum_file import Wrong, locate
from chainlite.toml_lines import parse_document

TOP_KEYS = ("peer",)
PEER_KEYS = ("registration", "addresses", "introducer")


class ListedPeer(NamedTuple):
    """A node of the list: as it signed itself, where to reach it, and where it introduces.

    `addresses` are the registration's where the list has none; `introducer` is empty where it is
    not asked.
    """

    registration: Registration
    addresses: tuple[Address, ...]
    introducer: tuple[Address, ...]

    def get_local(self) -> Registration:
        """The registration to give to this node's transport, and to nobody else."""
        return self.registration._replace(addresses=self.addresses)


def parse_peers(data: bytes, file: str, network: bytes) -> tuple[ListedPeer, ...]:
    """The nodes of a file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    try:
        for key in document:
            if key not in TOP_KEYS:
                raise Wrong(f"unknown key; known are {', '.join(TOP_KEYS)}", key)
        tables = document.get("peer", [])
        if not isinstance(tables, list) or len(tables) > PEERS_MAX:
            raise Wrong(f"want at most {PEERS_MAX} tables [[peer]]", "peer")
        found = tuple([_read_peer(one, index, network) for index, one in enumerate(tables)])
        for index, one in enumerate(found):
            if one.registration.node in [other.registration.node for other in found[:index]]:
                raise Wrong("this node is listed already", "registration", index)
    except Wrong as why:
        raise locate(why, document, text, file, "peer") from None
    return found


def encode_listed(registration: Registration) -> str:
    """The table of a node, as a file has it."""
    text = binascii.b2a_base64(encode_registration(registration), newline=False).decode()
    return f'[[peer]]\nregistration = "{text}"\n'


def _read_peer(table: object, index: int, network: bytes) -> ListedPeer:
    if not isinstance(table, dict):
        raise Wrong("want a table [[peer]]", "peer")
    for key in table:
        if key not in PEER_KEYS:
            raise Wrong(f"unknown key; known are {', '.join(PEER_KEYS)}", key, index)
    text = table.get("registration")
    try:
        if not isinstance(text, str):
            raise SpecError("registration: want the base64 of one")
        data = binascii.a2b_base64(text, strict_mode=True)
        registration = decode_registration(data, network)
    except (SpecError, ValueError) as error:
        raise Wrong(str(error).removeprefix("registration: "), "registration", index) from None
    addresses = _read_addresses(table, "addresses", index)
    introducer = _read_addresses(table, "introducer", index)
    return ListedPeer(registration, addresses or registration.addresses, introducer)


def _read_addresses(table: dict[str, Any], key: str, index: int) -> tuple[Address, ...]:
    texts = table.get(key, [])
    if not isinstance(texts, list) or len(texts) > ADDRESSES_MAX:
        raise Wrong(f"want at most {ADDRESSES_MAX} texts HOST:PORT", key, index)
    return tuple(_read_address(text, key, index) for text in texts)


def _read_address(text: object, key: str, index: int) -> Address:
    """HOST:PORT; an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not colon or not is_host(host) or not is_port:
        raise Wrong("want HOST:PORT, with an IPv6 address in brackets", key, index)
    return Address(host, int(port))
