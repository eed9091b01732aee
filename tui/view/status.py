"""The footer's first line: which source, how it is, and how much of it was looked at. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.view.moments import format_clock
from tui.view.text import make_harmless
from tui.view.units import write_count

if TYPE_CHECKING:
    from docklock.console.facts import Overview

ID_SHOWN = 12
WORDS_MAX = 60


def make_status(name: str, overview: Overview | None) -> str:
    """One line; what was sampled says so."""
    parts = [make_harmless(name, WORDS_MAX)]
    if overview is None:
        return f"{parts[0]} · reading"
    if overview.host:
        parts.append(f"host {make_harmless(overview.host, ID_SHOWN * 4)[:ID_SHOWN]}")
    if overview.agent:
        parts.append(f"agent {make_harmless(overview.agent, WORDS_MAX)}")
    running, measured = overview.running, overview.measured
    words = f"{write_count(running)} running"
    if measured < running:
        words += f", {write_count(measured)} measured"
    parts.append(words)
    parts.append(f"{format_clock(overview.at_ns)} UTC")
    return " · ".join(parts)
