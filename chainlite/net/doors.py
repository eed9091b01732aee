"""Who takes what comes from peers: by channel, and who watches them come and go.

Not here: how it came. Invariants: a channel has one taker; a misdeed is told to `on_misdeed`, and
nothing of it goes further; an answer is always tried, also where the taker fails.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, PeerError
from chainlite.net.transport import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.net.transport import OnMessage, OnPeer, OnRequest, PeerId


class Doors:
    """Takers and watchers of one transport."""

    def __init__(self, on_misdeed: Callable[[PeerId, str], None]) -> None:
        self._on_misdeed = on_misdeed
        self._messages: dict[int, OnMessage] = {}
        self._requests: dict[int, OnRequest] = {}
        self._watchers: list[tuple[OnPeer, OnPeer]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(
        self, channel: Channel, on_message: OnMessage | None, on_request: OnRequest | None
    ) -> None:
        """See Transport."""
        if on_message is not None:
            assert channel not in self._messages, f"{channel.name} has its taker"
            self._messages[channel] = on_message
        if on_request is not None:
            assert channel not in self._requests, f"{channel.name} has who answers"
            self._requests[channel] = on_request

    def watch(self, on_up: OnPeer, on_down: OnPeer) -> None:
        """See Transport."""
        self._watchers.append((on_up, on_down))

    def upon_up(self, peer: PeerId) -> None:
        """Tell that a peer came."""
        for on_up, _ in self._watchers:
            on_up(peer)

    def upon_down(self, peer: PeerId) -> None:
        """Tell that a peer is gone."""
        for _, on_down in self._watchers:
            on_down(peer)

    def upon_message(self, peer: PeerId, channel: int, payload: bytes) -> None:
        """Give a message to its taker; where there is none it is no misdeed, and dropped."""
        taker = self._messages.get(channel)
        if taker is None:
            return
        try:
            taker(peer, Channel(channel), payload)
        except PeerError as error:
            self._on_misdeed(peer, str(error))

    def upon_request(
        self, peer: PeerId, channel: int, payload: bytes, reply: Callable[[bytes | str], None]
    ) -> None:
        """Have a request answered; `reply` gets the answer, or the text of a refusal."""
        task = asyncio.get_running_loop().create_task(self._answer(peer, channel, payload, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, peer: PeerId, channel: int, payload: bytes, reply: Callable[[bytes | str], None]
    ) -> None:
        taker = self._requests.get(channel)
        found: bytes | str = "it failed to answer"
        try:
            if taker is None:
                found = "nobody answers on this channel"
            else:
                found = await taker(peer, Channel(channel), payload)
        except PeerError as error:
            self._on_misdeed(peer, str(error))
            found = str(error)
        except DocklockError as error:
            found = str(error)
        finally:
            reply(found)

    async def close(self) -> None:
        """End what is being answered."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
