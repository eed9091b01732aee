"""Transactions that wait for a block: fair between senders, bounded, in nonce order.

Not here: signatures, which whoever admits has checked (tx.decode_signed), what applies (rules),
how a block's bytes are shared (order). Invariants: a sender has one transaction per nonce, the
first that came; each class, each sender and the whole are bounded, so no flood takes the place of
others; senders of a class take turns; every order is that of arrival, never of a set. Pure.
Source: CHAIN.md, "Transactions, mempool, state"; README.md of this room, "Mempool".
"""

from __future__ import annotations

from collections import deque

from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import operations as ops
from chainlite.ledger.order import (
    CLASSES,
    REST,
    SHARES,
    TXS_LIMIT_BYTES,
    fill_shares,
    get_class,
    get_size,
)
from chainlite.ledger.view import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chainlite.ledger.tx import Tx

POOL_BYTES_MAX = 64 * 1024 * 1024
"""Divided among the classes as a block is."""
SENDER_TXS_MAX = 256
"""Waiting from one sender, and how far ahead of its next nonce they may be."""
SENDER_BYTES_MAX = 2 * 1024 * 1024
REGISTRATIONS_MAX = 4_096
"""Waiting from keys that nobody knows: they cost their senders nothing, so each has but one,"""
REGISTRATION_BYTES_MAX = 4_096
"""of at most so many bytes."""
EXPIRE_MS = 600_000
REGISTRATION = len(CLASSES)
"""The queue of registrations, apart from the rest: a block takes few of them."""


class _Sender:
    """What waits of one sender: transactions by nonce, and which nonce is next."""

    __slots__ = ("next", "size", "txs")

    def __init__(self, nonce: int) -> None:
        self.next = nonce
        self.size = 0
        self.txs: dict[int, Tx] = {}


class Mempool:
    """`find_nonce(sender, key)` is the ledger's: a sender's next nonce, None if it may not send."""

    __slots__ = ("_arrivals", "_by_bytes", "_find_nonce", "_rings", "_senders", "_sizes")

    def __init__(self, find_nonce: Callable[[bytes, bytes], int | None]) -> None:
        self._find_nonce = find_nonce
        self._senders: dict[bytes, _Sender] = {}
        self._by_bytes: dict[bytes, Tx] = {}
        self._arrivals: deque[tuple[int, Tx]] = deque()
        self._sizes = [0] * (REGISTRATION + 1)
        # By class, the senders whose next transaction is of it, in the order of their turns.
        self._rings: list[dict[bytes, None]] = [{} for _ in range(REGISTRATION + 1)]

    def __len__(self) -> int:
        return len(self._by_bytes)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(self._sizes)

    def find(self, data: bytes) -> Tx | None:
        """The transaction of these bytes, if it waits here: its signature was checked."""
        return self._by_bytes.get(data)

    def get_batches(self, limit_bytes: int) -> Iterator[list[bytes]]:
        """All that waits, in batches of about so many bytes."""
        batch: list[bytes] = []
        size = 0
        for data in list(self._by_bytes):
            batch.append(data)
            size += len(data)
            if size >= limit_bytes:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def get_free_nonce(self, name: bytes, key: bytes) -> int:
        """The first nonce that a sender neither used nor has waiting here."""
        nonce = self._find_nonce(name, key) or 0
        sender = self._senders.get(name)
        while sender is not None and nonce in sender.txs:
            nonce += 1
        return nonce

    def is_ready(self) -> bool:
        """Whether a transaction could go into the next block."""
        return any(self._rings)

    def check(self, tx: Tx) -> int:
        """Refused, and why, where `admit` would refuse it; cheap, to ask before the signature.

        Else the sender's next nonce in the ledger, for `keep`.
        """
        if tx.encoded in self._by_bytes:
            raise Refused("the transaction waits already", known=True)
        queue = get_queue(tx)
        nonce = self._find_nonce(tx.sender, tx.key)
        if nonce is None:
            if queue != REGISTRATION:
                raise Refused("the sender may not send")
            nonce = 0
        if tx.nonce < nonce:
            raise Refused(f"nonce {tx.nonce} was used; the next is {nonce}")
        if tx.nonce >= nonce + SENDER_TXS_MAX:
            raise Refused(f"nonce {tx.nonce} is too far ahead of {nonce}")
        small = get_size(tx) <= REGISTRATION_BYTES_MAX
        if queue == REGISTRATION and not (small and tx.nonce == nonce):
            raise Refused("a registration is small, and the sender's next transaction")
        self._check_room(tx, queue)
        return nonce

    def admit(self, tx: Tx, now_ms: int) -> None:
        """Take a transaction whose signature was checked; Refused says why it is not taken."""
        self.keep(tx, self.check(tx), now_ms)

    def keep(self, tx: Tx, nonce: int, now_ms: int) -> None:
        """Take a transaction that `check` has just found to be admissible, with what it gave."""
        sender = self._senders.get(tx.sender)
        if sender is None:
            sender = self._senders[tx.sender] = _Sender(nonce)
        size, queue = get_size(tx), get_queue(tx)
        sender.txs[tx.nonce] = tx
        sender.size += size
        self._sizes[queue] += size
        self._by_bytes[tx.encoded] = tx
        self._arrivals.append((now_ms, tx))
        if tx.nonce == sender.next:
            self._rings[queue][tx.sender] = None

    def take(self, registrations_max: int) -> list[Tx]:
        """What the next block may hold, in its order: each class's share, its senders in turn."""
        queues: list[list[Tx]] = [[] for _ in CLASSES]
        later: list[deque[tuple[bytes, int]]] = [deque() for _ in self._rings]
        for number in range(len(CLASSES)):
            queues[number] = self._collect(number, later, TXS_LIMIT_BYTES)
        room = registrations_max * SENDER_BYTES_MAX
        registrations = self._collect(REGISTRATION, later, room, registrations_max)
        queues[REST] += registrations
        return [tx for queue in fill_shares(queues) for tx in queue]

    def remove_committed(self, txs: Iterable[Tx]) -> None:
        """A block has these: they go, with all that a used nonce makes void."""
        for tx in txs:
            sender = self._senders.get(tx.sender)
            if sender is None:
                continue
            self._forget_turn(tx.sender, sender)
            for nonce in [nonce for nonce in sender.txs if nonce <= tx.nonce]:
                self._drop(sender, nonce)
            sender.next = max(sender.next, tx.nonce + 1)
            self._take_turn(tx.sender, sender)

    def remove(self, txs: Iterable[Tx]) -> None:
        """These never apply: they go; what a sender sent after one waits for that nonce."""
        for tx in txs:
            sender = self._senders.get(tx.sender)
            if sender is None or sender.txs.get(tx.nonce) is not tx:
                continue
            self._forget_turn(tx.sender, sender)
            self._drop(sender, tx.nonce)
            self._take_turn(tx.sender, sender)

    def expire(self, now_ms: int) -> None:
        """What has waited for EXPIRE_MS goes."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] + EXPIRE_MS <= now_ms:
            self.remove((arrivals.popleft()[1],))

    def _check_room(self, tx: Tx, queue: int) -> None:
        size, sender = get_size(tx), self._senders.get(tx.sender)
        if sender is not None:
            if tx.nonce in sender.txs:
                raise Refused("another transaction of the sender waits with this nonce")
            if len(sender.txs) >= SENDER_TXS_MAX or sender.size + size > SENDER_BYTES_MAX:
                raise Refused("too many transactions of the sender wait", later=True)
        if queue == REGISTRATION:
            full = len(self._rings[REGISTRATION]) >= REGISTRATIONS_MAX
        else:
            limit = POOL_BYTES_MAX * SHARES[queue] // TXS_LIMIT_BYTES
            full = self._sizes[queue] + size > limit
        if full:
            raise Refused("too many transactions of this class wait", later=True)

    def _drop(self, sender: _Sender, nonce: int) -> None:
        tx = sender.txs.pop(nonce)
        sender.size -= get_size(tx)
        self._sizes[get_queue(tx)] -= get_size(tx)
        del self._by_bytes[tx.encoded]
        # Arrivals of what went otherwise are cleared once they are most of the queue.
        if len(self._arrivals) > 64 + 2 * len(self._by_bytes):
            known = self._by_bytes
            self._arrivals = deque([one for one in self._arrivals if one[1].encoded in known])

    def _forget_turn(self, name: bytes, sender: _Sender) -> None:
        """Before a sender changes: out of the ring, unless its next transaction stays the same."""
        tx = sender.txs.get(sender.next)
        if tx is not None:
            del self._rings[get_queue(tx)][name]

    def _take_turn(self, name: bytes, sender: _Sender) -> None:
        """After a sender changed: to the end of the ring of its next transaction."""
        tx = sender.txs.get(sender.next)
        if tx is not None:
            self._rings[get_queue(tx)][name] = None
        elif not sender.txs:
            del self._senders[name]

    def _collect(
        self, number: int, later: list[deque[tuple[bytes, int]]], room: int, most: int = 1 << 30
    ) -> list[Tx]:
        """Ready transactions of one queue until `room` is full: each sender one, then each another.

        A sender whose next one is of a later class goes on there, in `later`; of an earlier class,
        in another block.
        """
        found: list[Tx] = []
        again = later[number]
        for name, nonce in self._take_turns(number, again):
            sender = self._senders[name]
            tx = sender.txs[nonce]
            room -= get_size(tx)
            if room < 0 or len(found) >= most:
                break
            found.append(tx)
            following = sender.txs.get(nonce + 1)
            if following is not None and get_queue(following) >= number:
                later[get_queue(following)].append((name, nonce + 1))
        return found

    def _take_turns(
        self, number: int, again: deque[tuple[bytes, int]]
    ) -> Iterator[tuple[bytes, int]]:
        for name in self._rings[number]:
            yield name, self._senders[name].next
        while again:
            yield again.popleft()


def get_queue(tx: Tx) -> int:
    """The queue that a transaction waits in: its class, or that of registrations."""
    if isinstance(tx.operations[0], ops.Register):
        return REGISTRATION
    return get_class(tx)
