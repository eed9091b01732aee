"""The way from a host's submitter to the nodes of a chain: through the node that runs beside it.

Each validator is a door: what the chain says comes from this host's own node, which has checked
every block; a transaction goes to that node, which passes it on; an offer goes through its mesh to
the validator itself. So a submitter needs no key and no connection of its own. Not here: what is
submitted (docklock.submitter), the node's side (desk, bodies).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from chainlite.ledger.host_status import HostStatus
from chainlite.ledger.offer import Ack
from docklock.chain.client import ask_node

if TYPE_CHECKING:
    from typing import Any

    from docklock.chain.directory import ChainDirectory

OFFER_S = 60.0


class NodeDoor:
    """A docklock.submitter.ChainDoor to one validator."""

    def __init__(self, directory: ChainDirectory, node: bytes) -> None:
        """`directory` is that of this host's node."""
        self._directory, self._public = directory, node

    @property
    def node(self) -> bytes:
        """The validator's public key."""
        return self._public

    async def get_status(self, host: bytes) -> HostStatus:
        """What the chain says of this host, at the local node's last block."""
        shown = await ask_node(self._directory, "GET", f"/hosts/{host.hex()}")
        return parse_host_status(shown)

    async def submit(self, tx: bytes) -> bytes:
        """Hand in a transaction; its hash. StateError: later; SpecError: never."""
        told = await ask_node(self._directory, "POST", "/transactions", tx)
        if told["verdict"] == "full":
            raise StateError(told["reason"])
        if told["verdict"] == "refused":
            raise SpecError(told["reason"])
        return bytes.fromhex(told["hash"])

    async def offer(self, data: bytes) -> Ack:
        """Offer a range; what the validator holds then, durably."""
        target = f"/offers/{self._public.hex()}"
        told = await ask_node(self._directory, "POST", target, data, OFFER_S)
        host, root = bytes.fromhex(told["host"]), bytes.fromhex(told["root"])
        return Ack(host, told["size"], root, told["receipts"])


def describe_host_status(status: HostStatus) -> dict[str, Any]:
    """As JSON has it; `parse_host_status` reads the same back."""
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in status._asdict().items()
    }


def parse_host_status(shown: dict[str, Any]) -> HostStatus:
    """The status of `describe_host_status`."""
    hashes = {name: bytes.fromhex(shown[name]) for name in ("chain_id", "key", "root")}
    return HostStatus(**(shown | hashes))
