"""What a running node does for its own host: status, blocks, transactions and votes taken, peers.

Not here: HTTP (control), who asks (client, cli). Invariant: what is signed here is signed by the
node's key, and only as a vote that its owner asked for on the socket, which is the owner's alone,
or as what is final here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite import keys
from chainlite.consensus.wire import VERDICTS
from chainlite.errors import SpecError, StateError
from chainlite.ledger import operations as ops
from chainlite.ledger.host_status import find_host_status
from chainlite.ledger.offer import decode_ack
from chainlite.ledger.tx import decode_tx, sign_tx
from chainlite.net.registration import decode_registration
from chainlite.net.transport import Channel, PeerId
from chainlite.proofs.trusted import encode_header_checkpoint
from docklock.chain.doors import OFFER_S, describe_host_status
from docklock.chain.registering import keep_peer
from docklock.chain.views import Views, parse_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.node import Node
    from chainlite.consensus.wire import Verdict
    from chainlite.keys import Signer
    from docklock.chain.bodies import Bodies
    from docklock.chain.checkpoints import Checkpoints
    from docklock.chain.control import Route
    from docklock.chain.directory import ChainDirectory
    from docklock.chain.introducing import Introducing

VOTE_KINDS = (ops.MemberVote, ops.ParameterVote)


class Desk:
    """The routes of one node's control socket."""

    def __init__(
        self,
        directory: ChainDirectory,
        node: Node,
        key: Signer,
        rooms: tuple[Bodies, Introducing, Checkpoints],
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self._directory, self._node, self._key = directory, node, key
        self._bodies, self._introducing, self._checkpoints = rooms
        self._describe = describe
        self._views = Views(node.store)

    def get_routes(self) -> dict[tuple[str, str], Route]:
        """For Control."""
        routes: dict[tuple[str, str], Route] = {
            ("GET", "status"): self._show_status,
            ("POST", "transactions"): self._take_transaction,
            ("POST", "votes"): self._take_vote,
            ("POST", "peers"): self._take_peer,
            ("POST", "forget"): self._forget_peer,
            ("GET", "hosts"): self._show_host,
            ("POST", "offers"): self._take_offer,
            ("GET", "nonces"): self._get_nonce,
            ("POST", "checkpoints"): self._make_checkpoint,
        }
        for first in self._views.routes:
            routes["GET", first] = self._make_view(first)
        return routes

    def _make_view(self, first: str) -> Route:
        async def show(rest: str, _body: bytes) -> Any:
            return self._views.routes[first](rest)

        return show

    async def _show_status(self, _rest: str, _body: bytes) -> dict[str, Any]:
        return self._describe()

    async def _get_nonce(self, rest: str, _body: bytes) -> dict[str, Any]:
        """The next nonce of a key that sends as itself: `KEY`."""
        public = parse_hash(rest, "KEY")
        sender = keys.compute_host_id(public)
        nonce = self._node.mempool.get_free_nonce(sender, public)
        return {
            "sender": sender.hex(),
            "nonce": nonce,
            "chain_id": self._node.ledger.chain_id.hex(),
        }

    async def _make_checkpoint(self, _rest: str, _body: bytes) -> dict[str, Any]:
        """The last header, signed by f + 1 validators: for witnesses to cosign."""
        made = await self._checkpoints.gather()
        return {"checkpoint": encode_header_checkpoint(made).hex()}

    async def _take_transaction(self, _rest: str, body: bytes) -> dict[str, Any]:
        digest = decode_tx(body).hash
        return await self._submit(body, digest)

    async def _take_vote(self, _rest: str, body: bytes) -> dict[str, Any]:
        """Sign a vote, whose claim the body is, as this validator."""
        operation = ops.decode_operation(body, b"")
        if not isinstance(operation, VOTE_KINDS):
            raise SpecError("only votes are signed by a node's key on request")
        if self._key.public not in self._node.validators:
            raise StateError("this node's key is not a validator's: only validators vote")
        sender = keys.compute_host_id(self._key.public)
        nonce = self._node.mempool.get_free_nonce(sender, self._key.public)
        tx = sign_tx(self._key, self._node.ledger.chain_id, nonce, [operation])
        return await self._submit(tx.encoded, tx.hash)

    async def _submit(self, encoded: bytes, digest: bytes) -> dict[str, Any]:
        if self._node.halted:
            raise StateError(f"the node has halted: {self._node.halted}")
        (verdict,) = await self._node.submit([encoded])
        return describe_verdict(verdict, digest)

    async def _show_host(self, rest: str, _body: bytes) -> dict[str, Any]:
        """What the chain says of a host: `HOST`."""
        return describe_host_status(find_host_status(self._node.ledger, parse_hash(rest, "HOST")))

    async def _take_offer(self, rest: str, body: bytes) -> dict[str, Any]:
        """Pass an offer on to a validator: `KEY`; what that holds then."""
        node = PeerId(parse_hash(rest, "KEY"))
        if node == self._key.public:
            ack = await self._bodies.take(body)
        else:
            answer = await self._node.transport.request(node, Channel.BODIES, body, OFFER_S)
            ack = decode_ack(answer)
        root = ack.root.hex()
        return {"host": ack.host.hex(), "size": ack.size, "root": root, "receipts": ack.receipts}

    async def _take_peer(self, _rest: str, body: bytes) -> dict[str, Any]:
        """Know a peer by its registration, now and after the next start."""
        registration = decode_registration(body, self._node.ledger.chain_id)
        is_news = self._introducing.take(registration)
        keep_peer(self._directory, registration)
        return {"key": registration.node.hex(), "news": is_news}

    async def _forget_peer(self, rest: str, _body: bytes) -> dict[str, Any]:
        """Hang up, unless the chain names it: then its validators know it anyway."""
        node = PeerId(parse_hash(rest, "KEY"))
        is_named = node in self._node.validators
        if not is_named:
            self._introducing.forget(node)
            self._node.transport.remove_peer(node)
        return {"key": node.hex(), "forgotten": not is_named}


def describe_verdict(verdict: Verdict, digest: bytes) -> dict[str, Any]:
    """What became of a transaction that was handed in."""
    return {"hash": digest.hex(), "verdict": VERDICTS[verdict.kind], "reason": verdict.reason}
