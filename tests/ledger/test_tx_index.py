"""Runs of hashes: each is found where it is, however few are read around the expected place."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from random import Random

import pytest

from chainlite.ledger import store_tables, tx_index
from chainlite.ledger.tx_index import Place, TxIndex


@pytest.mark.parametrize("spread", [1, 16])
def test_every_transaction_of_every_run_is_found(
    monkeypatch: pytest.MonkeyPatch, seed: int, spread: int
) -> None:
    monkeypatch.setattr(tx_index, "_SPREAD", spread)
    db = sqlite3.connect(":memory:")
    for statement in store_tables._SCHEMA:
        db.execute(statement)
    index, rng = TxIndex(db), Random(seed)
    places: dict[bytes, Place] = {}
    for height, size in enumerate((1, 2, 700, 40), 1):
        hashes = [sha256(rng.randbytes(8)).digest() for _ in range(size)]
        if size == 700:  # runs that are not even at all
            hashes = [bytes(6) + digest[6:] for digest in hashes]
        index.add(height, hashes)
        places |= {digest: Place(height, number) for number, digest in enumerate(hashes)}
        if size != 40:
            index.write_run(height)
            index.forget(height)
    assert TxIndex(db).last == 3
    for digest, place in places.items():
        assert place in index.find(digest)
    for _ in range(200):
        assert index.find(rng.randbytes(32)) == []
    twin = next(iter(places))[:8] + bytes(24)
    assert index.find(twin) == [places[next(iter(places))]], "the block tells them apart"
