"""LogBlocks and PoE bundles on the chain: only what is available counts, once, and all of it."""

from __future__ import annotations

import pytest

from chainlite import logblock
from chainlite.economy import poe_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS
from chainlite.keys import make_key_pair
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.view import Refused
from tests.ledger.samples import TIME_MS, VALIDATOR_KEYS, Chain, HostLog
from tests.ledger.test_fork_rules import make_evidence
from tests.ledger.test_state import try_tx

NOTARY_KEY = make_key_pair(b"y" * 32)
NOTARY = logblock.compute_notary_id(NOTARY_KEY.public)
HOUR = poe_bundle.WINDOW_SECONDS
START = TIME_MS // 1000 // HOUR * HOUR
NS = 10**9


class Notary:
    """A chain with available hosts, and a notary that signs LogBlocks of what they did."""

    def __init__(self, hosts: int = 2) -> None:
        self.chain = Chain()
        self.hosts = [HostLog(number) for number in range(hosts)]
        self.chain.enrol(*self.hosts)
        self.points: dict[bytes, list[poe_bundle.ChainPoint]] = {}
        for host in self.hosts:
            self.points[host.id] = [poe_bundle.BEFORE_ALL]
            self.publish(host, 5)

    def publish(self, host: HostLog, count: int) -> None:
        self.chain.take(self.chain.anchor(host, count))
        size = len(host.leaves)
        ack = ops.Available(host.id, size, host.get_root(size))
        for key in VALIDATOR_KEYS[:2]:
            self.chain.take(self.chain.sign(key, ack))

    def make_block(
        self, host: HostLog, second: int, /, used: int = 7, **fields: object
    ) -> ops.NotaryBlock:
        before = self.points[host.id][-1]
        size = 3
        block = logblock.LogBlock(
            NOTARY, host.id, before.height + 1, before.hash, size, host.get_root(size), 1, 1,
            bytes(32), second * NS, tuple(total + used for total in before.totals), "web",
        )._replace(**fields)  # fmt: skip
        return self.sign(host, block)

    def sign(self, host: HostLog, block: logblock.LogBlock) -> ops.NotaryBlock:
        data = logblock.encode_block(block)
        point = len(host.leaves)
        proof = host.prove(block.log_size, point)
        signature = logblock.sign_block(data, NOTARY_KEY)
        return ops.NotaryBlock(NOTARY_KEY.public, data, signature, point, proof)

    def take(self, host: HostLog, operation: ops.NotaryBlock) -> None:
        self.chain.take(self.chain.sign(VALIDATOR_KEYS[0], operation))
        self.points[host.id].append(poe_bundle.make_point(operation.block))

    def make_bundle(self, start: int, *spans: tuple[HostLog, int, int]) -> ops.NotaryBundle:
        parts = tuple(
            poe_bundle.make_part(host.id, self.points[host.id][first], self.points[host.id][last])
            for host, first, last in spans
        )
        window = poe_bundle.Window(start)
        made = poe_bundle.make_bundle(NOTARY, "web", window, DEFAULT_TERMS, parts, start * NS)
        data = poe_bundle.encode_bundle(made)
        signature = poe_bundle.sign_bundle(data, NOTARY_KEY)
        return ops.NotaryBundle(NOTARY_KEY.public, data, signature)

    def refuse(self, operation: ops.Operation, why: str) -> None:
        nonce = dict(self.chain.nonces)
        with pytest.raises(Refused, match=why):
            try_tx(self.chain, self.chain.sign(VALIDATOR_KEYS[0], operation))
        self.chain.nonces = nonce


def test_a_window_is_settled_by_all_that_the_chain_has_of_it() -> None:
    notary = Notary()
    one, two = notary.hosts
    notary.take(one, notary.make_block(one, START + 1))
    notary.take(one, notary.make_block(one, START + 9))
    notary.take(two, notary.make_block(two, START + 2))
    notary.take(one, notary.make_block(one, START + HOUR + 1))
    whole = notary.make_bundle(START, (one, 0, 2), (two, 0, 1))
    notary.refuse(whole, "not over")
    notary.chain.step(after_ms=2 * HOUR * 1000)
    notary.refuse(notary.make_bundle(START, (one, 0, 2)), "1 hosts; the window has 2")
    notary.refuse(notary.make_bundle(START, (one, 0, 1), (two, 0, 1)), "not what the chain has")
    notary.refuse(notary.make_bundle(START, (one, 0, 3), (two, 0, 1)), "not what the chain has")
    notary.refuse(whole._replace(signature=bytes(64)), "not signed")
    notary.chain.take(notary.chain.sign(VALIDATOR_KEYS[0], whole))
    notary.refuse(whole, "has its bundle")
    windows = notary.chain.ledger.find(records.get_windows_key(NOTARY, "web"))
    assert isinstance(windows, tuple)
    bundle = poe_bundle.decode_bundle(whole.bundle)
    assert windows[0][:2] == (START, 2) and windows[0][3:] == tuple(bundle.phi)
    notary.chain.take(
        notary.chain.sign(VALIDATOR_KEYS[0], notary.make_bundle(START + HOUR, (one, 2, 3)))
    )


def test_a_logblock_after_its_windows_bundle_counts_in_none() -> None:
    notary = Notary()
    one, two = notary.hosts
    notary.take(one, notary.make_block(one, START + 1))
    notary.chain.step(after_ms=2 * HOUR * 1000)
    settled = notary.make_bundle(START, (one, 0, 1))
    notary.chain.take(notary.chain.sign(VALIDATOR_KEYS[0], settled))
    notary.take(two, notary.make_block(two, START + 5))
    notary.take(one, notary.make_block(one, START + 5))
    row = notary.chain.ledger.find(records.get_windows_key(NOTARY, "web"))
    assert isinstance(row, tuple) and [window.hosts for window in row] == [1]


def test_a_logblock_stands_on_what_is_available() -> None:
    notary = Notary()
    one = notary.hosts[0]
    good = notary.make_block(one, START + 1)
    notary.refuse(good._replace(proof=good.proof[32:]), "not the one that is anchored")
    notary.refuse(notary.make_block(one, START + 1, log_root=bytes(32)), "not the one")
    notary.refuse(good._replace(point=4), "not known")
    notary.chain.take(notary.chain.anchor(one, 2))
    ahead = notary.make_block(one, START + 1)
    assert ahead.point == 7
    notary.refuse(ahead, "not available")
    notary.take(one, good)
    notary.publish(one, 1)
    later = notary.make_block(one, START + 2)
    assert later.point == 8
    notary.take(one, later)
    # An earlier anchor that was available stays good for a while.
    point = notary.make_block(one, START + 3)
    notary.take(one, point._replace(point=7, proof=one.prove(3, 7)))


def test_the_blocks_of_a_notarised_chain_follow_each_other() -> None:
    notary = Notary()
    one = notary.hosts[0]
    notary.take(one, notary.make_block(one, START + 5))
    for fields, why in (
        ({"height": 5}, "next block of this chain is 1"),
        ({"previous": b"\x01" * 32}, "next block of this chain is 1"),
        ({"time": (START + 5) * NS}, "goes back"),
        ({"log_size": 2, "log_root": one.get_root(2)}, "goes back"),
        ({"totals": (0,) * 5}, "falls"),
        ({"host": bytes(32)}, "not registered"),
    ):
        notary.refuse(notary.make_block(one, START + 6, **fields), why)
    wrong = notary.make_block(one, START + 6)
    notary.refuse(wrong._replace(signature=bytes(64)), "not signed")
    notary.refuse(wrong._replace(notary=VALIDATOR_KEYS[0].public), "not signed")
    notary.refuse(wrong._replace(block=b"nothing"), "LogBlock: ")
    notary.take(one, wrong)


def test_a_forked_hosts_work_and_another_window_count_for_nothing() -> None:
    notary = Notary()
    one, two = notary.hosts
    notary.take(one, notary.make_block(one, START + 1))
    fork = ops.ForkEvidence(two.id, make_evidence(two))
    block = notary.make_block(two, START + 1)
    notary.chain.take(notary.chain.sign(VALIDATOR_KEYS[0], fork))
    notary.refuse(block, "forked")
    notary.chain.step(after_ms=2 * HOUR * 1000)
    part = poe_bundle.make_part(one.id, *notary.points[one.id])
    for window in (poe_bundle.Window(START, HOUR // 2), poe_bundle.Window(START + HOUR)):
        made = poe_bundle.make_bundle(NOTARY, "web", window, DEFAULT_TERMS, (part,), 0)
        data = poe_bundle.encode_bundle(made)
        signature = poe_bundle.sign_bundle(data, NOTARY_KEY)
        notary.refuse(ops.NotaryBundle(NOTARY_KEY.public, data, signature), "window")


def test_only_so_many_windows_are_kept() -> None:
    notary = Notary(1)
    one = notary.hosts[0]
    for number in range(records.BUNDLES_KEPT + 3):
        notary.take(one, notary.make_block(one, START + number * HOUR))
    row = notary.chain.ledger.find(records.get_windows_key(NOTARY, "web"))
    head = notary.chain.ledger.find(records.get_head_key(NOTARY, one.id, "web"))
    assert isinstance(row, tuple) and len(row) == records.BUNDLES_KEPT
    assert isinstance(head, records.NotaryHead) and len(head.spans) == records.WINDOWS_KEPT
