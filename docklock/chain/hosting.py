"""`docklock chain submit`: this host's log to the chain of the node that runs beside it.

Not here: what a pass does (docklock.submitter), the way to validators (doors). A change of the
validators is a change of doors: then the submitter is made anew.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, StateError
from docklock.chain.client import ask_node
from docklock.chain.directory import read_chain
from docklock.chain.doors import NodeDoor
from docklock.chain.registering import read_registration, read_settings
from docklock.program import is_wanted
from docklock.submitter import DOORS_MAX, Passed, Submitter, follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.chain.directory import ChainDirectory
    from docklock.paths import Paths

LOOK_S = 5.0
"""How often it looks who the validators are."""
SETTLE_S = 30.0
"""How long `submit` goes on with passes until nothing is due."""
AGAIN_S = 0.5


async def submit_once(paths: Paths, directory: ChainDirectory) -> Passed | None:
    """Passes until nothing is due, or SETTLE_S; None where nothing has run on this host."""
    submitter = _make(paths, directory, await _find_validators(directory))
    deadline = time.monotonic() + SETTLE_S
    try:
        while True:
            done = await submitter.run_pass()
            if done is None or not done.due or time.monotonic() > deadline:
                return done
            await asyncio.sleep(AGAIN_S)
    finally:
        submitter.close()


async def submit_always(
    paths: Paths,
    directory: ChainDirectory,
    parent: int,
    tell: Callable[[Passed], None],
    fail: Callable[[str], None],
) -> None:
    """Pass after pass, for as long as process `parent` is this one's parent (0: whatever it is)."""
    while is_wanted(parent):
        try:
            validators = await _find_validators(directory)
            submitter = _make(paths, directory, validators)
        except (DocklockError, OSError) as error:
            fail(str(error))
            await asyncio.sleep(LOOK_S)
            continue
        task = asyncio.ensure_future(follow(paths, submitter, parent, tell, fail))
        try:
            while not task.done() and await _are_still(directory, validators):
                await asyncio.wait([task], timeout=LOOK_S)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            submitter.close()
        if not task.cancelled():
            task.result()


def _make(paths: Paths, directory: ChainDirectory, validators: list[str]) -> Submitter:
    from chainlite.net.registration import compute_certificate_hash

    own = read_registration(directory, read_chain(directory))
    doors = [NodeDoor(directory, bytes.fromhex(key)) for key in validators[:DOORS_MAX]]
    certificate = compute_certificate_hash(own.certificate)
    return Submitter(paths, doors, read_settings(directory).operator, certificate)


async def _find_validators(directory: ChainDirectory) -> list[str]:
    shown = await ask_node(directory, "GET", "/validators")
    found = [one["key"] for one in (*shown["validators"], *shown["archives"])]
    if not found:
        raise StateError("the chain has no validator that could be offered anything")
    return found


async def _are_still(directory: ChainDirectory, validators: list[str]) -> bool:
    """Whether these are the doors still; a node that does not answer now has not changed them."""
    try:
        return await _find_validators(directory) == validators
    except DocklockError:
        return True
