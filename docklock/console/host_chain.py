"""The chain as this host's own node sees it.

Not here: the node (docklock.chain), how it is drawn. Each look asks the node's status, and only for
the blocks that came since the last one; who decides is asked again when it may have changed. Where
no node runs, its store is read, and again only once the store has changed.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from chainlite.errors import DocklockError, StateError
from docklock.chain.client import ask_node
from docklock.chain.directory import find_process, get_directory, read_chain, say_start
from docklock.chain.reading import query, read_status
from docklock.console.facts import UNKNOWN, Block, ChainFacts, Peer, Validator
from docklock.evidence.database import sqlite3
from docklock.witness.fork_files import list_forks

if TYPE_CHECKING:
    from docklock.chain.directory import ChainDirectory
    from docklock.paths import Paths

BLOCKS_KEPT = 256
GROWS_MAX = 8
"""Blocks that may come between two asks."""
FINALITY_KEPT = 4 * BLOCKS_KEPT
ASK_MAX_S = 5.0
"""A node answers in milliseconds; one that does not is said to."""
VALIDATORS_EVERY_S = 30.0
FORKS_SHOWN_MAX = 16
TRY_IT = "docklock chain devnet --dir DIR makes a chain to try"


class HostChain:
    """source.Chain of this host."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._directory = get_directory(paths, None)
        self._chain_id = ""
        self._blocks: list[dict[str, Any]] = []  # the newest first
        self._finality: dict[int, int] = {}
        self._validators: dict[str, Any] = {}
        self._asked_s = 0.0
        self._stored: tuple[object, ChainFacts] | None = None

    def read_chain(self) -> ChainFacts:
        directory = self._directory
        if not os.path.exists(directory.genesis):
            why = ""
            try:
                read_chain(directory)
            except DocklockError as error:
                why = str(error)
            return ChainFacts(trouble=why, forks=self._list_forks())
        try:
            if find_process(directory):
                return asyncio.run(self._ask())
            return self._read_store()
        except (DocklockError, OSError, sqlite3.Error) as error:
            return ChainFacts(
                name=self._name(), chain_id=self._chain_id, forks=self._list_forks(),
                blocks=self._list_blocks(), trouble=str(error),
            )  # fmt: skip

    def _name(self) -> str:
        try:
            return read_chain(self._directory).genesis.name
        except DocklockError:
            return ""

    async def _ask(self) -> ChainFacts:
        """By the node that runs."""
        directory = self._directory
        status = await ask_node(directory, "GET", "/status", timeout_s=ASK_MAX_S)
        self._begin(status["chain_id"])
        for height, took_ms in status["finality_ms"].get("last", ()):
            self._finality[height] = took_ms
        while len(self._finality) > FINALITY_KEPT:
            del self._finality[min(self._finality)]
        await self._ask_blocks(status["height"])
        if self._are_validators_due(status):
            answer = await ask_node(directory, "GET", "/validators", timeout_s=ASK_MAX_S)
            self._validators, self._asked_s = answer, time.monotonic()
        return self._describe(status)

    async def _ask_blocks(self, height: int) -> None:
        """Those that came; the chain may grow between two asks, and no block may be left out."""
        known = self._blocks[0]["height"] if self._blocks else 0
        missing = min(max(height - known, 0), BLOCKS_KEPT)
        if not missing:
            return
        newest = await self._ask_last(missing)
        if not newest:
            return
        grown = newest[-1]["height"] - known - 1
        if grown > 0 and missing < BLOCKS_KEPT:
            newest = await self._ask_last(min(missing + grown + GROWS_MAX, BLOCKS_KEPT))
        if newest[-1]["height"] > known + 1:
            self._blocks = []  # more came than are kept
        self._take(newest)

    async def _ask_last(self, count: int) -> list[dict[str, Any]]:
        target = f"/blocks/last/{count}"
        found = await ask_node(self._directory, "GET", target, timeout_s=ASK_MAX_S)
        return list(found)

    def _begin(self, chain_id: str) -> None:
        """A directory that is made anew is of another chain."""
        if chain_id != self._chain_id:
            self._chain_id, self._blocks, self._finality = chain_id, [], {}
            self._validators, self._asked_s = {}, 0.0

    def _take(self, newest: list[dict[str, Any]]) -> None:
        """Blocks that came, the newest first; some may be known."""
        if newest:
            lowest = newest[-1]["height"]
            older = [block for block in self._blocks if block["height"] < lowest]
            found = [block for block in newest if block["height"] > 0]  # nobody sealed a genesis
            self._blocks = [*found, *older][:BLOCKS_KEPT]

    def _are_validators_due(self, status: dict[str, Any]) -> bool:
        known = self._validators
        count = len(known.get("validators", ()))
        is_old = time.monotonic() - self._asked_s >= VALIDATORS_EVERY_S
        return not known or count != status["validators"]["n"] or is_old

    def _describe(self, status: dict[str, Any]) -> ChainFacts:
        finality, accused = status["finality_ms"], set(status["accused"])
        sizes = status["validators"]
        forks = [f"validator {key} has voted twice at one height" for key in sorted(accused)]
        role = status["role"]
        if role == "validator":
            role = "validator, votes" if status["votes"] else "validator, does not vote"
        head = self._blocks[0] if self._blocks else {"height": 0, "time_ms": 0}
        return ChainFacts(
            name=status["chain"],
            chain_id=status["chain_id"],
            is_running=True,
            height=max(status["height"], head["height"]),
            round=status["round"],
            head_ms=max(status["head_time_ms"], head["time_ms"]),
            lag_blocks=max(status["lag"], 0),
            role=role,
            quorum=sizes["quorum"],
            may_fail=sizes["f"],
            finality_p50_ms=finality["p50"] if finality["heights"] else UNKNOWN,
            finality_p95_ms=finality["p95"] if finality["heights"] else UNKNOWN,
            mempool=status["mempool"]["transactions"],
            blocks=self._list_blocks(),
            validators=self._list_validators(status, accused),
            peers=tuple(map(_describe_peer, status["peers"])),
            forks=(*forks, *self._list_forks()),
            halted=status["halted"],
            settings=self._list_settings(status),
            trouble=status["waits_for"] or status["why_no_votes"],
        )

    def _list_settings(self, status: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        shown = [
            ("directory", self._directory.path),
            ("process", str(status["pid"])),
            ("node", status["node"]),
            ("operator", status["operator"]),
            ("validators up", f"{status['validators_up']} of {status['validators']['n']}"),
            ("round timeout", f"{status['base_timeout_ms']} ms"),
            ("receipts kept", str(status["receipts_kept"])),
            ("mempool", f"{status['mempool']['bytes']} bytes"),
        ]
        if status["first_block"]:
            shown.append(("first block", f"{status['first_block']}: it began with a snapshot"))
        for change in self._validators.get("changes", ()):
            verb = "joins" if change["joins"] else "leaves"
            shown.append(("change", f"{change['key'][:16]} {verb} at height {change['height']}"))
        for vote in self._validators.get("proposals", ()):
            votes = f"{vote['votes']} of {vote['needed']} votes"
            shown.append(("vote", f"{vote['operation']['kind']}: {votes}, until {vote['until']}"))
        return tuple(shown)

    def _list_validators(self, status: dict[str, Any], accused: set[str]) -> tuple[Validator, ...]:
        me = status["node"]
        up = {peer["key"] for peer in status["peers"] if peer["up"]} | {me}
        known = {peer["key"]: peer for peer in status["peers"]}
        listed = []
        for one in self._validators.get("validators", ()):
            key, notes = one["key"], []
            if key == me:
                notes.append("this node")
            if key in accused:
                notes.append("accused: it voted twice")
            peer = known.get(key)
            if peer is not None and not peer["up"] and peer["why_down"]:
                notes.append(peer["why_down"])
            listed.append(
                Validator(key, one["operator"], key in up, key == status["proposer"],
                          "; ".join(notes))
            )  # fmt: skip
        return tuple(listed)

    def _list_blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(
                height=one["height"], hash=one["hash"], time_ms=one["time_ms"],
                round=one["round"], proposer=one["proposer"], transactions=one["transactions"],
                seals=one["seals"], finality_ms=self._finality.get(one["height"], UNKNOWN),
            )
            for one in self._blocks
        )  # fmt: skip

    def _list_forks(self) -> tuple[str, ...]:
        """Files that convict a log: which log is told by `docklock verify FILE`."""
        try:
            found = list_forks(self._paths)
        except OSError:
            return ()
        more = len(found) - FORKS_SHOWN_MAX
        shown = [f"two histories of one log: {path}" for path in found[:FORKS_SHOWN_MAX]]
        return (*shown, *([f"and {more} more"] if more > 0 else ()))

    def _read_store(self) -> ChainFacts:
        """Without a node: what its store has."""
        mark = _get_mark(self._directory)
        if self._stored is None or self._stored[0] != mark:
            self._stored = (mark, self._make_stored())
        return self._stored[1]._replace(forks=self._list_forks())

    def _make_stored(self) -> ChainFacts:
        directory = self._directory
        status = read_status(directory)
        self._begin(status["chain_id"])
        trouble = f"no node runs: {say_start(directory)}"
        sizes: dict[str, Any] = {}
        try:
            self._take(query(directory, f"/blocks/last/{BLOCKS_KEPT}"))
            self._validators = query(directory, "/validators")
            sizes = self._validators
        except StateError as error:
            trouble = f"no node runs: {error}"
        return ChainFacts(
            name=status["chain"],
            chain_id=status["chain_id"],
            height=status["height"],
            head_ms=status["head_time_ms"],
            quorum=sizes.get("quorum", 0),
            may_fail=sizes.get("f", 0),
            blocks=self._list_blocks(),
            validators=tuple(
                Validator(one["key"], one["operator"]) for one in sizes.get("validators", ())
            ),
            halted=status.get("halted", ""),
            settings=(("directory", directory.path),),
            trouble=trouble,
        )


def _describe_peer(peer: dict[str, Any]) -> Peer:
    notes = [peer["why_down"]] if peer["why_down"] else []
    if peer["misdeeds"]:
        notes.append(f"{peer['misdeeds']} messages dropped, the last: {peer['last_misdeed']}")
    name = f"{peer['operator']} {peer['key'][:16]}".strip()
    return Peer(name, ", ".join(peer["addresses"]), peer["up"], "; ".join(notes))


def _get_mark(directory: ChainDirectory) -> object:
    """What changes when a store does."""
    marks = []
    for path in (directory.genesis, directory.database, f"{directory.database}-wal",
                 directory.halted):  # fmt: skip
        try:
            found = os.stat(path)
            marks.append((found.st_mtime_ns, found.st_size))
        except OSError:
            marks.append((0, 0))
    return marks
