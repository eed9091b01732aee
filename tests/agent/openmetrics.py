"""A strict little reader of the OpenMetrics text format: what a page says, or why it is none.

Source: OpenMetrics 1.0, "Text Format" and "Metric Types"; only what docklock's pages may hold.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SUFFIXES = {
    "gauge": ("",),
    "counter": ("_total",),
    "info": ("_info",),
    "histogram": ("_bucket", "_sum", "_count"),
}
_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (-?[0-9.e+-]+)')
_LABEL = re.compile(r'([a-z]+)="([^"]*)"')


class Family(NamedTuple):
    """`samples`: (suffix, labels) -> value."""

    kind: str
    help: str
    unit: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def get(self, suffix: str = "", **labels: str) -> float:
        return self.samples[suffix, tuple(sorted(labels.items()))]


def parse_page(text: str) -> dict[str, Family]:
    """The families by name; AssertionError for what a scraper would refuse."""
    *lines, end, empty = text.split("\n")
    assert (end, empty) == ("# EOF", "")
    families: dict[str, Family] = {}
    name = ""
    for line in lines:
        if line.startswith("# "):
            word, named, rest = line[2:].split(" ", 2)
            if word == "HELP":
                assert named not in families, f"two families {named}"
                families[named], name = Family("", rest, "", {}), named
            assert named == name, line
            families[name] = families[name]._replace(**{word.lower().replace("type", "kind"): rest})
            continue
        _add_sample(families[name], name, line)
    for name, family in families.items():
        _check_family(name, family)
    return families


def _add_sample(family: Family, name: str, line: str) -> None:
    found = _SAMPLE.fullmatch(line)
    assert found, line
    suffix = found[1].removeprefix(name)
    assert found[1].startswith(name) and suffix in SUFFIXES[family.kind], line
    key = suffix, tuple(sorted(_LABEL.findall(found[2] or "")))
    assert key not in family.samples, f"twice: {line}"
    family.samples[key] = float(found[3])


def _check_family(name: str, family: Family) -> None:
    assert re.fullmatch(r"(docklock|bpci)_[a-z_]+", name) and not name.endswith(("_total", "_info"))
    assert not family.unit or name.endswith(f"_{family.unit}"), name
    assert family.unit or not name.endswith(("_seconds", "_bytes")), name
    if family.kind == "histogram":
        _check_histogram(name, family)


def _check_histogram(name: str, family: Family) -> None:
    by_labels: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for (suffix, labels), value in family.samples.items():
        if suffix == "_bucket":
            bound = float(dict(labels)["le"])
            rest = tuple(label for label in labels if label[0] != "le")
            by_labels.setdefault(rest, []).append((bound, value))
    assert by_labels, name
    for labels, buckets in by_labels.items():
        assert buckets == sorted(buckets), f"{name}: not cumulative in order"
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), family.samples["_count", labels])
        assert ("_sum", labels) in family.samples
