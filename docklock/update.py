"""Change a container's limits, restart policy, policy and name: which there are, where they lie.

Limits are its config.json's and both policies its container.json's, so that they hold for later
runs too; a policy holds for those alone, as no filter of a running process can be loosened. A
running container's are changed by its supervisor (supervisor/steering.py), the one writer of its
files. Not here: the command (cli/update.py), the cgroup (cgroup/driver.py), what a restart policy
means (restart.py).
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.lifecycle import is_name, read_container, write_container
from docklock.restart import parse_policy
from docklock.runtime import CONFIG, read_spec
from docklock.spec import INT64_MAX, encode_spec

if TYPE_CHECKING:
    from typing import Any

    from docklock.lifecycle import Container
    from docklock.paths import Paths
    from docklock.spec import Resources, Spec

    Limits = dict[str, Any]  # field of Resources -> int, or str for a list

# Fields of Resources, and what leaves and receipts call them: the options' names.
FIELDS = {
    "memory_max_bytes": "memory",
    "memory_low_bytes": "memory-reservation",
    "memory_swap_bytes": "memory-swap",
    "cpu_shares": "cpu-shares",
    "cpu_quota_us": "cpu-quota",
    "cpu_period_us": "cpu-period",
    "cpuset_cpus": "cpuset-cpus",
    "cpuset_mems": "cpuset-mems",
    "pids_max": "pids-limit",
    "blkio_weight": "blkio-weight",
}
_LISTS = ("cpuset_cpus", "cpuset_mems")
RESTART, POLICY, NAME = "restart", "policy", "name"
POLICY_CHARS_MAX = 4096
_DIGEST_CHARS = 64


class Change(NamedTuple):
    """What is to be changed; what is empty stays. `restart` is a restart policy's text.

    `policy` is a profile's name or a file, and `digest` what it is compiled to, in hex. Who asks
    for a `name` has reserved it.
    """

    limits: Limits
    restart: str = ""
    policy: str = ""
    digest: str = ""
    name: str = ""

    def get_labels(self) -> tuple[tuple[str, str], ...]:
        """By the options' names, for the record; a policy by its digest: its name may be a path."""
        found = [(FIELDS[field], str(value)) for field, value in self.limits.items()]
        found += [(RESTART, self.restart)] * bool(self.restart)
        found += [(NAME, self.name)] * bool(self.name)
        return (*found, *[(POLICY, self.digest)] * bool(self.policy))

    def describe(self) -> dict[str, Any]:
        """For parse_change."""
        policy = [self.policy, self.digest] if self.policy else None
        found = {"limits": self.limits, RESTART: self.restart or None, POLICY: policy}
        return found | ({NAME: self.name} if self.name else {})


def parse_change(asked: dict[str, Any]) -> Change:
    """What a client asks for; ValueError unless it is some change, SpecError for a policy."""
    limits, restart = asked.get("limits"), asked.get(RESTART)
    if restart is not None and not (isinstance(restart, str) and restart):
        raise ValueError(RESTART)
    text = parse_policy(restart).text if isinstance(restart, str) else ""
    policy, digest = _check_policy(asked.get(POLICY)) or ("", "")
    name = asked.get(NAME, "")
    if not isinstance(name, str) or (name and not is_name(name)):
        raise ValueError(NAME)
    if (text or policy or name) and limits in (None, {}):
        return Change({}, text, policy, digest, name)
    return Change(check_fields(limits), text, policy, digest, name)


def _check_policy(named: object) -> tuple[str, ...]:
    """(word, digest) or nothing. Whether there is such a policy is the client's to know."""
    if named is None:
        return ()
    match named:
        case [str(word), str(digest)] if 0 < len(word) <= POLICY_CHARS_MAX and is_digest(digest):
            return word, digest
    raise ValueError(POLICY)


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in hex."""
    return len(text) == _DIGEST_CHARS and not text.strip("0123456789abcdef")


def check_fields(limits: object) -> Limits:
    """What a client asks to change; ValueError unless it is some of FIELDS, each of its type."""
    if not isinstance(limits, dict) or not limits:
        raise ValueError("limits")
    for field, value in limits.items():
        if field in _LISTS:
            is_right = isinstance(value, str) and is_cpu_list(value)
        else:
            is_right = type(value) is int and -1 <= value <= INT64_MAX
        if field not in FIELDS or not is_right:
            raise ValueError(f"limit {field!r}")
    return limits


def is_cpu_list(text: str) -> bool:
    """Whether it has the form of 0-3,5."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            return False
    return text.isascii()


def change_limits(spec: Spec, limits: Limits) -> Spec:
    """The spec with these limits. SpecError if they do not go together with the others."""
    resources = spec.linux.resources._replace(**limits)
    check_limits(resources)
    return spec._replace(linux=spec.linux._replace(resources=resources))


def check_limits(resources: Resources) -> None:
    """SpecError, in Docker's words, for memory limits that contradict each other."""
    memory = resources.memory_max_bytes or 0
    swap, low = resources.memory_swap_bytes or 0, resources.memory_low_bytes or 0
    if swap > 0 and not memory:
        raise SpecError("You should always set the Memory limit when using Memoryswap limit")
    if 0 < swap < memory:
        raise SpecError(
            "Minimum memoryswap limit should be larger than memory limit: update the memoryswap "
            "at the same time"
        )
    if 0 < memory < low:
        raise SpecError("Minimum memory limit can not be less than memory reservation limit")


def check_own_config(paths: Paths, container: Container) -> None:
    """StateError for a container of docklock-runtime: its config.json is its creator's."""
    if container.bundle != paths.container(container.id):
        raise StateError(
            "its limits are those of its bundle: start it, or change the config.json there"
        )


def check_record(paths: Paths, container: Container, change: Change) -> None:
    """StateError for what a container's record cannot be changed to."""
    if change.restart:
        check_restart(paths, container)
    if change.policy and container.auto_remove:
        raise StateError("it is removed when it ends (--rm): no later run would be under a policy")
    if change.policy and container.bundle != paths.container(container.id):
        raise StateError("it is started by whoever made its bundle, which names its policy")
    if change.name and container.bundle != paths.container(container.id):
        raise StateError("it is named by whoever made its bundle")


def check_restart(paths: Paths, container: Container) -> None:
    """StateError for a container that no policy can start again."""
    if container.auto_remove:
        raise StateError(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    if container.bundle != paths.container(container.id):
        raise StateError("it is started by whoever made its bundle: it has no restart policy")


def write_record(paths: Paths, container: Container, change: Change) -> None:
    """Replace the container's record by rename. StateError, and it is as it was."""
    asked = {RESTART: change.restart, POLICY: change.policy, NAME: change.name}
    changed = {field: value for field, value in asked.items() if value}
    if not changed:
        return
    try:
        old = read_container(paths, container.id)
        write_container(paths, old._replace(**changed))  # type: ignore[arg-type]
    except OSError as error:
        raise StateError(f"its record cannot be written: {error.strerror}") from None


def change_at_rest(paths: Paths, container: Container, change: Change) -> None:
    """Change what is on disk, of a container that has no run; its owner calls it.

    SpecError, StateError: then nothing was changed.
    """
    old = read_spec(container)
    check_record(paths, container, change)
    if change.limits:
        check_own_config(paths, container)
        write_config(container, change_limits(old, change.limits))
    try:
        write_record(paths, container, change)
    except StateError:
        if change.limits:
            write_config(container, old)
        raise


def write_config(container: Container, spec: Spec) -> None:
    """Replace the container's config.json by rename. StateError, and it is as it was."""
    path = f"{container.bundle}/{CONFIG}"
    try:
        with open(f"{path}.new", "wb") as file:
            file.write(encode_spec(spec))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from None
