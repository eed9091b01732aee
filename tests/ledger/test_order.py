"""The order of a block and its shares are checked, by those who did not make it."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from chainlite.ledger import operations as ops
from chainlite.ledger import order
from chainlite.ledger.block import make_block
from chainlite.ledger.order import arrange, check_order, fill_shares, get_class
from chainlite.ledger.tx import Tx, sign_tx
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog, never

KEY = VALIDATOR_KEYS[0]


def make_tx(*operations: ops.Operation) -> Tx:
    return sign_tx(KEY, bytes(32), 0, operations)


REVOKE = make_tx(ops.Revoke(1, 2))
ANCHOR = make_tx(ops.Anchor(1, bytes(32)))
BUNDLE = make_tx(ops.Available(bytes(32), 1, bytes(32)))
REST = make_tx(ops.Rotate(bytes(32), bytes(64)))
LARGE = {
    order.EVIDENCE: make_tx(ops.ForkEvidence(bytes(32), bytes(200_000))),
    order.ANCHOR: make_tx(*[ops.Anchor(1, bytes(32), bytes(4096))] * 48),
    order.BUNDLE: make_tx(ops.NotaryBundle(bytes(32), bytes(200_000), bytes(64))),
}
FIT = order.TXS_LIMIT_BYTES // order.get_size(LARGE[order.ANCHOR])


def test_a_transaction_stands_with_the_last_of_what_is_in_it() -> None:
    both = make_tx(ops.Anchor(1, bytes(32)), ops.Rotate(bytes(32), bytes(64)))
    assert get_class(both) == order.REST
    assert [get_class(tx) for tx in (REVOKE, ANCHOR, BUNDLE, REST)] == [1, 2, 3, 5]


def test_classes_ascend() -> None:
    check_order([REVOKE, ANCHOR, ANCHOR, BUNDLE, REST])
    assert arrange([REST, ANCHOR, REVOKE, BUNDLE]) == [REVOKE, ANCHOR, BUNDLE, REST]
    for wrong in ([ANCHOR, REVOKE], [BUNDLE, ANCHOR], [REST, BUNDLE]):
        with pytest.raises(SpecError, match="stand after"):
            check_order(wrong)


def test_half_of_the_bytes_are_kept_for_anchors() -> None:
    evidence, bundle = LARGE[order.EVIDENCE], LARGE[order.BUNDLE]
    check_order([evidence] * 2 + [bundle] * 2)
    with pytest.raises(SpecError, match="beside anchors"):
        check_order([evidence] * 3 + [bundle] * 3)
    anchors = [LARGE[order.ANCHOR]] * FIT
    check_order(anchors)
    with pytest.raises(SpecError, match="bytes of transactions"):
        check_order(anchors + [LARGE[order.ANCHOR]])


def test_who_fills_a_block_leaves_each_class_its_share() -> None:
    queues: list[list[Tx]] = [[] for _ in order.CLASSES]
    for number, tx in LARGE.items():
        queues[number] = [tx] * 20
    queues[order.REST] = [REST] * 20
    taken = fill_shares(queues)
    check_order([tx for queue in taken for tx in queue])
    assert len(taken[order.REST]) == 20 and len(taken[order.BUNDLE]) >= 1
    assert sum(map(order.get_size, taken[order.ANCHOR])) >= order.OTHERS_LIMIT_BYTES * 3 // 4
    alone: list[list[Tx]] = [[] for _ in order.CLASSES]
    alone[order.ANCHOR] = [LARGE[order.ANCHOR]] * 20
    assert len(fill_shares(alone)[order.ANCHOR]) == FIT
    alone[order.ANCHOR], alone[order.BUNDLE] = [], [LARGE[order.BUNDLE]] * 20
    bundles = fill_shares(alone)[order.BUNDLE]
    check_order(bundles)
    assert len(bundles) == order.OTHERS_LIMIT_BYTES // order.get_size(LARGE[order.BUNDLE])


def test_a_block_out_of_order_is_refused() -> None:
    chain, hosts = Chain(), [HostLog(1), HostLog(2)]
    chain.enrol(hosts[0])
    register = chain.sign(hosts[1].key, ops.Register("x", bytes(32)))
    ledger = chain.ledger
    block, executed = ledger.propose(
        ledger.head, ledger.head.timestamp_ms + 1, KEY.public, [register, chain.anchor(hosts[0])]
    )
    assert len(executed.txs) == 2
    swapped = make_block(block.header, block.transactions[::-1], block.poh)
    with pytest.raises(SpecError, match="anchors stand after the rest"):
        ledger.check(swapped, never)
