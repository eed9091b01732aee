"""How a container's output is kept: the log driver and its limits, as the container's record says.

Not here: reading --log-driver and --log-opt (cli/log_options.py), writing (supervisor/logfile.py,
supervisor/journald.py), reading (cli/logs.py). Pure. Invariant: what has a file has a limit unless
its user has said max-size=-1.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

JSON_FILE, LOCAL, JOURNALD, NONE = "json-file", "local", "journald", "none"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
LOG_BYTES_MAX = 64 << 20
LOG_FILES_MAX = 2
BUFFER_BYTES_MAX = 1 << 20


class LogSettings(NamedTuple):
    """`files_max` counts the current file; 0: no file. `max_bytes` 0: it grows without bound.

    `is_blocking`: the container waits for its log; else lines beyond `buffer_bytes_max` are lost,
    and counted. `options` are as they were given, `attributes` what they add to each line.
    """

    driver: str = JSON_FILE
    max_bytes: int = LOG_BYTES_MAX
    files_max: int = LOG_FILES_MAX
    is_blocking: bool = True
    buffer_bytes_max: int = BUFFER_BYTES_MAX
    options: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def has_file(self) -> bool:
        """Whether `docklock logs` has something to read."""
        return self.files_max > 0


DEFAULT = LogSettings()


def decode_log(fields: tuple[Any, ...]) -> LogSettings:
    """The settings that a container's record keeps; none: the default ones."""
    if not fields:
        return DEFAULT
    found = LogSettings(*fields)
    return found._replace(
        options=tuple((str(name), str(value)) for name, value in found.options),
        attributes=tuple((str(name), str(value)) for name, value in found.attributes),
    )


def list_names(path: str, files_max: int) -> list[str]:
    """The names that a log's files may have, the newest first; one more, while they are shifted."""
    return [path, *(f"{path}.{number}" for number in range(1, files_max + 1))]
