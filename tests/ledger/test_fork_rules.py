"""A host that signed two histories does nothing more on the chain."""

from __future__ import annotations

import pytest

from chainlite import checkpoint, fork
from chainlite.checkpoint import Checkpoint
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.tx import sign_tx
from chainlite.ledger.view import Refused
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog
from tests.ledger.test_state import try_tx


def make_evidence(host: HostLog) -> bytes:
    origin = checkpoint.get_origin(host.id)
    notes = [
        checkpoint.sign_checkpoint(Checkpoint(origin, 5, bytes([number]) * 32), host.key)
        for number in (1, 2)
    ]
    made = fork.make_fork((host.key.public,), (notes[0], notes[1]))
    assert made is not None
    return fork.encode_fork(made)


def test_a_host_that_forked_is_out() -> None:
    chain, host, other = Chain(), HostLog(1), HostLog(2)
    chain.enrol(host, other)
    evidence = make_evidence(host)
    for accused, data, why in (
        (other.id, evidence, "another log"),
        (bytes(32), evidence, "not registered"),
        (host.id, evidence[:-1], "evidence: "),
    ):
        wrong = ops.ForkEvidence(accused, data)
        with pytest.raises(Refused, match=why):
            try_tx(chain, sign_tx(VALIDATOR_KEYS[0], chain.chain_id, 0, [wrong]))
    chain.take(chain.sign(other.key, ops.ForkEvidence(host.id, evidence), sender=other.id))
    assert chain.get_host(host).status == records.FORKED
    with pytest.raises(Refused, match="two histories"):
        try_tx(chain, chain.anchor(host))
    again = ops.ForkEvidence(host.id, evidence)
    with pytest.raises(Refused, match="known to have forked"):
        try_tx(chain, sign_tx(VALIDATOR_KEYS[0], chain.chain_id, 0, [again]))
