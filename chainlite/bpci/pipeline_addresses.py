"""The descriptions of the addresses of LogBlocks, PoE bundles and the chain's blocks. Pure.

Invariant: handing.ROUTES, blocks.ROUTES and these have the same addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.bpci.describing import (
    BASE64,
    BINARY,
    COUNT,
    HEX_32,
    JSON,
    STRING,
    U64,
    UNWRITABLE,
    Answer,
    Body,
    Operation,
    Parameter,
    make_array,
    make_object,
)
from chainlite.receipt import APP_LIMIT

if TYPE_CHECKING:
    from chainlite.bpci.describing import Schema

SIGNERS_MAX = 1024
_CHAIN = {
    "host": HEX_32,
    "notary": STRING,
    "app": {"type": "string", "maxLength": APP_LIMIT},
    "height": U64,
}
_CHAIN_OF_BLOCKS = make_object(**_CHAIN, hash={"type": "string", "pattern": "^([0-9a-f]{64})?$"})
_CHAIN_OF_BUNDLES = make_object(**_CHAIN, window={"type": "string", "pattern": "^([0-9]{1,20})?$"})
_BLOCK = make_object(
    chain=HEX_32,
    height=U64,
    hash=HEX_32,
    time_ms=U64,
    transactions=COUNT,
    signers=make_array(HEX_32, SIGNERS_MAX),
    block=BASE64,
    seals=BASE64,
)


def _take_signed(name: str, what: str, answer: Schema, not_yet: str, text: str) -> Operation:
    """What a notary signed, in; how far its chain is held, out."""
    return Operation(
        name,
        f"Take {what} of a host's notary; with none, say how far their chain is held.",
        (
            Answer(200, "How far the chain is held.", (Body(JSON, answer),)),
            Answer(400, "They do not read, or are not signed.", reasons=("refused",)),
            Answer(401, "The key is not the host's newest.", reasons=("unknown-key",)),
            Answer(403, "Not a host's key.", reasons=("not-yours",)),
            Answer(409, not_yet, reasons=("not-yet",)),
            Answer(422, "Their notary signed what cannot be true: an alert.", reasons=("refused",)),
            Answer(429, "Too many wait.", reasons=("busy",)),
            Answer(507, "A quota of its tenant is used up.", reasons=("quota",)),
            UNWRITABLE,
        ),
        request=(Body(BINARY),),
        text=f"The notary's public key 32, app (text), a u32 count, then each {text}.",
    )


DESCRIPTIONS = {
    "POST /v1/logblocks": _take_signed(
        "sendLogBlocks", "LogBlocks", _CHAIN_OF_BLOCKS,
        "They do not begin where their chain is held, or their leaves are not here.",
        "block: bytes, signature 64, its body (bytes)",
    ),
    "POST /v1/poe/submit": _take_signed(
        "sendPoeBundles", "PoE bundles", _CHAIN_OF_BUNDLES,
        "They do not begin where the one before ended, or their LogBlocks are not here.",
        "bundle: bytes, signature 64, nothing (bytes)",
    ),
    "GET /v1/blocks/{height}": Operation(
        "showBlock",
        "A final block of the chain that the server reads, and its seals.",
        (
            Answer(200, "Whoever has the genesis can check it again.", (Body(JSON, _BLOCK),)),
            Answer(400, "It is no height.", reasons=("no-height",)),
            Answer(404, "Not final yet, or no chain is read.", reasons=("not-final", "no-chain")),
            Answer(503, "No node answers, or trust is stale.", reasons=("no-node",)),
        ),
        (
            Parameter(
                "height", "Its height.",
                {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
            ),
        ),
    ),
}  # fmt: skip
