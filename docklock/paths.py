"""Where docklock keeps its state: one object, made once from --root and --runroot.

Layout under `state` (--root, DOCKLOCK_ROOT, else /var/lib/docklock), which is kept, and `run`
(--runroot, DOCKLOCK_RUNROOT, else ROOT/run where a root is named, else /run/docklock), which a boot
may empty and should be memory (tmpfs): journals of live runs and sockets. The words are podman's.
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
    def log(self) -> str:
        return f"{self.state}/log"

    @property
    def policies(self) -> str:
        return f"{self.state}/policies"

    @property
    def containers(self) -> str:
        return f"{self.state}/containers"

    def container(self, container_id: str) -> str:
        return f"{self.state}/containers/{container_id}"


def get_paths(root: str | None = None, run_root: str | None = None) -> Paths:
    """Paths for what is given, else for the environment's, else the system's. Makes nothing."""
    root = root or os.environ.get("DOCKLOCK_ROOT") or ""
    run_root = run_root or os.environ.get("DOCKLOCK_RUNROOT") or ""
    state = os.path.abspath(root) if root else STATE_DEFAULT
    run = os.path.abspath(run_root) if run_root else f"{state}/run" if root else RUN_DEFAULT
    return Paths(state, run)
