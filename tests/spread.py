"""Which worker of a run takes which tests, and which come first.

Tests that make containers share one worker, so that a leak is seen in the test that made it. All
others stay with their file. What takes longest comes first: a worker that begins a long file when
the others end keeps the run waiting. Most long ones wait more than they work (an emulator has its
own threads), so a run has a worker more than it has processors.
Not here: xdist's hooks (conftest.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

HOST = "host"
HOST_ROOMS = ("tests/kernel/", "tests/e2e/", "tests/console/")
WITHOUT_CONTAINERS = (
    "tests/e2e/test_bpci_chain.py",
    "tests/e2e/test_bpci_full_disk.py",
    "tests/e2e/test_chain_damage.py",
    "tests/e2e/test_chain_kills.py",
    "tests/e2e/test_chain_network.py",
    "tests/e2e/test_chain_snapshot.py",
    "tests/e2e/test_final.py",
    "tests/e2e/test_header_checkpoint.py",
    "tests/e2e/test_pipeline.py",
)
"""Files of the host's rooms that may run beside those that make containers."""
LONG = (
    HOST,
    "tests/vm/test_netem.py",  # --full alone, as the one after it
    "tests/vm/test_power.py",
    "tests/vm/test_cgroup_v2.py",
    "tests/image/test_kills.py",  # --full alone
    "tests/outbox/test_restored_server.py",
    "tests/vm/test_systemd.py",
    "tests/bpci/test_schema.py",
    "tests/e2e/test_chain_network.py",
    "tests/outbox/test_both_killed.py",
    "tests/outbox/test_days_away.py",
    "tests/e2e/test_chain_damage.py",
)
"""Half a minute or more each, the longest first; of others the number of tests says enough."""


def is_on_host(nodeid: str) -> bool:
    """Whether the test makes namespaces, mounts or cgroups of this host."""
    return nodeid.startswith(HOST_ROOMS)


def get_group(nodeid: str) -> str:
    """Tests of a group run one after another, by one worker."""
    file = nodeid.partition("::")[0]
    return HOST if is_on_host(file) and file not in WITHOUT_CONTAINERS else file


def find_order(nodeids: Sequence[str]) -> list[int]:
    """Indices: group after group, in the order in which workers are to begin them."""
    groups = [get_group(one) for one in nodeids]
    sizes = Counter(groups)
    ranks = {group: rank for rank, group in enumerate(LONG)}
    return sorted(
        range(len(nodeids)), key=lambda n: (ranks.get(groups[n], len(LONG)), -sizes[groups[n]], n)
    )
