"""Hooks of schemathesis: sign calls as a host, send batches too, ask for what is there.

schemathesis loads this module (SCHEMATHESIS_HOOKS). DOCKLOCK_FUZZ names the file that `write_known`
wrote, DOCKLOCK_FUZZ_SEEN the one that gets a line for each call: method, pattern, status.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import requests
import schemathesis
from hypothesis import strategies

from chainlite import keys
from chainlite.cage.client import Caller
from chainlite.errors import SpecError

KNOWN, SEEN = "DOCKLOCK_FUZZ", "DOCKLOCK_FUZZ_SEEN"
COVERED = ("content-type", "content-encoding")
REAL_ONE_IN = 3
"""So many of the paths are of something that is there, and of the bodies as they should be."""
NONCES = (f"nonce-of-fuzz-{os.getpid()}-{number:08}" for number in itertools.count())


class Known(NamedTuple):
    """Who calls (nobody where there is no seed), what to send where, what is there to ask for."""

    name: str
    seed: str
    keyid: str
    server: str
    bodies: dict[str, list[str]]
    parameters: dict[str, list[str]]
    needed: list[str]
    """Names that no order may be about."""


def write_known(path: Path, known: Known) -> None:
    path.write_text(json.dumps(known))


def read_known() -> Known:
    return Known(*json.loads(Path(os.environ[KNOWN]).read_text()))


class Signed(requests.auth.AuthBase):
    """The request as it goes out, signed."""

    def __init__(self, known: Known) -> None:
        key = keys.make_key_pair(bytes.fromhex(known.seed))
        self.caller = Caller(key, known.keyid, bytes.fromhex(known.server), "")
        self.name = known.name

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body, parts = request.body or b"", urlsplit(str(request.url))
        fields = {name: _read(request.headers[name]) for name in COVERED if name in request.headers}
        url = f"http://{self.name}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        try:
            prepared = self.caller.prepare(
                str(request.method), url, body.encode() if isinstance(body, str) else bytes(body),
                fields, created_s=int(time.time()), nonce=next(NONCES),
            )  # fmt: skip
        except SpecError:
            return request  # it cannot be signed as it is
        request.headers.update(prepared.fields)
        return request


def _read(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def spoil(body: bytes, places: list[tuple[int, int]]) -> bytes:
    """With some of its bytes changed."""
    changed = bytearray(body)
    for place, value in places:
        changed[place % len(changed)] ^= value
    return bytes(changed)


def install(known: Known) -> None:
    """All hooks."""
    if known.seed:
        schemathesis.auth.set_from_requests(Signed(known))
    bodies_of = {path: list(map(bytes.fromhex, each)) for path, each in known.bodies.items()}
    sent: Counter[str] = Counter()
    places = strategies.tuples(strategies.integers(0, 1 << 20), strategies.integers(1, 255))
    bodies = strategies.one_of(
        strategies.binary(max_size=300),
        strategies.builds(
            spoil,
            strategies.sampled_from([one for each in bodies_of.values() for one in each]),
            strategies.lists(places, max_size=3),
        ),
    )
    schemathesis.openapi.media_type("application/octet-stream", cast(Any, bodies))

    @schemathesis.hook
    def map_path_parameters(
        _: schemathesis.HookContext, path_parameters: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        number = zlib.crc32(repr(path_parameters).encode(errors="replace"))
        if not path_parameters or number % REAL_ONE_IN:
            return path_parameters
        real = {
            name: known.parameters[name][number // REAL_ONE_IN % len(known.parameters[name])]
            for name in path_parameters
            if known.parameters.get(name)
        }
        return path_parameters | real

    @schemathesis.hook
    def before_call(_: schemathesis.HookContext, case: Any, __: dict[str, Any]) -> None:
        """Send what is good there, now and then; revoke nobody who is needed: schemathesis takes
        names from what is answered."""
        real = bodies_of.get(case.operation.path)
        if real and isinstance(case.body, bytes):
            number = sent[case.operation.path]
            sent[case.operation.path] += 1
            if number % REAL_ONE_IN == 0:
                case.body = real[number // REAL_ONE_IN % len(real)]
        if isinstance(case.body, dict) and case.body.get("name") in known.needed:
            case.body = case.body | {"name": "0" * 64}

    @schemathesis.hook
    def after_call(_: schemathesis.HookContext, case: Any, response: Any) -> None:
        with open(os.environ[SEEN], "a", encoding="utf-8") as seen:
            print(case.method, case.operation.path, response.status_code, file=seen)


if KNOWN in os.environ:
    install(read_known())
