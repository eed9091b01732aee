"""Hosts of a test's own with real recorders, and what they offer; offers changed on the way.

Not here: nodes (tests/consensus).
"""

from __future__ import annotations

from pathlib import Path

from chainlite.ledger.bodies import HostBodies, verify_offer
from chainlite.ledger.offer import Offer, decode_offer
from docklock.evidence import rotation
from docklock.evidence.host_log import HostLog
from docklock.evidence.offering import MadeOffer, make_offer
from docklock.paths import Paths
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record


def offer_range(paths: Paths, start: int = 0, end: int | None = None) -> MadeOffer:
    with HostLog(paths, None) as log:
        made = make_offer(paths, log, start, end)
    assert made is not None
    return made


def decode(made: MadeOffer) -> Offer:
    return decode_offer(made.data)


def get_size(paths: Paths) -> int:
    with HostLog(paths, None) as log:
        return log.get_size()


def make_host(tmp_path: Path) -> Paths:
    """Two containers, one of them run twice, several segments each, a rotation between."""
    paths = make_paths(tmp_path)
    recorder = begin(paths, make_id(1))
    for number in range(4):
        append_durably(recorder, number)
    record(paths, make_id(2), count=7, sign_each=True)
    recorder.close(0)
    rotation.rotate_host_key(paths)
    record(paths, make_id(1), run=1, count=5)
    return paths


def take(known: HostBodies, made: MadeOffer) -> int:
    """Verify and apply; the receipts."""
    taken = verify_offer(known, decode(made))
    known.apply(taken)
    return taken.receipts
