"""The caller's side, and a signed receipt by itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite import keys
from chainlite.cage.call_receipt import (
    SignedReceipt,
    check_signed_receipt,
    decode_call_receipt,
    decode_signed_receipt,
    encode_call_receipt,
    encode_signed_receipt,
)
from chainlite.cage.client import Answer, Caller, read_refusal
from chainlite.cage.refusal import Refusal, encode_problem
from chainlite.errors import SpecError, TamperError
from tests.cage.callers import ALICE, NOW_S, SERVER, URL, Bench

CALLER = Caller(ALICE, "alice-1", SERVER.public, "server-1")
NONCE = "0123456789abcdef"


def get_answer(directory: Path) -> Answer:
    bench = Bench(directory)
    return bench.get(bench.prepare(target="/v1/blocks/7?at=1"))


def test_a_signed_receipt_needs_the_servers_key_alone(tmp_path: Path) -> None:
    answer = get_answer(tmp_path)
    receipt = check_signed_receipt(answer.signed_receipt, SERVER.public)
    assert receipt == answer.receipt
    assert (receipt.target, receipt.actor) == ("/v1/blocks/7?at=1", "alice")
    with pytest.raises(TamperError):
        check_signed_receipt(answer.signed_receipt, ALICE.public)


def test_no_bit_of_a_signed_receipt_can_be_changed(tmp_path: Path, seed: int, full: bool) -> None:
    data = get_answer(tmp_path).signed_receipt
    bits = range(8 * len(data))
    for bit in bits if full else random.Random(seed).sample(bits, 500):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((TamperError, SpecError)):
            check_signed_receipt(bytes(changed), SERVER.public)


def test_receipts_are_canonical(tmp_path: Path) -> None:
    answer = get_answer(tmp_path)
    data = encode_call_receipt(answer.receipt)
    assert decode_call_receipt(data) == answer.receipt
    assert encode_signed_receipt(decode_signed_receipt(answer.signed_receipt)) == (
        answer.signed_receipt
    )
    for spoiled in (data + b"\0", data[:-1], b"\0" + data[1:], data[:2] + b"\2" + data[3:], b""):
        with pytest.raises(SpecError):
            decode_call_receipt(spoiled)


def test_what_a_server_signed_that_is_no_receipt_is_refused(tmp_path: Path) -> None:
    base = decode_signed_receipt(get_answer(tmp_path).signed_receipt).base
    lines = base.decode().split("\n")
    elsewhere = base.replace(b'tag="docklock-cage"', b'tag="other-thing"')
    other_status = base.replace(b'"@status": 200', b'"@status": 201')
    twice = "\n".join([lines[0], *lines]).encode()
    no_receipt = "\n".join(line for line in lines if not line.startswith('"x-receipt')).encode()
    for spoiled in (
        elsewhere, other_status, twice, no_receipt, base + b"\n", b"", b"\xff", lines[-1].encode(),
        "\n".join(lines[:-1]).encode(), base.replace(b'"@method";req: GET', b'"@method";req: PUT'),
        base.replace(b"/v1/blocks/7\n", b"/v1/blocks/8\n"), base[:-1],
    ):  # fmt: skip
        assert spoiled != base
        data = encode_signed_receipt(SignedReceipt(spoiled, SERVER.sign(spoiled)))
        with pytest.raises((TamperError, Refusal)):
            check_signed_receipt(data, SERVER.public)
    other = keys.make_key_pair(b"o" * 32)
    data = encode_signed_receipt(SignedReceipt(base, other.sign(base)))
    with pytest.raises(TamperError):
        check_signed_receipt(data, other.public)


def test_a_request_is_prepared_as_it_is_sent() -> None:
    for url, authority, target in (
        (URL, "bpci.example", "/"),
        ("https://BPCI.example:443/a?b=c", "bpci.example", "/a?b=c"),
        ("http://bpci.example:80/a%20b", "bpci.example", "/a%20b"),
        ("http://127.0.0.1:8080/a?", "127.0.0.1:8080", "/a"),
        ("https://[2001:DB8::1]:9/", "[2001:db8::1]:9", "/"),
    ):
        prepared = CALLER.prepare("GET", url, b"", {}, created_s=NOW_S, nonce=NONCE)
        assert (prepared.fields["host"], prepared.target) == (authority, target)


def test_what_cannot_be_sent_as_it_is_is_not_signed() -> None:
    for method, url in (
        ("GET", "https://a/b c"), ("GET", "https://a/\u00e9"), ("GET", "ftp://a/"),
        ("GET", "/a"), ("GET", "https:///a"), ("GET", "https://u@a/"), ("GET", "https://a/#b"),
        ("GET", "https://a:x/"), ("GET", "https://[::1/"), ("GE T", "https://a/"),
        ("GET\r\nx: y", "https://a/"),
    ):  # fmt: skip
        with pytest.raises(SpecError):
            CALLER.prepare(method, url, b"", {}, created_s=NOW_S, nonce=NONCE)
    for fields in ({"x": "1\r\ny: 2"}, {"X": "1"}, {"host": " a"}):
        with pytest.raises(SpecError):
            CALLER.prepare("GET", URL, b"", fields, created_s=NOW_S, nonce=NONCE)


def test_an_answer_with_too_many_fields_is_not_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    prepared = bench.prepare()
    status, fields, body = bench.send(prepared)
    many = [*fields, *((f"x-{number}", "1") for number in range(200))]
    with pytest.raises(Refusal, match="too many fields"):
        bench.alice.check(prepared, status, many, body)


def test_an_unsigned_refusal_is_read_and_nothing_else_breaks_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    prepared = bench.prepare()
    bench.send(prepared)
    refusal = read_refusal(*bench.send(prepared))
    assert (refusal.status, refusal.reason, refusal.retry_after_s) == (401, "replayed", 0)
    body = encode_problem(Refusal(429, "too-many", "wait", retry_after_s=7), "0")
    assert read_refusal(429, [("Retry-After", "7")], body).retry_after_s == 7
    odd = b'{"type": 7, "detail": []}'
    for spoiled in (b"", b"\xff", b"[" * 100_000, b"[]", b"7", odd, body[:20]):
        for wait in ("", "-1", "soon", "9" * 50, "\u0667"):
            refusal = read_refusal(503, [("retry-after", wait)], spoiled)
            assert (refusal.reason, refusal.retry_after_s) == ("unknown", 0)
            assert len(str(refusal)) < 100
    long = b'{"type": "urn:docklock:cage:UP", "detail": "' + b"x" * 3000 + b'"}'
    assert (len(str(read_refusal(500, [], long))), read_refusal(500, [], long).reason) == (
        512, "unknown",
    )  # fmt: skip
