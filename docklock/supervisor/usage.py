"""What a run has used so far: the counters of ECONOMY's usage vector, for its receipts.

Each is cumulative from the run's start, in 10^-6 of its unit, MB = 10^6 bytes:
- cpu_ms: what the cgroup was charged; 10^-6 ms is a nanosecond;
- memory_mb_s: bytes of memory that the cgroup holds times seconds, page cache included, as the sum
  of trapezoids between samples: at the start, every SAMPLE_S, at each receipt, at the end. What
  rises and falls between two samples is not in it;
- storage_gb_day: bytes of the upper directory times days, from walks of it (storage.py), the first
  SAMPLE_S after the start; 0 for a run that ends before, and for one without an image;
- egress_mb: bytes sent by every interface but lo of a network namespace that is the run's own; 0
  where it shares the host's or another's, since nobody could tell whose bytes they are.
receipts_count is the recorder's own. Not here: reading cgroups (docklock.cgroup), the walk of the
upper directory (storage.py), the receipts.
"""

from __future__ import annotations

import os
import time

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.cgroup.driver import Cgroup
    from docklock.plan import Overlay
    from docklock.spec import Spec
    from docklock.supervisor.loop import Loop
    from docklock.supervisor.storage import Storage

NS_PER_S = 1_000_000_000
SAMPLE_S = 10
SAMPLES_PER_RECEIPT = 6
NETWORK_BYTES_MAX = 65_536
_SENT_FIELD = 8  # of /proc/net/dev, after the colon


class Meter:
    """Owns a descriptor of the network's counters, and looks at times, until `close`."""

    def __init__(self, cgroup: Cgroup, network_fd: int, upper: str) -> None:
        """`network_fd` is an open /proc/PID/net/dev, or -1: it outlives its process.

        `upper` is the directory that takes what the container writes, empty if there is none.
        """
        self._cgroup, self._network_fd, self._upper = cgroup, network_fd, upper
        self._storage: Storage | None = None
        self._loop: Loop | None = None
        self._upon_due: Callable[[], None] = lambda: None
        self._ticks = 0
        self._at_ns = self._bytes = self._byte_ns = 0

    def begin(self, loop: Loop, upon_due: Callable[[], None]) -> None:
        """The program runs: sample from now on; `upon_due` is called when a receipt is due."""
        self._at_ns, self._bytes = time.monotonic_ns(), self._cgroup.memory_bytes()
        self._loop, self._upon_due = loop, upon_due
        loop.call_later(SAMPLE_S, self._upon_tick)

    def _upon_tick(self) -> None:
        assert self._loop is not None
        self._loop.call_later(SAMPLE_S, self._upon_tick)
        self._sample()
        if not self._ticks and self._upper:
            self._look_at_storage(self._loop)
        self._ticks += 1
        if self._ticks >= SAMPLES_PER_RECEIPT:
            self._ticks = 0
            self._upon_due()

    def read(self) -> tuple[int, int, int, int]:
        """cpu_ms, memory_mb_s, storage_gb_day, egress_mb, in 10^-6 of the unit."""
        self._sample()
        sent = parse_sent_bytes(self._read_network()) if self._network_fd >= 0 else 0
        stored = self._storage.read() if self._storage is not None else 0
        return self._cgroup.cpu_ns(), self._byte_ns // NS_PER_S, stored, sent

    def close(self) -> None:
        """Look no more; again is no error."""
        if self._loop is not None:
            self._loop.cancel(self._upon_tick)
        if self._storage is not None:
            self._storage.close()
        if self._network_fd >= 0:
            os.close(self._network_fd)
        self._network_fd = -1

    def _look_at_storage(self, loop: Loop) -> None:
        if self._storage is None:
            from docklock.supervisor.storage import Storage

            self._storage = Storage(loop, self._upper)
        self._storage.look(self._cgroup.cpu_ns())

    def _sample(self) -> None:
        if not self._at_ns:
            return
        now_ns, held = time.monotonic_ns(), self._cgroup.memory_bytes()
        self._byte_ns += (self._bytes + held) * (now_ns - self._at_ns) // 2
        self._at_ns, self._bytes = now_ns, held

    def _read_network(self) -> bytes:
        os.lseek(self._network_fd, 0, os.SEEK_SET)
        return os.read(self._network_fd, NETWORK_BYTES_MAX)


def make_meter(cgroup: Cgroup, spec: Spec, pid: int, overlay: Overlay | None) -> Meter:
    """A meter for a run whose init, `pid`, waits to start."""
    upper = overlay.upper if overlay is not None else ""
    path, fd = f"/proc/{pid}/net/dev", -1
    if has_own_network(spec):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return Meter(cgroup, fd, upper)


def has_own_network(spec: Spec) -> bool:
    """Whether nobody else is in its network namespace: not the host, nor another container."""
    return any(space.kind == "network" and not space.path for space in spec.linux.namespaces)


def parse_sent_bytes(text: bytes) -> int:
    """Bytes sent by all interfaces but lo, from the text of /proc/net/dev."""
    sent = 0
    for line in text.splitlines():
        name, is_counter, fields = line.partition(b":")
        if is_counter and name.strip() != b"lo":
            sent += int(fields.split()[_SENT_FIELD])
    return sent
