"""Validators that a test starts, kills and asks itself: real `docklock chain start` processes.

Where a devnet (chains) would start again what was killed, and on loopback, here the test decides,
and a validator may be in a network namespace. Each ends with the test's process (--parent).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

from chainlite.consensus.messages import Vote, get_votes
from chainlite.consensus.wal import VoteLog
from chainlite.errors import DocklockError
from chainlite.ledger.genesis import Parameters, encode_genesis
from chainlite.ledger.store_check import check_store
from chainlite.ledger.store_tables import Tables
from chainlite.net.registration import Address
from docklock.chain.client import ask_node
from docklock.chain.directory import Chain, ChainDirectory, make_chain
from docklock.chain.setup import init_node, make_genesis
from tests.conftest import SLOWER
from tests.e2e.conftest import CHECKOUT, find_leaks
from tests.net.spaces import enter

HOST = "127.0.0.1"
PORT_FIRST, PORT_LAST = 12_000, 32_000
"""Below those that the kernel gives to who dials, above those of a devnet."""
PORTS_TRIED = 500
LOOK_S = 0.02
WAIT_S = 30.0 * SLOWER
END_S = 20.0 * SLOWER


def find_addresses(count: int) -> list[Address]:
    """Ports of loopback that nobody listens on."""
    rng = random.Random(os.getpid())
    found: list[Address] = []
    for port in rng.sample(range(PORT_FIRST, PORT_LAST), PORTS_TRIED):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(Address(HOST, port))
        if len(found) == count:
            return found
    raise AssertionError(f"{PORTS_TRIED} ports were tried")


class Validators:
    """One chain's validators, their directories `top/v0`...; use with `async with`."""

    def __init__(
        self,
        top: Path,
        addresses: Sequence[Address],
        parameters: Parameters,
        namespaces: Sequence[str] = (),
    ) -> None:
        """`namespaces` names a network namespace for each; none: this process's."""
        self.top = top
        self.prefixes = [enter(name) for name in namespaces]
        self.directories = [ChainDirectory(f"{top}/v{n}") for n in range(len(addresses))]
        members = []
        for number, address in enumerate(addresses):
            wanted: dict[str, object] = {"listen": address, "operator": f"v{number}"}
            made = init_node(self.directories[number], wanted, None)
            assert made.member is not None
            members.append(made.member)
        self.publics = [member.public for member in members]
        now_ms = time.time_ns() // 1_000_000
        genesis = make_genesis("test", now_ms, members, parameters)
        self.chain: Chain = make_chain(encode_genesis(genesis))
        for directory in self.directories:
            init_node(directory, {}, self.chain)
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        self.spawned: dict[int, float] = {}
        self.odd: set[int] = set()
        """Who runs, and has no door to be asked at."""
        self.environment = {
            "PATH": os.environ["PATH"],
            "DOCKLOCK_ROOT": str(top / "root"),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONPYCACHEPREFIX": str(top / "compiled"),  # as an installed package is
            "LC_ALL": "C.UTF-8",
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # what failed is said already
            for process in self.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            return
        await self.kill(*self.processes)
        await self.until(self._leaves_nothing)

    async def _leaves_nothing(self) -> bool:
        """Also the children of those that were killed end, in a moment."""
        return find_leaks(self.top / "root") == []

    @property
    def genesis(self) -> Path:
        return Path(self.directories[0].genesis_toml)

    async def spawn(self, *numbers: int, options: Sequence[str] = ()) -> None:
        """`docklock chain start` of each."""
        for number in numbers:
            self.odd.discard(number)
            path = self.directories[number].path
            words = ("--dir", path, "--parent", str(os.getpid()), *options)
            await self._start(number, "docklock.cli.main", "chain", "start", *words)

    async def spawn_odd(self, number: int, mode: str) -> None:
        """One that is not as it should be (odd_validator)."""
        self.odd.add(number)
        path = self.directories[number].path
        await self._start(number, "tests.e2e.odd_validator", path, mode)

    async def _start(self, number: int, module: str, *words: str) -> None:
        assert number not in self.processes
        prefix = self.prefixes[number] if self.prefixes else ()
        with self.get_log(number).open("ab") as log:
            self.spawned[number] = time.monotonic()
            self.processes[number] = await asyncio.create_subprocess_exec(
                *prefix, sys.executable, "-m", module, *words,
                env=self.environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def get_log(self, number: int) -> Path:
        return self.top / f"v{number}.log"

    def said(self, number: int) -> str:
        return self.get_log(number).read_text() if self.get_log(number).exists() else ""

    async def kill(self, *numbers: int) -> None:
        """All at the same moment; each must have been alive."""
        victims = {number: self.processes.pop(number) for number in numbers}
        for process in victims.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for number, process in victims.items():
            assert await process.wait() == -signal.SIGKILL, f"v{number}: {self.said(number)}"

    async def end(self, *numbers: int) -> None:
        """By SIGTERM: exit 0, and the store closed."""
        ended = {number: self.processes.pop(number) for number in numbers or list(self.processes)}
        for process in ended.values():
            process.terminate()
        for number, process in ended.items():
            code = await asyncio.wait_for(process.wait(), END_S)
            assert code == 0, f"v{number} ended with {code}: {self.said(number)}"

    async def wait_exit(self, number: int, limit_s: float = END_S) -> int:
        """Until it ends by itself; its exit status."""
        return await asyncio.wait_for(self.processes.pop(number).wait(), limit_s)

    async def ask(self, number: int, target: str) -> Any:
        return await ask_node(self.directories[number], "GET", target)

    async def show(self, number: int) -> dict[str, Any]:
        """Its status; empty while it is not there."""
        try:
            return dict(await self.ask(number, "/status"))
        except DocklockError:
            return {}

    async def get_height(self, number: int) -> int:
        return int((await self.show(number)).get("height", -1))

    async def wait_votes(self, *numbers: int) -> None:
        for number in numbers or tuple(self.processes):
            await self.until(lambda n=number: self._votes(n))

    async def _votes(self, number: int) -> bool:
        return bool((await self.show(number)).get("votes"))

    async def wait_height(self, least: int, *numbers: int) -> None:
        for number in numbers or tuple(self.processes):
            await self.until(lambda n=number: self._is_at(n, least))

    async def _is_at(self, number: int, least: int) -> bool:
        return await self.get_height(number) >= least

    async def rise(self, blocks: int, *numbers: int) -> int:
        """These, or all that run, get so many blocks further than the furthest; that height."""
        chosen = numbers or tuple(self.processes)
        goal = max([await self.get_height(number) for number in chosen]) + blocks
        await self.wait_height(goal, *chosen)
        return goal

    async def until(self, holds: Callable[[], Awaitable[Any]], limit_s: float = WAIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not await holds():
            if time.monotonic() > deadline:
                said = "\n".join(f"v{n}: {self.said(n)[-600:]}" for n in self.processes)
                shown = [await self.show(number) for number in self.processes]
                for one in shown:
                    one.pop("peers", None)
                raise AssertionError(f"waited too long\n{said}\n{shown}")
            await asyncio.sleep(LOOK_S)

    async def check_accused(self, *accused: int) -> None:
        """These and no others are, at whoever runs."""
        wanted = {self.publics[number].hex() for number in accused}
        for number in self.processes.keys() - self.odd:
            assert set((await self.show(number))["accused"]) <= wanted

    # Directories whose validator does not run

    def read_votes(self, number: int) -> list[Vote]:
        """What the vote log of one that does not run has of its last height."""
        log = VoteLog(Path(self.directories[number].votes), self.chain.id)
        try:
            recorded = log.read(log.read_height())
        finally:
            log.close()
        votes = [vote for message in recorded.messages for vote in get_votes(message)]
        return [vote for vote in votes if vote.signer == self.publics[number]]

    def read_hashes(self, number: int) -> list[bytes]:
        """Of every block in the store of one that does not run, which is checked first."""
        path = Path(self.directories[number].database)
        last = check_store(path)
        tables = Tables(path)
        try:
            return [tables.get_hash(height) for height in range(last + 1)]
        finally:
            tables.db.close()

    def check_one_history(self, *numbers: int) -> list[bytes]:
        """All stores have the same block at every height that two have; the longest one."""
        found = [self.read_hashes(number) for number in numbers or range(len(self.directories))]
        longest = max(found, key=len)
        for hashes in found:
            assert hashes == longest[: len(hashes)]
        return longest
