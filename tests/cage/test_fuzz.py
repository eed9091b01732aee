"""Hostile requests: never a 500, never a forgery let through."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from chainlite.cage.prices import Tariff
from tests.cage.callers import Bench, call, make_scope, tell

PIECES = (
    b'"@method"', b'"@path"', b";req", b";key=\"cage\"", b";sf", b"cage=", b"=", b";", b"(", b")",
    b"created=1", b"nonce=\"\"", b"alg=\"none\"", b":", b"::", b"=:AAAA:", b",", b" ", b"\t", b"\0",
    b"\r\n", b"%00", b"%2e%2e", b"/../", b"?", b"#", b"\xff", b"\xc3\xa9", b"9" * 20, b"-0", b"1e9",
    b"A" * 5000, b"sha-256=:", b"sha-512=", b"chunked", b"0x10", b"*", b"docklock-cage",
)  # fmt: skip


def spoil(choose: random.Random, value: bytes) -> bytes:
    place = choose.randrange(len(value) + 1)
    match choose.randrange(5):
        case 0:
            return value[:place] + choose.choice(PIECES) + value[place:]
        case 1:
            return value[:place] + value[place + choose.randrange(1, 9) :]
        case 2 if value:
            place = min(place, len(value) - 1)
            changed = value[place] ^ (1 << choose.randrange(8))
            return value[:place] + bytes([changed]) + value[place + 1 :]
        case 3:
            return choose.choice(PIECES)
        case _:
            return value[place:] + value[:place]


def spoil_scope(choose: random.Random, scope: dict[str, Any], body: bytes) -> bytes:
    """Change one to three places of a good request; its body comes back."""
    headers = scope["headers"]
    for _ in range(choose.randrange(1, 4)):
        number = choose.randrange(len(headers))
        name, value = headers[number]
        match choose.randrange(9):
            case 0 | 1 | 2:
                headers[number] = (name, spoil(choose, value))
            case 3:
                headers[number] = (spoil(choose, name).lower(), value)
            case 4:
                headers.insert(number, choose.choice(headers))
            case 5 if len(headers) > 1:
                del headers[number]
            case 6:
                raw = spoil(choose, scope["raw_path"])
                scope["raw_path"], scope["path"] = raw, raw.decode("latin-1")
            case 7:
                scope["query_string"] = spoil(choose, scope["query_string"])
            case _:
                body = spoil(choose, body)
    return body


@pytest.mark.fuzz
def test_hostile_requests_are_refused_and_nothing_breaks(
    tmp_path: Path, seed: int, full: bool
) -> None:
    reached: list[tuple[Any, ...]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        reached.append((scope["method"], scope["raw_path"], scope["query_string"], event["body"]))
        await tell(scope, lambda: answer(event), send)

    async def answer(event: Any) -> Any:
        return event

    # From one place all but the first hundred would be refused for where they come from.
    places = (f"place {number}" for number in itertools.count())
    bench = Bench(
        tmp_path, tariff=Tariff(capacity_m=10**12), app=app, find_address=lambda _: next(places)
    )
    choose, statuses = random.Random(seed), set()

    async def run() -> None:
        for _ in range(100_000 if full else 10_000):
            prepared = bench.prepare(
                "POST", "/v1/echo?a=1&b=%20", b"the body", fields={"content-type": "text/plain"}
            )
            headers = [(name.encode(), value.encode()) for name, value in prepared.fields.items()]
            headers.append((b"content-length", b"8"))
            scope = make_scope("POST", prepared.target, headers)
            sent = (scope["method"], scope["raw_path"], scope["query_string"], prepared.body)
            body = spoil_scope(choose, scope, prepared.body)
            before = len(reached)
            reply = await call(bench.cage, scope, body)
            statuses.add(reply.status)
            assert reply.status < 500, reply
            if len(reached) > before:  # then nothing was changed that is covered
                assert reached[-1] == sent
                assert reply.status == 200

    asyncio.run(run())
    assert {200, 400, 401, 404, 421} <= statuses
    assert 50 < len(reached) < (40_000 if full else 4_000)
