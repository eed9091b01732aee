"""Fields and bodies that the cage adds: who called, what is left, why a call was refused.

Not here: when an answer is signed (middleware). Invariant: the application hears who called from
the cage alone, and its answer cannot carry the cage's fields.
Source: README.md, section Fields; RFC 9457.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage.asgi import Collected
from chainlite.cage.call_receipt import FIELD
from chainlite.cage.refusal import CONTENT_TYPE, Refusal, encode_problem
from chainlite.cage.signature import check_fields
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from chainlite.cage.asgi import Fields, Scope

UNCOVERED_KEPT = frozenset({"host", "content-length", "accept", "accept-encoding", "user-agent"})
"""What the application sees of a caged request without a signature over it: believe none of it."""
_UNCOVERED_KEPT = frozenset(name.encode() for name in UNCOVERED_KEPT)
OWN_FIELDS = frozenset({"x-audit-id", "x-actor", "x-rate-pass", FIELD})
_OWN_FIELDS = frozenset(name.encode() for name in OWN_FIELDS)
REPLACED = OWN_FIELDS | {"content-digest", "signature", "signature-input", "set-cookie"}
"""What an application's signed answer loses; the cage keeps no session, so no cookies."""
UNSIGNED_OF_ANSWER = frozenset(
    {"content-length", "date", "server", "connection", "keep-alive", "transfer-encoding", "via"}
)
"""What proxies and servers write; who verifies an answer sees none of it."""


class Call(NamedTuple):
    """What the application finds in `scope["docklock.cage"]`; `keyid` is empty without a signature.

    `public` is the key of it, and `actor` is empty on a public route.
    """

    audit_id: str
    actor: str
    keyid: str
    public: bytes


def is_own(name: bytes) -> bool:
    """Whether only the cage writes this field."""
    return name.lower() in _OWN_FIELDS


def keep_believed(headers: Fields, covered: frozenset[bytes]) -> Fields:
    """The fields of a caged request that the application sees; ASGI has names in lower case."""
    return [
        one
        for one in headers
        if (one[0] in covered or one[0] in _UNCOVERED_KEPT) and one[0] not in _OWN_FIELDS
    ]


def make_scope(scope: Scope, kept: Fields, call: Call) -> Scope:
    """The application's: without extensions, which would send past the cage."""
    headers = [*kept, *make_call_fields(call)]
    return {**scope, "headers": headers, "extensions": {}, "docklock.cage": call}


def make_call_fields(call: Call) -> Fields:
    """X-Audit-Id, and X-Actor where there is one."""
    fields = [(b"x-audit-id", call.audit_id.encode())]
    if call.actor:
        fields.append((b"x-actor", call.actor.encode()))
    return fields


def make_problem_fields(refusal: Refusal, body: bytes) -> Fields:
    """The fields of a refusal."""
    fields = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if refusal.retry_after_s:
        fields.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if refusal.allowed:
        fields.append((b"allow", ", ".join(refusal.allowed).encode()))
    return fields


def make_problem(refusal: Refusal, audit_id: str) -> Collected:
    """A refusal as an answer that is signed."""
    body = encode_problem(refusal, audit_id)
    answer = Collected(len(body))
    answer.status, answer.fields = refusal.status, make_problem_fields(refusal, body)
    answer.body += body
    answer.is_whole = True
    return answer


def check_answer(answer: Collected, audit_id: str) -> tuple[Collected, dict[str, str]]:
    """The application's answer without REPLACED, and what its signature covers of its fields.

    In place of one that cannot be signed: a failure.
    """
    if answer.is_over:
        return _fail("too-large", "the answer is too large to sign", audit_id)
    if not answer.is_whole:
        return _fail("failed", "the application gave no answer", audit_id)
    kept: Fields = []
    covered: dict[str, str] = {}
    for one in answer.fields:
        key, text = one[0].decode("latin-1").lower(), one[1].decode("latin-1").strip(" \t")
        if key in REPLACED:
            continue
        kept.append(one)
        if key not in UNSIGNED_OF_ANSWER:
            covered[key] = f"{covered[key]}, {text}" if key in covered else text
    try:
        check_fields(covered)
    except SpecError as error:
        return _fail("failed", f"the application's {error}", audit_id)
    answer.fields = kept
    return answer, covered


def _fail(reason: str, detail: str, audit_id: str) -> tuple[Collected, dict[str, str]]:
    return check_answer(make_problem(Refusal(500, reason, detail), audit_id), audit_id)
