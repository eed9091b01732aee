"""Network namespaces of a test's hosts: their addresses, and the commands that make them.

Not here: what is between them (netem.py, router.py).
"""

from __future__ import annotations

import subprocess

MTU = 9_000
PACKETS_MAX = 20_000
"""On their way at a time; more are lost, as in any router."""
SUBNET = "10.77.0"


def make_address(number: int) -> str:
    return f"{SUBNET}.{number + 1}"


def enter(namespace: str) -> tuple[str, ...]:
    """What runs a program in a network namespace, and leaves it this mount namespace.

    `ip -n` and `ip netns exec` mount /sys anew, which fails in a chroot.
    """
    return ("nsenter", f"--net=/run/netns/{namespace}")


def run(*command: str, text: str = "") -> None:
    """It must succeed; what it says otherwise is told."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}\n{text}"
