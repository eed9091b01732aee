"""The screens by name: where each is, and the key that opens it. A screen is imported when opened.

A new screen needs one line here. What the two are opened with: `container` by an id and the name
of a tab (empty for the first), `receipt` by a container's id, a run and an index.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tui.screens.base import DockScreen


class Place(NamedTuple):
    """`key` is empty for a screen that is opened about something; `about` is for `?` and `:`."""

    name: str
    title: str
    module: str
    screen: str
    key: str = ""
    about: str = ""


PLACES = (
    Place(
        "containers", "Containers", "tui.screens.containers", "ContainersScreen", "1",
        "what runs, what it uses, whether its evidence is well",
    ),
    Place(
        "policy", "Policy", "tui.screens.policy", "PolicyScreen", "2",
        "what was denied, and the rule that would allow it",
    ),
    Place(
        "chain", "Chain", "tui.screens.chain", "ChainScreen", "3",
        "blocks, validators, finality, peers, forks",
    ),
    Place(
        "sync", "Sync", "tui.screens.sync", "SyncScreen", "4",
        "evidence on its way to servers, and what they acknowledged",
    ),
    Place(
        "alerts", "Alerts", "tui.screens.alerts", "AlertsScreen", "5",
        "what somebody should look at, and what to do",
    ),
    Place("container", "Container", "tui.screens.container", "ContainerScreen"),
    Place("receipt", "Receipt", "tui.screens.receipt", "ReceiptScreen"),
    Place("proposal", "Proposal", "tui.screens.proposal", "ProposalScreen"),
    Place("described", "Details", "tui.screens.described", "DescribedScreen"),
)  # fmt: skip
TABS = tuple(place for place in PLACES if place.key)


def get_place(name: str) -> Place:
    """The place of a name that this module has."""
    return next(place for place in PLACES if place.name == name)


def make_screen(name: str, *arguments: object) -> DockScreen:
    """Import the screen and make it of its arguments: a container's id, a run, an index."""
    place = get_place(name)
    made: DockScreen = getattr(importlib.import_module(place.module), place.screen)(*arguments)
    return made
