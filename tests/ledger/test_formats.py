"""Golden bytes of every format of the ledger, and hostile bytes for every decoder of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from chainlite.consensus.validators import ValidatorSet
from chainlite.errors import SpecError
from chainlite.ledger import records, snapshot, state, tree
from chainlite.ledger.block import decode_block
from chainlite.ledger.genesis import Member, Parameters, decode_genesis, encode_genesis
from chainlite.ledger.snapshot import Snapshot, SnapshotImport
from chainlite.ledger.tx import decode_tx
from chainlite.proofs import poh
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog, make_genesis
from tests.ledger.test_tx import ROOT, SAMPLES

VECTORS = Path(__file__).parents[1] / "vectors/chain.json"
SET = ValidatorSet(key.public for key in VALIDATOR_KEYS)
MEMBER = Member(SET.keys[0], "somebody", "host:1", ROOT)
TOTALS = (1, 2, 3, 4, 2**100)
SPAN = records.Span(3600, 0, ROOT, TOTALS, 5, ROOT, TOTALS)
ROWS: dict[bytes, records.Record] = {
    records.HOST + ROOT: records.Host(
        ROOT, 1, 1, ROOT, 2, 3, 4, ROOT, 5, 6, ROOT, bytes(80), bytes(40), "somebody"
    ),
    records.get_key_key(ROOT, 7): records.HostKey(ROOT, 8, records.NOT_REVOKED),
    records.ACCOUNT + ROOT: records.Account(9),
    records.REMOVED + ROOT: records.Removed(10, ROOT),
    records.get_head_key(ROOT, ROOT, "web"): records.NotaryHead(1, ROOT, 2, 3, TOTALS, (SPAN,)),
    records.get_windows_key(ROOT, "web"): (records.PoeWindow(3600, 2, ROOT, 37, 40),),
    records.VALIDATORS_KEY: records.Validators(SET, SET, (MEMBER,), ((12, 1, ROOT),)),
    records.PARAMETERS_KEY: Parameters(),
    records.PROPOSALS_KEY: (records.Proposal(b"claim", 5, SET.keys[:2]),),
    records.HISTORY_KEY: records.History(5, (ROOT, ROOT)),
    records.ARCHIVES_KEY: (MEMBER,),
    records.COUNTS_KEY: records.Counts(7),
}


def make_golden() -> dict[str, bytes]:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    executed = chain.take(chain.anchor(host, 5), after_ms=300)
    kept = Snapshot(chain.ledger)
    node = tree.build([(b"k%d" % number, b"v") for number in range(9)])
    found = {
        "genesis": make_genesis(),
        "chain_id": chain.chain_id,
        "genesis_block": state.make_genesis_block(decode_genesis(make_genesis())).encoded,
        "genesis_hash": chain.blocks[0].block.header.previous,
        "block": executed.block.encoded,
        "block_hash": executed.block.hash,
        "snapshot_manifest": kept.manifest,
        "snapshot_chunk": kept.encode_chunk(0),
        "state_root": tree.get_root(node),
        "state_proof_found": tree.encode_proof(tree.prove(node, b"k3")),
        "state_proof_none": tree.encode_proof(tree.prove(node, b"x")),
        "poh": b"".join(poh.compute_ends(ROOT, 300, [ROOT])),
        **{f"row_{key[:1].decode()}": records.encode_record(key, row) for key, row in ROWS.items()},
    }
    for operation in SAMPLES:
        name = f"tx_{type(operation).__name__}"
        tx = chain.sign(VALIDATOR_KEYS[0], operation)
        found[name if name not in found else name + "2"] = tx.encoded
    return found


GOLDEN = make_golden()


def test_every_format_still_has_its_golden_bytes() -> None:
    encoded = {name: data.hex() for name, data in GOLDEN.items()}
    if os.environ.get("DOCKLOCK_WRITE_VECTORS") == "1":
        VECTORS.write_text(json.dumps(encoded, indent=1) + "\n")
    assert json.loads(VECTORS.read_text()) == encoded


def test_every_row_comes_back() -> None:
    for key, row in ROWS.items():
        value = records.encode_record(key, row)
        assert records.decode_record(key, value) == row
        for spoilt in (value + b"\0", value[:-1], b"\0\2" + value[2:], b""):
            with pytest.raises(SpecError):
                records.decode_record(key, spoilt)
    with pytest.raises(SpecError, match="no row"):
        records.decode_record(b"?", b"")


def again_chunk(data: bytes) -> bytes:
    number, rows = snapshot.decode_chunk(data)
    parts = [data[:3], number.to_bytes(4, "big"), len(rows).to_bytes(4, "big")]
    for row in rows:
        for one in row:
            parts += (len(one).to_bytes(4, "big"), one)
    return b"".join(parts)


def again_manifest(data: bytes) -> bytes:
    chain = Chain()
    SnapshotImport(chain.ledger.head, data)
    raise AssertionError("a manifest of another state was taken")


def again_row(kind: str) -> Callable[[bytes], bytes]:
    key = next(key for key in ROWS if key[:1].decode() == kind)
    return lambda data: records.encode_record(key, records.decode_record(key, data))


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "genesis": lambda data: encode_genesis(decode_genesis(data)),
    "block": lambda data: decode_block(data).encoded,
    "snapshot_manifest": again_manifest,
    "snapshot_chunk": again_chunk,
    "state_proof_found": lambda data: tree.encode_proof(tree.decode_proof(data)),
    "state_proof_none": lambda data: tree.encode_proof(tree.decode_proof(data)),
    **{name: again_row(name[-1]) for name in GOLDEN if name.startswith("row_")},
    **{
        name: lambda data: decode_tx(data).encoded for name in GOLDEN if name.startswith("tx_")
    },
}  # fmt: skip


def spoil(rng: Random, data: bytes) -> bytes:
    """The data with a few bytes set, cut, doubled or replaced by lengths that claim much."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(spoilt) + 1)
        action = rng.randrange(5)
        if action == 0:
            spoilt[at : at + 1] = rng.randbytes(1)
        elif action == 1:
            del spoilt[at : at + rng.randrange(1, 64)]
        elif action == 2:
            spoilt[at:at] = spoilt[at : at + rng.randrange(1, 64)]
        elif action == 3:
            spoilt[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\0\0\xff\xff"])
        else:
            spoilt[at:at] = rng.randbytes(rng.randrange(16))
    return bytes(spoilt)


@pytest.mark.fuzz
def test_hostile_bytes_are_refused_or_were_canonical(full: bool, seed: int) -> None:
    rng, names = Random(seed), sorted(DECODERS)
    taken = 0
    for number in range(100_000 if full else 3_000):
        name = names[number % len(names)]
        data = spoil(rng, GOLDEN[name]) if rng.random() < 0.9 else rng.randbytes(300)
        try:
            again = DECODERS[name](data)
        except SpecError:
            continue
        assert again == data
        taken += 1
    assert taken > 100, "the mutations never reach what is behind the first check"


@pytest.mark.fuzz
def test_hostile_operations_never_break_a_block(full: bool, seed: int) -> None:
    """Signed by a member, so that what is below the signature is reached."""
    rng, chain, host = Random(seed), Chain(), HostLog(1)
    chain.enrol(host)
    for _ in range(20_000 if full else 300):
        operation = rng.choice(SAMPLES)
        fields = [
            spoil(rng, field) if isinstance(field, bytes) and rng.random() < 0.3 else field
            for field in operation
        ]
        nonces = dict(chain.nonces)
        try:
            tx = chain.sign(VALIDATOR_KEYS[0], type(operation)._make(fields))
        except SpecError:
            chain.nonces = nonces
            continue
        executed = chain.step(tx)
        if not executed.txs:
            chain.nonces = nonces
