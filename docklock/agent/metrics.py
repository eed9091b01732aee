"""The agent's numbers in the OpenMetrics text format. Pure.

Not here: counting (main.py, totals.py, tally.py). Source: OpenMetrics 1.0, which Prometheus's own
text format 0.0.4 reads as well.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from docklock import __version__
from docklock.chain.figures import HELP as CHAIN_HELP
from docklock.evidence.histogram import BOUNDS_NS
from docklock.outbox.figures import HELP as OUTBOX_HELP

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NS_PER_S = 1_000_000_000


class LogCounts(NamedTuple):
    """What the host log has got since this agent began, and how large it is now."""

    runs: int
    receipts: int
    gaps: int
    leaves: int
    size_bytes: int


class Counts(NamedTuple):
    """What /metrics tells. `containers` by status; `mends` since this agent began.

    `histograms` are totals.Totals.sums; `log` is None where the host log cannot be read.
    """

    containers: dict[str, int]
    adopted: int
    mends: int
    is_well: bool
    up_s: float
    histograms: dict[str, list[int]]
    log: LogCounts | None
    forks: int = 0
    asks: int = 0
    is_policy_met: bool | None = None
    chain: dict[str, float] | None = None
    """Figures of the node of a chain that the agent keeps; empty while that does not answer."""
    outbox: Mapping[str, Mapping[str, float]] | None = None
    """Of the servers that evidence goes to, by name and labels; None where there is none."""


class Sample(NamedTuple):
    """One line: what follows the family's name, and the labels as they are written."""

    suffix: str
    labels: str
    value: str


class Family(NamedTuple):
    """Samples of one name. `unit` is empty, or what the name ends with."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]
    unit: str = ""

    def format(self) -> list[str]:
        """Its lines."""
        name = f"docklock_{self.name}"
        lines = [f"# HELP {name} {self.help}", f"# TYPE {name} {self.kind}"]
        lines += [f"# UNIT {name} {self.unit}"] * bool(self.unit)
        for suffix, labels, value in self.samples:
            lines.append(f"{name}{suffix}{f'{{{labels}}}' if labels else ''} {value}")
        return lines


def format_metrics(counts: Counts) -> str:
    """The page."""
    families = [*_list_agent(counts), *_list_histograms(counts.histograms)]
    if counts.log is not None:
        families += _list_log(counts.log)
    if counts.chain is not None:
        families += _list_chain(counts.chain)
    if counts.outbox is not None:
        families += [
            make_family(name, "gauge", text, counts.outbox[name])._replace(unit=_get_unit(name))
            for name, text in OUTBOX_HELP.items()
        ]
    return format_families(families)


def format_families(families: list[Family]) -> str:
    """A page of them."""
    lines = [line for family in families for line in family.format()]
    return "\n".join([*lines, "# EOF"]) + "\n"


def make_family(name: str, kind: str, text: str, value: float | Mapping[str, float]) -> Family:
    """A gauge or counter: a number, or one for each set of labels."""
    by_labels = {"": value} if isinstance(value, int | float) else value
    suffix = "_total" if kind == "counter" else ""
    samples = [Sample(suffix, labels, str(+number)) for labels, number in by_labels.items()]
    return Family(name, kind, text, tuple(samples))


def _list_agent(counts: Counts) -> list[Family]:
    by_status = {f'status="{name}"': n for name, n in sorted(counts.containers.items())}
    build = (Sample("_info", f'version="{__version__}"', "1"),)
    families = [
        make_family("containers", "gauge", "Containers on disk, by status.", by_status),
        _gauge("adopted", "Supervisors that the agent is connected to.", counts.adopted),
        _counter("mends", "Runs of docklock mend.", counts.mends),
        _gauge("agent_well", "1 if the last scan and mend succeeded.", int(counts.is_well)),
        _gauge("agent_up_seconds", "Age of this agent.", round(counts.up_s, 3), "seconds"),
        _gauge("forks", "Forks that are kept as proof.", counts.forks),
        _counter("witness_asks", "Runs of docklock witness ask.", counts.asks),
        Family("build", "info", "The version.", build),
    ]
    if counts.is_policy_met is not None:
        text = "1 if the log was cosigned as the policy says, the last time."
        families.append(_gauge("witness_policy_met", text, int(counts.is_policy_met)))
    return families


def _list_log(log: LogCounts) -> list[Family]:
    return [
        _counter("runs", "Starts of containers.", log.runs),
        _counter("receipts", "Receipts that are durable, signed and logged.", log.receipts),
        _counter("gaps", "Runs that lost their supervisor: each has a signed gap.", log.gaps),
        _gauge("log_leaves", "Size of the host log.", log.leaves),
        _gauge("log_bytes", "Size of the host log's files.", log.size_bytes, "bytes"),
    ]


def _list_chain(figures: dict[str, float]) -> list[Family]:
    up = _gauge("chain_up", "1 if the node of a chain answers.", int(bool(figures)))
    found = [
        _gauge(name, text, figures[name], _get_unit(name))
        for name, text in CHAIN_HELP.items()
        if name in figures
    ]
    return [up, *found]


def _get_unit(name: str) -> str:
    unit = name.rpartition("_")[2]
    return unit if unit in ("seconds", "bytes") else ""


def _list_histograms(sums: dict[str, list[int]]) -> list[Family]:
    gate = (*_bucket(sums["answers"], 'answer="at_once"'), *_bucket(sums["held"], 'answer="held"'))
    return [
        Family(
            "gate_latency_seconds",
            "histogram",
            "From the worker's receipt of a call to its answer.",
            gate,
            "seconds",
        ),
        Family(
            "commit_seconds",
            "histogram",
            "Sealing, signing and writing the segments of one commit, with its sync.",
            _bucket(sums["commits"]),
            "seconds",
        ),
    ]


def _bucket(values: list[int], label: str = "") -> tuple[Sample, ...]:
    """Cumulative, as the format wants them; `values` are counts and, last, the sum in ns."""
    *counts, sum_ns = values
    bounds = [str(bound / NS_PER_S) for bound in BOUNDS_NS]
    before = f"{label}," if label else ""
    lines = zip([*bounds, "+Inf"], accumulate(counts), strict=True)
    return (
        *(Sample("_bucket", f'{before}le="{bound}"', str(count)) for bound, count in lines),
        Sample("_sum", label, str(sum_ns / NS_PER_S)),
        Sample("_count", label, str(sum(counts))),
    )


def _gauge(name: str, text: str, value: float, unit: str = "") -> Family:
    return make_family(name, "gauge", text, value)._replace(unit=unit)


def _counter(name: str, text: str, value: int) -> Family:
    return make_family(name, "counter", text, value)
