"""Help a server that lost its disk: show what it signed, send bodies again, name places in its log.

Not here: what is kept for it (placed, sent), what the server makes of it
(chainlite.bpci.restoring), when it is tried again (following). Invariant: nothing that a server
says here acknowledges anything: it costs this host what it sends again, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.handover import (
    EVERYTHING,
    NOTES_MAX,
    PLACES_MAX,
    Places,
    Shown,
    encode_places,
    encode_shown,
)
from chainlite.errors import PeerError, StateError
from chainlite.report import escape
from docklock.json_text import parse_json
from docklock.outbox.door import REASON_CHARS_MAX, Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.evidence.offering import MadeOffer
    from docklock.outbox.door import Door
    from docklock.outbox.placed import Placed
    from docklock.outbox.sent import Sent
    from docklock.outbox.settings import Server

SHOW, BODIES, PLACES = "/v1/restore/show", "/v1/restore/bodies", "/v1/restore/places"
AGAIN_S = 2.0
BATCHES_MAX = 4096
"""Of one handover; the next one goes on."""
PAGES_MAX = 64
STEPS = 4
"""Each checkpoint that is handed over is so many times as far from where the server stands."""


class Refill(NamedTuple):
    """What a server says of its restore: how far its log is, and how much it holds of this host."""

    is_on: bool
    size: int
    held: int
    detail: str


async def hand_over(
    door: Door, server: Server, placed: Placed, sent: Sent,
    make: Callable[[int], MadeOffer | None],
) -> None:  # fmt: skip
    """All that this server asks for. It returns where the server is whole; Busy: not yet.

    `make` gives the batch from a leaf on.
    """
    origin = server.origin
    newest = sent.get_largest_checkpoint(origin)
    grant, enrolled = placed.get_enrolment(origin)
    last = sent.get_acknowledgements(origin, 1) or [enrolled]
    shown = Shown(last[0], newest.note if newest else b"", grant)
    refill = read_refill(server, await door.hand_over(SHOW, encode_shown(shown), is_signed=False))
    for _ in range(BATCHES_MAX):
        made = make(refill.held) if refill.is_on else None
        if made is None:
            break
        try:
            answer = await door.hand_over(BODIES, made.data, is_signed=True)
        except PeerError:  # a leaf does not hold: what was acknowledged is before it
            break
        after = read_refill(server, answer)
        if after.is_on and after.held <= refill.held == made.start:
            raise StateError(f"{server.name} took nothing from leaf {made.start} on")
        refill = after
    first = refill.size
    for _ in range(PAGES_MAX):
        if not refill.is_on:
            return
        places = _make_places(origin, placed, sent, first, refill.size)
        answer = await door.hand_over(PLACES, encode_places(places), is_signed=True)
        refill = read_refill(server, answer)
        if places.until == EVERYTHING:
            break
        first = max(places.until, refill.size)
    if refill.is_on:
        raise Busy(f"{server.name}: {refill.detail}", AGAIN_S)


def _make_places(origin: str, placed: Placed, sent: Sent, first: int, size: int) -> Places:
    found = placed.read(origin, first, PLACES_MAX)
    until = found[-1].leaf_index + 1 if len(found) == PLACES_MAX else EVERYTHING
    notes, step = dict[int, bytes](), 1
    while len(notes) < NOTES_MAX - 1:
        one = sent.find_checkpoint_from(origin, size + step)
        if one is None:
            break
        notes[one.size] = one.note
        step = max(step, one.size - size) * STEPS
    newest = sent.get_largest_checkpoint(origin)
    if newest is not None:
        notes[newest.size] = newest.note
    unsure = tuple(placed.get_unsure(origin))
    return Places(tuple(found), unsure, tuple(notes.values()), until)


def read_refill(server: Server, data: bytes) -> Refill:
    """What an answer says; PeerError where it is none."""
    try:
        said = parse_json(data)
        size, held = int(said["size"]), int(said["held"])
        state, detail = str(said["state"]), str(said["detail"])
    except (ValueError, KeyError, TypeError):
        raise PeerError(f"{server.name}: its answer is none of a restore") from None
    if state not in ("restoring", "ready") or size < 0 or held < 0:
        raise PeerError(f"{server.name}: its answer is none of a restore")
    return Refill(state == "restoring", size, held, escape(detail[:REASON_CHARS_MAX]))
