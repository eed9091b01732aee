"""Signals by name or number, as Docker writes them. Imports `signal`, which is slow: load late."""

from __future__ import annotations

import signal

from chainlite.errors import SpecError


def parse_signal(word: str) -> int:
    """The number for `TERM`, `SIGTERM` or `15`."""
    if word.isdigit() and 0 < int(word) < signal.NSIG:
        return int(word)
    name = word.upper().removeprefix("SIG")
    found = getattr(signal, f"SIG{name}", None)
    if not isinstance(found, signal.Signals):
        raise SpecError(f"unknown signal {word!r}: give a name such as TERM, or a number below 65")
    return int(found)
