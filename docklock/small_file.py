"""A small file, whole, in as few calls of the kernel as it takes: some commands read thousands.

Not here: what is in it. Source: open(2), read(2).
"""

from __future__ import annotations

import os

USUAL_BYTES = 16384


def read_small(path: str) -> bytes:
    """All bytes of a file. OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(file, USUAL_BYTES)
        if len(data) == USUAL_BYTES:
            while more := os.read(file, USUAL_BYTES):
                data += more
        return data
    finally:
        os.close(file)
