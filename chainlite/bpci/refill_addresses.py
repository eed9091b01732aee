"""The descriptions of the addresses of a restore. Pure.

Invariant: refill_app.ROUTES and these have the same addresses.
"""

from __future__ import annotations

from chainlite.bpci.describing import (
    BINARY,
    JSON,
    STRING,
    U64,
    UNWRITABLE,
    Answer,
    Body,
    Operation,
    make_object,
)

_STATUS = make_object(
    state={"enum": ["restoring", "ready"]}, size=U64, goal=U64, held=U64, detail=STRING
)
_DONE = Answer(200, "How far it is: of the log, and of this host.", (Body(JSON, _STATUS),))
_TEXT = "README.md, section Restore. It acknowledges nothing."

DESCRIPTIONS = {
    "POST /v1/restore/show": Operation(
        "showRestore",
        "Show a server that lost its disk what it has signed.",
        (
            _DONE,
            Answer(
                400, "It does not read, or is not this server's word.",
                reasons=("malformed", "refused"),
            ),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
        text=_TEXT,
    ),
    "POST /v1/restore/bodies": Operation(
        "sendBodiesAgain",
        "Send a batch again that a server has lost; one that is whole takes nothing.",
        (
            _DONE,
            Answer(400, "It does not read, or is not this host's.", reasons=("refused",)),
            Answer(401, "The key is not the host's newest.", reasons=("unknown-key",)),
            Answer(403, "Not a host's key, or it was revoked.", reasons=("not-yours", "revoked")),
            Answer(413, "Too large.", reasons=("too-large",)),
            Answer(422, "It does not hold.", reasons=("refused",)),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
        text=_TEXT,
        codings=("zstd",),
    ),
    "POST /v1/restore/places": Operation(
        "namePlaces",
        "Say where in the server's log this host's leaves were.",
        (
            _DONE,
            Answer(400, "It does not read.", reasons=("malformed", "refused")),
            Answer(401, "The key is not the host's newest.", reasons=("unknown-key",)),
            Answer(403, "Not a host's key.", reasons=("not-yours",)),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
        text=_TEXT,
    ),
}  # fmt: skip
