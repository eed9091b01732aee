"""Submit this host's log to a chain: register once, anchor what is new, offer its bodies.

A pass asks the chain where it stands with this host, anchors the log's size and root, and offers
each node the leaves that it has not acknowledged, range by range, so a host that was away for days
goes on where each node stands. Not here: the way to nodes (ChainDoor: whoever has a transport),
offers (docklock.evidence.offering), what is written down about it (docklock.evidence.submitted),
and the key, which signs one transaction at a time from its file (docklock.evidence.keyring).
Invariants: one offer and one anchor is in flight per node, so memory does not grow with what waits;
what the chain says of this log must be what the log was, else nothing is signed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chainlite import hostlog, keys
from chainlite.errors import DocklockError, StateError, TamperError
from chainlite.ledger import operations as ops
from chainlite.ledger.tx import sign_tx
from docklock.evidence import keyring
from docklock.evidence.host_log import HostLog
from docklock.evidence.kept_log import KeptLog, look_at_log
from docklock.evidence.offering import MadeOffer, make_offer
from docklock.evidence.submitted import REFUSED, Submitted
from docklock.program import is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.ledger.host_status import HostStatus
    from chainlite.ledger.offer import Ack
    from docklock.paths import Paths

LOOK_S = 0.25
"""How often a submitter that follows looks whether the log has grown."""
UNSETTLED_S = 0.5
"""How long it leaves to the chain before it asks what became of an anchor."""
AFTER_FAILURE_S = 5.0
ANCHOR_AGAIN_S = 10.0
"""An anchor that no block has after so long is signed again, of the log as it is then."""
DOORS_MAX = 100
OFFERS_OF_PASS_MAX = 256
"""To one node; the next pass goes on."""


class ChainDoor(Protocol):
    """A way to one node. Each call raises StateError where the node is away or takes it later,
    SpecError or PeerError where it refuses for good."""

    @property
    def node(self) -> bytes:
        """The node's public key."""

    async def get_status(self, host: bytes) -> HostStatus:
        """What the chain says of this host, at the node's last block."""

    async def submit(self, tx: bytes) -> bytes:
        """Hand in a transaction; its hash."""

    async def offer(self, data: bytes) -> Ack:
        """Offer a range; what the node holds then, durably."""


class Passed(NamedTuple):
    """What a pass did, and where the host stands: `due` is whether another should follow soon.

    `anchored` and `available` are sizes of the log that the chain has; `troubles` lines about nodes
    that could not be reached or refused.
    """

    height: int
    size: int
    anchored: int
    available: int
    receipts: int
    due: bool
    troubles: tuple[str, ...]


class Submitter:
    """Passes over this host's log. `certificate` is the SHA-256 of the node's own, or zeros."""

    def __init__(
        self,
        paths: Paths,
        doors: Sequence[ChainDoor],
        operator: str,
        certificate: bytes = bytes(32),
    ) -> None:
        assert 0 < len(doors) <= DOORS_MAX
        self._paths, self._doors = paths, doors
        self._operator, self._certificate = operator, certificate
        self._kept = KeptLog(paths)
        self._key = keyring.ensure_host_key(paths)
        self._made: dict[int, MadeOffer] = {}
        self._anchored_at: tuple[int, float] = (0, 0.0)
        self._troubles: list[str] = []
        self._receipts = 0

    @property
    def host(self) -> bytes:
        """This host's id."""
        return self._key.host

    def close(self) -> None:
        """Close the log."""
        self._kept.end()

    async def run_pass(self) -> Passed | None:
        """Do what is due; None where nothing has run here.

        StateError: no node answers. TamperError: a node or the chain has another history of this
        log: its text says which.
        """
        log = self._kept.open()
        if log is None or not log.get_size():
            return None
        self._key = keyring.ensure_host_key(self._paths)  # a rotation may have changed it
        self._troubles, self._receipts = [], 0
        found = await asyncio.gather(*[self._get_status(door) for door in self._doors])
        statuses = [
            (status, door) for status, door in zip(found, self._doors, strict=True) if status
        ]
        if not statuses:
            raise StateError("no node answers: " + "; ".join(self._troubles[:3]))
        status, first = max(statuses, key=lambda one: one[0].height)
        with Submitted(self._paths) as submitted:
            if not status.is_registered:
                await self._register(submitted, first, status)
                return self._finish(log, status, due=True)
            self._check_history(log, status)
            self._note_status(submitted, status)
            if status.key != self._key.public:
                await self._rotate(log, submitted, first, status)
                return self._finish(log, status, due=True)
            if await self._revoke(log, submitted, first, status):
                return self._finish(log, status, due=True)
            doors = [door for _, door in statuses]
            offers = [self._offer_all(log, submitted, status, door) for door in doors]
            await asyncio.gather(self._anchor(log, submitted, first, status), *offers)
            self._made.clear()
        due = status.available < log.get_size() or bool(self._troubles)
        return self._finish(log, status, due=due)

    def _finish(self, log: HostLog, status: HostStatus, *, due: bool) -> Passed:
        place = (status.height, log.get_size(), status.size, status.available)
        return Passed(*place, self._receipts, due, tuple(self._troubles))

    async def _get_status(self, door: ChainDoor) -> HostStatus | None:
        try:
            return await door.get_status(self.host)
        except DocklockError as error:
            self._tell(door, error)
            return None

    async def _register(self, submitted: Submitted, door: ChainDoor, status: HostStatus) -> None:
        """Ask to be registered; the host's log says so first, once.

        StateError where the enrolled key is gone: it alone can register the host.
        """
        if self._key.number:
            raise StateError("the host has rotated its key: the enrolled one alone can register it")
        if submitted.find_registration(status.chain_id) is None:
            labels = (("chain", status.chain_id.hex()), ("operator", self._operator))
            with HostLog(self._paths, self._key) as log, log.write():
                leaf = log.append_operation("register", labels=labels)
            submitted.put_registration(status.chain_id, leaf)
        operation = ops.Register(self._operator, self._certificate)
        await self._submit(door, status, operation)

    async def _submit(
        self, door: ChainDoor, status: HostStatus, operation: ops.Operation
    ) -> bytes | None:
        """The transaction's hash; None where the node does not take it."""
        signed = sign_tx(self._key, status.chain_id, status.nonce, [operation], self.host)
        try:
            return await door.submit(signed.encoded)
        except DocklockError as error:
            self._tell(door, error)
            return None

    def _check_history(self, log: HostLog, status: HostStatus) -> None:
        """What the chain has is this log; else it was restored, or somebody has the key."""
        size = log.get_size()
        if status.size > size:
            raise TamperError(
                f"the chain has {status.size} leaves of this host's log, which has {size}: it was "
                "cut or restored"
            )
        if log.compute_root(status.size) != status.root:
            raise TamperError(
                f"the chain has another root of the first {status.size} leaves of this host's log: "
                "it was rewritten, or another has the host's key"
            )

    async def _rotate(
        self, log: HostLog, submitted: Submitted, door: ChainDoor, status: HostStatus
    ) -> None:
        """Hand in what the chain's key of this host has signed about the one after it."""
        publics = log.read_keys(self._key.enrolled).publics
        at = publics.index(status.key) if status.key in publics else len(publics)
        following = publics[at + 1] if at + 1 < len(publics) else b""
        tx = submitted.find_rotation(status.chain_id, status.key, following, status.nonce)
        if tx is None:
            raise StateError(
                "the chain has another key of this host than keys/, and nothing is here that the "
                "one has signed about the other"
            )
        try:
            await door.submit(tx)
        except DocklockError as error:
            self._tell(door, error)

    async def _revoke(
        self, log: HostLog, submitted: Submitted, door: ChainDoor, status: HostStatus
    ) -> bool:
        """Hand in the first revocation of the log that the chain has not; whether that was done."""
        for index, data in log.get_key_leaves():
            nonce = submitted.find_revocation(status.chain_id, index)
            leaf = hostlog.decode_leaf(data)
            is_new = nonce is None or nonce == status.nonce
            if not isinstance(leaf, hostlog.Revocation) or not is_new:
                continue
            operation = ops.Revoke(leaf.number, leaf.first_index)
            signed = sign_tx(self._key, status.chain_id, status.nonce, [operation], self.host)
            try:
                await door.submit(signed.encoded)
            except StateError as error:
                self._tell(door, error)  # later, and what else is due now
                return False
            except DocklockError as error:
                self._tell(door, error)
                submitted.put_revocation(status.chain_id, index, REFUSED)
                return False
            submitted.put_revocation(status.chain_id, index, status.nonce)
            return True
        return False

    def _note_status(self, submitted: Submitted, status: HostStatus) -> None:
        now_ms = _get_now_ms()
        submitted.put_sender(status.chain_id, status.nonce)
        submitted.set_ordered(status.chain_id, status.size, status.anchored, now_ms)
        submitted.set_available(status.chain_id, status.available, status.height, now_ms)

    async def _anchor(
        self, log: HostLog, submitted: Submitted, door: ChainDoor, status: HostStatus
    ) -> None:
        """Anchor the log as it is, if the chain has less of it and takes one now."""
        size, now = log.get_size(), time.monotonic()
        nonce, when = self._anchored_at
        is_pending = nonce == status.nonce and when and now - when < ANCHOR_AGAIN_S
        if size <= status.size or status.due > status.height + 1 or is_pending:
            return
        with log.read():
            size = log.get_size()
            root = log.compute_root(size)
            proof = log.get_consistency(status.size, size) if status.size else ()
        digest = await self._submit(door, status, ops.Anchor(size, root, b"".join(proof)))
        if digest is not None:
            self._anchored_at = status.nonce, now
            submitted.put_anchor(status.chain_id, size, root, digest, _get_now_ms())

    async def _offer_all(
        self, log: HostLog, submitted: Submitted, status: HostStatus, door: ChainDoor
    ) -> None:
        """All that one node has not acknowledged, one range after another."""
        chain, start = status.chain_id, submitted.get_node_size(status.chain_id, door.node)
        for _ in range(OFFERS_OF_PASS_MAX):
            made = self._made.get(start) or make_offer(self._paths, log, start)
            if made is None:
                return
            self._made = {start: made}
            try:
                ack = await door.offer(made.data)
            except DocklockError as error:
                self._tell(door, error)
                return
            self._check_ack(log, ack)
            submitted.put_node_size(chain, door.node, ack.size, _get_now_ms())
            if ack.size == start:
                self._troubles.append(f"node {door.node.hex()[:16]} took nothing of leaf {start}")
                return
            start, self._receipts = ack.size, self._receipts + ack.receipts

    def _check_ack(self, log: HostLog, ack: Ack) -> None:
        """The node holds this log, and not another one that somebody signed as this host."""
        if ack.host != self.host or ack.size > log.get_size():
            raise TamperError(f"a node holds {ack.size} leaves of this host, and there are fewer")
        if log.compute_root(ack.size) != ack.root:
            raise TamperError(
                f"a node holds another history of this host's log, in the first {ack.size} leaves"
            )

    def _tell(self, door: ChainDoor, error: DocklockError) -> None:
        self._troubles.append(f"node {door.node.hex()[:16]}: {error}")


async def follow(
    paths: Paths, submitter: Submitter, parent: int,
    tell: Callable[[Passed], None], fail: Callable[[str], None],
) -> None:  # fmt: skip
    """Pass after pass, for as long as process `parent` is this one's parent (0: whatever it is).

    After a pass that failed, which `fail` is told, the next comes in AFTER_FAILURE_S.
    """
    while is_wanted(parent):
        state = look_at_log(paths)
        try:
            done = await submitter.run_pass() if state else None
        except (DocklockError, OSError) as error:
            fail(str(error))
            await asyncio.sleep(AFTER_FAILURE_S)
            continue
        if done is not None:
            tell(done)
        wait_s = UNSETTLED_S if done is not None and done.due else None
        began = time.monotonic()
        while is_wanted(parent) and look_at_log(paths) == state:
            await asyncio.sleep(LOOK_S)
            if wait_s is not None and time.monotonic() - began >= wait_s:
                break


def compute_host(paths: Paths) -> bytes:
    """This host's id."""
    return keys.compute_host_id(keyring.get_public_key(paths))


def _get_now_ms() -> int:
    return time.time_ns() // 1_000_000
