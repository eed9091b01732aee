"""The --health options of `docklock run` and `create`, over what the image says."""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.health import (
    HEALTH_FILE,
    RETRIES_MAX,
    TIME_MIN_NS,
    Check,
    Health,
    Result,
    decode_check,
    parse_duration_ns,
)
from docklock.json_text import parse_json

if TYPE_CHECKING:
    from typing import Any

    from docklock.lifecycle import Container

TIMES = ("interval", "timeout", "start_period")


def choose_check(values: dict[str, Any], image: Check) -> Check:
    """The check that the container gets; SpecError in Docker's words."""
    given = {name: values[f"health_{name}"] for name in ("cmd", *TIMES, "retries")}
    is_given = any(value is not None for value in given.values())
    if values["no_healthcheck"]:
        if is_given:
            raise SpecError("--no-healthcheck conflicts with --health-* options")
        return Check(("NONE",))
    check = image
    if given["cmd"] is not None:
        check = check._replace(test=("CMD-SHELL", given["cmd"]) if given["cmd"] else ())
    for name in TIMES:
        if given[name] is not None:
            option = f"--health-{name.replace('_', '-')}"
            check = check.with_time(name, _parse_time(option, given[name]))
    if given["retries"] is not None:
        check = check._replace(retries=_parse_retries(given["retries"]))
    return check


def read_health(container: Container) -> Health | None:
    """What its supervisor has found last; None for a container without a check."""
    if not decode_check(container.health).is_wanted:
        return None
    try:
        with open(f"{container.bundle}/{HEALTH_FILE}", encoding="utf-8") as file:
            fields = parse_json(file.read())
    except FileNotFoundError:
        return Health()
    results = tuple(Result(*one) for one in fields["results"])
    return Health(fields["status"], fields["failing_streak"], results)


def _parse_time(option: str, word: str) -> int:
    time_ns = parse_duration_ns(option, word)
    if 0 < time_ns < TIME_MIN_NS:
        raise SpecError(f"{option} {word}: cannot be less than 1ms")
    return time_ns


def _parse_retries(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or int(word[:12]) > RETRIES_MAX:
        raise SpecError(f"--health-retries {word}: give a number that is not negative")
    return int(word)
