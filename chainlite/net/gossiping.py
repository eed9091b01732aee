"""Gossip over a transport: does what the core wants done, and tells it what came of it.

Not here: what is wanted (gossip) and where logs lie (OriginStore). Invariants: at most
gossip.WANTS_MAX requests are in flight; a log's ranges are appended one after the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import PeerError, StateError
from chainlite.net import tidings
from chainlite.net.gossip import Append, Ask, Blame, ForkSeen, Gossip, Tell
from chainlite.net.transport import Channel, Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from chainlite.net.gossip import Effect
    from chainlite.net.origins import OriginStore
    from chainlite.net.transport import PeerId, Transport

ANSWER_S = 10.0
TICK_S = 2.0


class Gossiping:
    """The exchange of one node. Make it once its store is open; then `start`."""

    def __init__(
        self,
        transport: Transport,
        store: OriginStore,
        on_fork: Callable[[str, bytes], None],
        on_grown: Callable[[str], None],
    ) -> None:
        """`on_fork` gets a log's origin and the evidence, `on_grown` that of a log that grew."""
        self._transport, self._store = transport, store
        self._on_fork, self._on_grown = on_fork, on_grown
        self.core = Gossip(store)
        self._tasks: set[asyncio.Task[None]] = set()
        transport.listen(Channel.GOSSIP, self._upon_message, self._upon_request)
        transport.watch(self._upon_up, self._upon_down)

    def start(self) -> None:
        """Begin to tell what is held: who is up now, who comes, and all now and then."""
        for peer in self._transport.peers():
            self._upon_up(peer)
        self._spawn(self._tick())

    async def close(self) -> None:
        """End; what was being fetched is asked for again by the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell_local(self, origin: str) -> None:
        """A log has grown in the store by this node's own doing."""
        self._do(self.core.upon_local(origin))

    def tell_cosigned(self, note: bytes) -> None:
        """This node has cosigned a checkpoint."""
        self._do(self.core.upon_cosigned(note))

    def _upon_up(self, peer: PeerId) -> None:
        self._do(self.core.upon_peer(peer))

    def _upon_down(self, peer: PeerId) -> None:
        self._do(self.core.upon_gone(peer))

    def _upon_message(self, peer: PeerId, _: Channel, payload: bytes) -> None:
        self._do(self.core.upon_vector(peer, payload))

    async def _upon_request(self, _peer: PeerId, _channel: Channel, payload: bytes) -> bytes:
        return self.core.upon_want(payload)

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Tell):
                if effect.peer is None:
                    self._transport.broadcast(Channel.GOSSIP, effect.payload)
                else:
                    self._transport.send(effect.peer, Channel.GOSSIP, effect.payload)
            elif isinstance(effect, Ask):
                self._spawn(self._ask(effect))
            elif isinstance(effect, Append):
                self._spawn(self._append(effect))
            elif isinstance(effect, Blame):
                self._transport.blame(effect.peer, effect.why)
            else:
                self._keep_fork(effect)

    def _keep_fork(self, seen: ForkSeen) -> None:
        self._store.keep_fork(seen.data)
        self._on_fork(seen.origin, seen.data)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, ask: Ask) -> None:
        try:
            answer = await self._transport.request(
                ask.peer, Channel.GOSSIP, tidings.encode_want(ask.want), ANSWER_S
            )
        except Unanswered:
            self._do(self.core.upon_unanswered(ask))
        else:
            self._do(self.core.upon_range(ask, answer))

    async def _append(self, append: Append) -> None:
        try:
            await self._store.append(append.origin, append.start, append.items, append.note)
        except PeerError as error:
            self._do(self.core.upon_spoilt(append, str(error)))
        except StateError:
            self._do(self.core.upon_unkept(append))
        else:
            self._do(self.core.upon_appended(append))
            self._on_grown(append.origin)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._do(self.core.upon_tick())
