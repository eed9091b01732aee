"""Whether a server's own log only grows: what it showed before is the beginning of what it serves.

Acknowledgements show one state of that log each; whether two of them are of one history, its tiles
tell. Not here: reading tiles (door, docklock.witness.served), what a fork's file proves
(chainlite.fork). Invariants: each state that was seen is looked for once, in a later one, and that
one is looked for next; a log that does not continue what was seen is a fork that anybody can check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import checkpoint, cosignature, fork
from chainlite.errors import PeerError, SpecError, StateError
from docklock.outbox.checking import Contradicted, check_seen
from docklock.outbox.sent import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.fork import Fork
    from docklock.outbox.door import Door
    from docklock.outbox.sent import Sent
    from docklock.outbox.settings import Server

    Read = Callable[[int, int], bytes]

AUDITED_MAX = 64
"""States that are looked for at once; the next audit goes on."""


async def audit_log(door: Door, server: Server, sent: Sent) -> None:
    """Look for what was seen of the server's log in what it serves now.

    StateError: it serves less than it showed: it was restored, or nobody can tell yet. PeerError:
    what it serves is no log of its key. Contradicted: it has forked.
    """
    wanted = sent.get_unaudited(server.origin, AUDITED_MAX)
    if not wanted:
        return
    served = await door.fetch_checkpoint()
    try:
        cosignature.check_checkpoint(served, server.keys)
        state = checkpoint.parse_claim(served)
    except SpecError as error:
        raise PeerError(f"{server.name}: its checkpoint: {error}") from None
    seen = Seen(state.size, state.root, served)
    check_seen(seen, server, sent)
    if state.size < wanted[-1].size:
        raise StateError(
            f"{server.name} serves a log of {state.size} leaves, and has shown {wanted[-1].size}: "
            "it was restored, or keeps something back"
        )
    publics = (server.keys[0].public,)

    def find_fork(read: Read) -> tuple[Seen, Fork] | None:
        for one in wanted:
            found = fork.find_served_fork(publics, one.note, served, read)
            if found is not None:
                return one, found
        return None

    try:
        found = await door.ask_tree(served, find_fork)
    except SpecError as error:
        raise PeerError(f"{server.name}: {error}") from None
    if found is not None:
        one, proven = found
        raise Contradicted(
            f"{server.name} has signed two histories of its log: what it serves, of {state.size} "
            f"leaves, does not begin with the {one.size} that it has shown",
            served, one.note, proven,
        )  # fmt: skip
    sent.put_audited(server.origin, wanted, seen)
