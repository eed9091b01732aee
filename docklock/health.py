"""Health checks: what is asked of a container, and what a result means. Pure.

Not here: running them (supervisor/probing.py), options (cli/health.py).
Source: moby daemon/health.go (handleProbeResult); Go's time.ParseDuration.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from docklock.document import Cursor

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
NS_PER_S = 1_000_000_000
INTERVAL_NS = TIMEOUT_NS = 30 * NS_PER_S
TIME_MIN_NS = 1_000_000  # Docker's least, for all three times
TIME_MAX_NS = 2**63 - 1
RETRIES = 3
RETRIES_MAX = 2**31 - 1
RESULTS_KEPT = 5
OUTPUT_BYTES_MAX = 4096
TIMED_OUT = -1
HEALTH_FILE = "health.json"  # in the container's directory: the fields of Health
_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}  # fmt: skip


class Check(NamedTuple):
    """What is asked. `test` in Docker's form: CMD and words, CMD-SHELL and a line, NONE; 0: usual.

    An empty `test` is no check.
    """

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    retries: int = 0

    @property
    def is_wanted(self) -> bool:
        return len(self.test) > 1 and self.test[0] in ("CMD", "CMD-SHELL")

    def get_words(self) -> tuple[str, ...]:
        """The program to run in the container."""
        return self.test[1:] if self.test[0] == "CMD" else ("/bin/sh", "-c", self.test[1])

    def with_time(self, name: str, time_ns: int) -> Check:
        """The same with another `interval`, `timeout` or `start_period`."""
        return Check(**(self._asdict() | {f"{name}_ns": time_ns}))

    def with_defaults(self) -> Check:
        """The same with Docker's usual times where none is given."""
        return self._replace(
            interval_ns=self.interval_ns or INTERVAL_NS,
            timeout_ns=self.timeout_ns or TIMEOUT_NS,
            retries=self.retries or RETRIES,
        )


class Result(NamedTuple):
    """One check that was made. Times are Unix ns; `exit_code` is TIMED_OUT if it took too long."""

    began_ns: int
    ended_ns: int
    exit_code: int
    output: str


class Health(NamedTuple):
    """What is known of a container's health; the newest results last."""

    status: str = STARTING
    failing_streak: int = 0
    results: tuple[Result, ...] = ()


def judge(check: Check, health: Health, result: Result, *, started_ns: int) -> Health:
    """The health after a result.

    A failure within the start period of a container that was never healthy counts for nothing.
    """
    results = (*health.results, result)[-RESULTS_KEPT:]
    if result.exit_code == 0:
        return Health(HEALTHY, 0, results)
    is_excused = health.status == STARTING and result.began_ns - started_ns < check.start_period_ns
    streak = health.failing_streak + (not is_excused)
    is_over = not is_excused and streak >= (check.retries or RETRIES)
    return Health(UNHEALTHY if is_over else health.status, streak, results)


def decode_check(stored: tuple[object, ...] | list[object]) -> Check:
    """As a container's record keeps it."""
    if not stored:
        return Check()
    test, *numbers = stored
    assert isinstance(test, list | tuple)
    return Check(tuple(str(word) for word in test), *(int(str(number)) for number in numbers))


def read_image_check(cursor: Cursor) -> Check:
    """An image configuration's `Healthcheck`; an absent one is no check. SpecError."""
    return Check(
        test=cursor.get("Test").as_strings(),
        interval_ns=cursor.get("Interval").as_int(0, TIME_MAX_NS, 0),
        timeout_ns=cursor.get("Timeout").as_int(0, TIME_MAX_NS, 0),
        start_period_ns=cursor.get("StartPeriod").as_int(0, TIME_MAX_NS, 0),
        retries=cursor.get("Retries").as_int(0, RETRIES_MAX, 0),
    )


def encode_image_check(check: Check) -> dict[str, object]:
    """As an image configuration and `docklock inspect` write it."""
    fields = {
        "Test": list(check.test),
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "Retries": check.retries,
    }
    return {name: value for name, value in fields.items() if value}


def parse_duration_ns(option: str, word: str) -> int:
    """Nanoseconds for Go's 1m30s, 500ms, 1.5h, 0. SpecError."""
    rest, total = word.removeprefix("+"), 0
    if rest == "0":
        return 0
    while rest:
        count = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:count], rest[count:]
        letters = len(rest) - len(rest.lstrip("nuµmsh"))
        unit, rest = rest[:letters], rest[letters:]
        whole, _, part = number.partition(".")
        is_number = (whole + part).isdigit() and len(whole) <= 12 and len(part) <= 9
        if not is_number or unit not in _UNITS:
            raise SpecError(f"{option} {word}: give a time such as 30s, 1m30s or 500ms")
        total += int(whole + part) * _UNITS[unit] // 10 ** len(part)
    if not word or total > TIME_MAX_NS:
        raise SpecError(f"{option} {word}: give a time such as 30s, 1m30s or 500ms")
    return total
