"""A node's status as numbers for the agent's metrics. Pure.

Not here: the status (status), the page (docklock.agent.metrics).
"""

from __future__ import annotations

from typing import Any

HELP = {
    "chain_height": "Height of the last final block.",
    "chain_round": "Round of the height that is being decided.",
    "chain_head_age_seconds": "Time since the last final block.",
    "chain_lag_blocks": "Blocks that a peer has told of and that are not here.",
    "chain_validators": "Validators of the height that is being decided.",
    "chain_validators_up": "Of these, those that are connected, this node counted.",
    "chain_peers_up": "Nodes that are connected.",
    "chain_votes": "1 if this node votes.",
    "chain_waiting_transactions": "Transactions that wait for a block.",
    "chain_receipts_kept": "Receipts of hosts, verified and kept since the node began.",
    "chain_finality_p50_seconds": "Median, of the last heights, from due to final.",
    "chain_finality_p95_seconds": "95th percentile of the same.",
    "chain_accused": "Validators that voted twice and were accused by this node.",
    "chain_halted": "1 if the node saw the chain contradict itself and votes no more.",
}
MS_PER_S = 1_000


def list_figures(status: dict[str, Any]) -> dict[str, float]:
    """Each figure by its name in HELP."""
    finality = status["finality_ms"]
    return {
        "chain_height": status["height"],
        "chain_round": status["round"],
        "chain_head_age_seconds": status["head_age_ms"] / MS_PER_S,
        "chain_lag_blocks": status["lag"],
        "chain_validators": status["validators"]["n"],
        "chain_validators_up": status["validators_up"],
        "chain_peers_up": status["peers_up"],
        "chain_votes": int(status["votes"]),
        "chain_waiting_transactions": status["mempool"]["transactions"],
        "chain_receipts_kept": status["receipts_kept"],
        "chain_finality_p50_seconds": finality["p50"] / MS_PER_S,
        "chain_finality_p95_seconds": finality["p95"] / MS_PER_S,
        "chain_accused": len(status["accused"]),
        "chain_halted": int(bool(status["halted"])),
    }
