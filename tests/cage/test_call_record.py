"""A record of a call: either side's stands by itself, and shows who denies it wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite.cage.call_receipt import SignedReceipt, decode_call_receipt, encode_call_receipt
from chainlite.cage.call_record import (
    CallRecord,
    check_call_record,
    decode_call_record,
    encode_call_record,
    make_caller_record,
    read_keyid,
)
from chainlite.cage.kept_receipts import Found, KeptReceipts
from chainlite.errors import SpecError, TamperError
from tests.cage.callers import ALICE, BOB, HOST, NOW_S, SERVER, Bench


def get_both(bench: Bench, **more: object) -> tuple[CallRecord, CallRecord]:
    """The caller's record of a call, and the server's."""
    prepared = bench.prepare("POST", "/v1/receipts?x=1", b"a batch", **more)
    answer = bench.get(prepared)
    bench.store.write()
    with KeptReceipts(bench.store.path) as kept:
        found = kept.find(answer.receipt.audit_id)
    assert found is not None
    return make_caller_record(prepared.request, answer.signed_receipt), found.record


def test_both_sides_have_the_same_and_each_stands_by_itself(tmp_path: Path) -> None:
    mine, theirs = get_both(Bench(tmp_path))
    assert (mine.request, mine.receipt) == (theirs.request, theirs.receipt)
    for record in (mine, theirs):
        again = decode_call_record(encode_call_record(record))
        assert again == record and read_keyid(again) == "alice-1"
        call = check_call_record(again, ALICE.public)
        assert (call.receipt.target, call.receipt.authority) == ("/v1/receipts?x=1", HOST)
        assert (call.receipt.server, call.created_s) == (SERVER.public, NOW_S)
        assert call.is_answered == (record.answer is not None)
        with pytest.raises(TamperError, match="not signed by the key"):
            check_call_record(again, BOB.public)


def test_no_bit_of_a_callers_record_can_be_changed(tmp_path: Path, seed: int, full: bool) -> None:
    data = encode_call_record(get_both(Bench(tmp_path))[0])
    bits = range(8 * len(data))
    for bit in bits if full else random.Random(seed).sample(bits, 400):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((TamperError, SpecError)):
            check_call_record(decode_call_record(bytes(changed)), ALICE.public)


def test_files_are_canonical(tmp_path: Path) -> None:
    for record in get_both(Bench(tmp_path)):
        data = encode_call_record(record)
        for spoiled in (data + b"\0", data[:-1], b"", data[:16], b"x" + data[1:]):
            with pytest.raises(SpecError):
                decode_call_record(spoiled)
        with pytest.raises(SpecError, match="no side"):
            decode_call_record(data[:16] + b"\2" + data[17:])


def test_halves_of_two_calls_are_no_record(tmp_path: Path) -> None:
    """Both halves are signed: a receipt of one call beside the request of another."""
    bench = Bench(tmp_path)
    (one, kept_one), (two, kept_two) = get_both(bench), get_both(bench)
    for mixed, why in (
        (one._replace(request=two.request), "another request"),
        (kept_one._replace(request=get_other(bench)), "another request"),
    ):
        with pytest.raises(TamperError, match=why):
            check_call_record(mixed, ALICE.public)
    changed = decode_call_receipt(kept_two.receipt)
    for change in (
        {"target": "/v1/receipts"}, {"authority": "other.example"}, {"method": "PUT"},
        {"request_digest": bytes(32)},
    ):  # fmt: skip
        data = encode_call_receipt(changed._replace(**change))
        with pytest.raises(TamperError, match="another request"):
            check_call_record(kept_two._replace(receipt=data), ALICE.public)


def get_other(bench: Bench) -> SignedReceipt:
    prepared = bench.prepare("POST", "/v1/receipts?x=2", b"a batch")
    answer = bench.get(prepared)
    return make_caller_record(prepared.request, answer.signed_receipt).request


def test_a_response_is_no_request_and_the_other_way_round(tmp_path: Path) -> None:
    mine, _ = get_both(Bench(tmp_path))
    assert mine.answer is not None
    with pytest.raises(TamperError, match="covers too little"):
        check_call_record(mine._replace(request=mine.answer), SERVER.public)
    with pytest.raises(SpecError):
        decode_call_record(encode_call_record(mine._replace(answer=mine.request)))


def test_a_refused_call_has_a_record_too(tmp_path: Path) -> None:
    """Its body was never read, so its receipt says the digest of nothing."""
    bench = Bench(tmp_path)
    prepared = bench.prepare("POST", "/v1/receipts", b"a batch")
    reply = bench.send(prepared, body=b"another")
    answer = bench.alice.check(prepared, *reply)
    record = make_caller_record(prepared.request, answer.signed_receipt)
    assert check_call_record(record, ALICE.public).receipt.status == 401


# The server's side


def test_a_server_that_forgot_or_dropped_a_call_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    records = [get_both(bench)[0] for _ in range(4)]
    db = bench.store._db
    with KeptReceipts(bench.store.path) as kept:
        assert [kept.compare(one) for one in records] == [Found.SAME] * 4
        assert kept.find_damage() == "" and len(kept.list_newest(3)) == 3
        db.execute("DELETE FROM receipts WHERE place = 2")
        assert kept.compare(records[1]) is Found.GONE
        assert "after number 1 comes 3" in kept.find_damage()
        db.execute("DELETE FROM receipts WHERE place <> 3")
        assert [kept.compare(one) for one in records] == [
            Found.UNKNOWN, Found.UNKNOWN, Found.SAME, Found.UNKNOWN,
        ]  # fmt: skip
        assert kept.find_damage() == ""


def test_two_receipts_with_one_number_convict_the_server(tmp_path: Path) -> None:
    """A store that was put back, or a server that signs twice."""
    bench = Bench(tmp_path)
    mine, theirs = get_both(bench)
    other = decode_call_receipt(theirs.receipt)._replace(status=503)
    db = bench.store._db
    db.execute("UPDATE receipts SET receipt = ?", (encode_call_receipt(other),))
    with KeptReceipts(bench.store.path) as kept:
        assert kept.compare(mine) is Found.OTHER
    get_both(bench)
    with KeptReceipts(bench.store.path) as kept:
        assert "number 1 is another than was signed" in kept.find_damage()


def test_a_server_that_was_started_again_has_both_epochs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = get_both(bench)[0]
    bench.store.close()
    again = Bench(tmp_path)
    second = get_both(again, nonce="another-nonce-123")[0]
    with KeptReceipts(again.store.path) as kept:
        assert [kept.compare(one) for one in (first, second)] == [Found.SAME] * 2
        assert kept.find_damage() == ""


def test_what_is_no_store_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cage.db").write_bytes(b"not a database" * 100)
    with pytest.raises(SpecError, match="not a cage's store"):
        KeptReceipts(tmp_path / "cage.db")
