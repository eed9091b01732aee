"""What waits: fairness, bounds, nonce order, replay, and one order for everybody."""

from __future__ import annotations

from random import Random

import pytest

from chainlite.keys import make_key_pair
from chainlite.ledger import mempool, order
from chainlite.ledger import operations as ops
from chainlite.ledger.mempool import Mempool
from chainlite.ledger.tx import Tx, sign_tx
from chainlite.ledger.view import Refused
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog

CHAIN = bytes(32)
KEYS = tuple(make_key_pair(bytes([number]) * 32) for number in range(1, 9))
ANCHOR = ops.Anchor(1, bytes(32))
EVIDENCE = ops.ForkEvidence(bytes(32), b"x" * 5000)


def make_pool(known: int = 0) -> Mempool:
    return Mempool(lambda *_: known)


def make_tx(number: int, nonce: int, *operations: ops.Operation) -> Tx:
    return sign_tx(KEYS[number], CHAIN, nonce, operations or (ANCHOR,))


def fill(pool: Mempool, txs: list[Tx], now_ms: int = 0) -> list[Tx]:
    for tx in txs:
        pool.admit(tx, now_ms)
    return txs


def test_senders_take_turns_however_much_one_sends() -> None:
    pool = make_pool()
    greedy = fill(pool, [make_tx(0, nonce) for nonce in range(200)])
    modest = fill(pool, [make_tx(1, 0), make_tx(2, 0)])
    assert pool.take(64)[:3] == [greedy[0], *modest]
    pool.remove_committed(greedy[:1])
    assert pool.take(64)[:3] == [*modest, greedy[1]]


def test_nonces_come_in_order_and_a_hole_is_waited_for() -> None:
    pool = make_pool()
    third, first = fill(pool, [make_tx(0, 2), make_tx(0, 0)])
    assert pool.take(64) == [first]
    second = fill(pool, [make_tx(0, 1)])[0]
    assert pool.take(64) == [first, second, third]
    pool.remove([first])
    assert pool.take(64) == [] and not pool.is_ready()


def test_what_is_committed_or_waits_is_not_taken_again() -> None:
    pool = make_pool()
    tx = fill(pool, [make_tx(0, 0)])[0]
    with pytest.raises(Refused, match="waits already"):
        pool.admit(tx, 1)
    with pytest.raises(Refused, match="with this nonce"):
        pool.admit(make_tx(0, 0, ops.Anchor(2, bytes(32))), 1)
    assert pool.find(tx.encoded) is tx
    pool.remove_committed([tx])
    assert len(pool) == pool.size == 0 and pool.find(tx.encoded) is None
    used = make_pool(known=1)
    with pytest.raises(Refused, match="was used"):
        used.admit(tx, 1)


def test_a_used_nonce_voids_what_another_node_put_into_a_block() -> None:
    pool = make_pool()
    fill(pool, [make_tx(0, 0), make_tx(0, 1), make_tx(0, 2)])
    pool.remove_committed([make_tx(0, 1, ops.Anchor(9, bytes(32)))])
    assert [tx.nonce for tx in pool.take(64)] == [2]


def test_each_sender_each_class_and_strangers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "SENDER_TXS_MAX", 3)
    pool = make_pool()
    fill(pool, [make_tx(0, nonce) for nonce in range(3)])
    with pytest.raises(Refused, match="too far ahead"):
        pool.admit(make_tx(0, 3), 0)
    monkeypatch.setattr(mempool, "SENDER_BYTES_MAX", 12_000)
    fill(pool, [make_tx(3, 0, ops.NotaryBundle(bytes(32), bytes(9_000), bytes(64)))])
    with pytest.raises(Refused, match="of the sender wait"):
        pool.admit(make_tx(3, 1, EVIDENCE), 0)
    monkeypatch.setattr(mempool, "POOL_BYTES_MAX", 8 * 12_000)
    fill(pool, [make_tx(1, 0, EVIDENCE), make_tx(1, 1, EVIDENCE)])
    with pytest.raises(Refused, match="this class"):
        pool.admit(make_tx(2, 0, EVIDENCE), 0)
    pool.admit(make_tx(2, 0), 0)
    monkeypatch.setattr(mempool, "REGISTRATIONS_MAX", 1)
    strangers = Mempool(lambda *_: None)
    register = ops.Register("x", bytes(32))
    fill(strangers, [make_tx(0, 0, register)])
    with pytest.raises(Refused, match="this class"):
        strangers.admit(make_tx(1, 0, register), 0)
    with pytest.raises(Refused, match="may not send"):
        strangers.admit(make_tx(1, 0), 0)
    for wrong in (make_tx(0, 1, register), make_tx(0, 0, register, *[ANCHOR] * 99)):
        with pytest.raises(Refused, match="a registration is small"):
            make_pool().admit(wrong, 0)


def test_no_class_starves_when_all_are_full() -> None:
    pool = make_pool()
    large = ops.ForkEvidence(bytes(32), b"x" * 200_000)
    wide = ops.Anchor(1, bytes(32), bytes(32 * 128))
    for nonce in range(9):
        fill(pool, [make_tx(0, nonce, large)])
        bundle = ops.NotaryBundle(bytes(32), b"x" * 200_000, bytes(64))
        fill(pool, [make_tx(1, nonce, bundle)])
        fill(pool, [make_tx(3, nonce, ops.Rotate(bytes(32), bytes(64)))])
    for number in range(4, 8):
        fill(pool, [make_tx(number, nonce, *[wide] * 50) for nonce in range(9)])
    taken = pool.take(64)
    order.check_order(taken)
    sizes = [0] * len(order.CLASSES)
    for tx in taken:
        sizes[order.get_class(tx)] += order.get_size(tx)
    assert sizes[order.ANCHOR] >= order.SHARES[order.ANCHOR] - 256 * 1024
    assert all(sizes[number] for number in (order.EVIDENCE, order.ANCHOR, order.BUNDLE, order.REST))


def test_a_flood_of_registrations_leaves_the_rest_its_place() -> None:
    pool = Mempool(lambda _, key: 0 if key == KEYS[0].public else None)
    fill(pool, [make_tx(number, 0, ops.Register("x", bytes(32))) for number in range(1, 8)])
    vote = fill(pool, [make_tx(0, 0, ops.ParameterVote(1, 5))])[0]
    taken = pool.take(2)
    assert taken[0] is vote and len(taken) == 3


def test_what_waits_too_long_goes() -> None:
    pool = make_pool()
    fill(pool, [make_tx(0, 0)], 5)
    fill(pool, [make_tx(1, 0)], 6)
    pool.expire(5 + mempool.EXPIRE_MS)
    assert [tx.key for tx in pool.take(64)] == [KEYS[1].public]


def test_an_earlier_class_after_a_later_one_waits_for_the_next_block() -> None:
    pool = make_pool()
    fork = ops.ForkEvidence(bytes(32), b"")
    txs = fill(pool, [make_tx(0, 0), make_tx(0, 1, ops.Rotate(bytes(32), bytes(64))),
                      make_tx(0, 2, fork), make_tx(0, 3)])  # fmt: skip
    assert pool.take(64) == txs[:2]


def run(rng: Random) -> list[bytes]:
    """Random admissions, blocks, removals and expiry; what is checked holds after each step."""
    pool, said, now = make_pool(), [], 0
    nonces = [0] * len(KEYS)
    waiting: dict[bytes, Tx] = {}
    for _ in range(200):
        now += rng.randrange(mempool.EXPIRE_MS // 20)
        number = rng.randrange(len(KEYS))
        operation = rng.choice((ANCHOR, EVIDENCE, ops.Revoke(0, 1), ops.ParameterVote(1, 1)))
        tx = make_tx(number, nonces[number] + rng.randrange(4), operation)
        try:
            pool.admit(tx, now)
        except Refused:
            pass
        taken = pool.take(64)
        order.check_order(taken)
        for tx in taken:
            assert pool.find(tx.encoded) is tx
        if rng.random() < 0.3:
            committed = taken[: rng.randrange(5)]
            pool.remove_committed(committed)
            for tx in committed:
                place = [key.public for key in KEYS].index(tx.key)
                nonces[place] = max(nonces[place], tx.nonce + 1)
        pool.expire(now)
        said += [tx.hash for tx in taken]
        assert pool.is_ready() == bool(pool.take(64))
        assert pool.size == sum(order.get_size(tx) for tx in pool._by_bytes.values())
        waiting = dict(pool._by_bytes)
    assert waiting is not None
    return said


def test_the_same_arrivals_give_the_same_order(full: bool, seed: int) -> None:
    for number in range(50 if full else 5):
        assert run(Random(seed + number)) == run(Random(seed + number))


def test_the_ledger_tells_who_may_send() -> None:
    chain, host = Chain(), HostLog(1)
    ledger = chain.ledger
    member = VALIDATOR_KEYS[0]
    assert ledger.find_nonce(chain.sign(member, ANCHOR).sender, member.public) == 0
    assert ledger.find_nonce(host.id, host.key.public) is None
    chain.enrol(host)
    assert ledger.find_nonce(host.id, host.key.public) == 1
    assert ledger.find_nonce(host.id, member.public) is None
