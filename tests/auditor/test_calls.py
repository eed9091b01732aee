"""An answer is the server's to this call, or none; who is told to wait, waits; over a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chainlite import keys
from chainlite.bpci.actor import make_keyid
from chainlite.cage.middleware import Cage
from chainlite.cage.routes import Access, Route
from chainlite.cage.signature import Known
from chainlite.cage.store import CageStore
from chainlite.errors import SpecError, StateError, TamperError
from docklock.auditor import calls
from docklock.auditor.calls import Said, ServerCalls
from tests.bpci.servers import KEY

uvicorn = pytest.importorskip("uvicorn", reason="the extra `server` is not installed")
MEMBER = keys.make_key_pair(b"\x09" * 32)
KEYID = make_keyid(keys.compute_host_id(MEMBER.public), MEMBER.public)
LIMIT_S = 20


class Answering:
    """An application that answers as it is told, one status after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.asked = list(statuses), list[str]()

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        self.asked.append(f"{scope['path']}?{scope['query_string'].decode()}")
        status = self.statuses.pop(0)
        body = b"body" if status == 200 else b'{"type": "urn:docklock:bpci:x", "detail": "said so"}'
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        if status == 429:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def serve(
    tmp_path: Path, app: Answering, *, is_caged: bool = True, key: Any = KEY
) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listening.getsockname()[1]}"
    store = CageStore(tmp_path / "cage.db", boot_id="boot", now_ms=0)
    cage = Cage(
        app, [Route("GET", "/v1/{rest:path}", Access.CAGED)], key=key.pair, keyid=key.origin,
        find_key=lambda keyid: Known(MEMBER.public, "member") if keyid == KEYID else None,
        authorities={place}, store=store,
    )  # fmt: skip
    config = uvicorn.Config(
        cage if is_caged else app, log_level="critical", lifespan="off", http="h11"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://{place}"
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listening.close()
        store.close()


def get(url: str, target: str, key: keys.KeyPair = MEMBER, **query: str) -> Said:
    async def run() -> Said:
        async with ServerCalls(url, KEY.log_keys, key) as opened:
            return await opened.get(target, query)

    return asyncio.run(run())


def test_a_signed_answer_is_taken_and_who_has_to_wait_waits(tmp_path: Path) -> None:
    app = Answering(429, 200)
    with serve(tmp_path, app) as url:
        said = get(url, "/v1/search", path="/a b&c=d/\u00e4", syscall="x")
        assert said.body == b"body" and said.fields["content-type"] == "text/plain"
    assert app.asked == ["/v1/search?path=%2Fa%20b%26c%3Dd%2F%C3%A4&syscall=x"] * 2


def test_a_refusal_is_said_and_nothing_is_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "WAIT_MAX_S", 0)
    with serve(tmp_path, Answering(403, 400, 503, 429)) as url:
        for error, why in (
            (StateError, "403: said so"), (SpecError, "400: said so"), (StateError, "503"),
            (StateError, "said so"),
        ):  # fmt: skip
            with pytest.raises(error, match=why):
                get(url, "/v1/x")
        with pytest.raises(StateError, match="401"):
            get(url, "/v1/x", keys.make_key_pair(b"\x08" * 32))  # nobody there
    with pytest.raises(StateError):
        get(url, "/v1/x")  # and now nobody listens
    with pytest.raises(SpecError, match="want http"):
        get("ftp://x", "/v1/x")


def test_an_answer_that_the_server_has_not_signed_is_none(tmp_path: Path) -> None:
    from chainlite.bpci.at_rest import ServerKey

    with serve(tmp_path, Answering(200), is_caged=False) as url, pytest.raises(TamperError):
        get(url, "/v1/x")
    other = ServerKey(b"\x44" * 32)
    with serve(tmp_path, Answering(200), key=other) as url, pytest.raises(TamperError):
        get(url, "/v1/x")
