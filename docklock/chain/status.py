"""How a running node stands: what `docklock chain status`, the agent's metrics and a watcher read.

Not here: what follows from the store alone (views), the texts for people (cli.chain_text).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from docklock.chain.settings import format_address
from docklock.chain.views import describe_set

if TYPE_CHECKING:
    from chainlite.consensus.node import Node
    from chainlite.net.registration import Registration
    from chainlite.net.transport import PeerFigures, PeerId
    from docklock.chain.directory import Chain

PEERS_SHOWN_MAX = 256


class Finality(NamedTuple):
    """From when blocks were due until they were final, of the last heights, in ms.

    `last` are heights, the newest last, and the time from the block's own to its seal here.
    """

    p50_ms: int
    p95_ms: int
    heights: int
    last: tuple[tuple[int, int], ...] = ()


def compute_finality(durations_ms: list[int], last: tuple[tuple[int, int], ...] = ()) -> Finality:
    """Percentiles; zeros before the first height."""
    ordered = sorted(durations_ms)
    if not ordered:
        return Finality(0, 0, 0, last)
    count = len(ordered)
    return Finality(ordered[(count - 1) // 2], ordered[(count * 95 - 1) // 100], count, last)


class Standing(NamedTuple):
    """What the process knows beside the node itself. `obstacle` is why it does not vote.

    `receipts_kept` were verified and kept for hosts since the start.
    """

    chain: Chain
    registration: Registration
    obstacle: str
    finality: Finality
    receipts_kept: int


def describe_status(node: Node, standing: Standing, now_ms: int) -> dict[str, Any]:
    """All of it, as JSON has it."""
    ledger, validators = node.ledger, node.validators
    me = standing.registration.node
    best = max(node.following.get_best_height(), node.height)
    peers = describe_peers(node)
    is_validator = me in validators
    return {
        "running": True,
        "pid": os.getpid(),
        "chain": standing.chain.genesis.name,
        "chain_id": standing.chain.id.hex(),
        "node": me.hex(),
        "operator": standing.registration.operator,
        "role": "validator" if is_validator else "follower",
        "votes": is_validator and not standing.obstacle,
        "why_no_votes": standing.obstacle if is_validator else "",
        "height": node.height,
        "first_block": node.store.base,
        "head_hash": ledger.head_hash.hex(),
        "head_time_ms": ledger.head.timestamp_ms,
        "head_age_ms": max(now_ms - ledger.head.timestamp_ms, 0),
        "round": node.round,
        "proposer": validators.get_proposer(ledger.head.proposer, node.round).hex(),
        "validators": describe_set(validators),
        "peers_up": sum(peer["up"] for peer in peers),
        "validators_up": sum(key == me or key in node.transport.peers() for key in validators.keys),
        "peers": peers[:PEERS_SHOWN_MAX],
        "mempool": {"transactions": len(node.mempool), "bytes": node.mempool.size},
        "receipts_kept": standing.receipts_kept,
        "lag": best - node.height,
        "base_timeout_ms": node.get_base_timeout_ms(),
        "finality_ms": {
            "p50": standing.finality.p50_ms,
            "p95": standing.finality.p95_ms,
            "heights": standing.finality.heights,
            "last": standing.finality.last,
        },
        "accused": [evidence.signer.hex() for evidence in node.accused],
        "waits_for": node.waits_for,
        "halted": node.halted,
    }


def describe_peers(node: Node) -> list[dict[str, Any]]:
    """Every node that is known, those that are up first."""
    up, figures = node.transport.peers(), node.transport.figures().peers
    found = [
        _describe_peer(peer, registration, figures.get(peer), is_up=peer in up)
        for peer, registration in node.transport.registrations().items()
    ]
    return sorted(found, key=lambda one: (not one["up"], one["key"]))


def _describe_peer(
    peer: PeerId, registration: Registration, figures: PeerFigures | None, *, is_up: bool
) -> dict[str, Any]:
    return {
        "key": peer.hex(),
        "operator": registration.operator,
        "addresses": [format_address(address) for address in registration.addresses],
        "up": is_up,
        "why_down": "" if is_up or figures is None else figures.last_failure,
        "misdeeds": figures.misdeeds if figures else 0,
        "last_misdeed": figures.last_misdeed if figures else "",
    }
