"""Hosts in network namespaces of their own, and what is between them as bad as asked.

`tc netem` (netem.py) where this host has it, else a router of ours (router.py): found out by
trying, once. A test that fails prints which. The packets are the kernel's own, of its own TCP.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from types import TracebackType
from typing import Protocol, Self

from tests.net.netem import Netem, has_netem
from tests.net.router import RouterProcess
from tests.net.spaces import make_address, run


class Between(Protocol):
    """What is between the hosts of these namespaces; at first all reach all without delay."""

    def set(
        self, source: int, target: int, delay_ms: float, jitter_ms: float, loss: float
    ) -> None: ...

    def close(self) -> None:
        """Once; the namespaces' own end is not in it."""


@functools.cache
def find_way() -> str:
    return "netem" if has_netem() else "router"


class Wires:
    """For `with`: so many hosts, each in a namespace, all reaching all at first without delay.

    `way` is for tests of both; `seed` is the router's: netem of Linux 6.1 takes none.
    """

    def __init__(self, count: int, seed: int = 0, way: str = "") -> None:
        self.count, self.seed = count, seed
        self.way = way or find_way()
        self.prefix = f"dw{os.getpid() % 100_000}-"

    @property
    def namespaces(self) -> list[str]:
        return [f"{self.prefix}{number}" for number in range(self.count)]

    @property
    def addresses(self) -> list[str]:
        return [make_address(number) for number in range(self.count)]

    def __enter__(self) -> Self:
        print(f"wires: {self.way}")
        try:
            for namespace in self.namespaces:
                run("ip", "netns", "add", namespace)
            self._between = self._make()
        except BaseException:
            self._delete()
            raise
        return self

    def _make(self) -> Between:
        if self.way == "netem":
            return Netem(self.namespaces)
        return RouterProcess(self.namespaces, self.seed)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            self._between.close()
        finally:
            self._delete()

    def _delete(self) -> None:
        for namespace in self.namespaces:
            if os.path.exists(f"/run/netns/{namespace}"):
                run("ip", "netns", "delete", namespace)

    def set(
        self, one: int, other: int, *, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0
    ) -> None:
        """From now on packets between these two, both ways, take so long, or are lost.

        `jitter_ms` is the most that is added to the delay; all between is as likely.
        """
        self._between.set(one, other, delay_ms, jitter_ms, loss)
        self._between.set(other, one, delay_ms, jitter_ms, loss)

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
