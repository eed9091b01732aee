"""What the chain says of one host, as the host asks for it before it submits anything.

Not here: the state itself (state, records), who answers (a node's door). Pure.
"""

from __future__ import annotations

from chainlite import merkle
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.records import HOST, Host

if TYPE_CHECKING:
    from chainlite.ledger.state import Ledger


class HostStatus(NamedTuple):
    """The chain at `height`; all else is empty of a host that is not registered.

    `key` is the host's present one, `nonce` its next; `size`, `root` and `anchored` (a height) are
    of its last anchor, the next of which is due in block `due`; the bodies are `available` up to
    there.
    """

    chain_id: bytes
    height: int
    is_registered: bool
    key: bytes = b""
    nonce: int = 0
    size: int = 0
    root: bytes = merkle.EMPTY_ROOT
    anchored: int = 0
    due: int = 0
    available: int = 0


def find_host_status(ledger: Ledger, host: bytes) -> HostStatus:
    """What the state after the last block says."""
    found = ledger.find(HOST + host)
    if not isinstance(found, Host):
        return HostStatus(ledger.chain_id, ledger.height, is_registered=False)
    due = found.anchored + ledger.parameters.anchor_interval_blocks if found.size else 0
    return HostStatus(
        ledger.chain_id, ledger.height, True, found.key, found.nonce, found.size, found.root,
        found.anchored, due, found.available,
    )  # fmt: skip
