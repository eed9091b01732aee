"""Hosts in network namespaces of their own, and a router between them that is as bad as asked.

What `tc netem` does where the kernel has it: each host has a TUN device whose other end this
program holds; packets between two hosts are delayed, lost, or not let through at all. They are the
kernel's own, of its own TCP. Run as a program it is the router: it reads one rule a line on stdin.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Collection
from types import TracebackType
from typing import Self

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 9_000
PACKET_MAX = 65_536
QUEUE_MAX = 20_000
"""Packets on their way; more are lost, as in any router."""
SUBNET = "10.77.0"


def name_host(prefix: str, number: int) -> str:
    return f"{prefix}{number}"


class Wires:
    """For `with`: so many hosts, each in a namespace, all reaching all at first without delay."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.prefix = f"dw{os.getpid() % 100_000}-"

    @property
    def namespaces(self) -> list[str]:
        return [name_host(self.prefix, number) for number in range(self.count)]

    @property
    def addresses(self) -> list[str]:
        return [f"{SUBNET}.{number + 1}" for number in range(self.count)]

    def __enter__(self) -> Self:
        for namespace in self.namespaces:
            run("ip", "netns", "add", namespace)
        self._router = subprocess.Popen(
            [sys.executable, __file__, self.prefix, str(self.count), str(self.seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._router.stdout is not None
        if self._router.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError("the router did not start")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._router.kill()
        self._router.communicate()
        for namespace in self.namespaces:
            run("ip", "netns", "delete", namespace)

    def set(
        self, one: int, other: int, *, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0
    ) -> None:
        """From now on packets between these two, both ways, take so long, or are lost."""
        self._tell(one, other, delay_ms, jitter_ms, loss)
        self._tell(other, one, delay_ms, jitter_ms, loss)

    def set_all(self, *, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0) -> None:
        for one in range(self.count):
            for other in range(one):
                self.set(one, other, delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss)

    def cut(self, side: Collection[int]) -> None:
        """Nothing passes between these and all others."""
        for one in side:
            for other in range(self.count):
                if other not in side:
                    self.set(one, other, loss=1)

    def _tell(
        self, source: int, target: int, delay_ms: float, jitter_ms: float, loss: float
    ) -> None:
        assert self._router.stdin is not None
        assert self._router.stdout is not None
        rule = [source, target, delay_ms / 1000, jitter_ms / 1000, loss]
        self._router.stdin.write(json.dumps(rule) + "\n")
        assert self._router.stdout.readline() == "set\n"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def open_hosts(prefix: str, count: int) -> list[int]:
    fds = []
    for number in range(count):
        name, namespace = f"t{os.getpid() % 100_000}-{number}", name_host(prefix, number)
        fds.append(open_tun(name))
        run("ip", "link", "set", name, "netns", namespace)
        run("ip", "-n", namespace, "link", "set", name, "name", "eth0")
        run("ip", "-n", namespace, "address", "add", f"{SUBNET}.{number + 1}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "mtu", str(MTU), "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    return fds


class Router:
    """The program: packets in, packets out when they are due."""

    def __init__(self, prefix: str, count: int, seed: int) -> None:
        self.fds = open_hosts(prefix, count)
        self.rng = random.Random(seed)
        self.rules: dict[tuple[int, int], tuple[float, float, float]] = {}
        self.waiting: list[tuple[float, int, int, bytes]] = []
        self.number = 0

    def run(self) -> None:
        poll = select.epoll()
        for fd in [0, *self.fds]:
            poll.register(fd, select.EPOLLIN)
        sources = {fd: number for number, fd in enumerate(self.fds)}
        print("ready", flush=True)
        while True:
            wait = self.waiting[0][0] - time.monotonic() if self.waiting else -1
            for fd, _ in poll.poll(max(wait, 0) if self.waiting else -1):
                if fd == 0:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    source, target, *rule = json.loads(line)
                    self.rules[source, target] = (rule[0], rule[1], rule[2])
                    print("set", flush=True)
                else:
                    self.take(sources[fd], fd)
            self.release()

    def take(self, source: int, fd: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(fd, PACKET_MAX)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue  # neighbours are looked for with IPv6: nobody answers
            target = packet[19] - 1
            if not 0 <= target < len(self.fds) or len(self.waiting) >= QUEUE_MAX:
                continue
            delay_s, jitter_s, loss = self.rules.get((source, target), (0.0, 0.0, 0.0))
            if loss and self.rng.random() < loss:
                continue
            due = time.monotonic() + delay_s + jitter_s * self.rng.random()
            self.number += 1
            heapq.heappush(self.waiting, (due, self.number, target, packet))

    def release(self) -> None:
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(self.waiting)
            try:
                os.write(self.fds[target], packet)
            except BlockingIOError:
                pass  # the host's queue is full: lost


if __name__ == "__main__":
    Router(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
