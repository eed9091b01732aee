"""Why a call is refused: a status, a reason for programs and one for people, as RFC 9457 writes it.

Not here: when (signature, routes, prices, middleware). Invariants: what a stranger sent is never
part of the text but as JSON escapes it; the body has no field that is not in README.md.
Source: RFC 9457 (application/problem+json); RFC 9110 for the status codes and Retry-After.
"""

from __future__ import annotations

import json

from chainlite.errors import PeerError

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:docklock:cage:"


class Refusal(PeerError):
    """A message that is not let through; `reason` is one word of the table in README.md."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after_s: int = 0,
        allowed: tuple[str, ...] = (),
    ) -> None:
        """`allowed`: of a 405, the methods that the path knows."""
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.allowed = allowed


def unsigned(reason: str, detail: str) -> Refusal:
    """A refusal because the signature says too little, or something else than the message."""
    return Refusal(401, reason, detail)


def refuse_field(detail: str) -> Refusal:
    """A field that cannot be read in one way only."""
    return Refusal(400, "malformed-field", detail)


def encode_problem(refusal: Refusal, audit_id: str) -> bytes:
    """The body of the answer."""
    problem = {
        "type": f"{TYPE_PREFIX}{refusal.reason}",
        "title": refusal.reason.replace("-", " "),
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": f"urn:docklock:audit:{audit_id}",
    }
    return json.dumps(problem, separators=(",", ":")).encode()
