"""KernelError: which system call failed, at which step, and what to do about it.

The errors that do not come from the kernel are in chainlite.errors.
"""

from __future__ import annotations

import os

from chainlite.errors import DocklockError, SpecError, StateError, TamperError


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


class StartError(StateError):
    """A start that failed, as its guard tells it; the guard has it on record."""


class RefusedError(StateError):
    """What a supervisor refused; `why` is the word of get_why for its own error."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def get_why(error: BaseException) -> str:
    """The error's class in a word, for the record: kernel, state, spec, tamper or system."""
    if isinstance(error, RefusedError):
        return error.why
    words = ((KernelError, "kernel"), (StateError, "state"), (SpecError, "spec"))
    for kind, word in (*words, (TamperError, "tamper")):
        if isinstance(error, kind):
            return word
    return "system"
