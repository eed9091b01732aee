"""Makes a node's store of a state that it was given; says when it begins, and when it is done.

`python killed_arrival.py DIRECTORY`, with the top of the repository on PYTHONPATH.
"""

from __future__ import annotations

import sys

from chainlite.consensus.joining import Taken
from chainlite.ledger import records
from chainlite.ledger.header import encode_seals
from docklock.chain.directory import ChainDirectory, make_chain
from docklock.chain.stores import begin_with_state, open_or_create
from tests.ledger.samples import Chain, HostLog, seal

HOSTS = 300


def make_taken() -> tuple[Chain, Taken]:
    """A chain in memory and the state after its last block."""
    chain = Chain(registrations_per_block=4096)
    chain.enrol(*[HostLog(number) for number in range(HOSTS)])
    block = chain.step().block
    rows = [(key, records.encode_record(key, row)) for key, row in chain.ledger.get_items()]
    return chain, Taken(block, encode_seals(seal(chain.chain_id, block)), rows)


def main(path: str) -> None:
    made, taken = make_taken()
    directory, chain = ChainDirectory(path), make_chain(made.genesis)
    open_or_create(directory, chain).close()
    print("begins", flush=True)
    begin_with_state(directory, chain, taken)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
