"""Commands of docklock and of others, timed alike. Not here: what is compared (start, images)."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time

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
