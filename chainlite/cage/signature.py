"""Sign and verify a request or a response: the cage's profile of HTTP message signatures.

A request is signed under label `cage` and tag `docklock-cage`, and covers all that it says; a
response covers what it says and the signature of the request that it answers, so that it answers
no other. Other signatures may stand beside it and mean nothing here. Not here: whether a request
came before (store), its price (prices), its body in time (body). Invariants: what is not covered
is not believed; who verifies names the time; a key that is not found signs nothing.
Source: RFC 9421 sections 2 to 4 and 3.3.6 (ed25519); README.md for what has to be covered.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chainlite import sodium
from chainlite.cage.base import (
    CACHED_LISTS,
    Components,
    Request,
    Response,
    encode_base,
    make_signature_base,
    parse_components,
)
from chainlite.cage.digest import check_content_digest, compute_content_digest
from chainlite.cage.fields import (
    encode_bytes,
    encode_string,
    parse_bytes,
    parse_dictionary,
    parse_parameters,
)
from chainlite.cage.refusal import Refusal, unsigned
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chainlite.cage.fields import Value
    from chainlite.keys import Signer

LABEL = "cage"
TAG = "docklock-cage"
ALGORITHM = "ed25519"
AGE_MAX_S = 60
AHEAD_MAX_S = 5
NONCE_LENGTH_MIN = 16
NONCE_LENGTH_MAX = 128
KEYID_LENGTH_MAX = 128

REQUEST_COVERS = ("@method", "@authority", "@path", "@query", "content-digest")
RESPONSE_COVERS = ("@status", "content-digest")
RESPONSE_COVERS_OF_REQUEST = ('"signature";req;key="cage"', '"@method";req', '"@path";req')
COVERED_WHERE_THERE = ("content-type", "content-encoding")
"""What says how a body is read: a request that has one and does not cover it is refused."""
NOT_OF_SIGNATURE = ("content-digest", "signature", "signature-input")

_REQUEST_PARAMETERS = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_RESPONSE_PARAMETERS = frozenset({"created", "keyid", "alg", "tag"})
_VISIBLE = re.compile(r"[!#-\[\]-~]+")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")

# As our own client writes it, read in a fifth of the time that any other order takes.
_USUAL = re.compile(
    rf"{LABEL}=(\([^()]*\))(;created=([1-9][0-9]{{0,14}});nonce=\"([!#-\[\]-~]{{1,128}})\""
    rf";keyid=\"([!#-\[\]-~]{{1,128}})\";alg=\"{ALGORITHM}\";tag=\"{TAG}\")"
)


_USUAL_SIGNATURE = re.compile(rf"{LABEL}=(:[A-Za-z0-9+/]{{86}}==:)")


class Known(NamedTuple):
    """Whose key it is; an actor is named by 1 to 128 visible ASCII characters."""

    public: bytes
    actor: str


if TYPE_CHECKING:
    FindKey = Callable[[str], Known | None]
    """By key id; None where there is no such key, or not any more."""


class Signed(NamedTuple):
    """What a verified signature says; believe of the message's fields `covered.plain` alone.

    `base` and `signature` prove it to anyone who has the public key.
    """

    keyid: str
    public: bytes
    actor: str
    created_s: int
    nonce: str
    covered: Components
    base: bytes
    signature: bytes


def sign_request(
    key: Signer, keyid: str, request: Request, body: bytes, *, created_s: int, nonce: str
) -> dict[str, str]:
    """The three fields to add to a request; all of its `fields` are covered.

    `nonce` is 16 to 128 characters that this key has never used before, from randomness.
    SpecError for a field, key id or nonce that cannot be signed.
    """
    if not NONCE_LENGTH_MIN <= len(nonce) <= NONCE_LENGTH_MAX or not _VISIBLE.fullmatch(nonce):
        raise SpecError("nonce: 16 to 128 visible characters, without quotes and backslashes")
    digest, fields = compute_content_digest(body), check_fields(request.fields)
    names = [name for name in fields if name not in NOT_OF_SIGNATURE]
    covered = (*REQUEST_COVERS, *names)
    inner = f"({' '.join(encode_string(name) for name in covered)})"
    parameters = (
        f';created={created_s};nonce="{nonce}";keyid="{check_keyid(keyid)}"'
        f';alg="{ALGORITHM}";tag="{TAG}"'
    )
    covering = request._replace(fields={**fields, "content-digest": digest})
    base = make_signature_base(inner, parameters, covering)
    return _make_fields(digest, inner, parameters, key.sign(base))


def sign_response(
    key: Signer, keyid: str, response: Response, digest: str, request: Request, *, created_s: int
) -> tuple[dict[str, str], bytes]:
    """The three fields to add to a response, and the base that was signed.

    All of its `fields` are covered. `digest` is the Content-Digest of its body; `request`'s fields
    have the signature that was verified.
    """
    inner = _cover_response(tuple(response.fields))
    parameters = f';created={created_s};keyid="{keyid}";alg="{ALGORITHM}";tag="{TAG}"'
    lines = [f'"@status": {response.status}', f'"content-digest": {digest}']
    lines += [f'"{name}": {value}' for name, value in response.fields.items()]
    bare, path = _find_bare(request.fields["signature"]), request.path or "/"
    values = zip(RESPONSE_COVERS_OF_REQUEST, (bare, request.method, path), strict=True)
    lines += [f"{name}: {value}" for name, value in values]
    base = encode_base([*lines, f'"@signature-params": {inner}{parameters}'])
    return _make_fields(digest, inner, parameters, key.sign(base)), base


def verify_request_head(request: Request, find_key: FindKey, *, now_s: int) -> Signed:
    """What the signature says; Refusal where it is not good, says too little or not now.

    The body is not looked at: `check_content_digest` of the covered content-digest does that.
    """
    inner, parameters, said, signature = _find_signature(request.fields)
    components = parse_components(inner)
    plain = components.plain
    if not plain.issuperset(REQUEST_COVERS):
        raise _refuse_uncovered(REQUEST_COVERS, plain)
    for name in COVERED_WHERE_THERE:
        if name in request.fields and name not in plain:
            raise unsigned("not-covered", f"{name} is there and not covered")
    keyid = _check_parameters(said, _REQUEST_PARAMETERS)
    created_s, nonce = _check_time(said, now_s), said.get("nonce")
    if not isinstance(nonce, str) or not NONCE_LENGTH_MIN <= len(nonce) <= NONCE_LENGTH_MAX:
        raise unsigned("bad-nonce", f"nonce: want {NONCE_LENGTH_MIN} to {NONCE_LENGTH_MAX} bytes")
    base = make_signature_base(inner, parameters, request)
    known = _check_signature(find_key, keyid, base, signature)
    return Signed(keyid, *known, created_s, nonce, components, base, signature)


def verify_request(request: Request, body: bytes, find_key: FindKey, *, now_s: int) -> Signed:
    """As `verify_request_head`, and the body is the one that was signed."""
    signed = verify_request_head(request, find_key, now_s=now_s)
    check_content_digest(request.fields["content-digest"], body)
    return signed


def verify_response(response: Response, body: bytes, request: Request, find_key: FindKey) -> Signed:
    """What the response's signature says; Refusal where it does not answer this very request.

    `request`'s fields have the signature that it was sent with. How old it is is the request's
    matter: no other response can answer it.
    """
    inner, parameters, said, signature = _find_signature(response.fields)
    components = parse_components(inner)
    if not components.plain.issuperset(RESPONSE_COVERS):
        raise _refuse_uncovered(RESPONSE_COVERS, components.plain)
    if not components.texts.issuperset(RESPONSE_COVERS_OF_REQUEST):
        raise _refuse_uncovered(RESPONSE_COVERS_OF_REQUEST, components.texts)
    keyid, created_s = _check_parameters(said, _RESPONSE_PARAMETERS), said.get("created")
    if type(created_s) is not int:
        raise unsigned("no-time", "created: want the second at which it was signed")
    base = make_signature_base(inner, parameters, response, request)
    known = _check_signature(find_key, keyid, base, signature)
    check_content_digest(response.fields["content-digest"], body)
    return Signed(keyid, *known, created_s, "", components, base, signature)


def is_name(actor: str) -> bool:
    """Whether an actor can be named in a field: 1 to 128 visible ASCII characters."""
    return len(actor) <= KEYID_LENGTH_MAX and _VISIBLE.fullmatch(actor) is not None


def check_keyid(keyid: str) -> str:
    """The key id, if it can be written as it is; SpecError."""
    if len(keyid) > KEYID_LENGTH_MAX or not _VISIBLE.fullmatch(keyid):
        raise SpecError("keyid: 1 to 128 visible characters, without quotes and backslashes")
    return keyid


def check_fields(fields: Mapping[str, str]) -> Mapping[str, str]:
    """The fields, if each can be sent as it is: no line ends, no spaces around; SpecError."""
    for name, value in fields.items():
        if not _FIELD_NAME.fullmatch(name):
            raise SpecError(f"field {name!r}: a field's name is lower-case here, and a token")
        if not _FIELD_VALUE.fullmatch(value):
            raise SpecError(f"field {name}: printable ASCII only, and no space around it")
    return fields


def _make_fields(digest: str, inner: str, parameters: str, signature: bytes) -> dict[str, str]:
    return {
        "content-digest": digest,
        "signature-input": f"{LABEL}={inner}{parameters}",
        "signature": f"{LABEL}={encode_bytes(signature)}",
    }


@lru_cache(maxsize=CACHED_LISTS)
def _cover_response(names: tuple[str, ...]) -> str:
    own = '" "'.join((*RESPONSE_COVERS, *names))
    return f'("{own}" {" ".join(RESPONSE_COVERS_OF_REQUEST)})'


def _find_signature(fields: Mapping[str, str]) -> tuple[str, str, dict[str, Value], bytes]:
    """Our inner list, its parameters as text and by name, and our signature."""
    if "signature-input" not in fields or "signature" not in fields:
        raise unsigned("no-signature", "not signed: Signature-Input and Signature are wanted")
    bare = _find_bare(fields["signature"])
    usual = _USUAL.fullmatch(fields["signature-input"])
    said: dict[str, Value]
    if usual is not None:
        inner, parameters, created, nonce, keyid = usual.groups()
        said = {"created": int(created), "nonce": nonce, "keyid": keyid, "alg": ALGORITHM}
        said["tag"] = TAG
    else:
        member = parse_dictionary(fields["signature-input"], "signature-input").get(LABEL)
        if member is None or not member.inner:
            raise unsigned("no-signature", f"no signature is labelled {LABEL}")
        inner, parameters = member.inner, member.parameters
        said = parse_parameters(parameters, "signature-input")
    return inner, parameters, said, parse_bytes(bare, "signature")


def _find_bare(text: str) -> str:
    """Our signature in the field, as it is written there."""
    usual = _USUAL_SIGNATURE.fullmatch(text)
    if usual is not None:
        return usual[1]
    member = parse_dictionary(text, "signature").get(LABEL)
    if member is None:
        raise unsigned("no-signature", f"no signature is labelled {LABEL}")
    if member.inner or member.parameters:
        raise unsigned("bad-signature", "signature: want a byte sequence alone")
    return member.bare


def _refuse_uncovered(wanted: Iterable[str], covered: frozenset[str]) -> Refusal:
    missing = next(name for name in wanted if name not in covered)
    return unsigned("not-covered", f"{missing} has to be covered")


def _check_parameters(said: Mapping[str, Value], known: frozenset[str]) -> str:
    """The key id."""
    if not known.issuperset(said):
        raise unsigned("unknown-parameter", f"{sorted(set(said) - known)[0]} is not known here")
    if said.get("tag") != TAG:
        raise unsigned("another-tag", f"tag: want {TAG}")
    if said.get("alg") != ALGORITHM:
        raise unsigned("another-algorithm", f"alg: want {ALGORITHM}")
    keyid = said.get("keyid")
    if not isinstance(keyid, str) or not 0 < len(keyid) <= KEYID_LENGTH_MAX:
        raise unsigned("unknown-key", f"keyid: want 1 to {KEYID_LENGTH_MAX} characters")
    return keyid


def _check_time(said: Mapping[str, Value], now_s: int) -> int:
    """When it was signed."""
    created_s, expires_s = said.get("created"), said.get("expires")
    if type(created_s) is not int:
        raise unsigned("no-time", "created: want the second at which it was signed")
    if created_s > now_s + AHEAD_MAX_S:
        raise unsigned("from-the-future", f"created {created_s}, and here it is {now_s}")
    if now_s - created_s > AGE_MAX_S:
        raise unsigned("expired", f"created {created_s}, and here it is {now_s}")
    if expires_s is not None:
        if type(expires_s) is not int or expires_s < created_s:
            raise unsigned("no-time", "expires: want a second, after that of created")
        if expires_s <= now_s:
            raise unsigned("expired", f"expires {expires_s}, and here it is {now_s}")
    return created_s


def _check_signature(find_key: FindKey, keyid: str, base: bytes, signature: bytes) -> Known:
    known = find_key(keyid)
    if known is None:
        raise unsigned("unknown-key", "keyid: no such key, or not any more")
    if not sodium.is_signed(known.public, base, signature):
        raise unsigned("bad-signature", "the signature is not that of this key over this message")
    if not is_name(known.actor):
        raise unsigned("unknown-key", "keyid: its actor has no name that a field can carry")
    return known
