"""Fetch a range or an export from a server, part by part, into one file that proves itself.

Each part is verified as it comes, and is of what was asked for: a server cannot answer another
question. Not here: calls (calls), the checks (chainlite.exported).
Invariant: no part is kept that was not verified.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError, TamperError
from chainlite.export_frames import Scope, encode_position
from chainlite.exported import Part, read_parts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from docklock.auditor.calls import ServerCalls

PARTS_MAX = 1 << 20


async def fetch_export(
    calls: ServerCalls, path: str, query: Mapping[str, str], wanted: Scope, file: BinaryIO
) -> int:
    """Write all parts of what `path` and `query` ask for; how many.

    `wanted` is what each has to say that it is of, its tenant left open. TamperError: it does not
    hold, or is of something else.
    """
    before: Part | None = None
    count = 0
    while count < PARTS_MAX:
        asked = dict(query)
        if before is not None:
            asked["cursor"] = encode_position(before.after).hex()
        said = await calls.get(path, asked)
        before = check_part(said.body, before, wanted)
        file.write(said.body)
        count += 1
        if before.after is None:
            return count
    raise StateError(f"more than {PARTS_MAX} parts")


def check_part(data: bytes, before: Part | None, wanted: Scope) -> Part:
    """The part of these bytes, which goes on after `before`; TamperError if it does not hold."""
    try:
        parts, why = read_parts(io.BytesIO(data).read, before)
    except SpecError as error:
        raise TamperError(f"the server's answer: {error}") from None
    if why:
        raise TamperError(f"the server's answer: {why}")
    if len(parts) != 1:
        raise TamperError("the server's answer: more than one part")
    scope = parts[0].scope
    if scope._replace(tenant=wanted.tenant, start=None) != wanted:
        raise TamperError("the server's answer is of something else than was asked for")
    return parts[0]
