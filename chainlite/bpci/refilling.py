"""Which leaves a server's lost log had, from what hosts say of their places in it. Pure.

A leaf says of one host how much of its log was held, so it follows from host and size. Hosts say
where theirs were; that is believed only where the leaves lead to a root that the server has signed.
A leaf whose answer never arrived is in no host's list: there each size is tried that fits between
its host's others, first those that were sent and not answered.
Not here: rows, signatures, whom is waited for (restoring). Invariant: what `search_leaves` gives
has the root that was asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from chainlite import merkle
from chainlite.bpci.acknowledgement import Held, encode_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chainlite.bpci.handover import Place
    from chainlite.checkpoint import Checkpoint

    MakeHeld = Callable[[bytes, int], Held]
    Choose = Callable[[int, Sequence[Held]], Iterable[Held]]

WINDOW = 1 << 18
"""Leaves beyond the end of the log of which places are kept."""
TRIES_MAX = 1 << 16
"""Leaves that are tried in one search, beyond those that have to be."""


class Claims:
    """What hosts say of the leaves from the end of the log on."""

    def __init__(self) -> None:
        self._by_leaf: dict[int, dict[bytes, int]] = {}
        self._by_host: dict[bytes, dict[int, int]] = {}
        self._unsure: dict[bytes, tuple[int, ...]] = {}
        self._until: dict[bytes, int] = {}
        self.changes = 0
        """How often anything was said."""

    def add(self, first: int, host: bytes, places: Sequence[Place], until: int) -> None:
        """Places that a host names, out of a log that has `first` leaves."""
        self.changes += 1
        for leaf_index, size in places:
            if first <= leaf_index < first + WINDOW:
                self._by_leaf.setdefault(leaf_index, {})[host] = size
                self._by_host.setdefault(host, {})[leaf_index] = size
        self._until[host] = max(self._until.get(host, 0), min(until, first + WINDOW))

    def put_unsure(self, host: bytes, sizes: tuple[int, ...]) -> None:
        """Up to where it has sent and was not answered."""
        self.changes += 1
        self._unsure[host] = sizes

    def drop_below(self, first: int) -> None:
        """The log has these leaves now."""
        for leaf_index in [one for one in self._by_leaf if one < first]:
            for host in self._by_leaf.pop(leaf_index):
                del self._by_host[host][leaf_index]

    def drop_host(self, host: bytes) -> None:
        """Nothing that this host says is believed."""
        for leaf_index in self._by_host.pop(host, {}):
            self._by_leaf[leaf_index].pop(host, None)
            if not self._by_leaf[leaf_index]:
                del self._by_leaf[leaf_index]
        self._unsure.pop(host, None)

    def get_until(self, host: bytes) -> int:
        """Up to which leaf a host has named all its places."""
        return self._until.get(host, 0)

    def get_reach(self, first: int) -> int:
        """The first leaf from there on that no host claims."""
        while first in self._by_leaf:
            first += 1
        return first

    def choose(self, leaf_index: int, make_held: MakeHeld) -> Iterator[Held]:
        """What hosts say of this leaf."""
        for host, size in self._by_leaf.get(leaf_index, {}).items():
            yield make_held(host, size)

    def guess(
        self, leaf_index: int, chosen: Sequence[Held], hosts: Sequence[tuple[bytes, int, int]],
        make_held: MakeHeld,
    ) -> Iterator[Held]:  # fmt: skip
        """What a leaf may be that nobody claims: any host at any size between its others.

        `hosts`: for each its id, the size that the log says it has (-1: nothing yet), and how much
        of it is held. `chosen`: the leaves just before.
        """
        taken: dict[bytes, int] = {}
        for held in chosen:
            taken[held.host] = held.size
        likely, others = list[tuple[bytes, int]](), list[tuple[bytes, int]]()
        for host, logged, size in hosts:
            places = sorted(self._by_host.get(host, {}).items())
            at = bisect_left(places, (leaf_index, 0))
            low = max(logged, taken.get(host, -1), places[at - 1][1] if at else -1)
            high = places[at][1] if at < len(places) else size + 1
            unsure = set(self._unsure.get(host, ()))
            likely += [(host, one) for one in sorted(unsure) if low < one < high]
            if low < 0 < high:
                likely.append((host, 0))
            for one in range(max(low, 0) + 1, min(high, low + TRIES_MAX)):
                if one not in unsure:
                    others.append((host, one))
            if len(others) > TRIES_MAX:
                break
        for host, size in (*likely, *others):
            yield make_held(host, size)


def search_leaves(
    first: int, frontier: Sequence[bytes], goal: Checkpoint, choose: Choose
) -> tuple[Held, ...] | None:
    """The leaves from `first` on, of a log with this frontier, that lead to the goal's root.

    `choose` gives what a leaf may be after those chosen before it. None where none is found.
    """
    left = goal.size - first + TRIES_MAX
    chosen = list[Held]()
    frontiers = [list(frontier)]
    levels: list[Iterator[Held]] = [iter(choose(first, chosen))]
    while levels and left:
        held = next(levels[-1], None)
        if held is None:
            levels.pop()
            if chosen:
                chosen.pop()
                frontiers.pop()
            continue
        left -= 1
        after = list(frontiers[-1])
        merkle.add_leaf(after, first + len(chosen), encode_held(held))
        if first + len(chosen) + 1 == goal.size:
            if merkle.compute_frontier_root(after) == goal.root:
                return (*chosen, held)
            continue
        chosen.append(held)
        frontiers.append(after)
        levels.append(iter(choose(first + len(chosen), chosen)))
    return None
