"""Appends blocks to a store until it is killed; says each height once it is on disk.

`python killed_store.py PATH`, with the top of the repository on PYTHONPATH.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chainlite.ledger import operations as ops
from chainlite.ledger import records, store
from chainlite.ledger.tx import Tx, sign_tx
from tests.ledger.samples import VALIDATOR_KEYS, HostLog, seal

HOSTS = 20


def make_txs(chain: store.Store, hosts: list[HostLog]) -> list[Tx]:
    """Each host registers, then anchors in every block."""
    txs = []
    for host in hosts:
        found = chain.ledger.find(records.HOST + host.id)
        if not isinstance(found, records.Host):
            txs.append(sign_tx(host.key, chain.ledger.chain_id, 0, [ops.Register("x", bytes(32))]))
            continue
        host.grow(found.size + 1 - len(host.leaves))
        proof = host.prove(found.size, found.size + 1)
        anchor = ops.Anchor(found.size + 1, host.get_root(found.size + 1), proof)
        txs.append(sign_tx(host.key, chain.ledger.chain_id, found.nonce, [anchor], host.id))
    return txs


def main(path: Path) -> None:
    chain = store.open_store(path)
    hosts = [HostLog(number) for number in range(HOSTS)]
    while True:
        ledger = chain.ledger
        now = ledger.head.timestamp_ms + 5
        txs = make_txs(chain, hosts)
        block, executed = ledger.propose(ledger.head, now, VALIDATOR_KEYS[0].public, txs)
        chain.append(executed, seal(ledger.chain_id, block))
        print(chain.height, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
