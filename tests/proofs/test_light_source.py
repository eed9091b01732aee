"""Light proofs out of a chain's store: what a node gives is what a stranger believes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, keys, merkle
from chainlite.consensus.messages import COMMIT, sign_vote
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.header import Seals, compute_seal_digest, encode_seals
from chainlite.ledger.store import create, create_from_state
from chainlite.ledger.store_check import check_store
from chainlite.proofs import light, trusted
from chainlite.proofs.light_format import UNDER_TRUSTED, decode_light
from chainlite.proofs.light_source import (
    get_trusted,
    get_validators,
    make_header_checkpoint,
    prove_anchor,
    prove_evidence,
)
from tests.chainlite.samples import WITNESS, WITNESS_KEY
from tests.ledger.samples import (
    TIME_MS,
    VALIDATOR_KEYS,
    Chain,
    HostLog,
    make_member,
    vote_all,
)
from tests.ledger.test_state import accuse

NOW_MS = TIME_MS + 3_600_000
JOINING = tuple(keys.make_key_pair(bytes([number]) * 32) for number in range(21, 24))
LIAR = JOINING[1]
BY_PUBLIC = {pair.public: pair for pair in (*VALIDATOR_KEYS, *JOINING)}


class Made:
    """A chain in which validators join and leave and a host anchors, and its store."""

    def __init__(self, path: Path) -> None:
        self.chain, self.host = Chain(), HostLog(1)
        self.store = create(path, self.chain.genesis)
        self.chain.enrol(self.host)
        self.store_last()
        self.anchored: list[int] = []
        self.anchor()
        for number, pair in enumerate(JOINING):
            self.vote(present=1, pair=pair, number=number)
            self.anchor()
        self.vote(present=0, pair=VALIDATOR_KEYS[0], number=0)
        for _ in range(3):
            self.anchor()
        self.convict(LIAR)
        self.anchor()

    def convict(self, liar: keys.KeyPair) -> None:
        self.chain.take(self.chain.sign(VALIDATOR_KEYS[1], accuse(self.chain, liar)))
        self.convicted_at = self.chain.ledger.height
        self.store_last()

    def vote(self, *, present: int, pair: keys.KeyPair, number: int) -> None:
        member = make_member(pair, 20 + number)
        empty = ("", "", bytes(32))
        rest = member[1:] if present else empty
        change = ops.MemberVote(0, present, pair.public, *rest)
        validators = self.chain.ledger.get_validators(self.chain.ledger.height + 1)
        voters = [BY_PUBLIC[key] for key in validators.keys[: validators.quorum]]
        self.chain.take(*vote_all(self.chain, voters, change))
        self.store_last()
        for _ in range(2):
            self.chain.step()
            self.store_last()

    def anchor(self) -> None:
        self.chain.take(self.chain.anchor(self.host))
        self.anchored.append(self.chain.ledger.height)
        self.store_last()

    def store_last(self) -> None:
        """The last block into the store, sealed by all validators of its height."""
        executed = self.chain.blocks[-1]
        header, block_hash = executed.block.header, executed.block.hash
        validators = self.store.ledger.get_validators(header.height)
        digest = compute_seal_digest(self.chain.chain_id, block_hash, 0)
        signatures = tuple(
            sign_vote(
                BY_PUBLIC[key], self.chain.chain_id, COMMIT, header.height, 0, digest
            ).signature
            for key in validators.keys
        )
        bitmap = validators.encode_bitmap(validators.keys)
        self.store.append(executed, Seals(0, bitmap, signatures))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    done = Made(tmp_path_factory.mktemp("chain") / "chain.db")
    assert len(done.store.read_sets()) == 5
    yield done
    done.store.close()


def test_each_anchor_is_proven_to_who_trusts_the_genesis(made: Made) -> None:
    genesis = get_trusted(made.store, 0)
    links = set()
    for number, height in enumerate(made.anchored):
        data = prove_anchor(made.store, made.host.id, 3 * number)
        found = light.check_finality(data, genesis, NOW_MS)
        size = 3 * (number + 1)
        assert found[:3] == (made.host.id, size, made.host.get_root(size))
        assert found.height == height
        assert found.block_hash == made.store.tables.get_hash(height)
        assert set(found.signers) <= set(get_validators(made.store, height).keys)
        links.add(len(decode_light(data, genesis.chain_id).links))
    assert max(links) == 5 and min(links) == 0


def test_each_anchor_is_proven_to_who_trusts_any_header(made: Made) -> None:
    for trusted_height in range(1, made.store.height + 1):
        known = get_trusted(made.store, trusted_height)
        for number, height in enumerate(made.anchored):
            data = prove_anchor(made.store, made.host.id, 3 * number, trusted_height)
            assert light.check_finality(data, known, NOW_MS).height == height
            kind = decode_light(data, known.chain_id).kind
            assert (kind == UNDER_TRUSTED) == (height <= trusted_height)


def test_the_validators_of_every_height_are_those_that_sealed_it(made: Made) -> None:
    for height in range(1, made.store.height + 1):
        _, seals = made.store.get_block(height)
        assert seals is not None
        assert len(seals.signatures) == get_validators(made.store, height).size


def test_a_leaf_that_no_block_has_is_an_error(made: Made) -> None:
    with pytest.raises(StateError, match="holds leaf 1000"):
        prove_anchor(made.store, made.host.id, 1000)
    with pytest.raises(StateError, match="no final block"):
        prove_anchor(made.store, bytes(32), 0)


@pytest.mark.parametrize("trusted_height", [0, 5, -1])
def test_what_convicted_a_validator_is_proven_and_no_bit_of_that_can_be_changed(
    made: Made, trusted_height: int
) -> None:
    height = trusted_height if trusted_height >= 0 else made.store.height
    known = get_trusted(made.store, height)
    data = prove_evidence(made.store, LIAR.public, height)
    shown = light.check_light(data, known, NOW_MS)
    assert shown.evidence == ops.VotesEvidence(LIAR.public)
    assert shown.final.height == made.convicted_at
    with pytest.raises(SpecError, match="nothing of a log"):
        light.check_finality(data, known, NOW_MS)
    for bit in range(0, 8 * len(data), 13):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SpecError, TamperError)):
            light.check_light(bytes(spoilt), known, NOW_MS)


def test_nobody_is_proven_to_have_lied_who_was_voted_out_or_is_there(made: Made) -> None:
    for pair in (VALIDATOR_KEYS[0], VALIDATOR_KEYS[1]):
        with pytest.raises(StateError, match="no final block has evidence"):
            prove_evidence(made.store, pair.public)


def cosign_header(made: Made, height: int) -> bytes:
    """The header checkpoint of a height, cosigned by WITNESS."""
    hashes = [made.store.tables.get_hash(number) for number in range(height + 1)]
    root = merkle.compute_root([merkle.compute_leaf_hash(one) for one in hashes])
    origin = checkpoint.get_chain_origin(made.chain.chain_id)
    state = checkpoint.Checkpoint(origin, height + 1, root)
    note = checkpoint.sign_checkpoint(state, VALIDATOR_KEYS[0])
    note = cosignature.cosign(note, WITNESS.name, WITNESS_KEY, NOW_MS // 1000)
    return trusted.encode_header_checkpoint(make_header_checkpoint(made.store, note, height))


def test_a_header_checkpoint_of_the_store_is_trusted_by_its_witnesses(made: Made) -> None:
    genesis = get_trusted(made.store, 0)
    for height in range(1, made.store.height + 1):
        data = cosign_header(made, height)
        found = trusted.trust_checkpoint(data, genesis, (WITNESS,), None)
        assert found == get_trusted(made.store, height)
    with pytest.raises(SpecError, match="not final here"):
        make_header_checkpoint(made.store, b"", made.store.height + 1)


def test_a_store_from_a_snapshot_proves_what_comes_after_it_and_says_what_it_lacks(
    made: Made, tmp_path: Path
) -> None:
    base = made.anchored[2]
    whole = create(tmp_path / "whole.db", made.chain.genesis)
    blocks = [(one, made.store.get_block(one.block.header.height)[1]) for one in made.chain.blocks]
    for executed, seals in blocks[:base]:
        assert seals is not None
        whole.append(executed, seals)
    rows = [(key, records.encode_record(key, row)) for key, row in whole.ledger.get_items()]
    executed, seals = blocks[base - 1]
    assert seals is not None
    head = (executed.block, encode_seals(seals))
    store = create_from_state(tmp_path / "later.db", made.chain.genesis, head, rows)
    with pytest.raises(StateError, match=f"in block {base}, is not known here: this store begins"):
        prove_anchor(store, made.host.id, 8, base)
    for executed, seals in blocks[base:]:
        assert seals is not None
        store.append(store.ledger.check(executed.block, lambda _: None), seals)
    data = prove_anchor(store, made.host.id, 9, base)
    assert light.check_finality(data, get_trusted(made.store, base), NOW_MS).height > base
    with pytest.raises(StateError, match="since block 0 are not all here: this store begins"):
        prove_anchor(store, made.host.id, 9)
    for height in (base - 1, 1):
        with pytest.raises(StateError, match=f"block {height} is not here: this store begins"):
            prove_anchor(store, made.host.id, 9, height)
        with pytest.raises(StateError, match=f"block {height} is not here: this store begins"):
            store.get_block(height)
    store.close()
    whole.close()


def test_a_whole_check_makes_the_sets_again(made: Made) -> None:
    assert check_store(made.store.tables.path) == made.store.height
