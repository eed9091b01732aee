"""What will be one commit: the rows, and what is to be put into the server's log with it.

Not here: who collects it and writes it (intake, restoring).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainlite.bpci.acknowledgement import Held
    from chainlite.bpci.act import Act
    from chainlite.bpci.known_host import KnownHost
    from chainlite.bpci.store import Alert, Bundle, Leaf, LogBlock, Notarised, Run, Segment


class Group:
    """What will be one commit."""

    def __init__(self) -> None:
        self.blocks: list[LogBlock] = []
        self.notarised: list[Notarised] = []
        self.bundles: list[Bundle] = []
        self.hosts: dict[bytes, KnownHost] = {}
        self.leaves: list[Leaf] = []
        self.segments: list[Segment] = []
        self.runs: dict[tuple[bytes, bytes], Run] = {}
        self.alerts: dict[tuple[bytes, str, int], Alert] = {}
        self.held: list[Held] = []
        self.acts: list[Act] = []
