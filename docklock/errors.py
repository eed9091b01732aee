"""KernelError: which system call failed, at which step, and what to do about it.

The errors that do not come from the kernel are in chainlite.errors.
"""

from __future__ import annotations

import os

from chainlite.errors import DocklockError


class KernelError(DocklockError, OSError):
    """A system call failed. `errno` is the kernel's; `call` and `step` say where; `hint` helps."""

    exit_code = 1

    def __init__(self, errno: int, call: str, step: str, hint: str = "") -> None:
        OSError.__init__(self, errno, os.strerror(errno))
        self.call = call
        self.step = step
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.step}: {self.call}: {os.strerror(self.errno or 0)}"
        return f"{text} ({self.hint})" if self.hint else text
