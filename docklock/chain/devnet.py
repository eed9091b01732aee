"""A chain to try: so many validators as processes on loopback, made, started and ended together.

Not here: what a validator is (process). It is no way to run a chain: all keys lie on one host.
Invariants: when it ends, however, no validator goes on (each has the kernel end it with this
process); what it made itself it removes, unless that is to be kept; one that is killed is started
again, one that ended well is not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError, SpecError, StateError
from chainlite.ledger.genesis import encode_genesis
from docklock.chain.client import ask_node
from docklock.chain.directory import (
    ChainDirectory,
    make_chain,
    read_chain,
)
from docklock.chain.registering import read_settings
from docklock.chain.settings import ANYBODY, format_address
from docklock.chain.setup import init_node, make_genesis
from docklock.files import remove_tree
from docklock.program import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chainlite.ledger.genesis import Parameters
    from docklock.chain.directory import Chain
    from docklock.paths import Paths

VALIDATORS_MAX = 16
PORT_FIRST, PORT_LAST = 7400, 9999
"""Below what the kernel gives to those who dial, so that a port is still free after a restart."""
HOST = "127.0.0.1"
READY_S = 30.0
LOOK_S = 0.05
AGAIN_S = 1.0
END_S = 10.0
LOG = "log"
FOR_GOOD = (2, 3)
"""Exit codes after which another start would end as this one did."""


class Devnet(NamedTuple):
    """What is asked for. An empty `directory`: a new one, which goes when it ends unless `keep`."""

    size: int
    directory: str
    keep: bool
    parameters: Parameters


class Validator(NamedTuple):
    """One of them, as it is shown."""

    name: str
    directory: ChainDirectory
    address: str


def run_devnet(paths: Paths, wanted: Devnet, say: Callable[[str], None]) -> int:
    """Make what is not there, start all, and end all when told to; `say` is told line by line."""
    if not 1 <= wanted.size <= VALIDATORS_MAX:
        raise SpecError(f"--validators {wanted.size}: want 1 to {VALIDATORS_MAX}")
    top, is_new = _make_top(wanted)
    try:
        with ExitStack() as stack:
            if is_new:
                free = stack.enter_context(hold_ports(wanted.size + 1))
                chain, validators = _make_all(top, wanted, free)
            else:
                chain, validators = _find_all(top)
            running = _Running(paths, chain, validators, say)
            return asyncio.run(running.run(top, wanted, is_new=is_new))
    finally:
        if is_new and not wanted.keep:
            remove_tree(top)


def _make_top(wanted: Devnet) -> tuple[str, bool]:
    """The directory, and whether it is new."""
    if not wanted.directory:
        return tempfile.mkdtemp(prefix="docklock-devnet-"), True
    top = os.path.abspath(wanted.directory)
    if os.path.isdir(top) and os.listdir(top):
        if not os.path.isdir(f"{top}/v1"):
            raise StateError(f"{top} is not empty and no devnet: choose another --dir")
        return top, False
    os.makedirs(top, mode=0o700, exist_ok=True)
    return top, True


def _make_all(top: str, wanted: Devnet, free: list[int]) -> tuple[Chain, list[Validator]]:
    """Keys, one genesis of them all, and each validator's directory; a port for each and a door."""
    from chainlite.net.registration import Address

    *ports, introducing = free
    validators, members = [], []
    for number, port in enumerate(ports, 1):
        name, directory = f"v{number}", ChainDirectory(f"{top}/v{number}")
        settings: dict[str, object] = {
            "listen": Address(HOST, port),
            "operator": name,
            "introduce": Address(HOST, introducing) if number == 1 else None,
            "admit": ANYBODY,
        }
        made = init_node(directory, settings, None)
        assert made.member is not None
        members.append(made.member)
        validators.append(Validator(name, directory, made.member.address))
    now_ms = time.time_ns() // 1_000_000
    genesis = make_genesis("devnet", now_ms, members, wanted.parameters)
    chain = make_chain(encode_genesis(genesis))
    for validator in validators:
        init_node(validator.directory, {}, chain)
    return chain, validators


def _find_all(top: str) -> tuple[Chain, list[Validator]]:
    """The validators of a devnet that was kept."""
    names = sorted(
        [name for name in os.listdir(top) if name[:1] == "v" and name[1:].isdigit()],
        key=lambda name: int(name[1:]),
    )
    validators = []
    for name in names:
        directory = ChainDirectory(f"{top}/{name}")
        listen = read_settings(directory).listen
        assert listen is not None
        validators.append(Validator(name, directory, f"{listen.host}:{listen.port}"))
    return read_chain(validators[0].directory), validators


@contextmanager
def hold_ports(count: int) -> Iterator[list[int]]:
    """So many ports of loopback that are free just now; StateError if there are none.

    Their validators bind them a while later: until the end a name, which the kernel takes back from
    whoever is killed, keeps other devnets from them.
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in range(PORT_FIRST, PORT_LAST + 1):
            holder = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    holder.bind(f"\0docklock-devnet-{port}")
                    probe.bind((HOST, port))
                except OSError:
                    holder.close()
                    continue
            found.append(port)
            if len(found) == count:
                yield found
                return
    raise StateError(f"not {count} ports are free on {HOST} from {PORT_FIRST} to {PORT_LAST}")


class _Running:
    """The processes, for as long as `run` runs."""

    def __init__(
        self, paths: Paths, chain: Chain, validators: list[Validator], say: Callable[[str], None]
    ) -> None:
        self._argv = [*find_program(paths), "chain", "start", "--parent", str(os.getpid())]
        self._chain, self._validators, self._say = chain, validators, say
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, top: str, wanted: Devnet, *, is_new: bool) -> int:
        """Until told to end; 0, or 1 if they did not come up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        for validator in self._validators:
            await self._spawn(validator)
        tasks = [asyncio.create_task(self._keep(one)) for one in self._validators]
        try:
            if not await self._wait_ready():
                return 0
            self._introduce(top, is_kept=wanted.keep or not is_new)
            await self._stopping.wait()
            return 0
        finally:
            self._stopping.set()
            for process in self._processes.values():
                if process.returncode is None:
                    process.terminate()
            await self._end(tasks)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        _, late = await asyncio.wait(tasks, timeout=END_S)
        for process in self._processes.values() if late else ():
            if process.returncode is None:
                process.kill()
        if late:
            await asyncio.wait(late)

    async def _spawn(self, validator: Validator) -> None:
        path = validator.directory.path
        with open(f"{path}/{LOG}", "ab") as log:
            self._processes[validator.name] = await asyncio.create_subprocess_exec(
                *self._argv, "--dir", path,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is ours, and we end them in order
            )  # fmt: skip

    async def _keep(self, validator: Validator) -> None:
        """Start it again whenever it did not end well."""
        while True:
            code = await self._processes[validator.name].wait()
            if self._stopping.is_set():
                return
            start = f"docklock chain start --dir {validator.directory.path}"
            if code in FOR_GOOD:
                log = f"{validator.directory.path}/{LOG}"
                self._say(f"{validator.name} ended with code {code}: {_read_end(log)}")
                return
            if code == 0:
                self._say(f"{validator.name} was ended; to start it again: {start}")
                return
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            self._say(f"{validator.name} ended {how}; it is started again in {AGAIN_S:g} s")
            try:
                await asyncio.wait_for(self._stopping.wait(), AGAIN_S)
                return
            except TimeoutError:
                await self._spawn(validator)

    async def _wait_ready(self) -> bool:
        """Until all have a block; False if told to end before. StateError if it takes long."""
        deadline = time.monotonic() + READY_S
        for validator in self._validators:
            while not await _has_block(validator):
                if self._stopping.is_set():
                    return False
                if time.monotonic() > deadline:
                    log = f"{validator.directory.path}/{LOG}"
                    raise StateError(
                        f"{validator.name} has no block after {READY_S:g} s: {_read_end(log)}"
                    )
                await asyncio.sleep(LOOK_S)
        return True

    def _introduce(self, top: str, *, is_kept: bool) -> None:
        """What was made, and what to type next."""
        genesis, first = self._chain.genesis, self._validators[0].directory.path
        size = len(self._validators)
        self._say(
            f"chain {genesis.name} ({self._chain.short_id}): {size} validators, "
            f"{(size - 1) // 3} of them may fail, in {top}"
        )
        for one in self._validators:
            pid = self._processes[one.name].pid
            self._say(f"  {one.name}  {one.address}  process {pid}  {one.directory.path}")
        introduce = read_settings(self._validators[0].directory).introduce
        if introduce is not None:
            self._say(
                f"  another node joins with: docklock chain init --dir DIR --genesis "
                f"{first}/genesis.toml --introducers {format_address(introduce)}"
            )
        self._say("Next, in another terminal:")
        for words in ("status", "blocks --last 5", "validators"):
            self._say(f"  docklock chain {words} --dir {first}")
        self._say(f"  kill -9 {self._processes[self._validators[-1].name].pid}"
                  "   # the others go on, and it comes back")  # fmt: skip
        what = "keeps" if is_kept else "removes"
        self._say(f"Ctrl-C ends it and {what} {top}")


async def _has_block(validator: Validator) -> bool:
    try:
        status = await ask_node(validator.directory, "GET", "/status")
    except DocklockError:  # not there yet
        return False
    return int(status["height"]) > 0


def _read_end(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    return lines[-1] if lines else "it said nothing"
