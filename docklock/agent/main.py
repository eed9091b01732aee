"""The agent's composition root: one asyncio loop that holds everything and decides nothing else.

Its death stops no container: each has its supervisor. What it adds is what no supervisor can do:
have the dead ones mended at once, and containers started after a boot. Not here: settings
(config.py), systemd's messages (systemd.py), adoption (supervisors.py), mending (mender.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError
from docklock.agent.asker import Asker
from docklock.agent.child import Child
from docklock.agent.journal import Log, find_journal
from docklock.agent.lock import acquire_lock
from docklock.agent.mend_process import MendProcess
from docklock.agent.mend_request import MendRequest
from docklock.agent.mender import Mender
from docklock.agent.metrics import CONTENT_TYPE, Counts, LogCounts, format_metrics
from docklock.agent.server import Server, bind
from docklock.agent.supervisors import Supervisors, count_containers
from docklock.agent.systemd import (
    Notifier,
    compute_watchdog_s,
    take_environment,
    take_listening,
)
from docklock.agent.tally import Tally
from docklock.lifecycle import make_directories
from docklock.witness.fork_files import list_forks

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from docklock.agent.config import Settings
    from docklock.paths import Paths

SETTLE_STEP_S = 0.02
SETTLE_MAX_S = 5.0
STATUS_S = 10.0
CHAIN_ASK_S = 1.0
EXITS_FOR_GOOD = (2, 3)
"""Of a chain's node: its file is wrong, or the chain contradicts itself."""
OUTBOX_FOR_GOOD = (2,)
"""Its file is wrong now."""
FIXED = ("socket", "notary", "submit", "chain_role", "chain_dir", "servers", "file")
"""Settings that change with the next start."""


def run_agent(paths: Paths, read_settings: Callable[[], Settings], *, is_asking: bool) -> int:
    """Run until SIGTERM or SIGINT; the process's exit status. StateError if one runs already.

    `read_settings` gives what options and file say, now and at each SIGHUP. SpecError.
    `is_asking`: it asks for mends (docklock/wanted.py); else a child of its own makes them.
    """
    settings = read_settings()
    make_directories(paths)
    lock_fd = acquire_lock(paths)
    try:
        environment = take_environment()
        listening = take_listening(environment, os.getpid())
        journal = find_journal(dict(os.environ), sys.stderr.fileno())
        log = Log(settings.log_level, journal)
        agent = Agent(paths, settings, read_settings, log, environment, is_asking=is_asking)
        asyncio.run(agent.run(listening))
    finally:
        os.close(lock_fd)
    return 0


class Agent:
    """Everything that one agent holds, for as long as `run` runs."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        read_settings: Callable[[], Settings],
        log: Log,
        environment: dict[str, str],
        *,
        is_asking: bool,
    ) -> None:
        self._is_asking = is_asking
        self._paths, self._settings, self._read_settings = paths, settings, read_settings
        self._log = log
        self._notifier = Notifier(environment.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = compute_watchdog_s(environment, os.getpid())
        self._status = ""
        self._is_scanned = False
        self._began = time.monotonic()
        self._stopping = asyncio.Event()
        self._tally = Tally(paths, log)
        self._chain = settings.chain_dir or f"{paths.state}/chain"
        self._supervisors: Supervisors
        self._mender: Mender
        self._asker: Asker

    async def run(self, listening: socket.socket | None) -> None:
        """Until `stop`: containers and supervisors live on."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        path = self._settings.socket or f"{self._paths.run}/agent.sock"
        server = Server({"/_ping": _ping, "/metrics": self._get_metrics})
        await server.open(listening or bind(path))
        paths, log = self._paths, self._log
        mend = MendRequest(paths) if self._is_asking else MendProcess(paths, log)
        self._mender = Mender(mend, log, self._scan)
        self._asker = Asker(paths, log)
        self._supervisors = Supervisors(paths, log, self._mender.request, self._asker.upon_started)
        self._mender.request()  # once at the beginning: what a boot has ended is due now
        self._scan_often()
        await self._settle()
        children = list(self._start_children())
        self._notifier.send("READY=1", f"STATUS={self._describe()}")
        self._follow_policy()
        if self._watchdog_s:
            self._watch()
        self._show_status()
        await self._stopping.wait()
        self._log.info("stopping; containers go on")
        self._notifier.send("STOPPING=1", "STATUS=stopping; containers go on")
        server.close()
        for child in children:
            await child.close()
        self._supervisors.close()
        self._mender.close()
        self._asker.close()
        self._tally.close()
        if listening is None:
            os.unlink(path)
        self._notifier.close()
        self._log.close()

    def _start_children(self) -> Iterator[Child]:
        """What the settings ask for beside the supervisors."""
        if self._settings.notary:
            yield Child(self._paths, self._log, "notary", "notary", "run", "--follow")
        role, submit = self._settings.chain_role, self._settings.submit
        if role:
            words = ["chain", "start", "--dir", self._chain, "--log-level", "warning"]
            words += ["--follow"] * (role != "validator")
            yield Child(self._paths, self._log, "chain's node", *words, for_good=EXITS_FOR_GOOD)
        if role == "submitter":
            submit = submit or self._chain
        if submit:
            words = ["chain", "submit", "--follow", "--dir", submit]
            yield Child(self._paths, self._log, "submitter", *words)
        if self._settings.servers:
            words = ["sync", "run", "--follow", "--config", self._settings.file]
            yield Child(self._paths, self._log, "outbox", *words, for_good=OUTBOX_FOR_GOOD)

    async def _settle(self) -> None:
        """Wait, not for ever, until each run that was there is adopted or known to be over."""
        deadline = time.monotonic() + SETTLE_MAX_S
        while self._supervisors.pending_count and time.monotonic() < deadline:
            await asyncio.sleep(SETTLE_STEP_S)
        took_ms = (time.monotonic() - self._began) * 1000
        count = len(self._supervisors.adopted)
        self._log.info(f"adopted {count} supervisors in {took_ms:.0f} ms")
        self._supervisors.settle()

    def _follow_policy(self) -> None:
        self._asker.follow(self._settings.witnesses, self._settings.witness_seconds)

    def _scan_often(self) -> None:
        """The slow look at everything, should a notice have been lost."""
        self._scan()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.scan_seconds, self._scan_often)

    def _scan(self) -> None:
        try:
            self._supervisors.scan()
            self._is_scanned = True
        except OSError as error:
            self._is_scanned = False
            self._log.error(f"cannot look at the live runs: {error}")

    def _watch(self) -> None:
        """Tell systemd that the loop turns, but only if its work succeeds as well."""
        if self._is_scanned and self._mender.is_well:
            self._notifier.send("WATCHDOG=1")
        asyncio.get_running_loop().call_later(self._watchdog_s, self._watch)

    def _show_status(self) -> None:
        status = self._describe()
        if status != self._status:
            self._status = status
            self._notifier.send(f"STATUS={status}")
        asyncio.get_running_loop().call_later(STATUS_S, self._show_status)

    def _describe(self) -> str:
        well = "" if self._mender.is_well else "; the last mend failed"
        return f"{len(self._supervisors.adopted)} containers run{well}"

    def _reload(self) -> None:
        """SIGHUP: take over what can change; a file with an error changes nothing."""
        self._notifier.send_reloading()
        try:
            settings = self._read_settings()
        except (DocklockError, OSError) as error:
            self._log.error(f"the old settings stay: {error}")
        else:
            fixed = {key: getattr(self._settings, key) for key in FIXED}
            for key, value in fixed.items():
                if getattr(settings, key) != value:
                    self._log.warning(f"{key}: changes with the next start of the agent")
            self._settings = settings._replace(**fixed)
            self._log.level = settings.log_level
            self._follow_policy()
            self._log.info("reloaded")
        self._notifier.send("READY=1", f"STATUS={self._describe()}")

    async def _get_metrics(self) -> tuple[str, str]:
        totals, tally = await self._supervisors.ask_figures(), self._tally
        tally.look()
        counts = Counts(
            containers=count_containers(self._paths),
            adopted=len(self._supervisors.adopted),
            mends=self._mender.count,
            is_well=self._mender.is_well and self._is_scanned,
            up_s=time.monotonic() - self._began,
            forks=len(list_forks(self._paths)),
            asks=self._asker.count,
            is_policy_met=self._asker.is_met,
            histograms=totals.sums,
            log=LogCounts(tally.runs, tally.receipts, tally.gaps, tally.leaves, tally.size_bytes)
            if tally.is_known
            else None,
            chain=await self._ask_chain(),
            outbox=self._read_outbox(),
        )
        return CONTENT_TYPE, format_metrics(counts)

    def _read_outbox(self) -> dict[str, dict[str, float]] | None:
        """Figures of the servers; None where there is none, or nobody can tell."""
        if not self._settings.servers:
            return None
        from docklock.evidence.database import sqlite3
        from docklock.outbox.figures import list_figures
        from docklock.outbox.status import read_status

        try:
            found = read_status(self._paths, self._settings.servers)
            return list_figures([one.describe() for one in found])
        except (DocklockError, OSError, sqlite3.Error) as error:
            self._log.error(f"how far servers are cannot be read: {error}")
            return None

    async def _ask_chain(self) -> dict[str, float] | None:
        """Figures of the chain's node; empty where it does not answer, None where none is kept."""
        if not self._settings.chain_role:
            return None
        from docklock.chain.client import ask_node
        from docklock.chain.directory import ChainDirectory
        from docklock.chain.figures import list_figures

        node = ChainDirectory(self._chain)
        try:
            return list_figures(await ask_node(node, "GET", "/status", timeout_s=CHAIN_ASK_S))
        except DocklockError:
            return {}


async def _ping() -> tuple[str, str]:
    return "text/plain", "OK"
