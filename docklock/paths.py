"""Where docklock keeps its state: one object, made once from --root or DOCKLOCK_ROOT.

Layout under `state` (default /var/lib/docklock) and `run` (default /run/docklock; DIR/run when a
root is named). Who may edit what, and what that gains them: README.md of this room.
"""

from __future__ import annotations

import os

from chainlite.lean import NamedTuple

STATE_DEFAULT = "/var/lib/docklock"
RUN_DEFAULT = "/run/docklock"


class Paths(NamedTuple):
    """The directories of one docklock installation. All are absolute."""

    state: str
    run: str

    @property
    def images(self) -> str:
        return f"{self.state}/images"

    @property
    def evidence(self) -> str:
        return f"{self.state}/evidence"

    @property
    def keys(self) -> str:
        return f"{self.state}/keys"

    @property
    def host_db(self) -> str:
        return f"{self.state}/host.db"

    @property
    def policies(self) -> str:
        return f"{self.state}/policies"

    @property
    def containers(self) -> str:
        return f"{self.state}/containers"

    def container(self, container_id: str) -> str:
        return f"{self.state}/containers/{container_id}"


def get_paths(root: str | None = None) -> Paths:
    """Paths for `root`, else for DOCKLOCK_ROOT, else the system's. Makes nothing."""
    root = root or os.environ.get("DOCKLOCK_ROOT") or ""
    if not root:
        return Paths(STATE_DEFAULT, RUN_DEFAULT)
    root = os.path.abspath(root)
    return Paths(root, f"{root}/run")
