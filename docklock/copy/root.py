"""A container's root as a descriptor: a running one's as it sees it, a stopped one's as it would.

Running: /proc/PID/root of its init, with all of its mounts. Stopped: its layers and binds, mounted
in a mount namespace of this process alone, which ends with it; the container's lock is held, so
that nobody starts or removes it meanwhile.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock import client
from docklock.kernel import mount as kernel
from docklock.kernel.process import CLONE_NEWNS, unshare
from docklock.lifecycle import hold_stopped, is_live, read_container, read_state, release_live
from docklock.mounts import Root
from docklock.plan import BindRoot, MakePrivate, MountOverlay, build_mount
from docklock.runtime import read_spec
from docklock.supervisor.task import get_overlay

if TYPE_CHECKING:
    from docklock.lifecycle import Container
    from docklock.paths import Paths
    from docklock.spec import Spec


class ContainerRoot:
    """For `with`: `fd` is an O_PATH descriptor of the root. StateError where there is none."""

    def __init__(self, paths: Paths, container_id: str) -> None:
        self._paths, self._id = paths, container_id
        self._live_fd = self.fd = -1
        self._path = ""

    def __enter__(self) -> int:
        container = read_container(self._paths, self._id)
        if is_live(self._paths, self._id):
            self.fd = _open_running(self._paths, self._id)
            return self.fd
        self._live_fd = hold_stopped(self._paths, self._id)
        try:
            spec = read_spec(container)
            self._path = os.path.join(container.bundle, spec.root_path)
            self.fd = _mount_stopped(container, spec, self._path)
        except BaseException:
            self._release()
            raise
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if self._live_fd >= 0:
            kernel.umount2(self._path)  # before others may mount it
            self._release()

    def _release(self) -> None:
        release_live(self._paths, self._id)
        os.close(self._live_fd)


def _open_running(paths: Paths, container_id: str) -> int:
    pid = read_state(paths, container_id).pid
    if not pid:
        raise StateError(f"container {container_id[:12]} is starting or ending: try again")
    try:
        pidfd = os.pidfd_open(pid)
        try:
            client.connect(paths, container_id).close()  # it lives, so `pid` was its init's
            fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if poll.poll(0):
                os.close(fd)
                raise StateError(f"container {container_id[:12]} has ended")
            return fd
        finally:
            os.close(pidfd)
    except (ProcessLookupError, FileNotFoundError):
        raise StateError(f"container {container_id[:12]} has ended") from None


def _mount_stopped(container: Container, spec: Spec, path: str) -> int:
    root = Root()
    unshare(CLONE_NEWNS, "look into the stopped container")
    MakePrivate("private").execute(root)
    overlay = get_overlay(container)
    (MountOverlay(path, overlay) if overlay is not None else BindRoot(path)).execute(root)
    root.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for mount in spec.mounts:
        if mount.kind == "bind":
            build_mount(mount, container.bundle, ()).execute(root)
    if spec.root_readonly:
        step = "make the root read-only"
        kernel.mount_setattr(root.fd, kernel.MOUNT_ATTR_RDONLY, recursive=False, step=step)
    return root.fd
