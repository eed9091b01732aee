"""`docklock verify --against PEER`: does this host's log continue what a peer holds of it?

Not here: the comparison itself (submit.py). A fork is kept as proof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, witness
from chainlite.errors import SpecError
from chainlite.quorum_file import is_url
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key
from docklock.witness.ask import OwnLog
from docklock.witness.client import Client, PeerError
from docklock.witness.submit import find_problem
from docklock.witness.witness import parse_notes

if TYPE_CHECKING:
    from chainlite.quorum import Quorum
    from docklock.paths import Paths


class Compared(NamedTuple):
    """The newest size that the peer holds of this host's log, and what does not go with it."""

    size: int
    problem: str


def find_url(peer: str, policy: Quorum | None) -> str:
    """Where a peer is asked: itself, or the url of the witness of this name. SpecError."""
    if is_url(peer):
        return peer.rstrip("/")
    urls = [one.url for one in (policy.members if policy else ()) if one.name == peer and one.url]
    if not urls:
        raise SpecError(f"--against {peer}: neither http://HOST:PORT nor a witness of the policy")
    return urls[0]


async def compare_with(paths: Paths, url: str, who: str) -> Compared:
    """Hold the log against what the peer at `url` holds. PeerError where it holds nothing."""
    with HostLog(paths, None) as log:
        own = OwnLog(log, get_public_key(paths))
        path = f"/checkpoints/{witness.compute_origin_hash(own.state.origin)}"
        async with Client(url) as client:
            got = await client.get(path)
        if got.status != witness.OK:
            raise PeerError(f"{who}: knows nothing of this log (status {got.status})")
        try:
            notes = parse_notes(got.body)
            known = [note for note in notes if own.is_signed(note)]
        except SpecError as error:
            raise PeerError(f"{who}: {error}") from None
        if not known:
            raise PeerError(f"{who}: holds no checkpoint that this host has signed")
        problem = await find_problem(paths, own, known, who)
    return Compared(max(checkpoint.parse_claim(note).size for note in known), problem)
