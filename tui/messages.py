"""What goes up from a reader's thread to a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from docklock.console.facts import Progress


class Facts(Message, bubble=False):
    """One answer of a part: `value`, or the error's words and no value.

    `name` is the reader's or the call's; `is_once` tells a call that a person asked for.
    """

    def __init__(
        self, name: str, value: object, error: str, at_ns: int, *, is_once: bool = False
    ) -> None:
        self.name = name
        self.value = value
        self.error = error
        self.at_ns = at_ns
        self.is_once = is_once
        super().__init__()


class Progressed(Message, bubble=False):
    """How far a long action is; posted from its thread."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name = name
        self.progress = progress
        super().__init__()


class Silence(Message, bubble=False):
    """A part has not answered a reader since `since_ns`; told again until it does."""

    def __init__(self, name: str, since_ns: int) -> None:
        self.name = name
        self.since_ns = since_ns
        super().__init__()
