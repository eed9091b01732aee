"""Transactions on their way in: looked at, their signatures checked, kept, and passed on.

Not here: which transactions wait and in what order (chainlite.ledger.mempool), blocks (node).
Signatures are checked a few at a time between the loop's other work, not in a thread: README of
this room, "Decisions". Invariants: nothing is kept or passed on whose signature does not hold, and
none is checked twice; what other validators passed on is not passed on again; every wait and every
batch has a limit.
"""

from __future__ import annotations

import asyncio

from chainlite.consensus.wire import (
    FULL,
    KNOWN,
    REFUSED,
    TAKEN,
    TRANSACTIONS_MAX,
    Verdict,
    decode_transactions,
    encode_transactions,
    encode_verdicts,
)
from chainlite.errors import PeerError, SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.mempool import Mempool
from chainlite.ledger.tx import Tx, decode_tx, is_tx_signed
from chainlite.ledger.view import Refused
from chainlite.net.transport import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chainlite.consensus.validators import ValidatorSet
    from chainlite.ledger.state import Ledger
    from chainlite.net.transport import PeerId, Transport

SIGNED_MAX = 16_384
"""Transactions of others' blocks whose signatures are remembered until they come by themselves."""
BATCH_MAX = 8
"""Transactions that are checked before the loop has a say again."""
WAITING_MAX = TRANSACTIONS_MAX
"""Transactions that wait to be checked; those above are told that there is no room."""
RELAY_BYTES_MAX = 512 * 1024
RELAY_AFTER_S = 0.002
"""What was kept is passed on together, after so long or at so many bytes."""

_TAKEN = Verdict(TAKEN)


class Intake:
    """The way in, and what waits behind it; all of it belongs to one event loop."""

    def __init__(
        self, ledger: Ledger, transport: Transport, on_ready: Callable[[], None],
        get_now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        """`on_ready` is told when something waits that could go into a block."""
        self.mempool = Mempool(ledger.find_nonce)
        self._ledger, self._transport = ledger, transport
        self._on_ready, self._get_now_ms = on_ready, get_now_ms
        self._signed: dict[bytes, Tx] = {}
        self._waiting = 0
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[list[Verdict]]] = set()

    def start(self) -> None:
        """Listen: validators pass on, others submit and are answered."""
        self._transport.listen(Channel.TRANSACTIONS, self._upon_relayed, self._upon_submitted)
        self._transport.watch(self._upon_up, lambda _: None)

    def close(self) -> None:
        """Nothing more is passed on."""
        if self._timer is not None:
            self._timer.cancel()

    async def take(self, encoded: Sequence[bytes], *, relay: bool) -> list[Verdict]:
        """What became of each, in order. `relay`: whether the other validators lack them."""
        if self._waiting + len(encoded) > WAITING_MAX:
            full = Verdict(FULL, f"{self._waiting} transactions wait to be checked")
            return [full] * len(encoded)
        self._waiting += len(encoded)
        try:
            verdicts: list[Verdict] = []
            for start in range(0, len(encoded), BATCH_MAX):
                batch = encoded[start : start + BATCH_MAX]
                verdicts += [self._take(data, relay=relay) for data in batch]
                await asyncio.sleep(0)
            return verdicts
        finally:
            self._waiting -= len(encoded)

    def find(self, data: bytes) -> Tx | None:
        """The transaction of these bytes, if its signature was checked here before."""
        return self.mempool.find(data) or self._signed.get(data)

    def note_signed(self, txs: Iterable[Tx]) -> None:
        """Somebody's block was checked, with the signatures of what did not wait here."""
        if len(self._signed) >= SIGNED_MAX:
            self._signed.clear()
        self._signed.update((tx.encoded, tx) for tx in txs if self.mempool.find(tx.encoded) is None)

    def upon_block(self, txs: Iterable[Tx]) -> None:
        """These are final."""
        self.mempool.remove_committed(txs)
        self.mempool.expire(self._get_now_ms())

    def admit(self, tx: Tx, *, relay: bool) -> Verdict:
        """Keep a transaction whose signature was checked, or say why not."""
        try:
            return self._keep(tx, self.mempool.check(tx), relay=relay)
        except Refused as why:
            return describe(why)

    def _keep(self, tx: Tx, nonce: int, *, relay: bool) -> Verdict:
        self.mempool.keep(tx, nonce, self._get_now_ms())
        if relay:
            self._pass_on(tx.encoded)
        if self.mempool.is_ready():
            self._on_ready()
        return _TAKEN

    def _take(self, data: bytes, *, relay: bool) -> Verdict:
        tx = self.find(data)
        try:
            if tx is None:
                tx = decode_tx(data)
                if tx.chain_id != self._ledger.chain_id:
                    return Verdict(REFUSED, "of another chain")
                nonce = self.mempool.check(tx)
                if not is_tx_signed(tx):
                    return Verdict(REFUSED, "not signed by its key")
                return self._keep(tx, nonce, relay=relay)
        except Refused as why:
            return describe(why)
        except SpecError as error:
            return Verdict(REFUSED, str(error))
        return self.admit(tx, relay=relay)

    def _upon_relayed(self, _: PeerId, __: Channel, payload: bytes) -> None:
        try:
            transactions = decode_transactions(payload)
        except SpecError as error:
            raise PeerError(str(error)) from None
        task = asyncio.ensure_future(self.take(transactions, relay=False))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _upon_submitted(self, _: PeerId, __: Channel, payload: bytes) -> bytes:
        return encode_verdicts(await self.take(decode_transactions(payload), relay=True))

    def _upon_up(self, peer: PeerId) -> None:
        """Who comes may lack what was passed on while it was away."""
        if peer in self._get_validators():
            for batch in self.mempool.get_batches(RELAY_BYTES_MAX):
                self._transport.send(peer, Channel.TRANSACTIONS, encode_transactions(batch))

    def _get_validators(self) -> ValidatorSet:
        return self._ledger.get_validators(self._ledger.height + 1)

    def _pass_on(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if self._outgoing_bytes >= RELAY_BYTES_MAX or len(self._outgoing) >= TRANSACTIONS_MAX:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RELAY_AFTER_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        outgoing, self._outgoing, self._outgoing_bytes = self._outgoing, [], 0
        if not outgoing:
            return
        payload, validators = encode_transactions(outgoing), self._get_validators()
        for peer in self._transport.peers():
            if peer in validators:
                self._transport.send(peer, Channel.TRANSACTIONS, payload)


def describe(why: Refused) -> Verdict:
    """What a sender is told."""
    return Verdict(KNOWN if why.known else FULL if why.later else REFUSED, str(why))
