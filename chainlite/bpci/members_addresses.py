"""The descriptions of the addresses of members. Pure.

Invariant: members.ROUTES and these have the same addresses.
"""

from __future__ import annotations

from chainlite.bpci.describing import (
    BINARY,
    COUNT,
    HEX_32,
    JSON,
    STRING,
    U64,
    UNREADABLE,
    UNWRITABLE,
    Answer,
    Body,
    Operation,
    Parameter,
    make_array,
    make_nullable,
    make_object,
    make_partial,
)
from chainlite.bpci.orders import DAYS_MAX
from chainlite.bpci.quota import NAMES
from chainlite.bpci.rows import INTEGER_MAX

_MEMBER = make_object(
    name=HEX_32,
    role={"enum": ["reader", "auditor", "admin"]},
    tenant=STRING,
    key=HEX_32,
    keys=COUNT,
    since_ms=U64,
    by={"type": "string", "pattern": "^([0-9a-f]{64})?$"},
    revoked_ms=make_nullable(U64),
)
_HOST = make_object(
    name=HEX_32,
    role={"const": "host"},
    tenant=STRING,
    size=U64,
    receipts=U64,
    stored_bytes=U64,
    alerts=COUNT,
    revoked_ms=make_nullable(U64),
)
_LIMIT = make_nullable({"type": "integer", "minimum": 0, "maximum": INTEGER_MAX})
_QUOTA = make_object(
    tenant=STRING,
    **{
        name: make_object(limit=_LIMIT, used=COUNT, by_operator=_LIMIT, by_admin=_LIMIT)
        for name in NAMES
    },
    alerts=make_array(
        make_object(kind={"const": "quota"}, quota={"enum": list(NAMES)}, host=STRING, time_ms=U64),
        len(NAMES),
    ),
)
_RETENTION = make_object(
    tenant=STRING,
    days=make_nullable(COUNT),
    erased=make_nullable(
        make_object(
            time_ms=U64, days=COUNT, before_ms=U64, is_done={"type": "boolean"}, segments=COUNT,
            alerts=COUNT,
        )
    ),
)  # fmt: skip
_DAYS = make_nullable({"type": "integer", "minimum": 0, "maximum": DAYS_MAX})
_NEW_QUOTA = make_partial((), **dict.fromkeys(NAMES, _LIMIT))
_KEY = "auditor+8442e70b+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
_NEW_GRANT = make_partial(
    ("role", "key"),
    role={"enum": ["host", "reader", "auditor", "admin"]},
    key={"type": "string", "examples": [_KEY]},
    hours={"type": "integer", "minimum": 1, "maximum": 24 * 365},
)
_NOT_READ = Answer(400, "The body does not read.", reasons=("malformed-order",))
_FOR_ADMINS = Answer(403, "For an admin.", reasons=("not-yours",))
_SEEN_BY_ADMINS = (_FOR_ADMINS, UNREADABLE)
_DONE_FOR_ADMINS = (_NOT_READ, _FOR_ADMINS, UNWRITABLE)

DESCRIPTIONS = {
    "POST /v1/enrol": Operation(
        "enrol",
        "Enrol the one host or member that the server's grant names.",
        (
            Answer(
                200, "Enrolled, now or before: a host's acknowledgement, or the member.",
                (Body(BINARY), Body(JSON, _MEMBER)),
            ),
            Answer(400, "It is no grant.", reasons=("no-grant",)),
            Answer(
                403, "Another server's, its time is over, its key was revoked, or all places are "
                "taken.", reasons=("no-grant", "revoked", "quota"),
            ),
            Answer(409, "The key is somebody else's here.", reasons=("not-enrolled",)),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
        text="The body is what `docklock bpci grant` wrote, or an admin was given.",
    ),
    "GET /v1/members": Operation(
        "listMembers",
        "A tenant's members and hosts.",
        (
            Answer(
                200, "Those of the admin's tenant; `next` is null where that is all.",
                (
                    Body(
                        JSON,
                        make_object(
                            members=make_array(_MEMBER, 10_000), hosts=make_array(_HOST, 1000),
                            next=make_nullable(HEX_32),
                        ),
                    ),
                ),
            ),
            _NOT_READ,
            *_SEEN_BY_ADMINS,
        ),
        (Parameter("after", "The `next` of the part before.", HEX_32, "query", False),),
    ),
    "POST /v1/members/grants": Operation(
        "grant",
        "The server's word that a key may enrol for the admin's tenant.",
        (
            Answer(200, "A grant, for POST /v1/enrol.", (Body(BINARY),)),
            *_DONE_FOR_ADMINS,
        ),
        request=(Body(JSON, _NEW_GRANT),),
        text="`key` is the first public key, NAME+ID+BASE64.",
    ),
    "POST /v1/members/revocations": Operation(
        "revoke",
        "Let a member or a host in no more.",
        (
            Answer(200, "Who it was.", (Body(JSON, {"oneOf": [_MEMBER, _HOST]}),)),
            Answer(404, "There is none of that name.", reasons=("not-found",)),
            *_DONE_FOR_ADMINS,
        ),
        request=(Body(JSON, make_object(name=HEX_32)),),
    ),
    "POST /v1/members/key": Operation(
        "changeKey",
        "A member's own next key.",
        (
            Answer(200, "The member with it.", (Body(JSON, _MEMBER),)),
            Answer(400, "It is no record of a next key.", reasons=("no-key",)),
            Answer(403, "For members.", reasons=("not-yours",)),
            Answer(409, "It does not follow from the member's key.", reasons=("no-key",)),
            Answer(422, "Not signed by both keys, or another member's.", reasons=("no-key",)),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
    ),
    "GET /v1/quota": Operation(
        "showQuota",
        "What the admin's tenant may have, and has.",
        (Answer(200, "The smaller limit counts.", (Body(JSON, _QUOTA),)), *_SEEN_BY_ADMINS),
    ),
    "PUT /v1/quota": Operation(
        "setQuota",
        "Set the admin's own limits; what is not named stays.",
        (Answer(200, "As it is now.", (Body(JSON, _QUOTA),)), *_DONE_FOR_ADMINS),
        request=(Body(JSON, _NEW_QUOTA),),
    ),
    "GET /v1/retention": Operation(
        "showRetention",
        "For how many days bodies are kept, and what was erased the last time.",
        (Answer(200, "Null days: for ever.", (Body(JSON, _RETENTION),)), *_SEEN_BY_ADMINS),
    ),
    "PUT /v1/retention": Operation(
        "setRetention",
        "Set for how many days bodies are kept.",
        (Answer(200, "As it is now.", (Body(JSON, _RETENTION),)), *_DONE_FOR_ADMINS),
        request=(Body(JSON, make_object(days=_DAYS)),),
        text="14 or more: so long hosts keep what was acknowledged.",
    ),
}  # fmt: skip
