"""A request that was understood and refused: the leaf `denied` of the host log.

Labels: `request` (the command or verb), `why` (the error's class in a word) and `code` (what the
command exits with). Never the error's text, which may quote arguments: labels are public.
Not here: which requests leave one (docklock.cli.denied), refusals of a supervisor's socket, which
are receipts of its run (docklock.supervisor.denials).
"""

from __future__ import annotations

from chainlite.errors import DocklockError
from chainlite.lean import TYPE_CHECKING
from docklock.errors import get_why
from docklock.evidence.host_log import has_host_log
from docklock.evidence.keyring import has_host_key
from docklock.evidence.operations import record_operation

if TYPE_CHECKING:
    from docklock.paths import Paths


def record_denial(
    paths: Paths, request: str, error: BaseException, exit_code: int, container: str = ""
) -> str:
    """Append the leaf; why it could not be written, or "". Never raises for that.

    Nothing is written where there is no log or no key yet: a refusal makes neither.
    """
    if not (has_host_log(paths) and has_host_key(paths)):
        return ""
    labels = (("request", request), ("why", get_why(error)), ("code", str(exit_code)))
    try:
        record_operation(paths, "denied", container, labels)
    except (DocklockError, OSError) as failure:
        return str(failure)
    return ""
