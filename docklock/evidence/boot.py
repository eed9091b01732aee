"""This boot: its id and how long it lasts; read once per process, never guessed.

Not here: what it is bound into (chainlite.segment, chainlite.hostlog).
"""

from __future__ import annotations

import time

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def get_boot_id() -> bytes:
    """The kernel's random id of this boot, 16 bytes."""
    with open(BOOT_ID, encoding="utf-8") as file:
        return bytes.fromhex(file.read().strip().replace("-", ""))


def get_boottime_ns() -> int:
    """CLOCK_BOOTTIME in ns: it runs while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
