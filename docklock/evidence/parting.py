"""What a key says before it goes: on each chain where it speaks for the host, which key follows.

A chain takes a host's next key from the key before it, and that is overwritten in a rotation. So
the transaction is signed while both are here, for each of the nonces that the chain may want by the
time it is handed in. Not here: handing it in (docklock.submitter), the rotation (rotation).
Invariant: it is durable before the log names the new key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.evidence.submitted import Submitted, has_submitted

if TYPE_CHECKING:
    from chainlite.keys import GuardedKey
    from docklock.evidence.keyring import HostKey
    from docklock.paths import Paths

NONCES_AHEAD = 8
"""A submitter has one anchor under way, which may be in a block before this is."""


def sign_partings(paths: Paths, old: HostKey, new: GuardedKey) -> None:
    """With the old key held: have it name the new one on every chain that knows this host."""
    if not has_submitted(paths):
        return
    from chainlite.ledger import operations as ops
    from chainlite.ledger.rules import sign_possession
    from chainlite.ledger.tx import sign_tx

    with Submitted(paths) as submitted:
        for chain, nonce in submitted.get_senders():
            possession = sign_possession(new, chain, old.host, old.number + 1)
            operation = ops.Rotate(new.public, possession)
            first = nonce + submitted.count_rotations(chain, nonce)
            txs = {
                one: sign_tx(old, chain, one, [operation], old.host).encoded
                for one in range(first, first + NONCES_AHEAD)
            }
            submitted.put_rotations(chain, old.public, new.public, txs)
