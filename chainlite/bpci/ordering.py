"""Orders carried out: by the process that serves, or by a command where none does.

Also what is done without an order: erasing what is due, now and then.
Not here: what an order does (office), how it comes (order_socket).
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING

from chainlite.bpci import order_socket
from chainlite.bpci.intake import Intake
from chainlite.bpci.office import Office
from chainlite.bpci.orders import Erase, Revoke, SetQuota
from chainlite.bpci.own_log import PUBLISHED
from chainlite.bpci.retention import Erased
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.cage.refusal import Refusal
from chainlite.errors import DocklockError, SpecError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.desk import Desk
    from chainlite.bpci.orders import Order

ERASE_EVERY_S, ERASE_AGAIN_S = 3600.0, 60.0


async def carry_out(desk: Desk, office: Office, order: Order, now_ms: int) -> dict[str, object]:
    """Do it in the writer's turns, and what came of it. SpecError, StateError."""
    try:
        if not isinstance(order, Erase):
            return await desk.run(partial(_do, office, order, now_ms))
        last = dict[str, Erased]()
        async with office.erasing:
            steps = office.erase(order.tenant, now_ms)
            while (done := await desk.run(lambda: next(steps, None))) is not None:
                last[done.tenant] = done
        return _show_erased(last.values())
    except Refusal as refusal:
        raise _tell(refusal) from None


def order_directory(
    directory: str, key: ServerKey, order: Order, clock_ms: Callable[[], int]
) -> dict[str, object]:
    """An order to the server in a directory: to its process, or to its store where none runs.

    StateError: another process writes the store, and takes no orders.
    """
    answer = order_socket.ask(directory, order)
    if answer is not None:
        return answer
    with SqliteStore(directory, is_writer=True) as store:
        office = Office(Intake(store, key, f"{directory}/{PUBLISHED}", clock_ms), store, key)
        try:
            if not isinstance(order, Erase):
                return _do(office, order, clock_ms())
            steps = office.erase(order.tenant, clock_ms())
            return _show_erased({one.tenant: one for one in steps}.values())
        except Refusal as refusal:
            raise _tell(refusal) from None


def _do(office: Office, order: Order, now_ms: int) -> dict[str, object]:
    if isinstance(order, Revoke):
        return office.revoke(order, now_ms)
    if isinstance(order, SetQuota):
        return office.set_quota(order, now_ms)
    assert not isinstance(order, Erase), "it takes many turns"
    return office.set_retention(order, now_ms)


def _show_erased(all_of_them: Iterable[Erased]) -> dict[str, object]:
    fields = ("tenant", "segments", "alerts", "damaged")
    rows = [{name: getattr(one, name) for name in fields} for one in all_of_them]
    return {"erased": rows}


def _tell(refusal: Refusal) -> DocklockError:
    """A refusal as the operator hears it."""
    if refusal.status == 400:
        return SpecError(refusal.detail)
    return StateError(refusal.detail)


async def erase_forever(desk: Desk, office: Office, clock_ms: Callable[[], int]) -> None:
    """Erase what is due, now and then; what goes wrong is told, and tried again soon."""
    while True:
        wait_s = ERASE_EVERY_S
        try:
            await carry_out(desk, office, Erase(""), clock_ms())
        except DocklockError as error:
            print(f"docklock: erasing: {error}", file=sys.stderr, flush=True)
            wait_s = ERASE_AGAIN_S
        await asyncio.sleep(wait_s)
