"""When servers are sent to: pass after pass as the log grows, or once and for all that there is.

Not here: a pass (sending). Invariants: a server that said when to come again is not asked before,
also not by somebody who is in a hurry; one that contradicted itself is asked again only by somebody
who is there to see the answer; a server that is waited for holds up no other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, StateError
from docklock.evidence.database import sqlite3
from docklock.evidence.kept_log import look_at_log
from docklock.outbox.sending import Outcome, get_now_ms
from docklock.outbox.sent import ALERTED, BUSY, CONTRADICTED
from docklock.program import is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.outbox.sending import Outbox
    from docklock.outbox.settings import Server
    from docklock.paths import Paths

    Tell = Callable[[Server, str], None]

LOOK_S = 0.25
"""How often it looks whether the log has grown, or a wait is over."""
AFTER_FAILURE_S = 5.0
SETTLE_S = 30.0
"""How long `sync now` waits in all for a server that is busy."""


async def follow(paths: Paths, outbox: Outbox, parent: int, tell: Tell) -> None:
    """For as long as process `parent` is this one's parent (0: whatever it is).

    `tell` is told what each server's last pass stopped at; "" for nothing.
    """
    tasks = [_follow_one(paths, outbox, server, parent, tell) for server in outbox.servers]
    await asyncio.gather(*tasks)


async def _follow_one(
    paths: Paths, outbox: Outbox, server: Server, parent: int, tell: Tell
) -> None:
    sent: object = None
    while is_wanted(parent):
        try:
            state, is_due = look_at_log(paths), _is_due(outbox, server)
        except (DocklockError, OSError, sqlite3.Error) as error:
            tell(server, str(error))
            await asyncio.sleep(AFTER_FAILURE_S)
            continue
        if not state or is_due is False or (is_due is None and state == sent):
            await asyncio.sleep(LOOK_S)
            continue
        outcome = await outbox.run_pass(server)
        tell(server, str(outcome.error or outcome.standing.trouble))
        sent = state if not outcome.is_due else None
        if outcome.error is not None and not outcome.standing.next_ms:
            await asyncio.sleep(AFTER_FAILURE_S)  # nothing says when: it could not be written down
        elif outcome.error is not None or not outcome.is_due:
            await asyncio.sleep(LOOK_S)


def _is_due(outbox: Outbox, server: Server) -> bool | None:
    """Whether a pass is due now, whatever the log does; None: if the log has grown."""
    standing = outbox.get_standing(server)
    if standing.state in (CONTRADICTED, ALERTED) and not standing.next_ms:
        return False
    if standing.next_ms:
        return not standing.tried_ms <= get_now_ms() < standing.next_ms  # clocks are set back, too
    return True if outbox.is_asking_due(server) else None


async def settle(outbox: Outbox) -> list[Outcome]:
    """One pass to each server, at once; a server that is busy is waited for, SETTLE_S at most."""
    return await asyncio.gather(*[_settle_one(outbox, one) for one in outbox.servers])


async def _settle_one(outbox: Outbox, server: Server) -> Outcome:
    goal, waited_s = outbox.get_size(), 0.0
    while True:
        standing = outbox.get_standing(server)
        wait_s = (standing.next_ms - get_now_ms()) / 1000 if standing.state == BUSY else 0.0
        if wait_s > 0:
            waited_s += wait_s
            if waited_s > SETTLE_S:
                return Outcome(server, standing, goal, StateError(standing.trouble))
            await asyncio.sleep(wait_s)
        outcome = await outbox.run_pass(server)
        is_going_on = outcome.error is None and outcome.standing.size < goal
        if not is_going_on and outcome.standing.state != BUSY:
            return outcome
