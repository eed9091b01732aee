"""What all tests share: full or sliced counts, the seed, root in CI, and a check for leaks.

At home a test that needs root skips itself with a reason. With CI=true the suite refuses to start
without root, and a skipped test of HOST_ROOMS has failed.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from tests import spread

CI = os.environ.get("CI") == "true"
FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
# How many times slower than a usual one this machine is: tests wait longer, repeat less, and hold
# the same true.
SLOWER = int(os.environ.get("DOCKLOCK_TEST_SLOWER", "1"))
SEED_DEFAULT = 20261122
# What a test stopped may still be going away when it ends: wait this long before calling it a leak.
LEAK_WAIT_SECONDS = 5.0
SYSTEM_STATE = ("/var/lib/docklock", "/run/docklock", "/run/netns")
PROGRAMS = (b"docklock", b"docklock-runtime")

hypothesis.settings.register_profile(
    "slice", deadline=None, derandomize=True, database=None, max_examples=60
)
hypothesis.settings.register_profile("full", deadline=None, database=None, max_examples=1000)
hypothesis.settings.load_profile("full" if FULL else "slice")


def get_seed() -> int:
    return int(os.environ.get("DOCKLOCK_TEST_SEED", SEED_DEFAULT))


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else our programs ignore it too
    if CI and os.geteuid() != 0:
        pytest.exit("CI=true: the suite must run as root, else its kernel tests would skip", 1)


def pytest_report_header(config: pytest.Config) -> str:
    counts = "full" if FULL else "sliced (./test --full runs all)"
    return f"seed: {get_seed()} (DOCKLOCK_TEST_SEED), randomised counts: {counts}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Groups as spread.py says, in the order of the collection.

    The scheduler is our own since xdist 3.8 loses its groups under pytest 9.2, which takes no other
    node id, and says nothing.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return spread.get_group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a run of several workers: the order in which they begin groups. Each finds the same."""
    if hasattr(config, "workerinput"):
        items[:] = [items[index] for index in spread.find_order([one.nodeid for one in items])]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test of the host that skipped is a test that failed."""
    report = yield
    if CI and report.skipped and spread.is_on_host(item.nodeid) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"may not skip with CI=true: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether randomised tests run at their full counts (./test --full)."""
    return FULL


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of every random choice a test makes; the header of the run names it."""
    return get_seed()


@pytest.fixture(scope="session")
def need_root() -> None:
    """Skip at home without root; in CI the suite does not start without it."""
    if os.geteuid() != 0:
        pytest.skip("containers, mounts and cgroups need root")


class Snapshot(NamedTuple):
    """What docklock could leave behind on this host. Each field is a set of readable names."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    network_namespaces: frozenset[str]
    system_state: frozenset[str]

    def describe_new(self, before: Snapshot) -> list[str]:
        """Every name that is here and was not there before, with its kind."""
        return [
            f"{kind.replace('_', ' ')}: {name}"
            for kind, now, then in zip(self._fields, self, before, strict=True)
            for name in sorted(now - then)
        ]


def is_anothers(path: str, own: str) -> bool:
    """Whether the path says that another worker's test made it, or another run's.

    Those hold a place below pytest's directory, or a namespace with a process in its name (wires).
    """
    named = re.match(r"/run/netns/dw(\d+)-", path)
    if named:
        return int(named[1]) != os.getpid() % 100_000
    return "/pytest-of-" in path and not path.startswith(f"{own}/")


def get_mounts(own: str) -> frozenset[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mountinfo:
        lines = [line.split() for line in mountinfo]
    return frozenset(
        f"{line[4]} ({line[line.index('-') + 1]})"
        for line in lines
        if not is_anothers(line[4], own)
    )


def get_cgroups() -> frozenset[str]:
    return frozenset(
        directory
        for directory, _, _ in os.walk("/sys/fs/cgroup")
        if "docklock" in os.path.relpath(directory, "/sys/fs/cgroup")
    )


def read_process(pid: str, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (OSError, ProcessLookupError):
        return b""


def is_ours(pid: str, own: str) -> bool:
    """Docklock's own process, one that a test gave a root, or one in a container's cgroup."""
    arguments = read_process(pid, "cmdline").split(b"\0")
    given = [
        part.partition(b"=")[2].decode(errors="replace")
        for part in read_process(pid, "environ").split(b"\0")
        if part.startswith(b"DOCKLOCK_ROOT=")
    ]
    if any(is_anothers(root, own) for root in given):
        return False
    return (
        bool(given)
        or any(os.path.basename(argument) in PROGRAMS for argument in arguments[:3])
        or b"/docklock" in read_process(pid, "cgroup")
    )


def get_processes(own: str) -> tuple[frozenset[str], frozenset[str]]:
    """Our processes, and the network namespaces they are in."""
    processes, namespaces = set(), set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid() or not is_ours(pid, own):
            continue
        line = read_process(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")
        processes.add(f"{pid} {line.strip() or '(ended, not waited for)'}")
        try:
            namespaces.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue
    return frozenset(processes), frozenset(namespaces)


def get_system_state(own: str) -> frozenset[str]:
    return frozenset(
        str(path)
        for top in SYSTEM_STATE
        if os.path.isdir(top)
        for path in Path(top).iterdir()
        if not is_anothers(str(path), own)
    )


def take_snapshot(own: str) -> Snapshot:
    """Of what tests with directories below `own` may have made, or nobody knows who."""
    processes, namespaces = get_processes(own)
    return Snapshot(get_mounts(own), get_cgroups(), processes, namespaces, get_system_state(own))


@pytest.fixture
def no_leaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the test if it leaves a mount, cgroup, process, network namespace or system state."""
    own = str(tmp_path_factory.getbasetemp())
    before = take_snapshot(own)
    yield
    deadline = time.monotonic() + LEAK_WAIT_SECONDS
    while (left := take_snapshot(own).describe_new(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "left behind:\n" + "\n".join(left)
