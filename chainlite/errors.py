"""The errors every room shares, split by who broke the rule.

Not here: KernelError, which only the runtime can meet (docklock.errors).
"""

from __future__ import annotations


class DocklockError(Exception):
    """An error a user may see; `exit_code` is the process's exit status for docklock's nouns.

    `container` is the full id of the one it is about, where that is known.
    """

    exit_code = 1
    container = ""


class SpecError(DocklockError):
    """The caller's document or argument is wrong; the message names the place and the remedy."""

    exit_code = 2


class StateError(DocklockError):
    """The request is right, but the object is not in a status that allows it."""

    exit_code = 1


class TamperError(DocklockError):
    """Evidence contradicts itself. Never retried."""

    exit_code = 3


class PeerError(DocklockError):
    """What another node sent breaks a rule: dropped and counted against it, never passed on."""

    exit_code = 1


class About:
    """For `with`: an error that passes is about this container, unless it is about one already."""

    __slots__ = ("_container",)

    def __init__(self, container_id: str) -> None:
        self._container = container_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, DocklockError) and not error.container:
            error.container = self._container
