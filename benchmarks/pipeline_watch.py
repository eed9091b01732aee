"""What became of every receipt of the benchmark `pipeline`: seen while it runs, checked after.

How far the server is, is read where the outbox writes it down; how far the chain is, from the
host's own node, which follows the validators and checks every seal. What is shown at the end is
compared byte for byte.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chainlite import hostlog, logblock, notarised, receipt, segment
from chainlite.bpci.at_rest import SEGMENT, Label, ServerKey, Vault, unseal
from chainlite.bpci.audit import audit
from chainlite.bpci.batch import decode_body
from chainlite.bpci.sqlite_store import SqliteStore
from docklock.chain.client import ask_node
from docklock.chain.directory import ChainDirectory
from docklock.chain.doors import parse_host_status
from docklock.demo.stages import read_blocks
from docklock.evidence import container_store
from docklock.evidence.export import open_container
from docklock.evidence.host_log import HostLog
from docklock.outbox.sent import Sent
from docklock.paths import Paths

LOOK_S = 0.005
LOOK_CHAIN_S = 0.01
METER_S = 0.5
SAMPLE = 8
"""Of so many receipts one is looked up by its time."""
ROLES = (
    (b"\0chain\0devnet\0", "devnet"), (b"\0chain\0start\0--parent\0", "validators"),
    (b"\0chain\0start\0--dir\0", "node"), (b"\0chain\0submit\0", "submitter"),
    (b"\0notary\0", "notary"), (b"\0sync\0", "outbox"), (b"\0bpci\0serve\0", "server"),
    (b"\0agent\0", "agent"), (b"body_keeper", "keepers"), (b"pipeline_host.py\0", "host"),
)  # fmt: skip
"""What the words of a process say that it is."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Reached(NamedTuple):
    """When a size of the host's log was reached: (Unix ns, size), both ascending."""

    times: list[int]
    sizes: list[int]

    def note(self, size: int) -> None:
        if not self.sizes or size > self.sizes[-1]:
            self.times.append(time.time_ns())
            self.sizes.append(size)

    def find_time(self, size: int) -> int:
        """When at least so many leaves were reached."""
        return self.times[bisect_left(self.sizes, size)]


class Watch:
    """How far chain and server are, from a host's side."""

    def __init__(self, paths: Paths, node: ChainDirectory, host: bytes, server: str) -> None:
        self._sent, self._node, self._host, self._server = Sent(paths), node, host, server
        self.anchored, self.kept, self.held = (Reached([], []) for _ in range(3))

    async def look(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._look_at_server(), self._look_at_chain())

    async def _look_at_server(self) -> None:
        while True:
            self.held.note(self._sent.get_standing(self._server).size)
            await asyncio.sleep(LOOK_S)

    async def _look_at_chain(self) -> None:
        while True:
            shown = await ask_node(self._node, "GET", f"/hosts/{self._host.hex()}")
            status = parse_host_status(shown)
            self.anchored.note(status.size)
            self.kept.note(min(status.size, status.available))
            await asyncio.sleep(LOOK_CHAIN_S)

    async def wait_for(self, size: int, limit_s: float) -> None:
        """Until both have so many leaves; TimeoutError."""
        async with asyncio.timeout(limit_s):
            while min(self.kept.sizes[-1:] + self.held.sizes[-1:], default=0) < size or not (
                self.kept.sizes and self.held.sizes
            ):
                await asyncio.sleep(LOOK_S)


class Meter:
    """Processor seconds of each part, looked at now and then, since the first look."""

    def __init__(self, place: str) -> None:
        """`place` is the directory that all of it runs in: every process names it."""
        self._mark = place.encode()
        self._roles: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}

    async def look_often(self) -> None:
        """Until cancelled; who lives for less than METER_S may be missed."""
        while True:
            self.look()
            await asyncio.sleep(METER_S)

    def look(self) -> None:
        is_first = not self._last
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if self._mark in words:
                pid, spent = int(process.name), sum(map(int, fields[11:13])) / TICKS_PER_S
                self._roles[pid] = next((name for mark, name in ROLES if mark in words), "other")
                self._first.setdefault(pid, spent if is_first else 0.0)
                self._last[pid] = spent

    def tell(self) -> dict[str, float]:
        """By part, the one that took most first."""
        self.look()
        found = dict.fromkeys(self._roles.values(), 0.0)
        for pid, role in self._roles.items():
            found[role] += self._last[pid] - self._first[pid]
        return {
            role: round(spent, 2) for role, spent in sorted(found.items(), key=lambda one: -one[1])
        }


class Segment(NamedTuple):
    """A segment of the host's, as it is stored, and its leaf."""

    leaf_index: int
    row: container_store.SegmentRow

    @property
    def signed(self) -> logblock.SignedHeader:
        return logblock.SignedHeader(self.row.header, self.row.signature)

    def iterate_times(self) -> Iterator[int]:
        """When events of it were: one in SAMPLE, the first of them at least."""
        body = segment.unpack_body(self.row.body)
        for number, (raw, _, _) in enumerate(receipt.iterate_frames(body, self.row.event_count)):
            if number % SAMPLE == 0:
                yield receipt.decode_receipt(raw).time


def read_segments(paths: Paths, container: str) -> list[Segment]:
    """A run's segments, as the host has them and its log says."""
    with HostLog(paths, None) as log, open_container(paths, container) as db:
        assert db is not None
        found = []
        for row in container_store.iterate_segments(db, 0):
            leaf = hostlog.encode_segment(hostlog.Segment(row.header, row.signature))
            index = log.find_leaf(leaf, bytes.fromhex(container), 0)
            assert index is not None, "a segment that the log has not"
            found.append(Segment(index, row))
    return found


def compare_with_server(
    directory: str, key: ServerKey, host: bytes, segments: list[Segment]
) -> list[str]:
    """What the server does not hold byte for byte as the host does; and what its audit names."""
    wrong: list[str] = []
    with SqliteStore(directory, is_writer=False) as store:
        row = store.find_host(host)
        assert row is not None
        tenant = store.find_tenant(row.tenant)
        assert tenant is not None
        tenant_key = Vault(key).open_tenant_key(tenant.name, tenant.sealed_key)
        for one in segments:
            leaf = hostlog.encode_segment(hostlog.Segment(*one.signed))
            found = store.read_segments(host, one.leaf_index, 1)
            if not found or found[0].leaf_index != one.leaf_index:
                wrong.append(f"the server misses the segment at leaf {one.leaf_index}")
                continue
            label = Label(SEGMENT, row.tenant, host, one.leaf_index)
            body = decode_body(unseal(found[0].box, tenant_key, label))
            stored = (body.packed, body.leaf_tags, body.secret)
            leaves = [row.data for row in store.read_leaves(host, one.leaf_index, 1)]
            if leaves != [leaf] or stored != (one.row.body, one.row.leaf_tags, one.row.secret):
                wrong.append(f"the server has another segment at leaf {one.leaf_index}")
        wrong += [f"the server's audit names {damage}" for damage in audit(store, key)]
    return wrong


def read_closed(path: str, segments: list[Segment]) -> tuple[dict[int, int], list[str]]:
    """When each segment's LogBlock was closed, by leaf, in ns; and what no LogBlock has."""
    with open(path, "rb") as file:
        _, why = notarised.read_file(file.read)
    closed = {}
    for data, signed in read_blocks(path):
        closed.update(dict.fromkeys(signed, logblock.decode_block(data).time))
    missing = [one.leaf_index for one in segments if one.signed not in closed]
    wrong = [f"the LogBlocks do not verify: {why}"] * bool(why)
    wrong += [f"no LogBlock has the segment at leaf {leaf}" for leaf in missing[:1]]
    if len(closed) != len(segments):
        wrong.append(f"the LogBlocks have {len(closed)} segments, not {len(segments)}")
    return {one.leaf_index: closed.get(one.signed, 0) for one in segments}, wrong


def describe_latencies(name: str, found_ns: list[int]) -> dict[str, Any]:
    found_ns.sort()
    return {
        f"{name}_p50_ms": round(found_ns[len(found_ns) // 2] / 1e6, 1),
        f"{name}_p99_ms": round(found_ns[len(found_ns) * 99 // 100] / 1e6, 1),
    }
