"""Restart policies: what `--restart` may say, and whether and when a container runs again. Pure.

The supervisor asks `decide` at each exit; `docklock mend`, which the agent runs, asks `is_due`
about containers whose supervisor is gone. Not here: waiting (supervisor/restarting.py), starting
(revive.py). Source: Docker's restartmanager.go and container.ValidateRestartPolicy.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple

NO, ALWAYS, ON_FAILURE, UNLESS_STOPPED = "no", "always", "on-failure", "unless-stopped"
NAMES = (NO, ALWAYS, ON_FAILURE, UNLESS_STOPPED)
DELAY_MIN_MS = 100
DELAY_MAX_MS = 60_000
DELAY_FACTOR = 2
STEADY_MS = 10_000  # after so long a run the delay begins anew
RETRIES_MAX = 2**31 - 1
COUNT_DIGITS = 12
_SIGINT, _SIGQUIT, _SIGKILL, _SIGTERM = 2, 3, 9, 15
_ENDING_SIGNALS = (_SIGINT, _SIGQUIT, _SIGKILL, _SIGTERM)


class Policy(NamedTuple):
    """What --restart said. `retries_max` is for on-failure; 0 is no limit."""

    name: str = NO
    retries_max: int = 0

    @property
    def text(self) -> str:
        """As `parse_policy` reads it."""
        return f"{self.name}:{self.retries_max}" if self.retries_max else self.name


class Ended(NamedTuple):
    """A run that is over. `attempts` and `delay_ms` are of the restarts since a user's start."""

    exit_code: int
    ran_ms: int
    attempts: int = 0
    delay_ms: int = 0
    is_stopped_by_user: bool = False


class Decision(NamedTuple):
    """Whether the container runs again, and after how long."""

    is_restarted: bool
    delay_ms: int = 0


def parse_policy(word: str) -> Policy:
    """The policy for no, always, unless-stopped, on-failure[:n]. SpecError in Docker's words."""
    name, has_count, count = word.partition(":")
    if has_count and not name:
        raise _refuse("invalid restart policy format: no policy provided before colon")
    retries = _parse_count(count) if count else 0
    if name not in NAMES and word:
        known = "', '".join((NO, ALWAYS, ON_FAILURE))
        raise _refuse(
            f"invalid restart policy: unknown policy '{name}'; use one of '{known}', "
            f"or '{UNLESS_STOPPED}'"
        )
    if name != ON_FAILURE and retries:
        also = " and cannot be negative" if retries < 0 else ""
        raise _refuse(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'" + also
        )
    if retries < 0:
        raise _refuse("invalid restart policy: maximum retry count cannot be negative")
    return Policy(name or NO, retries)


def decide(policy: Policy, ended: Ended) -> Decision:
    """After an exit that its supervisor saw."""
    if ended.is_stopped_by_user or not _is_wanted(policy, ended):
        return Decision(is_restarted=False)
    return Decision(is_restarted=True, delay_ms=compute_delay_ms(ended))


def is_due(policy: Policy, ended: Ended, *, is_cut: bool, is_new_boot: bool) -> bool:
    """Whether a container without a supervisor is to be started.

    `is_cut`: its supervisor was killed or the machine went down, so nobody asked `decide`.
    As Docker's daemon does when it comes up; but a start of ours is not Docker's: only a new boot
    starts an `always` container that its user has stopped.
    """
    if is_new_boot and policy.name == ALWAYS:
        return True
    if ended.is_stopped_by_user:
        return False
    if is_new_boot and policy.name == UNLESS_STOPPED:
        return True
    return is_cut and _is_wanted(policy, ended)


def compute_delay_ms(ended: Ended) -> int:
    """Docker's back-off: 100 ms, doubled with each restart up to a minute."""
    if ended.ran_ms >= STEADY_MS or not ended.delay_ms:
        return DELAY_MIN_MS
    return min(ended.delay_ms * DELAY_FACTOR, DELAY_MAX_MS)


def is_ending_signal(number: int, stop_number: int) -> bool:
    """Whether a user who sends this signal means the container to end, and to stay ended."""
    return number in _ENDING_SIGNALS or number == stop_number


def _is_wanted(policy: Policy, ended: Ended) -> bool:
    if policy.name == ON_FAILURE:
        has_retries = not policy.retries_max or ended.attempts < policy.retries_max
        return ended.exit_code != 0 and has_retries
    return policy.name in (ALWAYS, UNLESS_STOPPED)


def _parse_count(text: str) -> int:
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()) or int(digits[:COUNT_DIGITS]) > RETRIES_MAX:
        raise _refuse("invalid restart policy format: maximum retry count must be an integer")
    return int(text)


def _refuse(why: str) -> SpecError:
    return SpecError(f"--restart: {why}")
