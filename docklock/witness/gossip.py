"""What witnesses tell each other: each checkpoint that one cosigned, pushed at once, pulled often.

A peer that was away is told what it missed by the pull. What was cosigned here, and what peers
cosigned and nothing here shows to be of the same history, is held against what the log serves.
Not here: what is believed (witness.py). Invariants: a witness that has peers cosigns nothing before
one of them has said what it knows of each log; of each peer and log one checkpoint waits to be
sent, the newest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite import witness as core
from chainlite.errors import DocklockError
from docklock.witness.client import Client, PeerError
from docklock.witness.served import ask_tree, fetch_checkpoint
from docklock.witness.witness import parse_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.quorum import Member
    from docklock.witness.config import Log, Settings
    from docklock.witness.witness import Witness

FIRST_ROUND_AGAIN_S = 0.5
BACK_OFF_MAX_S = 30.0
UNSETTLED_ROUNDS = 2
"""So many rounds may pass before what does not agree is told."""


class Gossip:
    """The exchange with all peers. `failures` counts what they did not answer."""

    def __init__(self, witness: Witness, settings: Settings, alert: Callable[[str], None]) -> None:
        self._witness, self._settings, self._alert = witness, settings, alert
        self._wakes = {peer.name: asyncio.Event() for peer in settings.peers}
        self._unsent: dict[str, dict[str, bytes]] = {peer.name: {} for peer in settings.peers}
        self._rounds: dict[tuple[str, str, int], int] = {}
        self._compared: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.failures = 0

    def start(self) -> None:
        """Begin; `close` ends it."""
        work = [self._push(peer) for peer in self._settings.peers]
        self._tasks = [asyncio.create_task(one) for one in (*work, self._pull_often())]

    def close(self) -> None:
        """End; what is not sent is pulled later."""
        for task in self._tasks:
            task.cancel()

    def tell(self, origin: str, data: bytes) -> None:
        """Send a checkpoint that was just cosigned to every peer, soon."""
        for name, wake in self._wakes.items():
            self._unsent[name][origin] = data
            wake.set()

    async def _push(self, peer: Member) -> None:
        unsent, wake, wait_s = self._unsent[peer.name], self._wakes[peer.name], 1.0
        async with Client(peer.url) as client:
            while True:
                await wake.wait()
                wake.clear()
                while unsent:
                    origin, data = next(iter(unsent.items()))
                    try:
                        await client.post("/add-cosigned", data)
                    except PeerError:
                        self.failures += 1
                        await asyncio.sleep(wait_s)
                        wait_s = min(2 * wait_s, BACK_OFF_MAX_S)
                        continue
                    wait_s = 1.0
                    if unsent.get(origin) is data:
                        del unsent[origin]

    async def _pull_often(self) -> None:
        while True:
            answered = await asyncio.gather(*map(self._pull, self._settings.peers))
            if any(answered):
                self._witness.is_ready = True
            await self._settle()
            is_waiting = not self._witness.is_ready
            await asyncio.sleep(
                FIRST_ROUND_AGAIN_S if is_waiting else self._settings.gossip_seconds
            )

    async def _pull(self, peer: Member) -> bool:
        """Hear what a peer knows of each log; whether it answered for all that it knows."""
        async with Client(peer.url) as client:
            for log in self._settings.logs:
                path = f"/checkpoints/{core.compute_origin_hash(log.origin)}"
                try:
                    got = await client.get(path)
                    notes = parse_notes(got.body) if got.status == core.OK else []
                except DocklockError:
                    self.failures += 1
                    return False
                if got.status not in (core.OK, core.NOT_FOUND):
                    self.failures += 1
                    return False
                for data in notes:
                    self._witness.add_cosigned(data)
        return True

    async def _settle(self) -> None:
        """Hold what does not agree yet, or is new here, against what its log serves."""
        unsettled = {origin for origin, _ in self._witness.get_unsettled()}
        for log in self._settings.logs:
            size = self._witness.get_size(log.origin)
            is_due = log.origin in unsettled or size != self._compared.get(log.origin, 0)
            if log.url and is_due and await self._compare(log):
                self._compared[log.origin] = size
        seen: dict[tuple[str, str, int], int] = {}
        for origin, heard in self._witness.get_unsettled():
            key = (origin, heard.peer, heard.size)
            seen[key] = self._rounds.get(key, 0) + 1
            if seen[key] == UNSETTLED_ROUNDS:
                self._alert(
                    f"{heard.peer} has cosigned {heard.size} leaves of {origin}, and nothing shows "
                    "that they are of the history that is known here"
                )
        self._rounds = seen

    async def _compare(self, log: Log) -> bool:
        """Whether the log could be read; what it shows is told by the witness."""
        async with Client(log.url) as client:
            try:
                served = await fetch_checkpoint(client)
                await ask_tree(
                    client,
                    served,
                    lambda read: self._witness.check_served(log.origin, served, read),
                )
            except DocklockError as error:
                self.failures += 1
                count = self._failed[log.origin] = self._failed.get(log.origin, 0) + 1
                if count == UNSETTLED_ROUNDS:  # once: a log may move on while it is read
                    self._alert(f"{log.origin}: what it serves cannot be compared: {error}")
                return False
        self._failed.pop(log.origin, None)
        return True
