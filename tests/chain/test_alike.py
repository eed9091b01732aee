"""Validators that a host has chosen keep its bodies alike, and tell the chain of its lies."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chainlite import keys
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.offer import decode_offer
from chainlite.ledger.tx import sign_tx
from docklock.chain.bodies import Bodies
from docklock.evidence import keyring
from docklock.paths import Paths, get_paths
from tests.consensus.nodes import Net
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import offer_range


class Keepers:
    """The bodies of each node that runs."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.bodies: dict[int, Bodies] = {}

    async def open(self, number: int) -> Bodies:
        place = self.net.places[number]
        assert place.node is not None
        directory = str(place.directory / "bodies")
        bodies = Bodies(place.node, place.key.public, directory, print)
        bodies.may_say = True
        place.node.on_block = lambda executed, _: bodies.upon_block(executed.txs)
        await bodies.start()
        self.bodies[number] = bodies
        return bodies

    async def close(self, number: int) -> None:
        await self.bodies.pop(number).close()


@asynccontextmanager
async def running(work: Path, paths: Paths) -> AsyncIterator[tuple[Net, Keepers]]:
    """Four validators, a host that the chain knows."""
    net = Net(work, 4)
    keepers = Keepers(net)
    await net.start()
    try:
        for number in range(4):
            await keepers.open(number)
        key = keyring.ensure_host_key(paths)
        node = net.nodes[0]
        register = sign_tx(key, node.ledger.chain_id, 0, [ops.Register("op", bytes(32))])
        await node.submit([register.encoded])
        host = keys.compute_host_id(key.public)
        await net.until(lambda: all(one.ledger.find(records.HOST + host) for one in net.nodes))
        yield net, keepers
    finally:
        for number in list(keepers.bodies):
            await keepers.close(number)
        await net.close()


def get_receipts(keepers: Keepers, number: int) -> int:
    return keepers.bodies[number].receipts


def test_a_keeper_that_was_away_has_what_it_missed_from_the_other_and_nobody_else_has(
    tmp_path: Path,
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=9)

    async def act() -> None:
        async with running(tmp_path / "net", paths) as (net, keepers):
            first = offer_range(paths)
            for number in (0, 1):
                await keepers.bodies[number].take(first.data)
            await keepers.close(1)
            await net.stop(1)
            record(paths, make_id(7), count=5)
            more = offer_range(paths, first.end)
            await keepers.bodies[0].take(more.data)
            await net.start(1)
            await keepers.open(1)
            await net.until(lambda: get_receipts(keepers, 1) == 5)
            assert get_receipts(keepers, 0) == first.receipts + 5
            assert (get_receipts(keepers, 2), get_receipts(keepers, 3)) == (0, 0)

    (tmp_path / "net").mkdir()
    asyncio.run(asyncio.wait_for(act(), 60))


def test_a_host_that_shows_two_keepers_two_histories_is_forked_on_the_chain(
    tmp_path: Path,
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=9)
    shutil.copytree(tmp_path / "root", tmp_path / "copy")
    other = get_paths(str(tmp_path / "copy"))

    async def act() -> None:
        async with running(tmp_path / "net", paths) as (net, keepers):
            first = offer_range(paths)
            for number in (0, 1):
                await keepers.bodies[number].take(first.data)
            for number, one in ((0, paths), (1, other)):
                record(one, make_id(7 + number), count=5 + number)
                await keepers.bodies[number].take(offer_range(one, first.end).data)
            row = records.HOST + decode_offer(first.data).host

            def is_forked() -> bool:
                found = [node.ledger.find(row) for node in net.nodes]
                return all(
                    isinstance(one, records.Host) and one.status == records.FORKED for one in found
                )

            await net.until(is_forked)

    (tmp_path / "net").mkdir()
    asyncio.run(asyncio.wait_for(act(), 60))
