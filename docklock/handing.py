"""Hand this host's LogBlocks and PoE bundles to a server: from where each chain is held there.

Not here: the notary (docklock.notary), what the server checks (chainlite.bpci: handed, billed),
receipts, which it has to have first (docklock.outbox). Invariant: nothing counts that the server's
key has not signed for this very call; a refusal that it has not signed is only one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from chainlite import keys
from chainlite.bpci.handed import BLOCKS_MAX, HANDED_LIMIT_BYTES, Handed, HandedBlock, encode_handed
from chainlite.errors import PeerError, StateError, TamperError
from chainlite.report import escape
from docklock.evidence import keyring
from docklock.json_text import parse_json
from docklock.notary import get_directory
from docklock.outbox.door import make_tls, read_reason, read_token
from docklock.outbox.signing import HostCalls
from docklock.witness.client import Client
from docklock.witness.client import PeerError as AwayError
from enc.notary.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.outbox.settings import Server
    from docklock.paths import Paths

BLOCKS, BUNDLES = "/v1/logblocks", "/v1/poe/submit"
SEND_MAX_S = 60.0
ANSWER_BYTES_MAX = 16_384
OK, NOT_HOLDING = 200, 422
ROUND_BYTES = HANDED_LIMIT_BYTES // 2
"""A call is filled to this: one LogBlock has at most 160 KB."""


class HandedChain(NamedTuple):
    """An app's chain: how many LogBlocks, and bundles, the server holds now, and how many of them
    are new."""

    app: str
    height: int
    new: int
    bundles: int
    new_bundles: int


async def hand_in(paths: Paths, server: Server) -> list[HandedChain]:
    """Every chain of this host's notary over this host, as far as it goes.

    StateError: the server is away, refuses, or takes it later (its receipts first). TamperError: it
    says that this notary has signed what cannot be true, or holds more than there is.
    """
    host = keys.compute_host_id(keyring.get_public_key(paths))
    door = _Door(paths, server)
    try:
        with Store(get_directory(paths), None) as store:
            chains = [(number, app) for number, whose, app in store.get_chain_names()
                      if whose == host]  # fmt: skip
            return [await _hand_in_chain(door, store, number, app) for number, app in chains]
    finally:
        door.close()


async def _hand_in_chain(door: _Door, store: Store, number: int, app: str) -> HandedChain:
    public = store.get_public()
    first = height = int((await door.post(BLOCKS, Handed(public, app, ())))["height"])
    rows = islice(store.iterate_blocks(number), first, None)
    blocks = (HandedBlock(row.block, row.signature, body) for row, body in rows)
    for part in _split(blocks):
        height = int((await door.post(BLOCKS, Handed(public, app, part)))["height"])
    if height > store.count(number)[0]:
        raise TamperError(
            f"{app}: the server holds {height} LogBlocks, and there are {store.count(number)[0]}: "
            "notary.db was restored, or another has the notary's key"
        )
    return HandedChain(app, height, height - first, *await _hand_in_bundles(door, store, app))


async def _hand_in_bundles(door: _Door, store: Store, app: str) -> tuple[int, int]:
    """How many of an app's bundles the server holds now, and how many of them are new.

    The newest that it holds is handed in again: another one of that window is found out there.
    """
    public = store.get_public()
    rows = [row for row in store.get_windows(app) if row.bundle]
    window = (await door.post(BUNDLES, Handed(public, app, ())))["window"]
    held = [row for row in rows if window and row.start <= int(window)]
    more = rows[max(0, len(held) - 1) :]
    for part in _split(HandedBlock(row.bundle, row.signature, b"") for row in more):
        await door.post(BUNDLES, Handed(public, app, part))
    return len(rows), len(rows) - len(held)


def _split(blocks: Iterator[HandedBlock]) -> Iterator[tuple[HandedBlock, ...]]:
    """As many as one call takes."""
    part, size = list[HandedBlock](), 0
    for one in blocks:
        added = sum(map(len, one))
        if part and (len(part) >= BLOCKS_MAX or size + added > ROUND_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(one)
        size += added
    if part:
        yield tuple(part)


class _Door:
    """The way to one server's addresses for what a notary signed."""

    def __init__(self, paths: Paths, server: Server) -> None:
        self._server, self._calls = server, HostCalls(paths)
        self._client = Client(server.url, make_tls(server), SEND_MAX_S)

    def close(self) -> None:
        self._client.close()
        self._calls.close()

    async def post(self, path: str, handed: Handed) -> dict[str, str]:
        """How far the server holds the chain then."""
        body, name = encode_handed(handed), self._server.name
        fields = {"content-type": "application/octet-stream"}
        if self._server.token_file:
            fields["authorization"] = f"Bearer {read_token(self._server.token_file)}"
        call = self._calls.post(self._server, self._server.url + path, fields, body)
        try:
            got = await self._client.post(path, body, ANSWER_BYTES_MAX, call.fields)
        except AwayError as error:
            raise StateError(f"{name}: {error}") from None
        said = escape(read_reason(got.body))
        try:
            answer = call.check(got)
        except PeerError as error:
            raise StateError(f"{name}: status {got.status}: {said or error}") from None
        self._calls.keep(self._server, call, answer)
        if got.status == NOT_HOLDING:
            raise TamperError(f"{name}: {handed.app}: {said}")
        if got.status != OK:
            raise StateError(f"{name}: status {got.status}: {said}")
        told: dict[str, str] = parse_json(answer.body)
        return told
