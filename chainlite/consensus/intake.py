"""Transactions on their way in: signatures are checked aside, then they are kept and passed on.

Not here: which transactions wait and in what order (chainlite.ledger.mempool), blocks (node).
A worker thread checks signatures: libsodium lets go of the interpreter meanwhile, so votes are not
kept waiting. Invariants: nothing is kept or passed on whose signature does not hold; what other
validators passed on is not passed on again; every wait and every batch has a limit.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from chainlite.consensus.wire import (
    FULL,
    KNOWN,
    REFUSED,
    TAKEN,
    TRANSACTIONS_MAX,
    Verdict,
    encode_transactions,
)
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.tx import Tx, decode_tx, is_tx_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH_MAX = 64
"""Transactions that are checked before the loop has a say again."""
WAITING_MAX = 4 * TRANSACTIONS_MAX
"""Transactions that wait to be checked; those above are told that there is no room."""
RELAY_BYTES_MAX = 512 * 1024
RELAY_AFTER_S = 0.002
"""What was kept is passed on together, after so long or at so many bytes."""


class Intake:
    """The way in; all of it belongs to one event loop, but the checking of signatures."""

    def __init__(
        self,
        chain_id: bytes,
        admit: Callable[[Tx], Verdict],
        is_known: Callable[[bytes], bool],
        relay: Callable[[bytes], None],
    ) -> None:
        """`admit` keeps a signed one; `is_known` knows bytes; `relay` passes a batch on."""
        self._chain_id = chain_id
        self._admit = admit
        self._is_known = is_known
        self._relay = relay
        self._waiting = 0
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._checker = ThreadPoolExecutor(1, "signatures")

    def close(self) -> None:
        """Nothing more is taken."""
        if self._timer is not None:
            self._timer.cancel()
        self._checker.shutdown(wait=False, cancel_futures=True)

    async def take(self, encoded: Sequence[bytes], *, relay: bool) -> list[Verdict]:
        """What became of each, in order. `relay`: whether the other validators lack them."""
        if self._waiting + len(encoded) > WAITING_MAX:
            return [Verdict(FULL, f"{self._waiting} transactions wait to be checked")] * len(
                encoded
            )
        self._waiting += len(encoded)
        try:
            verdicts: list[Verdict] = []
            for start in range(0, len(encoded), BATCH_MAX):
                verdicts += await self._take_batch(encoded[start : start + BATCH_MAX], relay=relay)
            return verdicts
        finally:
            self._waiting -= len(encoded)

    async def _take_batch(self, encoded: Sequence[bytes], *, relay: bool) -> list[Verdict]:
        new = [data for data in dict.fromkeys(encoded) if not self._is_known(data)]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._checker, self._check, new) if new else {}
        verdicts = []
        for data in encoded:
            checked = found.pop(data, None)
            if isinstance(checked, Tx):
                verdict = self._admit(checked)
                if relay and verdict.kind == TAKEN:
                    self._pass_on(data)
            else:
                verdict = Verdict(REFUSED, checked) if checked else Verdict(KNOWN)
            verdicts.append(verdict)
        return verdicts

    def _check(self, encoded: Sequence[bytes]) -> dict[bytes, Tx | str]:
        """In the worker thread: each transaction that is whole and signed, else why it is not."""
        found: dict[bytes, Tx | str] = {}
        for data in encoded:
            try:
                tx = decode_tx(data)
            except SpecError as error:
                found[data] = str(error)
                continue
            if tx.chain_id != self._chain_id:
                found[data] = "of another chain"
            else:
                found[data] = tx if is_tx_signed(tx) else "not signed by its key"
        return found

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
        if outgoing:
            self._relay(encode_transactions(outgoing))
