"""The nodes that this one knows beside the validators that the chain names: files in `peers`.

Not here: the files' content (registering, chainlite.net.registration). A node that runs is told at
once; one that does not reads them when it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite.net.registration import encode_registration
from docklock.chain import registering
from docklock.chain.client import ask
from docklock.chain.directory import find_process, read_chain
from docklock.chain.settings import format_address
from docklock.chain.views import find_key

if TYPE_CHECKING:
    from docklock.chain.directory import ChainDirectory


def list_peers(directory: ChainDirectory) -> list[dict[str, Any]]:
    """All that the running node knows, up or not; without one, those of the files."""
    chain = read_chain(directory)
    if find_process(directory):
        return list(ask(directory, "GET", "/status")["peers"])
    return [
        {
            "key": one.node.hex(),
            "operator": one.operator,
            "addresses": [format_address(address) for address in one.addresses],
            "up": False,
            "why_down": "no node runs",
            "misdeeds": 0,
            "last_misdeed": "",
        }
        for one in [listed.registration for listed in registering.read_listed(directory, chain)]
    ]


def add_peer(directory: ChainDirectory, path: str) -> str:
    """Know the node whose registration is in a file; its key."""
    chain = read_chain(directory)
    registration = registering.read_peer_file(path, chain)
    if find_process(directory):
        ask(directory, "POST", "/peers", encode_registration(registration))
    else:
        registering.keep_peer(directory, registration)
    return registration.node.hex()


def remove_peer(directory: ChainDirectory, word: str) -> str:
    """Know a node no longer, by its key or the beginning of it; its key."""
    keys = [one.node.hex() for one in registering.read_peers(directory, read_chain(directory))]
    node = find_key(word, keys, f"files in {directory.peers}")
    registering.forget_peer(directory, node)
    if find_process(directory):
        ask(directory, "POST", f"/forget/{node.hex()}")
    return node.hex()
