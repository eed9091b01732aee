"""What the benchmarks share: a busybox tree, finding docklock, printing and keeping results.

Who imports it finds the checkout's modules and what they need: import it before them.
A benchmark prints a table for people and, last, one line of JSON for programs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUSYBOX = "/usr/bin/busybox"
APPLETS = ("true", "sh", "ls", "cat", "echo", "sleep")


def _use_checkout() -> None:
    """Let the checkout's modules be found; go on in its .venv if what they need is not here."""
    sys.path.insert(1, str(HERE.parent))
    try:
        import blake3  # noqa: F401
        import nacl  # noqa: F401
    except ImportError:
        python = HERE.parent / ".venv/bin/python"
        if Path(sys.executable) == python or not python.exists():
            sys.exit("pynacl or blake3 is missing: run ./test once (it makes .venv)")
        os.execv(python, [str(python), *sys.argv])


def find_docklock(named: str | None) -> str:
    """The docklock to measure: the named one, the checkout's, or PATH's."""
    for candidate in (named, str(HERE.parent / ".venv/bin/docklock"), shutil.which("docklock")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    sys.exit("no docklock found: run ./test once (it makes .venv), or name it with --docklock")


def make_busybox_tree(directory: Path) -> Path:
    """A root file system of Debian's static busybox: the same for every runtime."""
    if not os.access(BUSYBOX, os.X_OK):
        sys.exit(f"{BUSYBOX} is missing: apt-get install busybox-static")
    binaries = directory / "bin"
    binaries.mkdir(parents=True)
    shutil.copy2(BUSYBOX, binaries / "busybox")
    for applet in APPLETS:
        (binaries / applet).symlink_to("busybox")
    return directory


def get_commit() -> str:
    """The commit of the checkout, with a plus sign if tracked files are changed."""
    git = ["git", "-C", str(HERE.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
        clean = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode == 0
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.decode().strip() + ("" if clean else "+")


def get_clean_environment(**more: str) -> dict[str, str]:
    """The environment without what slows or redirects a runtime; `more` is set on top."""
    dropped = ("PYTHON", "DOCKER_", "DOCKLOCK_", "CONTAINER", "LD_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return kept | more


def measure_bounds(work: Path) -> dict[str, float]:
    """Ed25519 verifications and fdatasyncs of 4 KiB a second, one process, one after the other."""
    from chainlite import keys

    pair = keys.make_key_pair(bytes(32))
    signature = keys.sign(pair, b"\x91", b"m" * 143)
    start, count = time.perf_counter(), 5_000
    for _ in range(count):
        keys.is_signed(pair.public, b"\x91", b"m" * 143, signature)
    verified = count / (time.perf_counter() - start)
    with (work / "bound").open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
        start, count = time.perf_counter(), 300
        for number in range(count):
            os.pwrite(file.fileno(), bytes([number & 255]) * 4096, 0)
            os.fdatasync(file.fileno())
        synced = count / (time.perf_counter() - start)
    return {"verifications_per_s": verified, "fdatasyncs_per_s": synced}


def finish(name: str, result: dict[str, Any], *, save: bool) -> None:
    """Print the result as one line of JSON; with `save` keep it in benchmarks/results/."""
    now = time.gmtime()
    result = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        "commit": get_commit(),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
    } | result
    if save:
        target = HERE / "results" / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', now)}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, sort_keys=True))


_use_checkout()
