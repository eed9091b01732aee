"""--log-driver and --log-opt: Docker's drivers json-file, local, journald and none.

Loaded when one is given. What is refused says why: docklock sends output to no other machine, and
compresses no log (its guard has one thread, which the container would wait for). `local` has
Docker's limits; its file is json-file's. Not here: what the settings are (docklock.log_settings).
Source: docker.com, logging drivers; moby, daemon/logger.
"""

from __future__ import annotations

import os
import re

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.cli.limits import parse_bytes
from docklock.log_settings import (
    JOURNAL_SOCKET,
    JOURNALD,
    JSON_FILE,
    LOCAL,
    NONE,
    LogSettings,
)
from docklock.nearest import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from docklock.lifecycle import Container
    from docklock.spec import Spec

FILES_LIMIT = 1000
LOCAL_BYTES_MAX = 20 << 20
LOCAL_FILES_MAX = 5
_ATTRIBUTES = ("env", "env-regex", "labels", "labels-regex", "tag")
_MODES = ("max-buffer-size", "mode")
_FILES = ("compress", "max-file", "max-size")
_CACHE = ("cache-compress", "cache-disabled", "cache-max-file", "cache-max-size")
OPTIONS = {
    JSON_FILE: (*_FILES, *_MODES, *_ATTRIBUTES),
    LOCAL: (*_FILES, *_MODES),
    JOURNALD: (*_CACHE, *_MODES, *_ATTRIBUTES),
    NONE: (),
}
ELSEWHERE = ("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "splunk", "syslog")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def parse_settings(values: dict[str, Any]) -> LogSettings:
    """What --log-driver and --log-opt say. SpecError."""
    driver = values["log_driver"] or JSON_FILE
    _check_driver(driver)
    given = dict(_parse_pair(word) for word in values["log_opt"])
    for name in given:
        if name not in OPTIONS[driver]:
            hint = suggest(name, OPTIONS[driver]) or _list(OPTIONS[driver])
            raise SpecError(f"--log-opt: unknown log opt '{name}' for {driver} log driver{hint}")
    settings = LogSettings(driver, options=tuple(sorted(given.items())))
    if "mode" in given:
        settings = settings._replace(is_blocking=_parse_mode(given["mode"]))
    if "max-buffer-size" in given:
        if settings.is_blocking:
            raise SpecError(
                "--log-opt max-buffer-size: option is only supported with 'mode=non-blocking'"
            )
        size = parse_bytes("--log-opt max-buffer-size", given["max-buffer-size"])
        settings = settings._replace(buffer_bytes_max=size)
    if driver == NONE:
        return settings._replace(files_max=0)
    return _limit_files(settings, given)


def _check_driver(driver: str) -> None:
    if driver in OPTIONS:
        return
    if driver in ELSEWHERE:
        why, hint = "docklock sends no output elsewhere: a forwarder can read these", ""
    else:
        why = f"logger: no log driver named '{driver}' is registered"
        hint = suggest(driver, OPTIONS)
    raise SpecError(f"--log-driver {driver}: {why}{hint or _list(OPTIONS)}")


def _list(words: Iterable[str]) -> str:
    known = ", ".join(words)
    return f"; there are {known}" if known else ""


def _parse_pair(word: str) -> tuple[str, str]:
    name, has_value, value = word.partition("=")
    if not name or not has_value:
        raise SpecError(f"--log-opt {word}: give NAME=VALUE")
    return name, value


def _limit_files(settings: LogSettings, given: dict[str, str]) -> LogSettings:
    """Docker's limits for a driver, where they are given; else ours for json-file."""
    prefix = "cache-" if settings.driver == JOURNALD else ""
    size, count = (given.get(f"{prefix}{name}") for name in ("max-size", "max-file"))
    _check_compress(f"{prefix}compress", given)
    if prefix and _parse_bool("cache-disabled", given.get("cache-disabled", "false")):
        return settings._replace(files_max=0)
    if settings.driver != JSON_FILE:
        settings = settings._replace(max_bytes=LOCAL_BYTES_MAX, files_max=LOCAL_FILES_MAX)
    elif size is not None:
        settings = settings._replace(files_max=1)  # Docker's, where a size is given
    if size is not None:
        option = f"--log-opt {prefix}max-size"
        bytes_max = 0 if size == "-1" and not prefix else parse_bytes(option, size)
        settings = settings._replace(max_bytes=bytes_max)
    if count is not None:
        settings = settings._replace(files_max=_parse_count(f"{prefix}max-file", count))
    if not settings.max_bytes and settings.files_max > 1:
        raise SpecError("--log-opt max-file: it needs a max-size")
    return settings


def _parse_count(name: str, word: str) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= int(word[:9]) <= FILES_LIMIT):
        raise SpecError(f"--log-opt {name}={word}: give a number from 1 to {FILES_LIMIT}")
    return int(word)


def _parse_mode(word: str) -> bool:
    """Whether it is blocking."""
    if word not in ("blocking", "non-blocking"):
        raise SpecError(f"--log-opt mode={word}: give blocking or non-blocking")
    return word == "blocking"


def _parse_bool(name: str, word: str) -> bool:
    if word not in _TRUE + _FALSE:
        raise SpecError(f"--log-opt {name}={word}: give true or false")
    return word in _TRUE


def _check_compress(name: str, given: dict[str, str]) -> None:
    if _parse_bool(name, given.get(name, "false")):
        raise SpecError(
            f"--log-opt {name}=true: docklock compresses no logs, the container would wait for"
            " it; max-size and max-file bound them"
        )


def set_log(container: Container, spec: Spec, values: dict[str, Any]) -> Container:
    """The container with its log settings and what each line is to carry. SpecError, StateError."""
    settings = parse_settings(values)
    if settings.driver == JOURNALD and not os.path.exists(JOURNAL_SOCKET):
        raise StateError(
            f"failed to initialize logging driver: journald is not enabled on this host: there is"
            f" no {JOURNAL_SOCKET}"
        )
    given = dict(settings.options)
    environment = dict(entry.split("=", 1) for entry in spec.process.env)
    found = {}
    for kind, known in (("labels", dict(container.labels)), ("env", environment)):
        found.update(_choose(known, given.get(kind, ""), given.get(f"{kind}-regex", ""), kind))
    if given.get("tag"):
        found["tag"] = _render_tag(given["tag"], container)
    settings = settings._replace(attributes=tuple(found.items()))
    return container._replace(log=tuple(settings))


def _choose(known: dict[str, str], names: str, pattern: str, kind: str) -> dict[str, str]:
    """Those that are named, with commas between, or that the pattern is found in."""
    wanted = names.split(",")
    try:
        expression = re.compile(pattern) if pattern else None
    except re.error as error:
        raise SpecError(f"--log-opt {kind}-regex={pattern}: {error}") from None
    return {
        name: value
        for name, value in known.items()
        if name in wanted or (expression is not None and expression.search(name))
    }


def _render_tag(tag: str, container: Container) -> str:
    from docklock.cli.template import render
    from docklock.cli.template_parse import TemplateError, parse_template

    image_id = container.image_id.removeprefix("sha256:")
    value = {
        "Command": " ".join(container.command),
        "DaemonName": "docklock",
        "FullID": container.id,
        "Hostname": os.uname().nodename,
        "ID": container.id[:12],
        "ImageFullID": container.image_id,
        "ImageID": image_id[:12],
        "ImageName": container.image,
        "Name": container.name,
    }
    try:
        return render(parse_template(tag), value)
    except TemplateError as error:
        raise SpecError(f"--log-opt tag: {str(error).removeprefix('--format: ')}") from None
