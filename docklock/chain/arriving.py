"""A node's process while it takes a state from its peers, before it has a store to run on.

Not here: what is asked and believed (chainlite.consensus.joining), the file (stores), the node that
then follows by blocks (process). Invariant: it answers nobody and votes on nothing; when it ends,
however, all that it held open is closed.
"""

from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from chainlite.consensus.joining import Joining
from chainlite.errors import SpecError
from chainlite.trust import add_trust_options, read_trust
from docklock.chain.onlooking import look_on
from docklock.chain.presence import get_now_ms

if TYPE_CHECKING:
    from chainlite.consensus.joining import Taken
    from chainlite.keys import GuardedKey
    from chainlite.proofs.trusted import Trusted
    from docklock.agent.journal import Log
    from docklock.agent.systemd import Notifier
    from docklock.chain.directory import Chain, ChainDirectory


def read_trusted(
    directory: ChainDirectory, checkpoint: str | None, witnesses: list[str], policy: str | None
) -> Trusted | None:
    """What a header checkpoint says that these witnesses have cosigned, None where none is named.

    SpecError, TamperError.
    """
    if not checkpoint:
        if witnesses or policy:
            raise SpecError("the witnesses that are named are of which --header-checkpoint?")
        return None
    named = [("--genesis", directory.genesis), ("--header-checkpoint", checkpoint)]
    named += [("--witness-key", witness) for witness in witnesses]
    if policy:
        named.append(("--witness-policy", policy))
    parser = ArgumentParser()
    add_trust_options(parser)
    return read_trust(parser.parse_args([f"{name}={value}" for name, value in named])).chain


async def take_state(
    directory: ChainDirectory,
    chain: Chain,
    key: GuardedKey,
    trusted: Trusted,
    log: Log,
    notifier: Notifier,
) -> Taken | None:
    """The state; None if told to end before. Errors as Joining.run's."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with look_on(directory, chain, key, log.warning) as mesh:
        notifier.send("READY=1", "STATUS=takes a snapshot of the state")
        joining = asyncio.ensure_future(Joining(mesh, trusted, get_now_ms, log.info).run())
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait((joining, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (joining, stopped):
            task.cancel()
        await asyncio.gather(joining, stopped, return_exceptions=True)
        return None if stopping.is_set() else joining.result()
