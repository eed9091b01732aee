"""The node's door: what it answers, what it refuses, what hostile clients can take from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError, StateError, TamperError
from docklock.agent.server import bind
from docklock.chain.client import NotRunning, ask_node
from docklock.chain.control import BODY_BYTES_MAX, CLIENTS_MAX, Control
from docklock.chain.directory import ChainDirectory


async def echo(rest: str, body: bytes) -> Any:
    return {"rest": rest, "size": len(body)}


async def fail(rest: str, body: bytes) -> Any:
    raise {"spec": SpecError, "state": StateError, "tamper": TamperError}[rest](f"{rest}: so")


def serve(directory: Path, act: Callable[[ChainDirectory], Awaitable[None]]) -> None:
    where = ChainDirectory(str(directory))

    async def run() -> None:
        control = Control({("GET", "echo"): echo, ("POST", "echo"): echo, ("GET", "fail"): fail})
        await control.open(bind(where.socket))
        await act(where)
        await control.close()
        await asyncio.sleep(0)  # what was dropped is closed in the next turn

    asyncio.run(run())


def test_answers_come_with_path_and_body(tmp_path: Path) -> None:
    async def act(where: ChainDirectory) -> None:
        assert await ask_node(where, "GET", "/echo/a/b") == {"rest": "a/b", "size": 0}
        largest = bytes(BODY_BYTES_MAX)
        told = await ask_node(where, "POST", "/echo", largest)
        assert told == {"rest": "", "size": BODY_BYTES_MAX}
        with pytest.raises(SpecError, match="at most"):
            await ask_node(where, "POST", "/echo", largest + b"x")
        with pytest.raises(StateError, match="page not found"):
            await ask_node(where, "GET", "/other")

    serve(tmp_path, act)


def test_an_error_comes_as_it_was_raised(tmp_path: Path) -> None:
    async def act(where: ChainDirectory) -> None:
        for kind, error in (("spec", SpecError), ("state", StateError), ("tamper", TamperError)):
            with pytest.raises(error, match=f"^{kind}: so$") as caught:
                await ask_node(where, "GET", f"/fail/{kind}")
            assert type(caught.value) is error

    serve(tmp_path, act)


def test_garbage_and_silence_keep_nobody_else_waiting(tmp_path: Path) -> None:
    async def act(where: ChainDirectory) -> None:
        for data in (b"\r\n\r\n", b"GET\r\n\r\n", b"\0" * 9000, b"GET / HTTP/1.1\r\nA\r\n\r\n"):
            reader, writer = await asyncio.open_unix_connection(where.socket)
            writer.write(data)
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        silent = []
        for _ in range(CLIENTS_MAX - 1):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].connect(where.socket)
        assert (await ask_node(where, "GET", "/echo"))["size"] == 0
        for one in silent:
            one.close()

    serve(tmp_path, act)


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    async def act(where: ChainDirectory) -> None:
        assert Path(where.socket).stat().st_mode & 0o777 == 0o600

    serve(tmp_path, act)


def test_nobody_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    where = ChainDirectory(str(tmp_path))
    with pytest.raises(NotRunning, match="docklock chain start --dir"):
        asyncio.run(ask_node(where, "GET", "/status"))
