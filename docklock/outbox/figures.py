"""How far servers are, as numbers for the agent's metrics. Pure.

Not here: the status (status), the page (docklock.agent.metrics).
"""

from __future__ import annotations

from typing import Any

HELP = {
    "outbox_acknowledged_leaves": "Leaves of the host log that the server holds, by its word.",
    "outbox_lag_leaves": "Leaves of the host log that it has not acknowledged.",
    "outbox_lag_bytes": "Bytes of these leaves and of their bodies, as they are stored.",
    "outbox_lag_seconds": "Age of the oldest leaf that it has not acknowledged.",
    "outbox_failures": "Tries in a row that brought no acknowledgement.",
    "outbox_well": "1 if the last try brought what was wanted.",
    "outbox_contradictions": "Answers that cannot be true, kept as evidence.",
    "outbox_alerts": "Alerts that it has raised against this host's evidence.",
}


def list_figures(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each name in HELP, the number of each server by its labels; `found` as JSON has them."""
    return {name: {_label(one): _get(one)[name] for one in found} for name in HELP}


def _get(one: dict[str, Any]) -> dict[str, float]:
    return {
        "outbox_acknowledged_leaves": one["acknowledged"],
        "outbox_lag_leaves": one["lag_leaves"],
        "outbox_lag_bytes": one["lag_bytes"],
        "outbox_lag_seconds": one["lag_s"],
        "outbox_failures": one["failures"],
        "outbox_well": int(one["acknowledged_ms"] is not None and not one["failures"]),
        "outbox_contradictions": one["contradictions"],
        "outbox_alerts": len(one["alerts"]),
    }


def _label(one: dict[str, Any]) -> str:
    name = one["name"].replace("\\", "\\\\").replace('"', '\\"')
    return f'server="{name}"'
