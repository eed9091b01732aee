"""The descriptions of app's own addresses; what others add is described beside their routes. Pure.

Invariant: app.ROUTES and these have the same addresses. Source: README.md, section Addresses.
"""

from __future__ import annotations

from chainlite.bpci.describing import (
    BASE64,
    BINARY,
    COUNT,
    HEX_32,
    JSON,
    NOT_WHOLE,
    OPENMETRICS,
    PROBLEM,
    STRING,
    TEXT,
    U64,
    UNREADABLE,
    UNWRITABLE,
    Answer,
    Body,
    Operation,
    Parameter,
    make_array,
    make_object,
)

ALERTS_SHOWN_MAX = 100
_ACKNOWLEDGEMENT = "An acknowledgement: the server's signed word, and its tlog-proof."
_REFUSED = make_object(
    type={"const": "urn:docklock:bpci:refused"},
    title=STRING,
    detail=STRING,
    alert={"enum": ["", "receipt", "gap", "fork", "rollback"]},
    acknowledgement=BASE64,
)
_HOST = make_object(
    host=HEX_32,
    size=U64,
    receipts=U64,
    open_runs=COUNT,
    log_leaf=U64,
    root=HEX_32,
    alerts=make_array(
        make_object(kind=STRING, leaf_index=U64, time_ms=U64), ALERTS_SHOWN_MAX
    ),
)  # fmt: skip

DESCRIPTIONS = {
    "POST /v1/receipts": Operation(
        "sendReceipts",
        "Take a batch of a host's log with its receipts and values.",
        (
            Answer(
                200, f"Taken, or not where the host stands. {_ACKNOWLEDGEMENT}", (Body(BINARY),)
            ),
            Answer(400, "It does not read, or is not this host's.", (Body(PROBLEM, _REFUSED),)),
            Answer(401, "The key is not the host's newest.", reasons=("unknown-key",)),
            Answer(403, "Not a host's key, or it was revoked.", reasons=("not-yours", "revoked")),
            Answer(413, "Too large.", reasons=("too-large",)),
            Answer(415, "Another coding than zstd.", reasons=("another-coding",)),
            Answer(
                422, "It does not hold: the alert, and what is held of the leaves before.",
                (Body(PROBLEM, _REFUSED),),
            ),
            Answer(
                429, "Too many batches wait, or no more receipts are taken today.",
                reasons=("busy", "quota"),
            ),
            UNWRITABLE,
            NOT_WHOLE,
            Answer(507, "The tenant's bytes are used up.", reasons=("quota",)),
        ),
        request=(Body(BINARY),),
        text="A batch as README.md lays it out, at most 10 MiB, one zstd frame with a window of at "
        "most 8 MiB (RFC 9659). It is idempotent by range: sent twice, it changes nothing.",
        codings=("zstd",),
    ),
    "GET /v1/hosts/{host}": Operation(
        "showHost",
        "How far a host's log is held, and its alerts.",
        (
            Answer(200, "As it stands.", (Body(JSON, _HOST),)),
            Answer(401, "The key is not the host's newest.", reasons=("unknown-key",)),
            Answer(403, "A host is shown its own state.", reasons=("not-yours",)),
            Answer(404, "The host is not enrolled.", reasons=("no-host",)),
            UNREADABLE,
            NOT_WHOLE,
        ),
        (Parameter("host", "The host's id.", HEX_32),),
    ),
    "GET /checkpoint": Operation(
        "getCheckpoint",
        "The server's own log: its newest checkpoint (C2SP tlog-checkpoint).",
        (
            Answer(200, "A signed note.", (Body(TEXT, STRING),)),
            Answer(404, "The log has no leaf yet.", reasons=("empty",)),
            UNREADABLE,
        ),
    ),
    "GET /tile/{rest:path}": Operation(
        "getTile",
        "The server's own log: a tile or an entry bundle (C2SP tlog-tiles).",
        (
            Answer(200, "Its bytes, which never change.", (Body(BINARY),)),
            Answer(404, "The log has no such tile.", reasons=("no-tile",)),
            UNREADABLE,
        ),
        (Parameter("rest", "As `0/x001/234`, `1/000.p/7` or `entries/000`: it has slashes."),),
    ),
    "GET /healthz": Operation(
        "showHealth", "Whether it is alive.", (Answer(200, "It is.", (Body(TEXT, STRING),)),)
    ),
    "GET /readyz": Operation(
        "showReady",
        "Whether what is stored is what was signed, and batches are taken.",
        (
            Answer(200, "It is, and they are.", (Body(TEXT, STRING),)),
            Answer(503, "Why not.", reasons=("store", "restoring")),
        ),
    ),
    "GET /metrics": Operation(
        "showMetrics",
        "Figures of the server (OpenMetrics 1.0).",
        (
            Answer(200, "Figures.", (Body(OPENMETRICS, STRING),)),
            UNREADABLE,
        ),
    ),
    "GET /v1/openapi.json": Operation(
        "showDocument", "This document.", (Answer(200, "It.", (Body(JSON, {"type": "object"}),)),)
    ),
}  # fmt: skip
