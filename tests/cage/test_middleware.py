"""The cage over ASGI: what reaches the application, what comes back, and attacks."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from chainlite import sodium
from chainlite.cage import asgi, middleware, strangers
from chainlite.cage.base import Response
from chainlite.cage.call_receipt import compute_receipt_hash, decode_call_receipt
from chainlite.cage.client import Caller, Prepared
from chainlite.cage.prices import Change, Tariff
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.cage.signature import AHEAD_MAX_S, Known, verify_response
from chainlite.errors import PeerError
from tests.cage.callers import ALICE, HOST, NOW_S, SERVER, Bench, call, make_scope

PLENTY = Tariff(capacity_m=10**12)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, tariff=PLENTY)


def post(bench: Bench, body: bytes = b"a batch", **more: Any) -> Prepared:
    fields = {"content-type": "text/plain", **more.pop("fields", {})}
    return bench.prepare("POST", "/v1/receipts?x=1", body, fields=fields, **more)


def test_a_signed_call_is_answered_with_a_signed_answer_and_a_receipt(bench: Bench) -> None:
    prepared = post(bench)
    answer = bench.get(prepared)
    seen = json.loads(answer.body)
    assert (answer.status, seen["path"], seen["size"]) == (200, "/v1/receipts", 7)
    assert seen["seen"]["x-actor"] == answer.fields["x-actor"] == "alice"
    assert seen["seen"]["x-audit-id"] == answer.fields["x-audit-id"]
    assert answer.fields["x-rate-pass"].startswith("left=")
    receipt = answer.receipt
    assert (receipt.actor, receipt.method, receipt.authority) == ("alice", "POST", HOST)
    assert (receipt.target, receipt.status, receipt.cost_m) == ("/v1/receipts?x=1", 200, 2000)
    assert (receipt.server, receipt.number, receipt.time_ms) == (SERVER.public, 1, NOW_S * 1000)


def test_receipts_are_a_chain(bench: Bench) -> None:
    answers = [bench.get(bench.prepare()) for _ in range(5)]
    bench.store.write()
    kept = list(bench.store.list_receipts())
    assert [decode_call_receipt(one.receipt) for one in kept] == [one.receipt for one in answers]
    for before, after in itertools.pairwise(kept):
        assert decode_call_receipt(after.receipt).previous == compute_receipt_hash(before.receipt)
    assert [one.receipt.number for one in answers] == [1, 2, 3, 4, 5]


def test_the_server_keeps_what_proves_that_the_actor_asked(bench: Bench) -> None:
    prepared = bench.prepare()
    bench.get(prepared)
    bench.store.write()
    (kept,) = bench.store.list_receipts()
    assert sodium.is_signed(ALICE.public, kept.base, kept.signature)
    assert b'"@path": /v1/blocks/7\n' in kept.base


def test_the_application_sees_nothing_that_is_not_covered(bench: Bench) -> None:
    prepared = bench.prepare(fields={"x-covered": "yes"})
    spoiled = {
        **prepared.fields, "x-uncovered": "no", "cookie": "no", "authorization": "no",
        "x-actor": "root", "x-audit-id": "mine", "x-rate-pass": "left=1", "user-agent": "curl",
    }  # fmt: skip
    reply = bench.send(prepared, fields=spoiled)
    seen = json.loads(reply.body)["seen"]
    assert (seen["x-covered"], seen["x-actor"], seen["user-agent"]) == ("yes", "alice", "curl")
    assert not {"x-uncovered", "cookie", "authorization", "x-rate-pass"} & set(seen)
    assert seen["x-audit-id"] == reply.get("x-audit-id") != "mine"


def test_the_application_cannot_speak_for_the_cage(bench: Bench) -> None:
    assert bench.send(bench.prepare()).fields.count(("x-actor", "alice")) == 1
    reply = asyncio.run(
        call(bench.cage, make_scope("GET", "/tile/1", [(b"host", HOST.encode())]), b"")
    )
    assert (reply.status, reply.get("x-actor")) == (200, None)


def test_a_route_that_is_declared_nothing_is_refused(bench: Bench) -> None:
    for target, status in (("/v1/secret", 404), ("/", 404), ("/v1/receipts/../secret", 400)):
        reply = bench.send(bench.prepare(target=target))
        assert reply.status == status
    unsigned = [(b"host", HOST.encode())]
    reply = asyncio.run(call(bench.cage, make_scope("GET", "/v1/blocks/1", unsigned), b""))
    assert (reply.status, reply.reason) == (401, "no-signature")
    assert reply.get("content-type") == "application/problem+json"
    assert set(json.loads(reply.body)) == {"type", "title", "status", "detail", "instance"}


def test_mutual_tls_is_asked_of_the_caller_and_closed_without_an_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    scope = make_scope("GET", "/v1/admin", [(b"host", HOST.encode()), (b"x-actor", b"root")])
    assert asyncio.run(call(bench.cage, scope, b"")).reason == "no-certificate"
    bench = Bench(tmp_path, find_tls_actor=lambda scope: scope.get("peer"))
    assert asyncio.run(call(bench.cage, scope, b"")).reason == "no-certificate"
    reply = asyncio.run(call(bench.cage, {**scope, "peer": "admin"}, b""))
    assert (reply.status, reply.get("x-actor")) == (200, "admin")
    assert json.loads(reply.body)["seen"]["x-actor"] == "admin"


def test_sockets_and_unknown_scopes_are_refused(bench: Bench) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(bench.cage({"type": "websocket", "path": "/"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    with pytest.raises(RuntimeError):
        asyncio.run(bench.cage({"type": "carrier-pigeon"}, receive, send))


# Attacks


def test_a_replay_is_refused_and_its_refusal_is_not_signed(bench: Bench, tmp_path: Path) -> None:
    """A signed refusal would fit the first request: it could be given for its answer."""
    prepared = bench.prepare()
    assert bench.send(prepared).status == 200
    reply = bench.send(prepared)
    assert (reply.status, reply.reason, reply.get("signature")) == (401, "replayed", None)
    with pytest.raises(Refusal):
        bench.alice.check(prepared, *reply)
    again = Bench(tmp_path)  # another worker, or the same one after a restart
    assert again.send(prepared).reason == "replayed"
    bench.store.close()
    again.store.close()
    booted = Bench(tmp_path, boot="boot-2")
    waiting = booted.prepare()
    assert booted.send(waiting).reason == "replayed"
    booted.clock.now_ms += (AHEAD_MAX_S + 1) * 1000
    assert booted.send(booted.prepare()).status == 200


def test_a_request_is_good_for_its_own_target_only(bench: Bench) -> None:
    prepared = post(bench)
    for change, status in (
        ({"target": "/v1/receipts"}, 401), ({"target": "/v1/receipts?x=2"}, 401),
        ({"target": "/v1/receipts?x=1&x=1"}, 401), ({"target": "/v1/echo?x=1"}, 401),
        ({"target": "/v1/%72eceipts?x=1"}, 401), ({"scheme": "http"}, 200),
    ):  # fmt: skip
        assert bench.send(prepared, **change).status == status, change
    bench.known["alice-1"] = Known(ALICE.public, "alice")
    other = bench.send(post(bench), method="PUT")
    assert (other.status, other.get("allow")) == (405, "POST")
    elsewhere = {**prepared.fields, "host": "other.example"}
    assert bench.send(prepared, fields=elsewhere).reason == "another-server"
    spelled = {**prepared.fields, "host": HOST.upper() + ":443"}
    assert bench.send(post(bench)._replace(fields=spelled)).reason == "replayed"


def test_a_changed_body_is_refused_and_its_request_is_spent(bench: Bench) -> None:
    prepared = post(bench)
    reply = bench.send(prepared, body=b"another one")
    assert (reply.status, reply.reason) == (401, "another-body")
    assert bench.alice.check(prepared, *reply).status == 401  # the one answer that is signed
    assert bench.send(prepared).reason == "replayed"
    for body in (b"", b"a batc", b"a batch\n"):
        assert bench.send(post(bench), body=body).reason == "another-body"
    account = bench.store.settle("alice", Change(0, 0, 0, 0))
    assert (account.strikes, account.level) == (0, 0), "anyone on the way can change a body"


def test_an_answer_fits_its_own_request_only(bench: Bench) -> None:
    one, two = bench.prepare(), bench.prepare()
    answers = [bench.send(one), bench.send(two)]
    assert bench.alice.check(one, *answers[0]).receipt.number == 1
    for prepared, reply in ((one, answers[1]), (two, answers[0])):
        with pytest.raises(PeerError):
            bench.alice.check(prepared, *reply)


def test_an_answer_that_was_changed_is_not_believed(bench: Bench) -> None:
    prepared = bench.prepare()
    status, fields, body = bench.send(prepared)
    said = dict(fields)
    assert bench.alice.check(prepared, status, fields, body)
    for name in ("content-type", "x-actor", "x-audit-id", "x-rate-pass", "x-receipt"):
        changed = {**said, name: said[name][:-1] + "x"}
        with pytest.raises(PeerError):
            bench.alice.check(prepared, status, changed.items(), body)
        missing = {key: value for key, value in said.items() if key != name}
        with pytest.raises(PeerError):
            bench.alice.check(prepared, status, missing.items(), body)
    for change in ((500, fields, body), (status, fields, body + b" "), (status, [], body)):
        with pytest.raises(PeerError):
            bench.alice.check(prepared, *change)
    added = bench.alice.check(prepared, status, [*fields, ("location", "http://evil")], body)
    assert "location" not in added.fields
    with pytest.raises(PeerError):
        bench.alice._replace(server=ALICE.public).check(prepared, status, fields, body)


def test_a_receipt_of_another_call_is_not_believed(bench: Bench) -> None:
    """A server that signs a receipt for something else than what was asked."""
    prepared = bench.prepare()
    reply = bench.send(prepared)
    for change in (
        {"target": "/v1/blocks/8"},
        {"body": b"more"},
        {"request": prepared.request._replace(authority="other.example")},
    ):
        with pytest.raises(PeerError, match="another call"):
            bench.alice.check(prepared._replace(**change), *reply)


def test_a_revoked_key_and_the_key_id_of_another_are_refused(bench: Bench) -> None:
    prepared, waiting = bench.prepare(), bench.prepare()
    assert bench.send(prepared).status == 200
    del bench.known["alice-1"]
    assert bench.send(waiting).reason == "unknown-key"
    assert bench.send(bench.prepare(caller=bench.bob)).status == 200
    borrowed = Caller(ALICE, "bob-1", SERVER.public, "server-1")
    assert bench.send(bench.prepare(caller=borrowed)).reason == "bad-signature"


def test_an_actor_that_no_field_can_name_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, find_tls_actor=lambda _: "admin\r\nx-a: b")
    for actor in ("", "a b", "a\r\nx-actor: root", "\u00e9", "a" * 129):
        bench.known["alice-1"] = Known(ALICE.public, actor)
        assert bench.send(bench.prepare()).reason == "unknown-key"
    scope = make_scope("GET", "/v1/admin", [(b"host", HOST.encode())])
    assert asyncio.run(call(bench.cage, scope, b"")).reason == "no-certificate"


def test_header_injection_and_what_has_two_readings_are_refused(bench: Bench) -> None:
    prepared = post(bench)
    host = ("host", HOST)
    for spoiled in (
        [*prepared.fields.items(), ("x-a", "1\r\nx-actor: root")],
        [*prepared.fields.items(), ("x-a", "1\0")],
        [*prepared.fields.items(), ("x-a\r\nx-b", "1")],
        [*prepared.fields.items(), ("", "1")],
        [*prepared.fields.items(), host],
        [*prepared.fields.items(), ("content-digest", "sha-256=:AAAA:")],
        [*prepared.fields.items(), ("content-length", "7")],
    ):
        assert bench.send(prepared, fields=spoiled).reason == "malformed-field", spoiled
    for field, value in (("host", "a b"), ("host", "a/b"), ("host", "user@a"), ("host", "")):
        fields = {**prepared.fields, field: value}
        assert bench.send(prepared, fields=fields).reason == "malformed-target"
    for target in ("/v1/receipts#x", "/v1/rec eipts", "/v1/r\u00e9", "v1", "/a%zz", "/a?b c"):
        assert bench.send(prepared, target=target).status == 400, target
    bare = {name: value for name, value in prepared.fields.items() if name != "host"}
    assert bench.send(prepared, fields=bare).reason == "malformed-target"
    assert bench.send(prepared).status == 200


def test_what_is_oversized_is_refused(bench: Bench) -> None:
    prepared = post(bench)
    many = {**prepared.fields, **{f"x-{n}": "1" for n in range(asgi.FIELDS_MAX)}}
    assert bench.send(prepared, fields=many).status == 431
    large = {**prepared.fields, "x-a": "1" * asgi.FIELDS_BYTES_MAX}
    assert bench.send(prepared, fields=large).status == 431
    assert bench.send(prepared, target="/" + "a" * asgi.TARGET_BYTES_MAX).status == 414
    body = b"x" * ((1 << 16) + 1)
    reply = bench.send(post(bench, body))
    assert (reply.status, reply.get("signature")) == (413, None)
    assert bench.send(post(bench, body[1:])).status == 200
    unsized = make_parts_scope(prepared, [(b"transfer-encoding", b"chunked")])
    reply = asyncio.run(call(bench.cage, unsized, *[b"x" * 4096] * 17))
    assert (reply.status, reply.reason) == (413, "too-large")


def make_parts_scope(prepared: Prepared, more: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in prepared.fields.items()]
    return make_scope("POST", prepared.target, headers + more)


def test_a_slow_body_is_given_up(bench: Bench) -> None:
    prepared = post(bench)
    scope = make_parts_scope(prepared, [(b"content-length", b"7")])

    async def run() -> Any:
        waiting = [b"a ba"]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": waiting.pop(), "more_body": True}

        async def send(event: Any) -> None:
            sent.append(event)

        async with asyncio.timeout(20):
            await bench.cage(scope, receive, send)
        return sent

    sent = asyncio.run(run())
    assert sent[0]["status"] == 408
    assert bench.cage._held == 0
    unsigned = make_scope("POST", "/v1/receipts", [(b"host", HOST.encode())])
    assert asyncio.run(call(bench.cage, unsigned)).status == 401  # not a byte was waited for


def test_bodies_have_their_place_in_memory_before_they_are_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "HELD_BYTES_MAX", 100)
    assert bench.send(post(bench, b"x" * 100)).status == 200
    reply = bench.send(post(bench, b"x" * 101))
    assert (reply.status, reply.get("retry-after")) == (503, "1")


def test_a_caller_that_goes_away_is_let_go(bench: Bench) -> None:
    scope = make_parts_scope(post(bench), [(b"content-length", b"7")])

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        raise AssertionError("nobody is there")

    asyncio.run(bench.cage(scope, receive, send))


# Credits


def test_credits_run_out_and_come_back_when_the_answer_says(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tariff=Tariff(5_000, 1_000, 0))
    replies = [bench.send(bench.prepare()) for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    wait = replies[-1].get("retry-after")
    prepared = bench.prepare()
    answer = bench.alice.check(prepared, *bench.send(prepared))
    assert (answer.status, answer.receipt.cost_m) == (429, 0)  # signed: this one can be told
    assert wait and answer.fields["retry-after"] == wait
    assert bench.send(bench.prepare(caller=bench.bob)).status == 200
    bench.clock.now_ms += int(wait) * 1000
    assert bench.send(bench.prepare()).status == 200
    bench.store.close()
    again = Bench(tmp_path, tariff=Tariff(5_000, 1_000, 0), clock=bench.clock)
    statuses = [again.send(again.prepare()).status for _ in range(2)]
    assert statuses == [200, 429], "a restart gave credits"


def test_what_the_application_refuses_makes_calls_dearer(bench: Bench) -> None:
    for _ in range(8):
        prepared = bench.prepare("POST", "/v1/echo", fields={"x-status": "403"})
        assert bench.get(prepared).status == 403
    assert bench.get(bench.prepare()).receipt.cost_m == 2000
    for _ in range(16):
        bench.get(bench.prepare())
    assert bench.get(bench.prepare()).receipt.cost_m == 1000


def test_forgeries_are_charged_to_where_they_come_from_and_not_to_whom_they_name(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    forger = Caller(SERVER, "alice-1", SERVER.public, "server-1")
    statuses = [bench.send(bench.prepare(caller=forger)).status for _ in range(60)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    there = ("198.51.100.7", 1)
    assert bench.send(bench.prepare(), client=there).status == 200
    assert bench.store.count_nonces() == 1, "what nobody signed was written to the disk"
    reply = bench.send(bench.prepare(caller=forger))
    bench.clock.now_ms += int(reply.get("retry-after") or 0) * 1000
    assert bench.send(bench.prepare()).status == 200


def test_addresses_are_bounded_and_those_of_one_network_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "ADDRESSES_MAX", 10)
    bench = Bench(tmp_path)
    for number in range(100):
        bench.send(bench.prepare(), fields={"host": HOST}, client=(f"192.0.2.{number}", 1))
    assert len(bench.cage._strangers) == 10
    for address, network in (
        ("2001:db8::1", "2001:db8::/64"), ("2001:db8:0:0:f::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("192.0.2.1", "192.0.2.1"), ("no:address", "no:address"),
    ):  # fmt: skip
        assert middleware.get_address({"client": (address, 1)}) == network
    assert middleware.get_address({"client": None}) == "local"


def test_a_public_route_costs_its_address(tmp_path: Path) -> None:
    """To the last ABUSE_M, which it needs for a call that is refused."""
    bench = Bench(tmp_path, tariff=Tariff(strangers.ABUSE_M + 900, 1_000, 0))
    scope = make_scope("GET", "/tile/1", [(b"host", HOST.encode())])
    replies = [asyncio.run(call(bench.cage, scope, b"")) for _ in range(11)]
    assert [reply.status for reply in replies] == [200] * 10 + [429]
    assert replies[0].get("x-rate-pass") == "left=10, price=0.100, refill=1, level=0"
    bench.clock.now_ms += int(replies[-1].get("retry-after") or 0) * 1000
    assert asyncio.run(call(bench.cage, scope, b"")).status == 200


# The application fails


async def run_raising(bench: Bench, prepared: Prepared) -> Any:
    sent: list[Any] = []
    scope = make_parts_scope(prepared, [(b"content-length", b"7")])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": prepared.body}

    async def send(event: Any) -> None:
        sent.append(event)

    with pytest.raises(ZeroDivisionError):
        await bench.cage(scope, receive, send)
    return sent


def test_an_application_that_fails_gives_a_signed_500_and_its_error_goes_on(
    tmp_path: Path,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    bench = Bench(tmp_path, app=app)
    prepared = post(bench)
    start, end = asyncio.run(run_raising(bench, prepared))
    fields = [(name.decode(), value.decode()) for name, value in start["headers"]]
    answer = bench.alice.check(prepared, start["status"], fields, end["body"])
    assert (answer.status, answer.receipt.status) == (500, 500)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ([(b"x-a", b"1\r\nset-cookie: a=b")], b"", "failed"),
        ([(b"x-a\r\n", b"1")], b"", "failed"),
        ([(b"x-a", "ü".encode())], b"", "failed"),
        ([], b"x" * 1001, "too-large"),
        (None, b"", "failed"),
    ],
)
def test_an_answer_that_cannot_be_signed_is_not_sent(
    tmp_path: Path, headers: Any, body: bytes, reason: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if headers is None:
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:500], "more_body": True})
        await send({"type": "http.response.body", "body": body[500:]})

    routes = [Route("GET", "/v1/blocks/{height}", Access.CAGED, response_bytes_max=1000)]
    bench = Bench(tmp_path, app=app, routes=routes)
    prepared = bench.prepare()
    reply = bench.send(prepared)
    assert (reply.status, reply.reason) == (500, reason)
    assert bench.alice.check(prepared, *reply).receipt.status == 500


def test_answers_without_a_body_are_signed_too(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"99")] if scope["method"] == "HEAD" else []
        status = 200 if scope["method"] == "HEAD" else 204
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})

    routes = [Route("HEAD", "/a", Access.CAGED), Route("GET", "/a", Access.CAGED)]
    bench = Bench(tmp_path, app=app, routes=routes)
    for method, length in (("HEAD", "99"), ("GET", None)):
        prepared = bench.prepare(method, "/a")
        reply = bench.send(prepared)
        assert bench.alice.check(prepared, *reply).body == b""
        assert reply.get("content-length") == length


def test_groups_are_written_though_no_further_call_comes(bench: Bench) -> None:
    async def run() -> None:
        prepared = bench.prepare()
        await bench.send_soon(prepared)
        assert bench.store.is_waiting()
        later = asyncio.Event()  # the loop's timers are kept in order
        asyncio.get_running_loop().call_later(2 * middleware.WRITE_AFTER_S, later.set)
        await later.wait()
        assert not bench.store.is_waiting()

    asyncio.run(run())
    assert len(list(bench.store.list_receipts())) == 1


def test_a_store_that_fails_lets_nothing_through(bench: Bench) -> None:
    bench.store.close()
    reply = bench.send(bench.prepare())
    assert (reply.status, reply.reason) == (503, "store")


def test_responses_are_verified_by_the_signature_module_alone(bench: Bench) -> None:
    """What `Caller.check` does, without receipts."""
    prepared = bench.prepare()
    status, fields, body = bench.send(prepared)
    response = Response(status, dict(fields))
    known = {"server-1": Known(SERVER.public, "server")}
    assert verify_response(response, body, prepared.request, known.get).actor == "server"
