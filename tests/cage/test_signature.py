"""Signatures: RFC 9421's examples, a library that someone else wrote, and what is refused."""

from __future__ import annotations

import base64
import datetime
import hmac
import json
from pathlib import Path
from typing import Any

import http_message_signatures as other
import pytest

from chainlite import domains, keys
from chainlite.cage import signature
from chainlite.cage.base import Request, Response, make_signature_base, parse_components
from chainlite.cage.digest import check_content_digest, compute_content_digest
from chainlite.cage.fields import parse_dictionary
from chainlite.cage.refusal import Refusal
from chainlite.cage.signature import Known, sign_request, sign_response
from chainlite.errors import SpecError
from tests.cage.callers import ALICE, HOST, NOW_S, SERVER

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/rfc9421.json").read_text())
NONCE = "a-nonce-of-22-letters!"
BODY = b'{"hello": "world"}'
KNOWN = {"alice-1": Known(ALICE.public, "alice"), "server-1": Known(SERVER.public, "server")}


def get_message(kind: str) -> Request | Response:
    said = VECTORS[kind]
    fields = {name.lower(): value for name, value in said["headers"].items()}
    if kind == "response":
        return Response(said["status"], fields)
    return Request(said["method"], "https", "example.com", "/foo", "param=Value&Pet=dog", fields)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_the_bases_of_the_rfc_are_exact(vector: dict[str, str]) -> None:
    last = vector["base"].rpartition("\n")[2].removeprefix('"@signature-params": ')
    member = parse_dictionary(f"sig={last}", "test")["sig"]
    base = make_signature_base(member.inner, member.parameters, get_message(vector["on"]))
    assert base.decode() == vector["base"]


def test_the_ed25519_example_of_the_rfc_is_exact() -> None:
    vector = VECTORS["vectors"][2]
    assert (vector["id"], vector["alg"]) == ("B.2.6", "ed25519")
    key = keys.make_key_pair(bytes.fromhex(VECTORS["seed"]))
    assert base64.b64encode(key.sign(vector["base"].encode())).decode() == vector["sig"]
    message = get_message("request")
    inner, _, parameters = vector["base"].rpartition(": ")[2].partition(")")
    base = make_signature_base(f"{inner})", parameters, message)
    assert signature.sodium.is_signed(key.public, base, base64.b64decode(vector["sig"]))


def test_the_hmac_example_of_the_rfc_has_our_base() -> None:
    vector = VECTORS["vectors"][1]
    mac = hmac.digest(base64.b64decode(VECTORS["secret"]), vector["base"].encode(), "sha256")
    assert base64.b64encode(mac).decode() == vector["sig"]


def test_the_digests_of_the_rfc_are_those_of_its_bodies() -> None:
    for kind in ("request", "response"):
        value, body = VECTORS[kind]["headers"]["Content-Digest"], VECTORS[kind]["body"].encode()
        assert check_content_digest(value, body)
        with pytest.raises(Refusal, match="not that of this body"):
            check_content_digest(value, body + b" ")


def test_derived_components_and_query_parameters_have_the_values_of_the_rfc() -> None:
    """Sections 2.2.1 to 2.2.8."""
    query = "param=value&foo=bar&baz=batman&qux=&pet=a%20b"
    request = Request("POST", "https", "www.example.com", "/path", query, {})
    inner = (
        '("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" "@query"'
        ' "@query-param";name="baz" "@query-param";name="qux" "@query-param";name="pet")'
    )
    lines = make_signature_base(inner, "", request).decode().split("\n")
    assert [line.partition(": ")[2] for line in lines[:-1]] == [
        "POST", f"https://www.example.com/path?{query}", "www.example.com", "https",
        f"/path?{query}", "/path", f"?{query}", "batman", "", "a%20b",
    ]  # fmt: skip
    twice = request._replace(query="a=1&a=2")
    with pytest.raises(Refusal, match="2 times"):
        make_signature_base('("@query-param";name="a")', "", twice)
    assert b'"@query": ?\n' in make_signature_base('("@query")', "", request._replace(query=""))


def test_no_signature_base_is_a_tagged_message() -> None:
    """A base begins with a quote: what is signed here is nothing that is signed elsewhere."""
    tags = {value for name, value in vars(domains).items() if name.startswith("SIGN_")}
    assert make_signature_base('("@method")', "", make_request())[:1] not in tags
    assert len(tags) > 10


# The library `http_message_signatures`, both ways


class Message:
    """A request or a response as that library wants it."""

    def __init__(self, headers: dict[str, str], **more: Any) -> None:
        self.headers = headers
        vars(self).update(more)


class Keys(other.HTTPSignatureKeyResolver):
    """Of that library."""

    def resolve_public_key(self, key_id: str) -> Any:
        raw = KNOWN[key_id].public
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(raw)

    def resolve_private_key(self, key_id: str) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(b"a" * 32 if key_id == "alice-1" else b"s" * 32)


ED25519 = {"signature_algorithm": other.algorithms.ED25519, "key_resolver": Keys()}


def make_request(**fields: str) -> Request:
    return Request("POST", "https", HOST, "/v1/receipts", "x=1", fields)


def sign(**more: Any) -> Request:
    request = make_request(**more.pop("fields", {}))
    terms = {"created_s": NOW_S, "nonce": NONCE} | more
    own = sign_request(ALICE, "alice-1", request, BODY, **terms)
    return request._replace(fields={**request.fields, **own})


def verify(request: Request, body: bytes = BODY, now_s: int = NOW_S) -> signature.Signed:
    return signature.verify_request(request, body, KNOWN.get, now_s=now_s)


def test_the_library_verifies_our_request_and_response() -> None:
    now_s = int(datetime.datetime.now().timestamp())
    request = sign(created_s=now_s, fields={"content-type": "application/json"})
    theirs = Message(dict(request.fields), method="POST", url=f"https://{HOST}/v1/receipts?x=1")
    (found,) = other.HTTPMessageVerifier(**ED25519).verify(theirs, expect_tag=signature.TAG)
    assert (found.parameters["keyid"], found.nonce) == ("alice-1", NONCE)
    assert '"content-type"' in found.covered_components

    response = Response(201, {"content-type": "text/plain"})
    own, base = sign_response(
        SERVER, "server-1", response, compute_content_digest(b"done"), request, created_s=now_s
    )
    answer = Message({**response.fields, **own}, status_code=201, request=theirs)
    (found,) = other.HTTPMessageVerifier(**ED25519).verify(answer, expect_tag=signature.TAG)
    assert found.covered_components['"signature";req;key="cage"'].encode() in base


def test_we_verify_the_librarys_request_and_response() -> None:
    theirs = Message(
        {"Content-Type": "text/plain"},
        method="POST",
        url=f"https://{HOST}/v1/receipts?x=1",
    )
    covered = ("@method", "@authority", "@path", "@query", "content-type")
    created = datetime.datetime.fromtimestamp(NOW_S)
    terms: dict[str, Any] = {"label": "cage", "tag": signature.TAG, "created": created}
    signer = other.HTTPMessageSigner(**ED25519)
    signer.sign(
        theirs, key_id="alice-1", nonce=NONCE, covered_component_ids=covered, body=BODY, **terms,
        expires=created + datetime.timedelta(seconds=20),
    )  # fmt: skip
    request = make_request(**{name.lower(): value for name, value in theirs.headers.items()})
    signed = verify(request)
    assert (signed.actor, signed.nonce) == ("alice", NONCE)
    assert "content-type" in signed.covered.plain

    answer = Message({}, status_code=200, request=theirs)
    covered = ('"@status"', *signature.RESPONSE_COVERS_OF_REQUEST)
    signer.sign(answer, key_id="server-1", covered_component_ids=covered, body=b"done", **terms)
    fields = {name.lower(): value for name, value in answer.headers.items()}
    found = signature.verify_response(Response(200, fields), b"done", request, KNOWN.get)
    assert found.actor == "server"


# What is refused


def test_a_response_that_covers_too_little_is_refused() -> None:
    """Signed by the server's own key, but not bound to this request, or without its body."""
    request, body = sign(), b"done"
    of_request = signature.RESPONSE_COVERS_OF_REQUEST
    all_of_it = ('"@status"', '"content-digest"', *of_request)
    terms = f';created={NOW_S};keyid="server-1";alg="ed25519";tag="docklock-cage"'
    for left_out in (*all_of_it, None):
        inner = f"({' '.join(one for one in all_of_it if one != left_out)})"
        response = Response(200, {"content-digest": compute_content_digest(body)})
        base = make_signature_base(inner, terms, response, request)
        own = {
            "signature-input": f"cage={inner}{terms}",
            "signature": f"cage=:{base64.b64encode(SERVER.sign(base)).decode()}:",
        }
        response = Response(200, {**response.fields, **own})
        if left_out is None:
            assert signature.verify_response(response, body, request, KNOWN.get).actor == "server"
            continue
        with pytest.raises(Refusal) as caught:
            signature.verify_response(response, body, request, KNOWN.get)
        assert caught.value.reason == "not-covered"


def change_input(request: Request, old: str, new: str) -> Request:
    text = request.fields["signature-input"]
    assert old in text
    return request._replace(fields={**request.fields, "signature-input": text.replace(old, new, 1)})


def sign_text(text: str, request: Request | None = None) -> Request:
    """A request that alice has signed over exactly this Signature-Input."""
    request = request or make_request(**{"content-digest": compute_content_digest(BODY)})
    inner, _, parameters = text.partition(")")
    base = make_signature_base(f"{inner})", parameters, request)
    value = base64.b64encode(ALICE.sign(base)).decode()
    own = {"signature-input": f"cage={text}", "signature": f"cage=:{value}:"}
    return request._replace(fields={**request.fields, **own})


COVERED = '("@method" "@authority" "@path" "@query" "content-digest")'
TERMS = {
    "created": str(NOW_S),
    "nonce": f'"{NONCE}"',
    "keyid": '"alice-1"',
    "alg": '"ed25519"',
    "tag": '"docklock-cage"',
}


def make_text(covered: str = COVERED, **changed: str | None) -> str:
    terms = {**TERMS, **changed}
    return covered + "".join(f";{name}={value}" for name, value in terms.items() if value)


def get_reason(request: Request, body: bytes = BODY, now_s: int = NOW_S) -> str:
    with pytest.raises(Refusal) as caught:
        verify(request, body, now_s)
    assert caught.value.status in (400, 401)
    return caught.value.reason


def test_parameters_in_any_order_are_read_alike() -> None:
    usual = verify(sign_text(make_text()))
    turned = COVERED + "".join(f";{name}={TERMS[name]}" for name in reversed(TERMS))
    assert verify(sign_text(turned))[:6] == usual[:6]
    assert verify(sign())[:6] == usual[:6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (make_text(alg='"hmac-sha256"'), "another-algorithm"),
        (make_text(alg=None), "another-algorithm"),
        (make_text(tag='"other"'), "another-tag"),
        (make_text(tag=None), "another-tag"),
        (make_text(nonce=None), "bad-nonce"),
        (make_text(nonce='"short"'), "bad-nonce"),
        (make_text(nonce="0"), "bad-nonce"),
        (make_text(keyid='"mallory-1"'), "unknown-key"),
        (make_text(keyid=None), "unknown-key"),
        (make_text(keyid='"server-1"'), "bad-signature"),
        (make_text(created=None), "no-time"),
        (make_text(created='"now"'), "no-time"),
        (make_text(created="?1"), "malformed-field"),
        (make_text(created=str(NOW_S - 61)), "expired"),
        (make_text(created=str(NOW_S + 6)), "from-the-future"),
        (make_text(expires=str(NOW_S)), "expired"),
        (make_text(expires=str(NOW_S - 1)), "no-time"),
        (make_text(expires="?0"), "no-time"),
        (make_text(extra="1"), "unknown-parameter"),
        (make_text() + ";created=1", "malformed-field"),
        (make_text() + " ", "malformed-field"),
        (make_text().replace(";nonce", "; nonce"), "malformed-field"),
        (make_text('("@method" "@authority" "@path" "@query")'), "not-covered"),
        (make_text('("@method" "@authority" "@path" "content-digest")'), "not-covered"),
        (make_text('("@method" "@authority" "@query" "content-digest")'), "not-covered"),
        (make_text('("@method" "@path" "@query" "content-digest")'), "not-covered"),
        (make_text('("@authority" "@path" "@query" "content-digest")'), "not-covered"),
        (make_text("()"), "not-covered"),
        (make_text(COVERED[:-1] + ';key="sha-256")'), "not-covered"),
    ],
)  # fmt: skip
def test_a_request_that_says_too_little_or_too_much_is_refused(text: str, reason: str) -> None:
    try:
        request = sign_text(text)
    except Refusal as refusal:
        assert refusal.reason == reason
        return
    assert get_reason(request) == reason


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        ('"@method"', "duplicate-component"),
        ('"content-digest"', "duplicate-component"),
        ('"content-digest";key="sha-256" "content-digest";key="sha-256"', "duplicate-component"),
        ('"@method";req', "unknown-component"),
        ('"@status"', "unknown-component"),
        ('"@signature-params"', "unknown-component"),
        ('"@mystery"', "unknown-component"),
        ('"content-digest";sf', "unknown-component"),
        ('"content-digest";bs', "unknown-component"),
        ('"content-digest";tr', "unknown-component"),
        ('"Content-Digest"', "unknown-component"),
        ("7", "unknown-component"),
        ("token", "unknown-component"),
        ('""', "unknown-component"),
        ('"@query-param"', "unknown-component"),
        ('"@method";key="x"', "unknown-component"),
        ('"x-not-there"', "missing-component"),
        ('"content-digest";key="sha-512"', "missing-component"),
        ('"@query-param";name="y"', "missing-component"),
    ],
)
def test_a_component_that_is_not_known_or_not_there_is_refused(component: str, reason: str) -> None:
    request = sign_text(make_text())
    changed = change_input(request, '"content-digest")', f'"content-digest" {component})')
    assert get_reason(changed) == reason


def test_whatever_of_a_request_is_changed_refuses_it() -> None:
    signed = sign(fields={"content-type": "text/plain", "x-mode": "a"})
    assert verify(signed).actor == "alice"
    for change in (
        {"method": "PUT"}, {"authority": "other.example"}, {"path": "/v1/receipt"},
        {"query": "x=2"}, {"query": ""}, {"path": "/v1/receipts/"},
    ):  # fmt: skip
        assert get_reason(signed._replace(**change)) == "bad-signature"
    for name, value in (("content-type", "text/html"), ("x-mode", "b")):
        fields = {**signed.fields, name: value}
        assert get_reason(signed._replace(fields=fields)) == "bad-signature"
    assert get_reason(signed, b"another body") == "another-body"
    assert get_reason(change_input(signed, NONCE, NONCE[::-1])) == "bad-signature"
    fields = {name: value for name, value in signed.fields.items() if name != "content-digest"}
    assert get_reason(signed._replace(fields=fields)) == "missing-component"
    for name in ("signature", "signature-input"):
        fields = {key: value for key, value in signed.fields.items() if key != name}
        assert get_reason(signed._replace(fields=fields)) == "no-signature"


def test_what_says_how_a_body_is_read_has_to_be_covered() -> None:
    for name in signature.COVERED_WHERE_THERE:
        fields = {**sign().fields, name: "gzip"}
        assert get_reason(make_request(**fields)) == "not-covered"


def test_another_signature_beside_ours_means_nothing() -> None:
    signed = sign()
    beside = {
        "signature-input": f'proxy=("@method");created=1;keyid="p", '
        f"{signed.fields['signature-input']}",
        "signature": f"{signed.fields['signature']}, proxy=:AAAA:",
    }
    assert verify(signed._replace(fields={**signed.fields, **beside})).actor == "alice"
    renamed = {name: value.replace("cage=", "sig1=") for name, value in signed.fields.items()}
    assert get_reason(signed._replace(fields=renamed)) == "no-signature"
    twice = {**signed.fields, "signature": f"{signed.fields['signature']}, cage=:AAAA:"}
    assert get_reason(signed._replace(fields=twice)) == "malformed-field"
    bare = {**signed.fields, "signature": "cage=:AAA:"}
    assert get_reason(signed._replace(fields=bare)) == "malformed-field"


def test_time_is_a_window() -> None:
    signed = sign()
    for now_s in (NOW_S - 5, NOW_S, NOW_S + 60):
        assert verify(signed, now_s=now_s).created_s == NOW_S
    assert get_reason(signed, now_s=NOW_S + 61) == "expired"
    assert get_reason(signed, now_s=NOW_S - 6) == "from-the-future"


def test_digests_beside_a_known_one_have_to_be_right_where_they_are_known() -> None:
    good = compute_content_digest(BODY)
    assert check_content_digest(f"{good}, unixsum=:AAAA:", BODY)
    for value in ("unixsum=:AAAA:", f"{good}, sha-512=:AAAA:", "", "sha-256=7", "sha-256=()"):
        with pytest.raises(Refusal):
            check_content_digest(value, BODY)


def test_a_field_that_would_end_its_line_is_never_signed() -> None:
    for name, value in (
        ("x-a", "1\r\nx-b: 2"), ("x-a", "1\n2"), ("x-a", " 1"), ("x-a", "ü"), ("x a", "1"),
        ("X-A", "1"), ("x-a\r\nb", "1"),
    ):  # fmt: skip
        with pytest.raises(SpecError):
            sign(fields={name: value})
    for nonce in ("short", 'with"quotes"in-it-all', "x" * 129, "ends in a line\nfeed...."):
        with pytest.raises(SpecError):
            sign(nonce=nonce)
    with pytest.raises(SpecError):
        sign_request(ALICE, 'a"b', make_request(), b"", created_s=NOW_S, nonce=NONCE)
    with pytest.raises(Refusal, match="no field may have"):
        make_signature_base('("x-a")', "", make_request(**{"x-a": '1\n"@method": GET'}))


def test_components_are_parsed_once_and_alike() -> None:
    parse_components.cache_clear()
    assert parse_components(COVERED) is parse_components(COVERED)
    for text in ('("a" "b"', '("a"  "b")', '( "a")', '("a" )', '("a"))', "a", ""):
        with pytest.raises(Refusal):
            parse_components(text)
