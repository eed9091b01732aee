"""A router of ours between network namespaces, where the kernel has no netem.

Each host has a TUN device whose other end this program holds; packets between two hosts are
delayed, lost, or not let through at all. Run as a program it is the router: it reads one rule a
line on stdin.
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
from collections.abc import Sequence
from pathlib import Path

from tests.net.spaces import MTU, PACKETS_MAX, enter, make_address, run

CHECKOUT = Path(__file__).resolve().parents[2]
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_MAX = 65_536


class RouterProcess:
    """The router between the hosts of these namespaces."""

    def __init__(self, namespaces: Sequence[str], seed: int) -> None:
        words = [sys.executable, "-m", "tests.net.router", str(seed), *namespaces]
        self._process = subprocess.Popen(
            words, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the router did not start")

    def set(self, source: int, target: int, delay_ms: float, jitter_ms: float, loss: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        rule = [source, target, delay_ms / 1000, jitter_ms / 1000, loss]
        self._process.stdin.write(json.dumps(rule) + "\n")
        assert self._process.stdout.readline() == "set\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def open_hosts(namespaces: Sequence[str]) -> list[int]:
    fds = []
    for number, namespace in enumerate(namespaces):
        name = f"t{os.getpid() % 100_000}-{number}"
        fds.append(open_tun(name))
        run("ip", "link", "set", name, "netns", namespace)
        run(*enter(namespace), "ip", "link", "set", name, "name", "eth0")
        run(*enter(namespace), "ip", "address", "add", f"{make_address(number)}/24", "dev", "eth0")
        run(*enter(namespace), "ip", "link", "set", "eth0", "mtu", str(MTU), "up")
        run(*enter(namespace), "ip", "link", "set", "lo", "up")
    return fds


class Router:
    """The program: packets in, packets out when they are due."""

    def __init__(self, namespaces: Sequence[str], seed: int) -> None:
        self.fds = open_hosts(namespaces)
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
            if not 0 <= target < len(self.fds) or len(self.waiting) >= PACKETS_MAX:
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
    Router(sys.argv[2:], int(sys.argv[1])).run()
