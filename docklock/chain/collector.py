"""Python's collector of cycles, in a process whose event loop must answer within milliseconds.

A node makes and drops some hundred thousand objects a second, nearly all without a cycle; the
collector's own thresholds have it look through those that wait, again and again: a tenth of the
time per transaction. Not here: what is collected.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 50_000
"""More objects made than dropped since the last look: a look through so many takes some 5 ms."""
OLDER_MAX = 20
"""Looks at the young before one at what outlived them."""


def calm_collector() -> None:
    """What is here stays and is not looked at again; what comes, seldom. Call it once all is up."""
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, OLDER_MAX, OLDER_MAX)
