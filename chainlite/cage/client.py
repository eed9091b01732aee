"""The caller's side: sign a request; check that an answer, and its receipt, belong to it.

Pure: who sends the request hands time and nonce in. Not here: connections, retries. Invariants: of
an answer only what its signature covers is handed on; a receipt is believed if it says what the
caller itself knows of the call. Source: README.md.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from chainlite.cage.base import Request, Response, get_target
from chainlite.cage.call_receipt import (
    FIELD,
    CallReceipt,
    SignedReceipt,
    check_signed_receipt,
    encode_signed_receipt,
)
from chainlite.cage.refusal import TYPE_PREFIX, Refusal, refuse_field
from chainlite.cage.signature import Known, check_fields, sign_request, verify_response
from chainlite.errors import DocklockError, PeerError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chainlite.keys import Signer

DEFAULT_PORTS = {"http": 80, "https": 443}
ANSWER_FIELDS_MAX = 128
REFUSAL_BYTES_MAX = 4096
DETAIL_LENGTH_MAX = 512
_REASON = re.compile(r"[a-z-]{1,64}")


class Prepared(NamedTuple):
    """A signed request: send `fields` and no others that matter, `body`, to `target`."""

    request: Request
    body: bytes
    target: str
    fields: Mapping[str, str]


class Answer(NamedTuple):
    """What the server has signed; `fields` are the covered ones.

    `signed_receipt` is what to keep: `check_signed_receipt` needs the server's key alone.
    """

    status: int
    fields: Mapping[str, str]
    body: bytes
    receipt: CallReceipt
    signed_receipt: bytes


class Caller(NamedTuple):
    """A key, the id by which the server knows it, and the server's own key and its id."""

    key: Signer
    keyid: str
    server: bytes
    server_keyid: str

    def prepare(
        self,
        method: str,
        url: str,
        body: bytes,
        fields: Mapping[str, str],
        *,
        created_s: int,
        nonce: str,
    ) -> Prepared:
        """Sign a request; SpecError where it cannot be sent as it is.

        `fields` by lower-case name: all are covered. `nonce`: 16 to 128 new random characters.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SpecError(f"{url!r}: not a URL: {error}") from None
        host = (parts.hostname or "").lower()
        if parts.scheme not in DEFAULT_PORTS or not host or parts.username or parts.fragment:
            raise SpecError(f"{url!r}: want http or https, a host, a path and a query")
        if ":" in host:
            host = f"[{host}]"
        authority = host if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
        for text in (method, authority, parts.path, parts.query):
            if not text.isascii() or not text.isprintable() or " " in text:
                raise SpecError(f"{method!r} {url!r}: visible ASCII only; encode the rest with %")
        request = Request(
            method, parts.scheme, authority, parts.path or "/", parts.query, check_fields(fields)
        )
        own = sign_request(self.key, self.keyid, request, body, created_s=created_s, nonce=nonce)
        sent = {**fields, **own}
        return Prepared(
            request._replace(fields=sent), body, get_target(request), {"host": authority, **sent}
        )

    def check(
        self, prepared: Prepared, status: int, fields: Iterable[tuple[str, str]], body: bytes
    ) -> Answer:
        """What the server answered to this very request; PeerError where it is not signed so.

        A Refusal among them names what is missing. An unsigned refusal (401, 429, 503) of a cage
        is such an answer: `read_refusal` says what it says.
        """
        combined: dict[str, str] = {}
        for number, (name, value) in enumerate(fields):
            key = name.lower()
            combined[key] = (
                f"{combined[key]}, {value.strip()}" if key in combined else value.strip()
            )
            if number == ANSWER_FIELDS_MAX:
                raise refuse_field("an answer with too many fields")
        response = Response(status, combined)
        signed = verify_response(response, body, prepared.request, self._find_key)
        if FIELD not in signed.covered.plain:
            raise Refusal(401, "not-covered", "an answer without a receipt")
        data = encode_signed_receipt(SignedReceipt(signed.base, signed.signature))
        try:
            receipt = check_signed_receipt(data, self.server)
        except (DocklockError, ValueError) as error:
            raise PeerError(f"receipt: {error}") from None
        _check_receipt(receipt, prepared, body, combined)
        believed = {name: combined[name] for name in combined if name in signed.covered.plain}
        return Answer(status, believed, body, receipt, data)

    def _find_key(self, keyid: str) -> Known | None:
        return Known(self.server, "server") if keyid == self.server_keyid else None


def read_refusal(status: int, fields: Iterable[tuple[str, str]], body: bytes) -> Refusal:
    """What an unsigned answer says of a call that was not let in.

    Believe no more of it than that the call may not have been made: anyone can have sent it.
    """
    wait = next((value for name, value in fields if name.lower() == "retry-after"), "")
    seconds = int(wait) if re.fullmatch(r"[0-9]{1,6}", wait) else 0
    said: object = None
    try:
        said = json.loads(body[:REFUSAL_BYTES_MAX])
    except (ValueError, RecursionError):
        pass
    kind, detail = (
        (said.get("type"), said.get("detail")) if isinstance(said, dict) else (None, None)
    )
    reason = "unknown"
    if isinstance(kind, str) and _REASON.fullmatch(kind.removeprefix(TYPE_PREFIX)):
        reason = kind.removeprefix(TYPE_PREFIX)
    text = detail if isinstance(detail, str) else f"status {status}"
    return Refusal(status, reason, text[:DETAIL_LENGTH_MAX], retry_after_s=seconds)


def _check_receipt(
    receipt: CallReceipt, prepared: Prepared, body: bytes, fields: Mapping[str, str]
) -> None:
    """The receipt says what this caller knows; what the response covers is checked already.

    A call that was refused before its body was read says the digest of nothing.
    """
    request, known = prepared.request, (sha256(prepared.body).digest(), sha256().digest())
    if (
        (receipt.method, receipt.authority) != (request.method, request.authority)
        or receipt.target != prepared.target
        or receipt.response_digest != sha256(body).digest()
        or receipt.request_digest not in known[: 1 if receipt.status < 400 else 2]
        or receipt.audit_id.hex() != fields.get("x-audit-id")
        or receipt.actor != fields.get("x-actor")
    ):
        raise PeerError("receipt: it is of another call")
