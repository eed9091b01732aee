"""Debian's dockerd on a place of its own, for what is compared with Docker.

Invariant: nothing of it stays: daemon, mounts and control groups go when it is let go. Also used by
benchmarks, so nothing of pytest is here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

DOCKER = "/usr/bin/docker"  # by path: another client may come first on the PATH
START_LIMIT_S = 30


@contextlib.contextmanager
def hold_daemon(work: Path, base: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A daemon below `work`, bridge off; the environment of its clients, which is `base` and more.

    RuntimeError with the end of its log where it does not start.
    """
    socket = f"unix://{work}/docker.sock"
    environment = dict(base) | {"DOCKER_HOST": socket, "DOCKER_CONFIG": f"{work}/docker-config"}
    argv = ["dockerd", "-H", socket, "--data-root", f"{work}/docker-data"]
    argv += ["--exec-root", f"{work}/docker-exec", "--pidfile", f"{work}/docker.pid"]
    argv += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    with leave_nothing(work):
        with (work / "dockerd.log").open("wb") as log:
            daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(daemon, work, environment)
            yield environment
        finally:
            _stop(daemon)


@contextlib.contextmanager
def leave_nothing(work: Path) -> Iterator[None]:
    """Removes mounts below `work`, and the control groups that docker and podman made meanwhile."""
    groups = _get_group_parents()
    try:
        yield
    finally:
        _unmount_below(work)
        _remove_groups(_get_group_parents() - groups)


def _wait_for(daemon: subprocess.Popen[bytes], work: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while subprocess.run([DOCKER, "version"], env=environment, capture_output=True).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            said = (work / "dockerd.log").read_text()[-1000:]
            raise RuntimeError(f"dockerd did not start:\n{said}")
        time.sleep(0.1)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _unmount_below(work: Path) -> None:
    """Unmount what it left below `work`, deepest first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mountinfo:
        points = [line.split()[4] for line in mountinfo]
    for point in sorted((p for p in points if p.startswith(f"{work}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


def _get_group_parents() -> set[Path]:
    """The control groups that docker and podman keep as parents in every hierarchy."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    named = (top / name for top in tops for name in ("docker", "libpod_parent"))
    return {path for path in named if path.is_dir()}


def _remove_groups(parents: set[Path]) -> None:
    """Remove these control groups and their children; one in use stays."""
    for parent in parents:
        for directory, _, _ in os.walk(parent, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
