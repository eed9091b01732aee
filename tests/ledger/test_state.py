"""The ledger: what a block may hold, what it does, and that replay gives the same state."""

from __future__ import annotations

from random import Random

import pytest

from chainlite.consensus.equivocation import encode_equivocation, make_equivocation
from chainlite.consensus.messages import PREPARE, sign_vote
from chainlite.errors import SpecError, TamperError
from chainlite.keys import KeyPair, compute_host_id, make_key_pair
from chainlite.ledger import operations as ops
from chainlite.ledger import records, rules, state
from chainlite.ledger.block import Block, decode_block, make_block
from chainlite.ledger.state import InvalidBlock, Ledger
from chainlite.ledger.tx import Tx, sign_tx
from chainlite.ledger.view import Refused, View
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog, make_member, never, vote_all


def try_tx(chain: Chain, tx: Tx) -> None:
    """Apply it on a view that is dropped: Refused says why not."""
    ledger = chain.ledger
    view = ledger._open(ledger.head.timestamp_ms + 1)
    rules.apply_tx(view, tx)


def test_an_anchor_becomes_available_with_f_plus_one_and_not_before() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 5))
    size, root = 5, host.get_root(5)
    chain.take(chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, size, root)))
    assert chain.get_host(host).available == 0
    chain.take(chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, size, root)))
    assert chain.get_host(host).available == 0, "one signer counts once"
    chain.take(chain.sign(VALIDATOR_KEYS[1], ops.Available(host.id, size, root)))
    found = chain.get_host(host)
    assert (found.available, found.available_root, found.acks) == (size, root, b"")
    chain.take(chain.sign(VALIDATOR_KEYS[2], ops.Available(host.id, size, root)))
    assert chain.get_host(host).available == 5


def test_who_holds_more_leaves_holds_those_before() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    for _ in range(3):
        chain.take(chain.anchor(host, 2))
    chain.take(chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, 6, host.get_root(6))))
    chain.take(chain.sign(VALIDATOR_KEYS[1], ops.Available(host.id, 4, host.get_root(4))))
    assert chain.get_host(host).available == 4


def test_availability_is_not_taken_from_strangers_or_for_another_root() -> None:
    chain, host, stranger = Chain(), HostLog(1), HostLog(2)
    chain.enrol(host, stranger)
    chain.take(chain.anchor(host, 5))
    with pytest.raises(Refused, match="no validator"):
        try_tx(chain, chain.sign(stranger.key, ops.Available(host.id, 5, host.get_root(5))))
    with pytest.raises(Refused, match="another root"):
        try_tx(chain, chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, 5, bytes(32))))


def test_an_anchor_must_continue_the_states_anchor() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 5))
    size, root = host.grow(4)
    nonce = chain.nonces[host.id]
    for operation, why in (
        (ops.Anchor(size, root), "does not continue"),
        (ops.Anchor(size, bytes(32), host.prove(5, size)), "does not continue"),
        (ops.Anchor(5, host.get_root(5)), "the state has 5"),
        (ops.Anchor(4, host.get_root(4)), "the state has 5"),
    ):
        with pytest.raises(Refused, match=why):
            try_tx(chain, sign_tx(host.key, chain.chain_id, nonce, [operation], host.id))
    chain.take(chain.sign(host.key, ops.Anchor(size, root, host.prove(5, size)), sender=host.id))


def test_a_host_anchors_once_in_its_interval() -> None:
    chain, host = Chain(anchor_interval_blocks=3), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host))
    late = chain.anchor(host)
    assert chain.step(late).txs == ()
    assert chain.step(late).txs == ()
    assert chain.step(late).txs == (late,)


def test_recent_anchors_are_thinned_and_the_newest_stay() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    for _ in range(3 * records.POINTS_MAX):
        chain.take(chain.anchor(host, 1))
    points = dict(rules.get_points(chain.get_host(host)))
    count = len(host.leaves)
    assert len(points) <= records.POINTS_MAX
    assert list(points)[-8:] == list(range(count - 7, count + 1))
    assert all(root == host.get_root(size) for size, root in points.items())


def test_nonces_have_no_hole_and_are_not_used_twice() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    first, second = chain.anchor(host), chain.anchor(host)
    with pytest.raises(Refused, match="too early"):
        try_tx(chain, second)
    chain.take(first)
    with pytest.raises(Refused, match="was used"):
        try_tx(chain, first)
    chain.take(second)


def test_a_transaction_is_whole_or_not_there() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    size, root = host.grow(3)
    before = chain.ledger.state_root
    bad = chain.sign(host.key, ops.Anchor(size, root), ops.Anchor(size, root), sender=host.id)
    executed = chain.step(bad)
    assert executed.txs == ()
    assert chain.get_host(host).size == 0 and chain.get_host(host).nonce == 1
    assert chain.ledger.state_root != before, "the history goes on"


def test_a_stranger_can_only_register_and_a_block_registers_so_many() -> None:
    chain = Chain(registrations_per_block=2)
    hosts = [HostLog(number) for number in range(3)]
    with pytest.raises(Refused, match="not registered"):
        try_tx(chain, sign_tx(hosts[0].key, chain.chain_id, 0, [ops.Anchor(1, bytes(32))]))
    register = ops.Register("x", bytes(32))
    bad = sign_tx(HostLog(9).key, chain.chain_id, 0, [register, ops.Revoke(5, 0)])
    txs = [chain.sign(host.key, register) for host in hosts]
    assert chain.step(bad, *txs).txs == tuple(txs[:2]), "what was refused takes no place"
    chain.take(txs[2])
    with pytest.raises(Refused, match="is registered"):
        try_tx(chain, chain.sign(hosts[0].key, ops.Register("x", bytes(32))))


def test_a_state_has_so_many_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "HOSTS_MAX", 2)
    chain = Chain()
    chain.enrol(HostLog(1))
    chain.enrol(HostLog(2))
    with pytest.raises(Refused, match="2 hosts are registered"):
        try_tx(chain, chain.sign(HostLog(3).key, ops.Register("x", bytes(32))))


def test_nobody_speaks_with_anothers_key() -> None:
    chain, host, thief = Chain(), HostLog(1), HostLog(2)
    chain.enrol(host)
    anchor = ops.Anchor(1, bytes(32))
    with pytest.raises(Refused, match="present one"):
        try_tx(chain, sign_tx(thief.key, chain.chain_id, 1, [anchor], host.id))
    with pytest.raises(Refused, match="not the key's own id"):
        try_tx(chain, sign_tx(host.key, chain.chain_id, 0, [anchor], thief.id))


def test_the_old_key_rotates_and_a_newer_one_revokes() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    new = make_key_pair(b"n" * 32)
    wrong = rules.sign_possession(host.key, chain.chain_id, host.id, 1)
    rotate = sign_tx(host.key, chain.chain_id, 1, [ops.Rotate(new.public, wrong)], host.id)
    with pytest.raises(Refused, match="did not sign"):
        try_tx(chain, rotate)
    possession = rules.sign_possession(new, chain.chain_id, host.id, 1)
    chain.take(chain.sign(host.key, ops.Rotate(new.public, possession), sender=host.id))
    assert chain.get_host(host)[:2] == (new.public, 1)
    with pytest.raises(Refused, match="present one"):
        try_tx(chain, sign_tx(host.key, chain.chain_id, 2, [ops.Revoke(0, 7)], host.id))
    chain.take(chain.sign(new, ops.Revoke(0, 7), sender=host.id))
    old = chain.ledger.find(records.get_key_key(host.id, 0))
    assert isinstance(old, records.HostKey) and old.revoked_from == 7
    with pytest.raises(Refused, match="not older"):
        try_tx(chain, sign_tx(new, chain.chain_id, 3, [ops.Revoke(1, 7)], host.id))


def test_evidence_stops_a_change_that_was_to_come() -> None:
    chain, key = Chain(), make_key_pair(bytes([8]) * 32)
    join = make_join(8)
    txs = vote_all(chain, VALIDATOR_KEYS[:2], join)
    txs.append(chain.sign(VALIDATOR_KEYS[2], join, accuse(chain, key)))
    chain.take(*txs)
    chain.step()
    chain.step()
    assert key.public not in chain.ledger.get_validators(chain.ledger.height)


def equivocate(chain: Chain, number: int) -> ops.VotesEvidence:
    return accuse(chain, VALIDATOR_KEYS[number])


def accuse(chain: Chain, key: KeyPair) -> ops.VotesEvidence:
    votes = [sign_vote(key, chain.chain_id, PREPARE, 5, 0, bytes([n]) * 32) for n in range(2)]
    return ops.VotesEvidence(key.public, encode_equivocation(make_equivocation(*votes)))


def test_evidence_in_block_h_removes_from_h_plus_one_for_ever() -> None:
    chain = Chain()
    accused = VALIDATOR_KEYS[2].public
    chain.take(chain.sign(VALIDATOR_KEYS[0], equivocate(chain, 2)))
    height = chain.ledger.height
    assert accused in chain.ledger.get_validators(height)
    assert accused not in chain.ledger.get_validators(height + 1)
    assert chain.ledger.head.next_validators == chain.ledger.get_validators(height + 1).digest
    with pytest.raises(Refused, match="was removed"):
        try_tx(chain, chain.sign(VALIDATOR_KEYS[0], equivocate(chain, 2)))
    chain.nonces[chain_sender(0)] -= 1
    chain.step()
    back = ops.MemberVote(ops.VALIDATOR, 1, accused, "x", "h:1", bytes(32))
    with pytest.raises(Refused, match="removed on evidence"):
        try_tx(chain, chain.sign(VALIDATOR_KEYS[0], back))


def chain_sender(number: int) -> bytes:
    return compute_host_id(VALIDATOR_KEYS[number].public)


def test_false_evidence_accuses_nobody_and_the_last_validator_stays() -> None:
    chain = Chain()
    evidence = equivocate(chain, 2)
    spoilt = ops.VotesEvidence(VALIDATOR_KEYS[1].public, evidence.evidence)
    with pytest.raises(Refused, match="another signer"):
        try_tx(chain, sign_tx(VALIDATOR_KEYS[0], chain.chain_id, 0, [spoilt]))
    bits = bytearray(evidence.evidence)
    bits[-1] ^= 1
    spoilt = ops.VotesEvidence(evidence.accused, bytes(bits))
    with pytest.raises(Refused, match="evidence: "):
        try_tx(chain, sign_tx(VALIDATOR_KEYS[0], chain.chain_id, 0, [spoilt]))
    alone = Chain(1)
    with pytest.raises(Refused, match="last validator"):
        try_tx(alone, alone.sign(VALIDATOR_KEYS[0], equivocate(alone, 0)))


def test_who_is_voted_in_or_out_in_block_h_is_so_from_h_plus_two() -> None:
    chain, key = Chain(), make_key_pair(b"v" * 32)
    join = ops.MemberVote(ops.VALIDATOR, 1, *make_member(key, 9))
    txs = vote_all(chain, VALIDATOR_KEYS[:3], join)
    chain.take(*txs[:2])
    chain.take(txs[2])
    height = chain.ledger.height
    assert key.public not in chain.ledger.get_validators(height + 1)
    chain.step()
    assert key.public in chain.ledger.get_validators(height + 2)
    assert key.public not in chain.ledger.get_validators(height + 1)
    gone = ops.MemberVote(ops.VALIDATOR, 0, key.public, "", "", bytes(32))
    chain.step()
    chain.take(*vote_all(chain, [*VALIDATOR_KEYS[:3], key], gone))
    height = chain.ledger.height
    assert key.public in chain.ledger.get_validators(height + 1)
    chain.step()
    assert key.public not in chain.ledger.get_validators(height + 2)
    members = chain.ledger.find(records.VALIDATORS_KEY)
    assert isinstance(members, records.Validators)
    chain.step()
    members = chain.ledger.find(records.VALIDATORS_KEY)
    assert isinstance(members, records.Validators)
    assert key.public not in {member.public for member in members.members}


def test_one_vote_is_not_a_quorum_and_the_last_validator_does_not_leave() -> None:
    chain = Chain()
    vote = ops.ParameterVote(3, 500)
    first = chain.sign(VALIDATOR_KEYS[0], vote)
    chain.take(first)
    with pytest.raises(Refused, match="has voted"):
        try_tx(chain, chain.sign(VALIDATOR_KEYS[0], vote))
    assert chain.ledger.parameters.block_interval_ms == 1000
    chain.take(*vote_all(chain, VALIDATOR_KEYS[1:3], vote))
    assert chain.ledger.parameters.block_interval_ms == 500
    alone = Chain(1)
    gone = ops.MemberVote(ops.VALIDATOR, 0, VALIDATOR_KEYS[0].public, "", "", bytes(32))
    with pytest.raises(Refused, match="last validator"):
        try_tx(alone, alone.sign(VALIDATOR_KEYS[0], gone))


def test_votes_that_wait_too_long_are_dropped() -> None:
    chain = Chain(vote_blocks=10)
    vote = ops.ParameterVote(3, 500)
    chain.take(*vote_all(chain, VALIDATOR_KEYS[:2], vote))
    for _ in range(10):
        chain.step()
    chain.take(*vote_all(chain, VALIDATOR_KEYS[2:3], vote))
    assert chain.ledger.parameters.block_interval_ms == 1000
    chain.take(*vote_all(chain, VALIDATOR_KEYS[:2], vote))
    assert chain.ledger.parameters.block_interval_ms == 500


def spoil(block: Block, **fields: object) -> Block:
    return make_block(block.header._replace(**fields), block.transactions, block.poh)


def test_every_field_of_a_header_is_checked() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    ledger = chain.ledger
    proposer = VALIDATOR_KEYS[0].public
    now = ledger.head.timestamp_ms + 300
    block, _ = ledger.propose(ledger.head, now, proposer, [chain.anchor(host)])
    ledger.check(block, never)
    for name, value in (
        ("height", 7),
        ("previous", bytes(32)),
        ("history_root", bytes(32)),
        ("state_root", bytes(32)),
        ("receipts_root", bytes(32)),
        ("poh_root", bytes(32)),
        ("next_validators", bytes(32)),
        ("timestamp_ms", now - 300),
        ("timestamp_ms", now + 1000),
        ("proposer", bytes(32)),
    ):
        with pytest.raises(SpecError):
            ledger.check(spoil(block, **{name: value}), never)


def test_ticks_and_transactions_must_be_the_headers() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    ledger = chain.ledger
    now = ledger.head.timestamp_ms + 600
    block, _ = ledger.propose(ledger.head, now, VALIDATOR_KEYS[0].public, [chain.anchor(host)])
    assert len(block.poh) == 3
    root = state.poh.compute_poh_root((*block.poh[:1], bytes(32), *block.poh[2:]))
    wrong = make_block(
        block.header._replace(poh_root=root), block.transactions,
        (*block.poh[:1], bytes(32), *block.poh[2:]),
    )  # fmt: skip
    with pytest.raises(InvalidBlock, match="segment of ticks"):
        ledger.check(wrong, never)
    with pytest.raises(SpecError):
        ledger.check(make_block(block.header, (), block.poh), never)
    raw = bytearray(block.transactions[0])
    raw[150] ^= 1
    with pytest.raises(InvalidBlock, match="did not sign"):
        ledger.check(make_block(block.header, (bytes(raw),), block.poh), never)


def test_a_transaction_of_another_chain_is_refused() -> None:
    chain, other, host = Chain(), Chain(1), HostLog(1)
    tx = other.sign(host.key, ops.Register("x", bytes(32)))
    assert chain.step(tx).txs == ()
    ledger = chain.ledger
    header = ledger.head._replace(height=2, previous=ledger.head_hash)
    header = header._replace(timestamp_ms=header.timestamp_ms + 1)
    header = header._replace(proposer=VALIDATOR_KEYS[0].public)
    block = make_block(header, (tx.encoded,), ())
    with pytest.raises(InvalidBlock, match="another chain"):
        chain.ledger.check(block, never)


def test_a_known_transaction_is_not_verified_again() -> None:
    chain, host = Chain(), HostLog(1)
    tx = chain.sign(host.key, ops.Register("x", bytes(32)))
    unsigned = tx._replace(key=tx.key)
    block, _ = chain.ledger.propose(
        chain.ledger.head, chain.ledger.head.timestamp_ms + 1, VALIDATOR_KEYS[0].public, [tx]
    )
    asked: list[bytes] = []

    def find(data: bytes) -> Tx:
        asked.append(data)
        return unsigned

    chain.ledger.check(block, find)
    assert asked == [tx.encoded]


def make_random_chain(rng: Random, blocks: int) -> Chain:
    """Hosts that come, anchor and rotate; validators that vote, acknowledge and are convicted."""
    chain = Chain(anchor_interval_blocks=rng.choice((1, 2)))
    hosts = [HostLog(number) for number in range(8)]
    here: list[HostLog] = []
    for _ in range(blocks):
        txs = []
        if hosts and rng.random() < 0.5:
            host = hosts.pop()
            here.append(host)
            txs.append(chain.sign(host.key, ops.Register("who", rng.randbytes(32))))
        for host in here:
            found = chain.ledger.find(records.HOST + host.id)
            if not isinstance(found, records.Host):
                continue
            chain.nonces[host.id] = found.nonce
            if rng.random() < 0.6 and found.size == len(host.leaves):
                del host.leaves[found.size :]
                txs.append(chain.anchor(host, rng.randrange(1, 5)))
            elif found.size < len(host.leaves):
                size = len(host.leaves)
                anchor = ops.Anchor(size, host.get_root(size), host.prove(found.size, size))
                txs.append(chain.sign(host.key, anchor, sender=host.id))
            if found.size and rng.random() < 0.7:
                ack = ops.Available(host.id, found.size, found.root)
                txs.append(chain.sign(rng.choice(VALIDATOR_KEYS[:3]), ack))
        if rng.random() < 0.3:
            vote = ops.ParameterVote(3, rng.randrange(100, 103))
            txs.append(chain.sign(rng.choice(VALIDATOR_KEYS[:3]), vote))
        if rng.random() < 0.05:
            txs.append(chain.sign(VALIDATOR_KEYS[0], equivocate(chain, 3)))
        executed = chain.step(*txs, after_ms=rng.randrange(1, 700))
        for key in VALIDATOR_KEYS:
            sender = state.records.ACCOUNT + rules.keys.compute_host_id(key.public)
            account = chain.ledger.find(sender)
            chain.nonces[sender[1:]] = account.nonce if isinstance(account, records.Account) else 0
        assert decode_block(executed.block.encoded) == executed.block
    return chain


def test_replay_from_genesis_and_from_any_rows_gives_the_same_root(full: bool, seed: int) -> None:
    for number in range(40 if full else 4):
        chain = make_random_chain(Random(seed + number), 30)
        assert any(
            isinstance(row, records.Host) and row.available for _, row in chain.ledger.get_items()
        )
        again = state.begin(chain.genesis)
        for executed in chain.blocks:
            again.commit(again.check(decode_block(executed.block.encoded), never))
        assert again.state_root == chain.ledger.state_root == chain.ledger.head.state_root
        values = [(k, records.encode_record(k, row)) for k, row in chain.ledger.get_items()]
        restored = state.restore(chain.genesis, values, chain.blocks[-1].block)
        assert dict(restored.get_items()) == dict(chain.ledger.get_items())
        for key, value in values:
            assert restored.prove(key) == (value, chain.ledger.prove(key)[1])


def test_rows_of_another_state_are_refused() -> None:
    chain = make_random_chain(Random(1), 10)
    values = [(k, records.encode_record(k, row)) for k, row in chain.ledger.get_items()]
    head = chain.blocks[-1].block
    with pytest.raises(TamperError):
        state.restore(chain.genesis, values[1:], head)
    key, value = values[-1]
    with pytest.raises(TamperError):
        state.restore(chain.genesis, [*values[:-1], (key, value + b"\0")], head)


def test_a_dropped_block_leaves_no_trace() -> None:
    chain = make_random_chain(Random(2), 10)
    ledger = chain.ledger
    before = (ledger.state_root, dict(ledger.get_items()))
    ledger.propose(ledger.head, ledger.head.timestamp_ms + 1, VALIDATOR_KEYS[0].public, [])
    assert (ledger.state_root, dict(ledger.get_items())) == before
    assert isinstance(ledger, Ledger) and View.__slots__


def test_an_anchor_that_is_no_longer_known_is_held_in_vain() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 2))
    chain.take(chain.anchor(host, 2))
    chain.take(chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, 3, host.get_root(3))))
    assert chain.get_host(host).acks == b""


def test_a_first_anchor_brings_no_proof() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    with pytest.raises(Refused, match="nothing to be consistent with"):
        try_tx(chain, chain.sign(host.key, ops.Anchor(1, bytes(32), bytes(32)), sender=host.id))


def test_nobody_holds_what_is_not_anchored() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 3))
    with pytest.raises(Refused, match="not in the state"):
        try_tx(chain, chain.sign(VALIDATOR_KEYS[0], ops.Available(host.id, 4, bytes(32))))


def test_an_acknowledgement_of_less_takes_back_nothing() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 2))
    chain.take(chain.anchor(host, 2))
    for size in (4, 2):
        ack = ops.Available(host.id, size, host.get_root(size))
        chain.take(chain.sign(VALIDATOR_KEYS[0], ack))
    chain.take(chain.sign(VALIDATOR_KEYS[1], ops.Available(host.id, 4, host.get_root(4))))
    assert chain.get_host(host).available == 4


def test_who_is_no_validator_any_more_holds_nothing() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.take(chain.anchor(host, 2))
    ack = ops.Available(host.id, 2, host.get_root(2))
    chain.take(chain.sign(VALIDATOR_KEYS[2], ack))
    chain.take(chain.sign(VALIDATOR_KEYS[0], equivocate(chain, 2)))
    chain.step()
    three = chain.ledger.get_validators(chain.ledger.height)
    assert (three.size, three.weak_quorum) == (3, 1)
    chain.take(*vote_all(chain, [VALIDATOR_KEYS[n] for n in (0, 1, 3)], make_join(8)))
    chain.step()
    chain.step()
    assert chain.ledger.get_validators(chain.ledger.height).weak_quorum == 2
    chain.take(chain.sign(VALIDATOR_KEYS[0], ack))
    assert chain.get_host(host).available == 0
    chain.take(chain.sign(VALIDATOR_KEYS[1], ack))
    assert chain.get_host(host).available == 2


def test_a_late_vote_changes_nothing_and_an_opposite_one_waits() -> None:
    chain = Chain()
    join = make_join(8)
    leave = ops.MemberVote(ops.VALIDATOR, 0, join.public, "", "", bytes(32))
    txs = vote_all(chain, VALIDATOR_KEYS, join)
    opposite = sign_tx(VALIDATOR_KEYS[3], chain.chain_id, 1, [leave])
    executed = chain.step(*txs, opposite)
    assert executed.txs == tuple(txs) and executed.refused == (opposite,)
    found = chain.ledger.find(records.VALIDATORS_KEY)
    assert isinstance(found, records.Validators) and len(found.changes) == 1
    chain.step()
    chain.take(chain.sign(VALIDATOR_KEYS[0], join))
    assert chain.ledger.find(records.PROPOSALS_KEY) == ()


def test_one_validator_cannot_fill_the_table_of_proposals() -> None:
    chain, join = Chain(), make_join(8)
    chain.take(*[chain.sign(VALIDATOR_KEYS[2], make_join(n)) for n in (8, 9)])
    with pytest.raises(Refused, match="signer began"):
        try_tx(chain, sign_tx(VALIDATOR_KEYS[2], chain.chain_id, 2, [make_join(10)]))
    chain.take(chain.sign(VALIDATOR_KEYS[0], join))
    chain.take(chain.sign(VALIDATOR_KEYS[0], equivocate(chain, 2)))
    chain.step()
    chain.take(chain.sign(VALIDATOR_KEYS[1], make_join(9)))
    found = chain.ledger.find(records.PROPOSALS_KEY)
    assert isinstance(found, tuple) and [len(one.voters) for one in found] == [1]


def make_join(number: int) -> ops.MemberVote:
    key = make_key_pair(bytes([number]) * 32)
    return ops.MemberVote(ops.VALIDATOR, 1, *make_member(key, number))


def test_an_archive_that_was_voted_in_counts_as_a_holder() -> None:
    chain, host, key = Chain(), HostLog(1), make_key_pair(b"z" * 32)
    chain.enrol(host)
    chain.take(chain.anchor(host, 2))
    ack = ops.Available(host.id, 2, host.get_root(2))
    with pytest.raises(Refused, match="no validator and no archive"):
        try_tx(chain, sign_tx(key, chain.chain_id, 0, [ack]))
    archive = ops.MemberVote(ops.ARCHIVE, 1, *make_member(key, 9))
    chain.take(*vote_all(chain, VALIDATOR_KEYS[:3], archive))
    before = chain.ledger.find(records.ARCHIVES_KEY)
    chain.take(chain.sign(VALIDATOR_KEYS[3], archive))
    assert chain.ledger.find(records.ARCHIVES_KEY) == before, "a late vote changes nothing"
    assert chain.ledger.find(records.PROPOSALS_KEY) == ()
    chain.take(chain.sign(key, ack))
    chain.take(chain.sign(VALIDATOR_KEYS[3], ack))
    assert chain.get_host(host).available == 2
    with pytest.raises(Refused, match="no validator of this height"):
        try_tx(chain, chain.sign(key, ops.ParameterVote(3, 500)))
    gone = ops.MemberVote(ops.ARCHIVE, 0, key.public, "", "", bytes(32))
    chain.take(*vote_all(chain, VALIDATOR_KEYS[:3], gone))
    with pytest.raises(Refused, match="no validator and no archive"):
        try_tx(chain, sign_tx(key, chain.chain_id, 2, [ack]))


def test_a_revocation_only_goes_back() -> None:
    chain, host, new = Chain(), HostLog(1), make_key_pair(b"n" * 32)
    chain.enrol(host)
    possession = rules.sign_possession(new, chain.chain_id, host.id, 1)
    chain.take(chain.sign(host.key, ops.Rotate(new.public, possession), sender=host.id))
    chain.take(chain.sign(new, ops.Revoke(0, 7), sender=host.id))
    for leaf in (7, 8):
        with pytest.raises(Refused, match="an earlier leaf"):
            try_tx(chain, sign_tx(new, chain.chain_id, 3, [ops.Revoke(0, leaf)], host.id))
    chain.take(chain.sign(new, ops.Revoke(0, 3), sender=host.id))


def test_what_may_apply_later_is_not_called_refused() -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    chain.anchor(host)
    early = chain.anchor(host)
    used = sign_tx(host.key, chain.chain_id, 0, [ops.Anchor(1, bytes(32))])
    assert chain.step(early, used).refused == (used,)


def test_a_validator_becomes_a_host_and_its_nonces_go_on() -> None:
    chain, key = Chain(), VALIDATOR_KEYS[0]
    chain.take(chain.sign(key, ops.ParameterVote(3, 500)))
    chain.take(chain.sign(key, ops.Register("x", bytes(32))))
    chain.take(chain.sign(key, ops.Anchor(1, bytes(32))))
    values = [(k, records.encode_record(k, row)) for k, row in chain.ledger.get_items()]
    restored = state.restore(chain.genesis, values, chain.blocks[-1].block)
    assert restored.find(records.ACCOUNT + chain_sender(0)) is None
