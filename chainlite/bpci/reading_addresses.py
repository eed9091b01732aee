"""The descriptions of the addresses of readers and auditors. Pure.

Invariant: reading.ROUTES and these have the same addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.bpci.asking import CONTAINERS_MAX, HOSTS_MAX, LAG_S_MAX, LIMIT_MAX
from chainlite.bpci.describing import (
    BINARY,
    COUNT,
    HEX_32,
    JSON,
    STRING,
    U64,
    UNREADABLE,
    Answer,
    Body,
    Operation,
    Parameter,
    make_array,
    make_nullable,
    make_object,
    make_partial,
)
from chainlite.bundle import STATES

if TYPE_CHECKING:
    from chainlite.bpci.describing import Schema

_TIME = {
    "type": "string",
    "pattern": r"^([0-9]{1,20}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2}))$",
}
_NUMBER = {"type": "integer", "minimum": 0}
_BAD_QUERY = Answer(400, "A query that is none, or not of here.", reasons=("bad-query",))
_FOR_READERS = Answer(403, "For a reader.", reasons=("not-yours",))
_FOR_AUDITORS = Answer(403, "For an auditor.", reasons=("not-yours",))
_NOT_SEEN = Answer(404, "Not there, or not for this key.", reasons=("not-found",))
_BUSY = Answer(429, "Too many are reading.", reasons=("busy",))
_PART = Answer(
    200,
    "Frames of an export. `Next-Cursor`, where it is there, is for the next part.",
    (Body(BINARY),),
)
_OF_PARTS = (_PART, _BAD_QUERY, _FOR_AUDITORS, _NOT_SEEN, _BUSY, UNREADABLE)


def _ask(name: str, what: str, schema: Schema) -> Parameter:
    return Parameter(name, what, schema, "query", is_required=False)


_OF_HOST = _ask("host", "Of this host alone.", HEX_32)
_OF_CONTAINER = _ask("container", "Of this container alone.", HEX_32)
_TIMES = (
    _ask("from", "Unix nanoseconds, or RFC 3339.", _TIME),
    _ask("to", "As `from`; the last moment that is meant.", _TIME),
)
_CURSOR = _ask("cursor", "As the part before gave it.", STRING)
_FOUND = make_object(
    proven={"const": False},
    receipts=make_array(
        make_partial(
            ("proven", "host", "leaf_index", "index", "range", "receipt"),
            proven={"const": False},
            host=HEX_32,
            leaf_index=U64,
            index=U64,
            range=STRING,
            receipt={"type": "object"},
            values={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        ),
        LIMIT_MAX,
    ),
    damaged={"type": "array", "items": make_object(host=HEX_32, leaf_index=U64, why=STRING)},
    erased_segments=COUNT,
    cursor=make_nullable(STRING),
)
_HOSTS = make_object(
    role={"enum": ["reader", "auditor", "admin"]},
    hosts=make_array(
        make_object(
            host=HEX_32,
            size=U64,
            receipts=U64,
            open_runs=COUNT,
            alerts=COUNT,
            stored_bytes=U64,
            newest_ns=make_nullable(U64),
            revoked_ms=make_nullable(U64),
        ),
        HOSTS_MAX,
    ),
    cursor=make_nullable(HEX_32),
)
_CONTAINERS = make_object(
    containers=make_array(
        make_object(
            host=HEX_32,
            container=HEX_32,
            app=STRING,
            run=COUNT,
            state={"enum": list(STATES)},
            receipts=U64,
            started_ns=U64,
            policy=HEX_32,
            start_leaf=U64,
        ),
        CONTAINERS_MAX,
    ),
    cursor=make_nullable(STRING),
)
_ALERTS = make_object(
    alerts={
        "type": "array",
        "items": make_object(
            kind=STRING,
            host=HEX_32,
            leaf_index={"type": "string", "pattern": "^(-1|0|[1-9][0-9]{0,19})$"},
            time_ms=U64,
            first=make_nullable(U64),
            last=make_nullable(U64),
            why=STRING,
            proof=make_nullable(STRING),
        ),
    },
    cursor=make_nullable(HEX_32),
)

DESCRIPTIONS = {
    "GET /v1/audit/{app}/range": Operation(
        "exportRange",
        "All receipts of an app in a range, contiguous, with every proof.",
        _OF_PARTS,
        (
            Parameter("app", "A container's id, or a name of containers."),
            _OF_HOST,
            _ask("run", "Of this run alone.", _NUMBER),
            _ask("first", "Of a run: from this receipt on.", _NUMBER),
            _ask("last", "Of a run: to this receipt.", _NUMBER),
            *_TIMES,
            _CURSOR,
        ),
        text="`docklock verify` takes all parts, one after the other in one file.",
    ),
    "GET /v1/export": Operation(
        "export",
        "All that is held of a tenant, with every proof.",
        _OF_PARTS,
        (
            _OF_HOST,
            _OF_CONTAINER,
            _ask("app", "Of containers of this name alone.", STRING),
            *_TIMES,
            _CURSOR,
        ),
        text="As a range.",
    ),
    "GET /v1/hosts": Operation(
        "listHosts",
        "A tenant's hosts, how far each is held, and when it wrote the newest of that.",
        (Answer(200, "All, or as many as fit.", (Body(JSON, _HOSTS),)), _BAD_QUERY, _FOR_READERS,
         _BUSY, UNREADABLE),
        (_ask("cursor", "As the part before gave it.", HEX_32),),
    ),
    "GET /v1/containers": Operation(
        "listContainers",
        "Containers of a tenant's hosts, each with what its newest run says.",
        (Answer(200, "All, or as many as fit.", (Body(JSON, _CONTAINERS),)), _BAD_QUERY,
         _FOR_READERS, _BUSY, UNREADABLE),
        (_OF_HOST, _CURSOR),
    ),
    "GET /v1/search": Operation(
        "search",
        "Receipts by what they say. Unproven: each has the address of its range with proofs.",
        (
            Answer(200, "What was found; `cursor` where there is more.", (Body(JSON, _FOUND),)),
            _BAD_QUERY,
            _FOR_READERS,
            _BUSY,
            UNREADABLE,
        ),
        (
            _OF_HOST,
            _OF_CONTAINER,
            _ask("run", "Of a container: from this run on.", _NUMBER),
            _ask("first", "Of a container: from this receipt of the run on.", _NUMBER),
            _ask("syscall", "A system call's name.", STRING),
            _ask("path", "A path, or its start and a star; for auditors.", STRING),
            *_TIMES,
            _CURSOR,
            _ask("limit", "How many at most.",
                 {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}),
        ),
    ),
    "GET /v1/alerts": Operation(
        "listAlerts",
        "What is wrong with a tenant's hosts.",
        (Answer(200, "All, or as many as fit.", (Body(JSON, _ALERTS),)), _BAD_QUERY, _FOR_READERS,
         _BUSY, UNREADABLE),
        (
            _OF_HOST,
            _ask("lag_s", "Silence is an alert after so many seconds.",
                 {"type": "integer", "minimum": 0, "maximum": LAG_S_MAX}),
            _ask("cursor", "As the part before gave it.", HEX_32),
        ),
    ),
    "GET /v1/alerts/{host}/{kind}/{leaf}/proof": Operation(
        "getProof",
        "The file that convicts a host, for `docklock verify`; of `poe` its notary.",
        (
            Answer(200, "It.", (Body(BINARY),)),
            _BAD_QUERY,
            _FOR_AUDITORS,
            Answer(404, "Not there, or not for this key; or it has none.",
                   reasons=("not-found", "no-proof")),
            _BUSY,
            UNREADABLE,
        ),
        (
            Parameter("host", "The host's id.", HEX_32),
            Parameter("kind", "The alert's kind."),
            Parameter("leaf", "Its leaf.", _NUMBER),
        ),
    ),
}  # fmt: skip
