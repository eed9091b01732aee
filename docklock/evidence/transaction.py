"""A database's transaction for `with`: contextlib, which would make one, imports for 3 ms.

Not here: what begins, commits or undoes (host_log).
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Transaction:
    """For `with`: begin, then commit, or undo at the first error."""

    __slots__ = ("_begin", "_commit", "_undo")

    def __init__(
        self,
        begin: Callable[[], object],
        commit: Callable[[], None],
        undo: Callable[[BaseException], None],
    ) -> None:
        self._begin, self._commit, self._undo = begin, commit, undo

    def __enter__(self) -> None:
        self._run(self._begin)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._run(self._commit)
        else:
            self._undo(error)

    def _run(self, step: Callable[[], object]) -> None:
        try:
            step()
        except BaseException as error:
            self._undo(error)
            raise
