"""The chain on disk: nothing that was committed is lost, nothing that is spoilt is believed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from chainlite import merkle
from chainlite.errors import StateError, TamperError
from chainlite.ledger import operations as ops
from chainlite.ledger import records, store, store_check, tx_index
from chainlite.ledger.store import Store, create, create_from_state, open_store
from chainlite.ledger.store_tables import StoreDamage
from tests.ledger.samples import VALIDATOR_KEYS, Chain, HostLog, make_genesis, seal
from tests.ledger.test_state import make_random_chain

TOP = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("killed_store.py")


def make_store(path: Path, chain: Chain) -> Store:
    made = create(path, chain.genesis)
    for executed in chain.blocks:
        made.append(executed, seal(chain.chain_id, executed.block))
    return made


def copy_store(path: Path, to: Path) -> Path:
    for end in ("", "-wal"):
        if path.with_name(path.name + end).exists():
            shutil.copy(path.with_name(path.name + end), to.with_name(to.name + end))
    return to


def fetch_all(path: Path) -> list[list[tuple[object, ...]]]:
    db = sqlite3.connect(path)
    try:
        names = ("meta", "blocks", "state", "anchors", "history", "sets", "tx_runs")
        return [db.execute(f"SELECT * FROM {name}").fetchall() for name in names]
    finally:
        db.close()


@pytest.mark.parametrize("flush", [1, 7, 10_000])
def test_a_store_opens_with_the_state_of_its_last_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, flush: int
) -> None:
    monkeypatch.setattr(store, "FLUSH_BLOCKS", flush)
    monkeypatch.setattr(tx_index, "RUN_TXS", 20)
    chain = make_random_chain(Random(seed), 40)
    made = make_store(tmp_path / "chain.db", chain)
    for close in (made.tables.db.close, made.close):
        copy = copy_store(tmp_path / "chain.db", tmp_path / f"copy-{close.__name__}.db")
        again = open_store(copy)
        assert again.ledger.head == chain.ledger.head
        assert dict(again.ledger.get_items()) == dict(chain.ledger.get_items())
        assert [again.get_block(h)[0] for h in range(1, 41)] == [e.block for e in chain.blocks]
        for executed in chain.blocks:
            for position, tx in enumerate(executed.txs):
                assert again.find_tx(tx.hash) == (executed.block.header.height, position)
        assert again.find_tx(bytes(32)) is None
        again.close()
        assert store_check.check_store(copy) == 40
        if close == made.tables.db.close:
            made = open_store(tmp_path / "chain.db")
    made.close()


def test_an_anchor_is_found_by_any_leaf_that_it_covers(tmp_path: Path) -> None:
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    for count in (3, 1, 5):
        chain.take(chain.anchor(host, count))
    made = make_store(tmp_path / "chain.db", chain)
    for _ in range(2):
        found = [made.find_anchor(host.id, leaf) for leaf in range(9)]
        assert [(one.size, one.height) for one in found if one] == (
            [(3, 2)] * 3 + [(4, 3)] + [(9, 4)] * 5
        )
        assert made.find_anchor(host.id, 9) is None
        made.close()
        made = open_store(tmp_path / "chain.db")
    made.close()


def test_so_many_transactions_wait_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FLUSH_TXS", 3)
    chain, hosts = Chain(), [HostLog(number) for number in range(3)]
    chain.enrol(*hosts)
    chain.step()
    made = make_store(tmp_path / "chain.db", chain)
    assert made.tables.flushed == 1
    made.close()


def test_an_old_block_is_proven_by_one_path(tmp_path: Path) -> None:
    chain = Chain()
    for _ in range(600):
        chain.step(after_ms=1)
    made = make_store(tmp_path / "chain.db", chain)
    root = chain.ledger.head.history_root
    for height in (0, 1, 255, 256, 511, 512, 599):
        leaf = merkle.compute_leaf_hash(made.get_block(height)[0].hash)
        path = made.prove_history(height, 600)
        assert merkle.is_included(leaf, height, 600, path, root)
    with pytest.raises(StateError):
        made.prove_history(600, 600)
    made.close()
    assert store_check.check_store(tmp_path / "chain.db") == 600


def test_the_history_up_to_any_block_is_proven_to_go_on_from_any_before(tmp_path: Path) -> None:
    chain = Chain()
    for _ in range(300):
        chain.step(after_ms=1)
    made = make_store(tmp_path / "chain.db", chain)
    hashes = [merkle.compute_leaf_hash(made.get_block(height)[0].hash) for height in range(301)]
    for size in (1, 2, 255, 256, 257, 300, 301):
        root = merkle.compute_root(hashes[:size])
        assert made.compute_history_root(size) == root
        for old_size in (1, 2, 128, 255, 256, size):
            if old_size <= size:
                old_root, proof = (
                    merkle.compute_root(hashes[:old_size]),
                    made.prove_growth(old_size, size),
                )
                assert merkle.is_consistent(old_size, size, proof, old_root, root)
    assert made.compute_history_root(300) == chain.ledger.head.history_root
    for old_size, size in ((0, 5), (6, 5), (5, 302)):
        with pytest.raises(StateError):
            made.prove_growth(old_size, size)
    with pytest.raises(StateError):
        made.compute_history_root(302)
    made.close()


def test_kills_lose_no_block_that_was_committed(tmp_path: Path, full: bool, seed: int) -> None:
    """Killed while it writes, at a moment that nobody chose; then opened, checked and continued."""
    path, rng, height = tmp_path / "chain.db", Random(seed), 0
    create(path, make_genesis()).close()
    for _ in range(60 if full else 4):
        env = os.environ | {"PYTHONPATH": str(TOP)}
        with subprocess.Popen(
            [sys.executable, WRITER, path], stdout=subprocess.PIPE, env=env, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 30)):
                line = writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            said = int((line + writer.stdout.read()).split()[-1])
        assert said > height
        again = open_store(path)
        assert again.height >= said
        height = again.height
        again.tables.db.close()
    assert store_check.check_store(path) == height


def test_a_log_cut_anywhere_gives_a_shorter_chain(tmp_path: Path, full: bool, seed: int) -> None:
    """What was never synced may be lost or torn: what is left is a whole chain."""
    chain = make_random_chain(Random(seed), 30)
    made = make_store(tmp_path / "chain.db", chain)
    log = (tmp_path / "chain.db-wal").read_bytes()
    rng, heights = Random(seed), set()
    for number in range(200 if full else 15):
        copy = copy_store(tmp_path / "chain.db", tmp_path / f"{number}.db")
        cut = rng.randrange(len(log) // 3, len(log))
        torn = log[:cut] + (rng.randbytes(rng.randrange(4096)) if number % 2 else b"")
        copy.with_name(copy.name + "-wal").write_bytes(torn)
        again = open_store(copy)
        heights.add(again.height)
        if again.height:
            assert again.ledger.head == chain.blocks[again.height - 1].block.header
        again.tables.db.close()
    assert len(heights) > 3
    made.close()


def test_spoilt_bytes_are_named_or_change_nothing(tmp_path: Path, full: bool, seed: int) -> None:
    chain = make_random_chain(Random(seed), 30)
    make_store(tmp_path / "chain.db", chain).close()
    whole, rng = (tmp_path / "chain.db").read_bytes(), Random(seed)
    good, refused = fetch_all(tmp_path / "chain.db"), 0
    for number in range(400 if full else 30):
        spoilt = bytearray(whole)
        for _ in range(3):
            spoilt[rng.randrange(100, len(whole))] ^= 1 << rng.randrange(8)
        copy = tmp_path / f"{number}.db"
        copy.write_bytes(spoilt)
        try:
            store_check.check_store(copy)
        except (TamperError, StateError) as error:
            refused += 1
            assert str(copy) in str(error)
        else:
            rows = fetch_all(copy)
            assert rows[:5] == good[:5]
        copy.unlink()
    assert refused > 10


def spoil_row(path: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(path)
    db.execute(statement, values)
    db.commit()
    db.close()


def test_damage_is_named_and_cut_off_and_the_rest_is_whole(tmp_path: Path, seed: int) -> None:
    chain = make_random_chain(Random(seed), 30)
    path = tmp_path / "chain.db"
    made = make_store(path, chain)
    made.close()
    block = chain.blocks[19].block.encoded
    spoilt = block[:300] + bytes([block[300] ^ 1]) + block[301:]
    spoil_row(path, "UPDATE blocks SET block = ? WHERE height = 20", spoilt)
    open_store(path).close()
    with pytest.raises(StoreDamage, match=r"chain\.db: table blocks, height 20: ") as caught:
        store_check.check_store(path)
    assert (caught.value.table, caught.value.height) == ("blocks", 20)
    with pytest.raises(StoreDamage):
        store_check.truncate_to(path, 30)
    store_check.truncate_to(path, 19)
    assert store_check.check_store(path) == 19
    again = open_store(path)
    assert again.ledger.head == chain.blocks[18].block.header
    for executed in chain.blocks[19:]:
        again.append(executed, seal(chain.chain_id, executed.block))
    assert again.ledger.head == chain.ledger.head
    again.close()
    assert store_check.check_store(path) == 30


def test_every_table_that_follows_from_blocks_is_checked_and_made_again(
    tmp_path: Path, seed: int
) -> None:
    chain = make_random_chain(Random(seed), 20)
    for _ in range(260):
        chain.step(after_ms=1)
    make_store(tmp_path / "chain.db", chain).close()
    for table, statement, *values in (
        ("state", "DELETE FROM state WHERE key = (SELECT max(key) FROM state)"),
        ("state", "UPDATE state SET value = x'00' WHERE key = x'50'"),
        ("anchors", "DELETE FROM anchors WHERE size = (SELECT max(size) FROM anchors)"),
        ("sets", "INSERT INTO sets VALUES (299, zeroblob(34), 'text')"),
        ("sets", "INSERT OR REPLACE INTO sets "
         f"VALUES (299, x'0001{'00' * 32}', x'0001{'11' * 32}')"),
        ("history", "UPDATE history SET hash = zeroblob(32)"),
        ("blocks", "UPDATE blocks SET seals = (SELECT seals FROM blocks WHERE height = 3) "
         "WHERE height = 4"),
        ("blocks", "DELETE FROM blocks WHERE height = 5"),
        ("blocks", "UPDATE blocks SET hash = zeroblob(32) WHERE height = 270"),
        ("blocks", "UPDATE blocks SET block = 'text' WHERE height = 280"),
        ("blocks", "UPDATE blocks SET seals = 7 WHERE height = 20"),
        ("blocks", "UPDATE blocks SET seals = (SELECT seals FROM blocks WHERE height = 3) "
         "WHERE height = 0"),
        ("state", "UPDATE state SET value = 'text' WHERE key = x'50'"),
        ("history", "UPDATE history SET hash = 'text'"),
        ("meta", "UPDATE meta SET genesis = 'text'"),
        ("meta", "UPDATE meta SET genesis = zeroblob(9)"),
        ("blocks", "UPDATE meta SET genesis = ?", make_genesis(3)),
        ("meta", "DELETE FROM meta"),
        ("meta", "UPDATE meta SET flushed = 1000"),
    ):  # fmt: skip
        copy = copy_store(tmp_path / "chain.db", tmp_path / "copy.db")
        spoil_row(copy, statement, *values)
        with pytest.raises(StoreDamage, match=f"table {table}"):
            store_check.check_store(copy)
        if values:
            with pytest.raises(StoreDamage, match="what the genesis makes"):
                open_store(copy)
        if table in ("state", "anchors", "history", "sets"):
            store_check.truncate_to(copy, 280)
            assert store_check.check_store(copy) == 280
            assert fetch_all(copy)[4] == fetch_all(tmp_path / "chain.db")[4]
        copy.unlink()


def test_a_spoilt_genesis_block_is_named_at_every_byte(tmp_path: Path, seed: int) -> None:
    make_store(tmp_path / "chain.db", make_random_chain(Random(seed), 3)).close()
    with sqlite3.connect(tmp_path / "chain.db") as db:
        [(block,)] = db.execute("SELECT block FROM blocks WHERE height = 0").fetchall()
    db.close()
    for at in range(0, len(block), 7):
        copy = copy_store(tmp_path / "chain.db", tmp_path / "copy.db")
        spoilt = block[:at] + bytes([block[at] ^ 4]) + block[at + 1 :]
        spoil_row(copy, "UPDATE blocks SET block = ? WHERE height = 0", spoilt)
        for read in (open_store, store_check.check_store):
            with pytest.raises(StoreDamage, match="table blocks, height 0"):
                read(copy)
        copy.unlink()


def test_a_full_disk_takes_no_block_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FLUSH_BLOCKS", 0)
    chain, host = Chain(), HostLog(1)
    chain.enrol(host)
    made = make_store(tmp_path / "chain.db", chain)
    db = made.tables.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    executed = chain.step(*[chain.sign(VALIDATOR_KEYS[0], ops.ParameterVote(3, 500))])
    large = executed._replace(block=executed.block._replace(encoded=bytes(100_000)))
    with pytest.raises(StateError, match="disk is full"):
        made.append(large, seal(chain.chain_id, executed.block))
    assert made.height == 1
    assert db.execute("SELECT flushed FROM meta").fetchone() == (0,), "half a transaction"
    db.execute("PRAGMA max_page_count = 1000000")
    made.append(executed, seal(chain.chain_id, executed.block))
    made.close()
    assert store_check.check_store(tmp_path / "chain.db") == 2


def test_a_store_that_is_not_there_or_is_there_already(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no chain here"):
        open_store(tmp_path / "chain.db")
    create(tmp_path / "chain.db", make_genesis()).close()
    with pytest.raises(StateError, match="already"):
        create(tmp_path / "chain.db", make_genesis())
    (tmp_path / "other.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreDamage, match=r"other\.db"):
        open_store(tmp_path / "other.db")


def test_a_store_begins_with_a_state_and_goes_on(tmp_path: Path, seed: int) -> None:
    chain = make_random_chain(Random(seed), 40)
    early = make_random_chain(Random(seed), 40)
    assert early.ledger.state_root == chain.ledger.state_root
    more = [chain.step(after_ms=1) for _ in range(600)]
    executed = early.blocks[-1]
    rows = [(k, records.encode_record(k, row)) for k, row in early.ledger.get_items()]
    head = (executed.block, store.encode_seals(seal(chain.chain_id, executed.block)))
    with pytest.raises(TamperError):
        create_from_state(tmp_path / "bad.db", chain.genesis, head, rows[1:])
    made = create_from_state(tmp_path / "chain.db", chain.genesis, head, rows)
    for one in more:
        made.append(one, seal(chain.chain_id, one.block))
    size = made.height
    root = chain.ledger.head.history_root
    leaf = merkle.compute_leaf_hash(more[0].block.hash)
    assert merkle.is_included(leaf, 41, size, made.prove_history(41, size), root)
    with pytest.raises(StateError):
        made.get_block(39)
    made.close()
    assert store_check.check_store(tmp_path / "chain.db") == size
    with pytest.raises(StateError, match="snapshot"):
        store_check.truncate_to(tmp_path / "chain.db", 100)
    assert open_store(tmp_path / "chain.db").ledger.head == chain.ledger.head


def test_a_second_writer_is_refused_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FLUSH_BLOCKS", 0)
    chain = Chain()
    one = create(tmp_path / "chain.db", chain.genesis)
    executed, following, last = chain.step(), chain.step(), chain.step()
    one.append(executed, seal(chain.chain_id, executed.block))
    two = open_store(tmp_path / "chain.db")
    for block in (following, last):
        two.append(block, seal(chain.chain_id, block.block))
    before = fetch_all(tmp_path / "chain.db")
    with pytest.raises(StateError, match=r"chain\.db: "):
        one.append(following, seal(chain.chain_id, following.block))
    assert fetch_all(tmp_path / "chain.db") == before
    one.tables.db.close()
    two.close()
