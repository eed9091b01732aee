"""A stored receipt as a line of a list.

Not here: where it is stored (docklock/evidence/reading.py), whether it holds.
"""

from __future__ import annotations

from errno import errorcode
from typing import TYPE_CHECKING

from chainlite.receipt import DECISIONS
from docklock.cli.addresses import format_sockaddr
from docklock.console.facts import Event
from docklock.evidence.reading import decode_text

if TYPE_CHECKING:
    from docklock.evidence.reading import Shown

REDACTED = "(redacted)"


def make_event(shown: Shown) -> Event:
    """The receipt and its values, as text that nobody has made harmless yet."""
    receipt = shown.receipt
    return Event(
        run=receipt.run,
        event_index=receipt.event_index,
        time_ns=receipt.time,
        pid=receipt.pid,
        op=receipt.op,
        decision=DECISIONS[receipt.decision],
        errno=errorcode.get(receipt.errno, str(receipt.errno)) if receipt.errno else "",
        values=tuple((name, show_value(name, value)) for name, value in shown.values),
        labels=receipt.labels,
        host=receipt.host.hex(),
        container=receipt.container.hex(),
    )


def show_value(name: str, value: bytes | None) -> str:
    """As people read it: addresses as text, words with a space between."""
    if value is None:
        return REDACTED
    return format_sockaddr(value) if name == "sockaddr" else decode_text(value)
