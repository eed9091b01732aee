"""A chain of four validators in memory: keys, genesis, hosts with logs, block after block."""

from __future__ import annotations

from collections.abc import Sequence

from chainlite import merkle
from chainlite.consensus.messages import COMMIT, sign_vote
from chainlite.consensus.validators import ValidatorSet
from chainlite.keys import KeyPair, compute_host_id, make_key_pair
from chainlite.ledger import operations as ops
from chainlite.ledger import state
from chainlite.ledger.block import Block
from chainlite.ledger.genesis import Genesis, Member, Parameters, encode_genesis
from chainlite.ledger.header import Seals, compute_seal_digest
from chainlite.ledger.records import HOST, Host
from chainlite.ledger.state import Executed
from chainlite.ledger.tx import Tx, sign_tx

TIME_MS = 1_795_000_000_000
VALIDATOR_KEYS = tuple(sorted(make_key_pair(bytes([number]) * 32) for number in range(1, 5)))


def make_member(key: KeyPair, number: int = 0) -> Member:
    return Member(
        key.public, f"operator-{number}", f"127.0.0.1:{9000 + number}", bytes([number]) * 32
    )


def make_genesis(count: int = 4, **parameters: int) -> bytes:
    members = tuple(make_member(key, n) for n, key in enumerate(VALIDATOR_KEYS[:count]))
    return encode_genesis(Genesis("test", TIME_MS, Parameters(**parameters), members))


def never(data: bytes) -> Tx | None:
    """No transaction was checked before."""
    return None


def seal(chain_id: bytes, block: Block, keys: Sequence[KeyPair] = VALIDATOR_KEYS[:3]) -> Seals:
    """A quorum's seals of round 0."""
    digest = compute_seal_digest(chain_id, block.hash, 0)
    votes = [sign_vote(key, chain_id, COMMIT, block.header.height, 0, digest) for key in keys]
    places = ValidatorSet(key.public for key in VALIDATOR_KEYS)
    bitmap = places.encode_bitmap(vote.signer for vote in votes)
    return Seals(0, bitmap, tuple(vote.signature for vote in votes))


class HostLog:
    """A host's key and its log, which grows as told."""

    def __init__(self, number: int) -> None:
        self.key = make_key_pair(b"host" + number.to_bytes(28, "big"))
        self.id = compute_host_id(self.key.public)
        self.leaves: list[bytes] = []
        self.nonce = 0

    def grow(self, count: int) -> tuple[int, bytes]:
        for _ in range(count):
            data = self.id + len(self.leaves).to_bytes(8, "big")
            self.leaves.append(merkle.compute_leaf_hash(data))
        return len(self.leaves), self.get_root(len(self.leaves))

    def get_root(self, size: int) -> bytes:
        return merkle.compute_root(self.leaves[:size])

    def prove(self, old: int, new: int) -> bytes:
        if not old or old == new:
            return b""
        return b"".join(merkle.compute_consistency(old, new, self.read))

    def read(self, level: int, number: int) -> bytes:
        return merkle.compute_root(self.leaves[number << level : (number + 1) << level])


class Chain:
    """A ledger, and blocks that are proposed, checked by a second ledger, and committed by both."""

    def __init__(self, count: int = 4, **parameters: int) -> None:
        self.genesis = make_genesis(count, **parameters)
        self.ledger = state.begin(self.genesis)
        self.other = state.begin(self.genesis)
        self.blocks: list[Executed] = []
        self.nonces: dict[bytes, int] = {}

    @property
    def chain_id(self) -> bytes:
        return self.ledger.chain_id

    def sign(self, key: KeyPair, *operations: ops.Operation, sender: bytes = b"") -> Tx:
        """The sender's next transaction, counted here."""
        who = sender or compute_host_id(key.public)
        nonce = self.nonces.get(who, 0)
        self.nonces[who] = nonce + 1
        return sign_tx(key, self.chain_id, nonce, operations, who)

    def step(self, *txs: Tx, after_ms: int = 7) -> Executed:
        """The next block of these transactions, taken by both ledgers."""
        ledger = self.ledger
        now = ledger.head.timestamp_ms + after_ms
        proposer = ledger.get_validators(ledger.height + 1).get_proposer(ledger.head.proposer, 0)
        block, executed = ledger.propose(ledger.head, now, proposer, txs)
        checked = self.other.check(block, never)
        assert checked.values == executed.values and checked.node[0] == executed.node[0]
        ledger.commit(executed)
        self.other.commit(checked)
        self.blocks.append(executed)
        return executed

    def take(self, *txs: Tx, after_ms: int = 7) -> Executed:
        """As `step`; all of them apply."""
        executed = self.step(*txs, after_ms=after_ms)
        assert len(executed.txs) == len(txs), "a transaction was left out"
        return executed

    def enrol(self, *hosts: HostLog) -> None:
        self.take(*[self.sign(host.key, ops.Register("somebody", bytes(32))) for host in hosts])

    def anchor(self, host: HostLog, count: int = 3) -> Tx:
        old = len(host.leaves)
        size, root = host.grow(count)
        return self.sign(host.key, ops.Anchor(size, root, host.prove(old, size)), sender=host.id)

    def get_host(self, host: HostLog) -> Host:
        found = self.ledger.find(HOST + host.id)
        assert isinstance(found, Host)
        return found


def vote_all(chain: Chain, keys: Sequence[KeyPair], operation: ops.Operation) -> list[Tx]:
    return [chain.sign(key, operation) for key in keys]
