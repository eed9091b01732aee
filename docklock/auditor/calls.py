"""Ask a server as a member of it: each call is signed, and each answer is the server's to it.

Not here: what is asked (reading, the command), HTTP (docklock.witness.client), what is signed
(chainlite.cage). Invariants: of an answer nothing is believed that the server has not signed for
this very call; an unsigned one says no more than that there is no answer.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from chainlite.bpci.actor import make_keyid
from chainlite.cage.client import Caller, read_refusal
from chainlite.errors import PeerError, SpecError, StateError, TamperError
from chainlite.keys import compute_host_id
from chainlite.quorum_file import is_url
from chainlite.report import escape
from docklock.outbox.door import ENROL_PATH, make_tls, read_reason
from docklock.outbox.settings import Server
from docklock.witness.client import Client
from docklock.witness.client import PeerError as AwayError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from chainlite.keys import Signer
    from chainlite.note import VerifierKey
    from docklock.witness.client import Got

ASK_MAX_S = 120.0
NONCE_BYTES = 24
ANSWER_BYTES_MAX = 64 << 20
MESSAGE_BYTES_MAX = 65_536
WAIT_MAX_S = 600
"""How long the server may ask to wait before one answer."""
OK, BAD_REQUEST, TOO_MANY = 200, 400, 429


class Said(NamedTuple):
    """What the server has signed: its fields by name, and the body."""

    fields: Mapping[str, str]
    body: bytes


class NoAnswer(StateError):
    """The server is away, or too busy: what it would say is not known, and may be asked again."""


class Wait(NamedTuple):
    """Come again in so many seconds, and why."""

    seconds: int
    why: str


class ServerCalls:
    """Calls to one server; one at a time."""

    def __init__(
        self, url: str, log_keys: tuple[VerifierKey, ...], key: Signer | None, ca_file: str = "",
        enrolled: bytes = b"", ask_max_s: float = ASK_MAX_S, wait_max_s: int | None = None,
    ) -> None:  # fmt: skip
        """`log_keys`: the server's, the Ed25519 one first. Without a key nothing is signed.

        `enrolled`: the member's first public key, where the key is a later one. An answer may take
        `ask_max_s`, and the server may ask to wait `wait_max_s` (WAIT_MAX_S), else NoAnswer.
        """
        self.url = url.rstrip("/")
        if not is_url(self.url):
            raise SpecError(f"{url}: want http://HOST:PORT or https://HOST")
        server = Server(self.url, self.url, log_keys, "", ca_file)
        self._caller = None
        if key is not None:
            keyid = make_keyid(compute_host_id(enrolled or key.public), key.public)
            self._caller = Caller(key, keyid, log_keys[0].public, log_keys[0].name)
        self._client = Client(self.url, make_tls(server), ask_max_s)
        self._wait_max_s = wait_max_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; in the thread of the event loop."""
        self._client.close()

    async def get(self, path: str, query: Mapping[str, str]) -> Said:
        """What the server answers with status 200; where it asks to wait, that is done.

        StateError: it is away, or refuses, and why. SpecError: it cannot be asked so. TamperError:
        an answer that it has not signed for this call.
        """
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        return await self._ask_until("GET", target, b"", {})

    async def send(self, method: str, path: str, body: bytes, media: str) -> Said:
        """As `get`, by POST or PUT, with a body of a media type."""
        return await self._ask_until(method, path, body, {"content-type": media})

    async def _ask_until(
        self, method: str, target: str, body: bytes, fields: Mapping[str, str]
    ) -> Said:
        waited_s = 0
        while True:
            said = await self._ask(method, target, body, fields)
            if not isinstance(said, Wait):
                return said
            waited_s += said.seconds
            if waited_s > (WAIT_MAX_S if self._wait_max_s is None else self._wait_max_s):
                raise NoAnswer(f"{self.url}: {said.why}")
            await asyncio.sleep(said.seconds)

    async def _ask(
        self, method: str, target: str, body: bytes, sent: Mapping[str, str]
    ) -> Said | Wait:
        assert self._caller is not None, "opened with a key"
        prepared = self._caller.prepare(
            method, self.url + target, body, sent, created_s=int(time.time()),
            nonce=os.urandom(NONCE_BYTES).hex(),
        )  # fmt: skip
        try:
            if method == "GET":
                got = await self._client.get(target, ANSWER_BYTES_MAX, prepared.fields)
            else:
                ask = self._client.put if method == "PUT" else self._client.post
                got = await ask(target, body, ANSWER_BYTES_MAX, prepared.fields)
        except AwayError as error:
            raise NoAnswer(str(error)) from None
        fields = [(name.decode("latin-1"), value.decode("latin-1"))
                  for name, value in got.headers.items()]  # fmt: skip
        refusal = read_refusal(got.status, fields, got.body)
        if got.status == TOO_MANY and refusal.retry_after_s:
            return Wait(refusal.retry_after_s, escape(str(refusal)))
        try:
            answer = self._caller.check(prepared, got.status, fields, got.body)
        except PeerError as error:
            if got.status != OK:
                raise StateError(f"{self.url}: {got.status}: {escape(str(refusal))}") from None
            raise TamperError(f"{self.url}: its answer: {error}") from None
        if answer.status != OK:
            raise self._refuse(got)
        return Said(answer.fields, answer.body)

    async def enrol(self, grant: bytes) -> None:
        """Bring the server's own grant."""
        try:
            got = await self._client.post(ENROL_PATH, grant, MESSAGE_BYTES_MAX)
        except AwayError as error:
            raise StateError(str(error)) from None
        if got.status != OK:
            raise self._refuse(got)

    def _refuse(self, got: Got) -> SpecError | StateError:
        why = f"{self.url}: {got.status}: {escape(read_reason(got.body))}"
        return SpecError(why) if got.status == BAD_REQUEST else StateError(why)
