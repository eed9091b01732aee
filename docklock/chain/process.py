"""`docklock chain start`: the composition root of a node, one asyncio loop, until SIGTERM.

It opens the store, the votes, the mesh and the control socket, and gives them to a node
(chainlite.consensus.node), which decides all else. Not here: a state taken from peers before
(arriving), when it may vote (voting), whom it meets (meeting), what it answers (desk, views,
status). Invariants: one process has the directory; a process of which a part has come apart ends,
and votes on nothing after that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from chainlite.consensus.joining import NoSnapshot
from chainlite.consensus.node import Node, Parts
from chainlite.consensus.wal import VoteLog
from chainlite.errors import DocklockError, SpecError, TamperError
from chainlite.ledger import records
from chainlite.proofs.trusted import trust_genesis
from docklock.agent.server import bind
from docklock.agent.systemd import Notifier, take_environment
from docklock.chain.arriving import take_state
from docklock.chain.bodies import Bodies
from docklock.chain.checkpoints import Checkpoints
from docklock.chain.collector import calm_collector
from docklock.chain.control import Control
from docklock.chain.desk import Desk
from docklock.chain.directory import hold_lock, read_chain, write_whole
from docklock.chain.introducing import Introducing
from docklock.chain.meeting import Meeting
from docklock.chain.node_key import load_node_key
from docklock.chain.presence import get_now_ms, make_presence
from docklock.chain.registering import read_listed, read_settings
from docklock.chain.settings import SNAPSHOT
from docklock.chain.status import Standing, compute_finality, describe_status
from docklock.chain.stores import begin_with_state, open_or_create, repair_store
from docklock.chain.voting import find_obstacle

if TYPE_CHECKING:
    from chainlite.keys import GuardedKey
    from chainlite.ledger.genesis import Member
    from chainlite.ledger.header import Seals
    from chainlite.ledger.state import Executed
    from chainlite.ledger.store import Store
    from chainlite.proofs.trusted import Trusted
    from docklock.agent.journal import Log
    from docklock.chain.directory import Chain, ChainDirectory

LOOK_S = 0.2
"""How often it looks whether the node may vote, has halted, waits, or has lost its parent;"""
LOOK_SOON_S = 0.02
"""and while a validator does not vote yet."""
EXIT_BROKEN, EXIT_HALTED = 1, 3
SEALED_KEPT = 128
"""Heights whose time to their seal the status tells."""
SEALED_WITHIN_MS = 60_000
"""A block that came later was fetched by one who lagged: it says nothing of finality."""
FOLLOWS = "it was started with --follow"


class Choices(NamedTuple):
    """How a node is started. `parent` is a process whose end is its own, 0 for none.

    With `snapshot` a new store begins with the state that peers have, as far as `trusted` leads to
    it: a header checkpoint, or without one the genesis.
    """

    parent: int = 0
    follow: bool = False
    repair: bool = False
    snapshot: bool = False
    trusted: Trusted | None = None


def run_node(directory: ChainDirectory, choices: Choices, log: Log) -> int:
    """Run until SIGTERM or SIGINT; the exit status: 0, 1 a part broke, 3 halted.

    StateError, SpecError and TamperError where it cannot begin.
    """
    chain = read_chain(directory)
    with ExitStack() as held:
        held.callback(os.close, hold_lock(directory))
        if choices.repair:
            _repair(directory, chain, log)
        store = open_or_create(directory, chain)
        held.callback(store.close)
        if os.path.exists(directory.halted):
            os.unlink(directory.halted)  # what is wrong still will be said again
        key = load_node_key(directory)
        held.callback(key.erase)
        notifier = Notifier(take_environment().get("NOTIFY_SOCKET", ""))
        held.callback(notifier.close)
        if _is_to_begin_anew(directory, choices, store, log):
            store.close()
            if not _begin_anew(directory, chain, choices, _Parts(store, key, notifier), log):
                return 0
            store = open_or_create(directory, chain)
            held.callback(store.close)
        votes = VoteLog(Path(directory.votes), chain.id)
        held.callback(votes.close)
        root = _Root(directory, chain, choices, log, _Parts(store, key, notifier), votes)
        return asyncio.run(root.run())


def _is_to_begin_anew(directory: ChainDirectory, choices: Choices, store: Store, log: Log) -> bool:
    """Whether the state is to be taken from peers: never in the place of blocks that are here."""
    if choices.snapshot and store.height:
        log.info(
            f"the store has blocks to {store.height} and goes on by blocks; to begin with a "
            f"snapshot, move {directory.database} away first"
        )
    is_wanted = choices.snapshot or read_settings(directory).begin == SNAPSHOT
    if choices.trusted is not None and not is_wanted:
        raise SpecError("--header-checkpoint: of a node that begins with a --snapshot")
    return is_wanted and not store.height


def _begin_anew(
    directory: ChainDirectory, chain: Chain, choices: Choices, parts: _Parts, log: Log
) -> bool:
    """Put a state of the peers' in the place of the store, which is closed; False if told to end.

    Where none is to be had all stays as it is. SpecError where what is trusted is stale.
    """
    trusted = choices.trusted or trust_genesis(chain.genesis)
    try:
        taken = asyncio.run(take_state(directory, chain, parts.key, trusted, log, parts.notifier))
    except NoSnapshot as why:
        log.warning(f"{why}: it begins with the genesis, and takes all blocks")
        return True
    if taken is None:
        return False
    begin_with_state(directory, chain, taken)
    height = taken.block.header.height
    log.info(f"begins with the state of block {height}, {len(taken.rows)} rows; blocks from there")
    return True


def _repair(directory: ChainDirectory, chain: Chain, log: Log) -> None:
    found = repair_store(directory, chain)
    if not found.damage:
        log.info("nothing to repair: every block, the state and the indexes are whole")
        return
    log.warning(found.damage)
    if found.aside:
        log.warning(f"nothing before it could be kept: the old file is {found.aside}")
    log.warning(f"kept the blocks to {found.kept_height}; the rest comes from the peers")


class _Parts(NamedTuple):
    store: Store
    key: GuardedKey
    notifier: Notifier


class _Root:
    """Everything that one node's process holds."""

    def __init__(
        self,
        directory: ChainDirectory,
        chain: Chain,
        choices: Choices,
        log: Log,
        parts: _Parts,
        votes: VoteLog,
    ) -> None:
        self._directory, self._chain, self._choices, self._log = directory, chain, choices, log
        self._store, self._key, self._notifier = parts
        self._votes = votes
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._obstacle = FOLLOWS
        self._said = ""
        self._seen: tuple[object, object] = (None, None)
        self._sealed: deque[tuple[int, int]] = deque(maxlen=SEALED_KEPT)
        self._node: Node
        self._meeting: Meeting
        self._bodies: Bodies
        self._introducing: Introducing

    async def run(self) -> int:
        """Until told to end, or until it cannot go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.set_exception_handler(self._upon_broken)
        presence = make_presence(self._directory, self._chain, self._key)
        settings, certificate, registration, mesh = presence
        node = self._node = Node(Parts(self._store, mesh, None), None, get_now_ms)
        node.on_block = self._upon_block
        self._introducing = Introducing(
            mesh, registration, certificate, settings, self._is_named, self._log.warning
        )
        self._bodies = Bodies(node, self._key.public, self._directory.bodies, self._log.warning)
        self._meeting = Meeting(mesh, self._chain.id, self._list_members, self._log.warning)

        def describe() -> dict[str, Any]:
            finality = compute_finality(node.get_durations_ms(), tuple(self._sealed))
            kept = self._bodies.receipts
            standing = Standing(self._chain, registration, self._obstacle, finality, kept)
            return describe_status(node, standing, get_now_ms())

        await mesh.start()
        checkpoints = Checkpoints(node, self._key)
        rooms = (self._bodies, self._introducing, checkpoints)
        desk = Desk(self._directory, node, self._key, rooms, describe)
        control = Control(desk.get_routes())
        await control.open(bind(self._directory.socket))
        node.start()
        await self._bodies.start()
        checkpoints.start()
        await self._introducing.start(read_listed(self._directory, self._chain))
        self._meeting.look()
        self._look()
        calm_collector()
        where = f", listening on {settings.listen.host}:{mesh.port}" if settings.listen else ""
        self._log.info(f"chain {self._chain.genesis.name} at height {node.height}{where}")
        self._notifier.send("READY=1", f"STATUS=height {node.height}")
        await self._stopping.wait()
        self._notifier.send("STOPPING=1")
        await control.close()
        os.unlink(self._directory.socket)
        node.close()
        await self._meeting.close()
        await self._introducing.close()
        await self._bodies.close()
        await node.following.close()
        await mesh.close()
        return self._exit_code

    def _list_members(self) -> tuple[Member, ...]:
        """Validators and archives, as the chain names them."""
        ledger = self._node.ledger
        row = ledger.find(records.VALIDATORS_KEY)
        assert isinstance(row, records.Validators)
        return (*row.members, *cast("tuple[Member, ...]", ledger.find(records.ARCHIVES_KEY)))

    def _is_named(self, key: bytes) -> bool:
        """Whether the chain names it as validator or archive."""
        return any(key == member.public for member in self._list_members())

    def _upon_block(self, executed: Executed, _seals: Seals) -> None:
        header = executed.block.header
        age_ms = get_now_ms() - header.timestamp_ms
        if age_ms <= SEALED_WITHIN_MS:
            self._sealed.append((header.height, max(age_ms, 0)))
        find = self._node.ledger.find
        named = find(records.VALIDATORS_KEY), find(records.ARCHIVES_KEY)
        if any(one is not other for one, other in zip(named, self._seen, strict=True)):
            self._seen = named
            self._meeting.look()
        self._bodies.upon_block(executed.txs)

    def _look(self) -> None:
        node, loop = self._node, asyncio.get_running_loop()
        if self._choices.parent and os.getppid() != self._choices.parent:
            self._stopping.set()
        if node.halted:
            if not self._stopping.is_set():
                self._end(EXIT_HALTED, f"HALTED at height {node.height}: {node.halted}")
                write_whole(self._directory.halted, f"{node.halted}\n".encode())
            return
        if node.waits_for != self._said:
            self._said = node.waits_for
            self._log.warning(self._said) if self._said else self._log.info("it goes on")
        if self._obstacle and not self._choices.follow:
            self._try_voting()
        is_soon = self._obstacle and self._key.public in node.validators
        loop.call_later(LOOK_SOON_S if is_soon else LOOK_S, self._look)

    def _try_voting(self) -> None:
        node = self._node
        told = node.following.get_heights()
        before = self._obstacle
        if not self._bodies.may_say and self._is_archive():
            self._begin_voting()  # as no validator it has nothing to vote on, but bodies to tell of
        self._obstacle = find_obstacle(
            self._key.public, node.height, self._votes.read_height(), node.validators, told
        )
        spoilt = "" if self._obstacle else self._find_spoilt_votes()
        self._obstacle = self._obstacle or spoilt
        if not self._obstacle:
            self._begin_voting()
            self._log.info(f"votes from height {node.height + 1} on")
        elif before == FOLLOWS or (spoilt and spoilt != before):
            self._log.info(f"follows: {self._obstacle}")

    def _find_spoilt_votes(self) -> str:
        """Why it may not vote at the height being decided: nobody knows what it has said there."""
        try:
            self._votes.read(self._node.height + 1)
        except TamperError as error:
            return str(error)
        return ""

    def _is_archive(self) -> bool:
        """Whether it is an archive, and has not voted at a height that is still to be decided."""
        is_named = self._key.public not in self._node.validators and self._is_named(
            self._key.public
        )
        return is_named and self._node.height + 1 >= self._votes.read_height()

    def _begin_voting(self) -> None:
        self._node.begin_voting(self._key, self._votes)
        self._bodies.may_say = True

    def _upon_broken(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something that nobody expected: a node half of which goes on is none."""
        error = context.get("exception")
        if isinstance(error, OSError) and not isinstance(error, DocklockError):
            self._log.warning(f"{context['message']}: {error}")  # a connection's: others go on
        elif isinstance(error, TamperError):
            self._end(EXIT_HALTED, str(error))
        elif isinstance(error, DocklockError):
            self._end(EXIT_BROKEN, str(error))
        else:
            if error is not None:
                traceback.print_exception(error, file=sys.stderr)
            self._end(EXIT_BROKEN, f"{context['message']}: this is a fault of docklock's")

    def _end(self, code: int, why: str) -> None:
        self._log.error(why)
        self._exit_code = self._exit_code or code
        self._stopping.set()
