"""The agent's numbers in Prometheus's text format. Pure.

Not here: counting (main.py). Source: prometheus.io, exposition formats, text 0.0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docklock import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counts(NamedTuple):
    """What /metrics tells. `containers` by status; `mends` since this agent began."""

    containers: dict[str, int]
    adopted: int
    mends: int
    is_well: bool
    up_s: float
    forks: int = 0
    asks: int = 0
    is_policy_met: bool | None = None


def format_metrics(counts: Counts) -> str:
    """The page: for each metric its help, its type, its samples."""
    by_status = {f'status="{name}"': n for name, n in sorted(counts.containers.items())}
    lines = [
        *format_samples("containers", "gauge", "Containers on disk, by status.", by_status),
        *format_samples(
            "adopted", "gauge", "Supervisors that the agent is connected to.", counts.adopted
        ),
        *format_samples("mends_total", "counter", "Runs of docklock mend.", counts.mends),
        *format_samples(
            "agent_well", "gauge", "1 if the last scan and mend succeeded.", counts.is_well
        ),
        *format_samples("agent_up_seconds", "gauge", "Age of this agent.", round(counts.up_s, 3)),
        *format_samples("forks", "gauge", "Forks that are kept as proof.", counts.forks),
        *format_samples(
            "witness_asks_total", "counter", "Runs of docklock witness ask.", counts.asks
        ),
        *format_samples("build_info", "gauge", "The version.", {f'version="{__version__}"': 1}),
    ]
    if counts.is_policy_met is not None:
        text = "1 if the log was cosigned as the policy says, the last time."
        lines += format_samples("witness_policy_met", "gauge", text, counts.is_policy_met)
    return "\n".join(lines) + "\n"


def format_samples(name: str, kind: str, text: str, value: float | Mapping[str, int]) -> list[str]:
    """Help, type and samples of one metric: a number, or one a set of labels."""
    name = f"docklock_{name}"
    samples = {"": value} if isinstance(value, int | float) else value
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(f"{name}{f'{{{labels}}}' if labels else ''} {+n}" for labels, n in samples.items()),
    ]
