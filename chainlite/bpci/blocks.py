"""`GET /v1/blocks/{height}`: a final block of the chain that the server reads, and its seals.

The server asks the chain's nodes and checks what it shows; whoever has the genesis can check it
again. 404: there is none of this height yet, or the server reads no chain. 503: no node answers, or
what the server trusts of the chain is stale.
Not here: what is believed (chainlite.proofs.light_client). Invariant: nothing is shown that was not
checked.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Address

from chainlite.bpci import ingest
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError, StateError
from chainlite.ledger.header import encode_seals
from chainlite.proofs.light_client import NotFinal

if TYPE_CHECKING:
    from starlette.requests import Request

    from chainlite.proofs.light_client import FinalBlock, LightClient

PATH = "/v1/blocks/{height}"
HEIGHT_DIGITS_MAX = 18
ROUTES = (Route("GET", PATH, Access.PUBLIC),)
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


class Blocks:
    """The address; `chain` is None where the server reads none."""

    def __init__(self, chain: LightClient | None) -> None:
        self._chain = chain
        self.addresses = [Address(PATH, self._show)]

    async def _show(self, request: Request) -> Response:
        word = request.path_params["height"]
        if self._chain is None:
            raise Refusal(404, "no-chain", "this server reads no chain")
        if not word.isascii() or not word.isdigit() or len(word) > HEIGHT_DIGITS_MAX:
            raise Refusal(400, "no-height", "want a height, as /v1/blocks/17")
        try:
            found = await self._chain.get_block(int(word))
        except NotFinal as error:
            raise Refusal(404, "not-final", str(error)) from None
        except (StateError, SpecError) as error:
            raise Refusal(503, "no-node", str(error), retry_after_s=ingest.BROKEN_AFTER_S) from None
        return JSONResponse(describe_final(self._chain.chain_id, found), headers=FOREVER)


def describe_final(chain_id: bytes, found: FinalBlock) -> dict[str, Any]:
    """A final block as JSON: what it is, and the bytes that show it."""
    header = found.block.header
    return {
        "chain": chain_id.hex(),
        "height": str(header.height),
        "hash": found.block.hash.hex(),
        "time_ms": str(header.timestamp_ms),
        "transactions": len(found.block.transactions),
        "signers": [key.hex() for key in found.signers],
        "block": base64.b64encode(found.block.encoded).decode(),
        "seals": base64.b64encode(encode_seals(found.seals)).decode(),
    }
