"""What benchmarks run beside docklock: a dockerd on a place of its own, commands timed alike.

Not here: what is compared (start, images). Invariant: nothing of theirs stays: daemon, mounts and
control groups go when a benchmark ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

DOCKER = "/usr/bin/docker"  # by path: another client may come first on the PATH
DAEMON_START_SECONDS = 30
RUN_SECONDS = 600


def run_timed(argv: list[str], env: dict[str, str]) -> tuple[float, int, str]:
    """Milliseconds from spawn to exit, exit code (128 + signal), the end of standard error."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process:
            # Popen.wait with a limit sleeps up to 50 ms between looks: wait on the pidfd instead.
            pidfd = os.pidfd_open(process.pid)
            if not select.select([pidfd], [], [], RUN_SECONDS)[0]:
                process.kill()
            code = process.wait()
            elapsed_ms = (time.perf_counter() - start) * 1000
            os.close(pidfd)
        errors.seek(0)
        text = errors.read().decode(errors="replace").strip()
    return elapsed_ms, code if code >= 0 else 128 - code, text[-300:]


def run_quietly(argv: list[str], env: dict[str, str] | None = None) -> None:
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)


def start_daemon(work: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Debian's dockerd on its own socket, data, state and process-id file; bridge off."""
    socket = f"unix://{work}/docker.sock"
    argv = ["dockerd", "-H", socket, "--data-root", f"{work}/docker-data"]
    argv += ["--exec-root", f"{work}/docker-exec", "--pidfile", f"{work}/docker.pid"]
    argv += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    with (work / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    env = report.get_clean_environment(DOCKER_HOST=socket, DOCKER_CONFIG=f"{work}/docker-config")
    deadline = time.monotonic() + DAEMON_START_SECONDS
    while run_timed([DOCKER, "version"], env)[1] != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            stop_daemon(daemon)
            sys.exit("dockerd did not start:\n" + (work / "dockerd.log").read_text()[-1000:])
        time.sleep(0.1)
    return daemon, env


def stop_daemon(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def unmount_below(work: Path) -> None:
    """Unmount what the runtimes left below `work`, deepest first."""
    with open("/proc/self/mountinfo") as mountinfo:
        points = [line.split()[4] for line in mountinfo]
    for point in sorted((p for p in points if p.startswith(f"{work}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


def get_group_parents() -> set[Path]:
    """The control groups that docker and podman keep as parents in every hierarchy."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    named = (top / name for top in tops for name in ("docker", "libpod_parent"))
    return {path for path in named if path.is_dir()}


def remove_groups(parents: set[Path]) -> None:
    """Remove these control groups and their children; one in use stays."""
    for parent in parents:
        for directory, _, _ in os.walk(parent, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
