"""What strangers and a stolen key can write into a request changes nothing and breaks nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_from_bytes

import pytest

from chainlite.bpci import batch
from chainlite.bpci.actor import Role
from chainlite.bpci.app import DESCRIPTIONS, ROUTES
from chainlite.bpci.batch import BATCH_LIMIT_BYTES, WIRE_LIMIT_BYTES
from chainlite.bpci.openapi import make_document
from chainlite.cage.refusal import CONTENT_TYPE
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError
from chainlite.segment import get_zstd
from tests.bpci.attacked import PART_BYTES, Attacked, Response, parse_responses, write_request
from tests.bpci.test_served import NAME
from tests.conftest import FULL

EVIL = (
    b"' OR '1'='1", b"'; DROP TABLE hosts; --", b'" UNION SELECT sealed_key FROM tenants --',
    b"%", b"_", b"../../../etc/passwd", b"..\\..\\etc\\passwd", b"/etc/passwd", b"....//....//etc",
    b"file:///etc/passwd", b"\0", b"a\0b", b"\r\nX-Injected: yes", b"x\r\n\r\nHTTP/1.1 200 OK\r\n",
    b"\nX-Injected: yes", b"\xff\xfe\xfd", b"\xc0\xae\xc0\xae/etc", b"\xed\xa0\x80",
    "\u202egnp.exe".encode(), "\uff0e\uff0e\uff0fetc".encode(), "\u017f\u212a".encode(),
    "e\u0301".encode(), b"%s%s%n", b"{0.__class__}", b"{host}", b"{rest:path}", b"${jndi:ldap://x}",
    b"$(id)", b"`id`", b"<script>alert(1)</script>", b"]]>", b"\x1b[2J", b"A" * 1500, b"A" * 70_000,
    b"9" * 400, b"-1", b"1e309", b"NaN", b"0x10", b"",
)  # fmt: skip
LEAKS = re.compile(rb"root:|Traceback|sqlite|\.py|SELECT|/usr/|/tmp/|DOCKLOCK-BPCI")
"""What no refusal may have, whatever was asked; evidence may."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with Attacked(tmp_path_factory.mktemp("attacked"), credits=1) as attacked:
        yield attacked
        attacked.check_whole()


DOCUMENT = json.loads(json.dumps(make_document(ROUTES, DESCRIPTIONS)))


def check_answers(method: str, pattern: str, request: bytes, data: bytes) -> list[Response]:
    """No more answers than heads, documented ones, and nothing in them that is the server's."""
    answers = parse_responses(data, may_be_cut=len(request) > PART_BYTES)
    assert len(answers) <= request.replace(b"\r", b"").count(b"\n\n"), request
    for one in answers:
        known = DOCUMENT["paths"].get(pattern.replace(":path", ""), {}).get(method.lower())
        statuses = (
            set(known["responses"]) - {"500"} if known else {"400", "404", "405", "414", "431"}
        )
        assert str(one.status) in statuses, (request[:300], one)
        assert "x-injected" not in one.fields and b"\r\nX-Injected" not in one.body
        if one.status >= 400:
            assert not LEAKS.search(one.body), (request[:300], one.body)
            assert one.fields["content-type"] == CONTENT_TYPE, (request, one)
            assert json.loads(one.body)["type"].startswith("urn:docklock:")
    return answers


def list_encodings(evil: bytes) -> list[str]:
    """As it is, encoded, encoded twice, each byte of it encoded."""
    once = quote_from_bytes(evil, safe="")
    each = "".join([f"%{one:02x}" for one in evil])
    return [evil.decode("latin-1"), once, quote(once, safe=""), each]


def fill(pattern: str, evil: str) -> str:
    return re.sub(r"\{\w+(:path)?\}", lambda _: evil, pattern)


OF_HOSTS = ("/v1/receipts", "/v1/hosts/{host}")


def list_targets(route: Route) -> Iterator[str]:
    """With each evil text in each parameter, and in a query that is not described."""
    described = DESCRIPTIONS[f"{route.method} {route.pattern}"].parameters
    queries = ["", "x=", *[f"{one.name}=" for one in described if one.place == "query"]]
    for number, evil in enumerate(EVIL):
        encodings = list_encodings(evil)
        for text in encodings if FULL else (encodings[1], encodings[number % 4]):
            yield from (f"{fill(route.pattern, '00')}?{one}{text}" for one in queries)
            if "{" in route.pattern:
                yield fill(route.pattern, text)
                yield fill(route.pattern, f"x{text}")


def test_nothing_is_injected_through_a_path_or_a_query(attacked: Attacked) -> None:
    asked = list[tuple[str, str, bytes]]()
    admin, _ = attacked.let_in(Role.ADMIN)
    for route in ROUTES:
        caller = attacked.caller if route.pattern in OF_HOSTS else admin
        for target in list_targets(route):
            head = write_request(route.method, target, {"host": NAME, "connection": "close"})
            asked.append((route.method, route.pattern, head))
            if route.access is Access.CAGED:
                try:
                    signed = attacked.sign(route.method, target, caller=caller)
                except SpecError:
                    continue  # no client can sign what is no target
                asked.append((route.method, route.pattern, signed))
    seen = set[int]()
    for (method, pattern, request), data in zip(asked, run_all(attacked, asked), strict=True):
        seen |= {one.status for one in check_answers(method, pattern, request, data)}
    assert {200, 400, 401, 403, 404, 414} <= seen
    attacked.check_well()


def run_all(attacked: Attacked, asked: list[tuple[str, str, bytes]]) -> Iterator[bytes]:
    for start in range(0, len(asked), 100):
        yield from attacked.exchange_all(*[one[2] for one in asked[start : start + 100]])


FIELDS = (
    "host", "content-type", "content-encoding", "content-length", "content-digest", "signature",
    "signature-input", "x-actor", "x-audit-id", "x-rate-pass", "x-forwarded-for", "forwarded",
    "x-original-url", "x-http-method-override", "accept", "accept-encoding", "expect", "upgrade",
    "transfer-encoding", "te", "range", "if-none-match", "cookie", "authorization", "user-agent",
)  # fmt: skip


def test_nothing_is_injected_through_a_field(attacked: Attacked) -> None:
    other = attacked.sign("GET", f"/v1/hosts/{attacked.host.hex()}")
    asked = list[tuple[str, str, bytes]]()
    for method, pattern in (("GET", "/v1/hosts/{host}"), ("GET", "/readyz")):
        target = pattern.replace("{host}", attacked.host.hex())
        for name in FIELDS:
            for evil in EVIL:
                base = {"host": NAME, "connection": "close"} | {name: evil.decode("latin-1")}
                asked.append((method, pattern, write_request(method, target, base)))
                signed = attacked.sign(method, target)
                line = f"{name}: ".encode() + evil + b"\r\n"
                asked.append(
                    (method, pattern, signed.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n"))
                )
    for evil in EVIL:  # in the signature's own parameters, and as a name
        for part in (b'nonce="', b'keyid="', b'tag="', b"created=", b'alg="', b"cage=(", b"cage=:"):
            asked.append(("GET", "/v1/hosts/{host}", other.replace(part, part + evil)))
        asked.append(("GET", "/readyz", b"GET /readyz HTTP/1.1\r\nhost: " + NAME.encode() + b"\r\n"
                      + evil + b": x\r\nconnection: close\r\n\r\n"))  # fmt: skip
        asked.append(("GET", "/none", evil + b" /readyz HTTP/1.1\r\nconnection: close\r\n\r\n"))
        asked.append(("GET", "/none", b"GET /readyz " + evil + b"\r\nconnection: close\r\n\r\n"))
    for (method, pattern, request), data in zip(asked, run_all(attacked, asked), strict=True):
        if b"HTTP/1.1 200" in data[:20] and pattern == "/v1/hosts/{host}":
            assert json.loads(parse_responses(data)[0].body)["host"] == attacked.host.hex()
        check_answers(method, pattern, request, data)
    attacked.check_well()


HIDDEN = b"GET /healthz HTTP/1.1\r\nhost: " + NAME.encode() + b"\r\nconnection: close\r\n\r\n"
LAST = b"0\r\n\r\n"
"""The end of a body in chunks."""


def smuggle(fields: bytes, body: bytes, line: bytes = b"POST /v1/enrol HTTP/1.1") -> bytes:
    return line + b"\r\nhost: " + NAME.encode() + b"\r\n" + fields + b"\r\n\r\n" + body


FRAMINGS = {
    "both, chunked last": (b"content-length: 4\r\ntransfer-encoding: chunked", LAST + HIDDEN),
    "both, chunked first": (b"transfer-encoding: chunked\r\ncontent-length: %d" % len(HIDDEN),
                            LAST + HIDDEN),
    "two lengths": (b"content-length: 0\r\ncontent-length: %d" % len(HIDDEN), HIDDEN),
    "a list of lengths": (b"content-length: 0, %d" % len(HIDDEN), HIDDEN),
    "a signed length": (b"content-length: +0", HIDDEN),
    "a negative length": (b"content-length: -1", HIDDEN),
    "a length in hex": (b"content-length: 0x0", HIDDEN),
    "a length with a space": (b"content-length: 0 0", HIDDEN),
    "a length of other digits": ("content-length: \u0660".encode(), HIDDEN),
    "an empty length": (b"content-length: ", HIDDEN),
    "a length beyond 64 bits": (b"content-length: 18446744073709551616", HIDDEN),
    "another coding": (b"transfer-encoding: xchunked", LAST + HIDDEN),
    "identity": (b"transfer-encoding: identity", HIDDEN),
    "chunked, then not": (b"transfer-encoding: chunked, identity", LAST + HIDDEN),
    "gzip first": (b"transfer-encoding: gzip, chunked", LAST + HIDDEN),
    "chunked twice": (b"transfer-encoding: chunked\r\n" * 2 + b"x: y", LAST + HIDDEN),
    "a space before the colon": (b"transfer-encoding : chunked", LAST + HIDDEN),
    "a folded line": (b"content-length: %d\r\nx: y\r\n transfer-encoding: chunked" % len(HIDDEN),
                      HIDDEN),
    "a bare return": (b"x: y\rtransfer-encoding: chunked", LAST + HIDDEN),
    "a name with a zero": (b"transfer-encoding\0: chunked", LAST + HIDDEN),
    "a value with a vertical tab": (b"transfer-encoding: \x0bchunked", LAST + HIDDEN),
    "a chunk in hex with a sign": (b"transfer-encoding: chunked", b"+0\r\n\r\n" + HIDDEN),
    "a chunk with 0x": (b"transfer-encoding: chunked", b"0x0\r\n\r\n" + HIDDEN),
    "a chunk without an end": (b"transfer-encoding: chunked", b"1\r\nxx0\r\n\r\n" + HIDDEN),
    "a chunk of 2 ** 64": (b"transfer-encoding: chunked", b"10000000000000000\r\n" + HIDDEN),
    "a trailer that is none": (b"transfer-encoding: chunked", b"0\r\n" + HIDDEN),
}  # fmt: skip


def test_no_request_hides_in_another_ones_body(attacked: Attacked) -> None:
    """At most the first is answered; where its end is in doubt the connection ends."""
    requests = {name: smuggle(*one) for name, one in FRAMINGS.items()}
    requests["chunked in 1.0"] = smuggle(
        b"transfer-encoding: chunked", LAST + HIDDEN, b"POST /v1/enrol HTTP/1.0"
    )
    requests["a bad chunk, before who answers without it"] = smuggle(
        b"transfer-encoding: chunked", b"1\r\nxx0\r\n\r\n" + HIDDEN, b"POST /v1/receipts HTTP/1.1"
    )
    requests["the preface of HTTP/2"] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN
    requests["HTTP/0.9"] = b"GET /healthz\r\n" + HIDDEN
    requests["no host"] = b"GET /healthz HTTP/1.1\r\n\r\n" + b"\0" + HIDDEN
    requests["two hosts"] = b"GET /readyz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n\0" + HIDDEN
    requests["an absolute target"] = (
        b"GET http://%s/readyz HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n"
        % ((NAME.encode(),) * 2)
    )
    requests["a tunnel"] = b"CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n\0" + HIDDEN
    requests["an upgrade"] = (
        b"GET /readyz HTTP/1.1\r\nhost: %s\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n\0"
        % NAME.encode() + HIDDEN
    )  # fmt: skip
    for name, data in zip(requests, attacked.exchange_all(*requests.values()), strict=True):
        answers = parse_responses(data)
        assert not any(one.body == b"ok\n" for one in answers), (name, data)
        if name == "a chunk of 2 ** 64":
            assert not answers  # it waits for more, until its time is over
            continue
        assert answers and answers[0].status == (200 if name == "an upgrade" else 400), (name, data)
        assert all(one.status == 400 for one in answers[1:]), (name, data)
    [data] = attacked.exchange_all(HIDDEN)
    assert parse_responses(data)[0].body == b"ok\n"
    attacked.check_well()


def test_what_is_too_large_is_refused_before_it_is_there(attacked: Attacked) -> None:
    many = "".join([f"x{number}: y\r\n" for number in range(10_000)]).encode()
    host = f"host: {NAME}\r\n".encode()
    sized = b"content-length: %d\r\n\r\n"
    coded = b"transfer-encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    requests = {
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n": {431},
        b"GET /?" + b"a" * 5000 + b" HTTP/1.1\r\n" + host + b"connection: close\r\n\r\n": {414},
        b"GET /healthz HTTP/1.1\r\n" + host + b"x: " + b"a" * (1 << 20) + b"\r\n\r\n": {431},
        b"GET /healthz HTTP/1.1\r\n" + host + many + b"\r\n": {431},
        b"GET /healthz HTTP/1.1\r\n" + host + many[:700] + b"connection: close\r\n\r\n": {431},
        b"POST /v1/enrol HTTP/1.1\r\n" + host + sized % (1 << 30): {413},
        b"POST /v1/enrol HTTP/1.1\r\n" + host + coded + chunk: {413},
        b"POST /v1/receipts HTTP/1.1\r\n" + host + sized % (WIRE_LIMIT_BYTES + 1): {413},
        b"POST /v1/receipts HTTP/1.1\r\n" + host + sized % WIRE_LIMIT_BYTES: {401},
        b"POST /v1/receipts HTTP/1.1\r\n" + host + coded + chunk * 40: {401},
        b"\r\n" * (1 << 19): {400, 431},
        b"\0" * (1 << 20): {400, 431},
    }  # fmt: skip
    for (request, wanted), data in zip(
        requests.items(), attacked.exchange_all(*requests), strict=True
    ):
        statuses = {one.status for one in parse_responses(data, may_be_cut=True)}
        assert statuses <= wanted, (request[:80], statuses)
    attacked.check_well()


def test_a_bomb_takes_no_memory_and_no_time(attacked: Attacked) -> None:
    zstd = get_zstd()
    zeros, wide = bytes(1 << 28), {zstd.CompressionParameter.window_log: 27}
    bombs = [
        zstd.compress(zeros, 3), zstd.compress(bytes(BATCH_LIMIT_BYTES + 1), 3),
        zstd.compress(zeros, options=wide), zstd.compress(zstd.compress(zeros, 3), 3),
        zstd.compress(b"", 1) * 100_000, zstd.compress(bytes(1 << 20), 1) * 200,
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8,
        batch.compress(attacked.data)[:-1], batch.compress(attacked.data) + b"\0",
    ]  # fmt: skip
    fields = {"content-encoding": "zstd", "content-type": "application/octet-stream"}
    calls = [attacked.sign("POST", "/v1/receipts", one, fields) for one in bombs * 4]
    for data in attacked.exchange_all(*calls):
        [answer] = parse_responses(data)
        assert answer.status == 400
        assert json.loads(answer.body)["type"] == "urn:docklock:bpci:refused"
    attacked.check_well()
