"""Requests that a supervisor refuses on its socket: a receipt `runtime.denied` of the run for each.

Labels: `request` (the verb, or `unknown`), `why` (malformed, or the error's class in a word). The
front end's own leaf in the host log is docklock.cli.denied's. Invariant: a client that asks again
and again cannot make the run's evidence grow beyond DENIALS_MAX such receipts and one that counts
the rest (tests/e2e/test_denied.py::test_a_flood_of_refused_requests_is_bounded_and_counted).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING
from chainlite.receipt import DENIED

if TYPE_CHECKING:
    from collections.abc import Callable

DENIALS_MAX = 256  # in one run


class Denials:
    """Counts a run's refusals; `record(op, labels=..., decision=...)` writes a receipt."""

    def __init__(self, record: Callable[..., None]) -> None:
        self._record = record
        self._count = 0

    def add(self, verb: str, why: str) -> None:
        """A request was refused."""
        self._count += 1
        if self._count <= DENIALS_MAX:
            self._write(("request", verb), ("why", why))

    def close(self) -> None:
        """The run ends: say how many were refused beyond DENIALS_MAX."""
        if self._count > DENIALS_MAX:
            self._write(("count", str(self._count - DENIALS_MAX)))

    def _write(self, *labels: tuple[str, str]) -> None:
        self._record("runtime.denied", labels=labels, decision=DENIED)
