"""Validators on a bad network: each in a namespace, bad wires between them (tests/net/wires)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chainlite.ledger.genesis import Parameters
from chainlite.net.registration import Address
from tests.conftest import SLOWER
from tests.e2e.validators import Validators
from tests.net.wires import Wires

PORT = 7000
STILL_S = 2.0 * SLOWER
"""So long a chain without a quorum is looked at; many times what a block takes."""
QUICK = Parameters(block_interval_ms=100 * SLOWER, base_timeout_ms=250 * SLOWER)
SOON = QUICK._replace(block_interval_ms=10 * SLOWER)
WAY_S, APART_BLOCKS = 0.05, 12

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@asynccontextmanager
async def connected(
    top: Path, count: int, parameters: Parameters = QUICK
) -> AsyncIterator[tuple[Wires, Validators]]:
    """So many validators, all of which vote, and the wires between them."""
    with Wires(count) as wires:
        addresses = [Address(host, PORT) for host in wires.addresses]
        async with Validators(top, addresses, parameters, wires.namespaces) as validators:
            await validators.spawn(*range(count))
            await validators.wait_votes()
            await validators.rise(2)
            yield wires, validators


async def check_still(validators: Validators, *numbers: int) -> None:
    """What was on its way arrives; after that nothing is decided."""
    await asyncio.sleep(STILL_S / 2)
    before = [await validators.get_height(number) for number in numbers]
    await asyncio.sleep(STILL_S)
    assert [await validators.get_height(number) for number in numbers] == before


async def check_end(validators: Validators) -> None:
    await validators.check_accused()
    await validators.end()
    validators.check_one_history()


async def be_apart(top: Path) -> None:
    async with connected(top, 4, SOON) as (wires, validators):
        wires.set_all(delay_ms=WAY_S * 1000, loss=0.01)
        began = time.monotonic()
        await validators.rise(APART_BLOCKS)
        took_s = time.monotonic() - began
        print(f"measured chain: {APART_BLOCKS} blocks, {WAY_S} s apart, took {took_s:.2f} s")
        # Proposal, PREPAREs, COMMITs; two blocks may have been on their way when they came apart.
        assert took_s >= 3 * WAY_S * (APART_BLOCKS - 2)
        await check_end(validators)


def test_no_block_is_final_before_three_messages_have_gone_their_way(tmp_path: Path) -> None:
    asyncio.run(be_apart(tmp_path))


async def halve(top: Path) -> None:
    async with connected(top, 4) as (wires, validators):
        wires.cut([0, 1])
        await check_still(validators, *range(4))
        wires.set_all()
        await validators.rise(5)
        await check_end(validators)


def test_two_halves_decide_nothing_and_go_on_as_one(tmp_path: Path) -> None:
    asyncio.run(halve(tmp_path))


async def cut_one_off(top: Path) -> None:
    async with connected(top, 4) as (wires, validators):
        wires.cut([3])
        await validators.rise(5, 0, 1, 2)
        behind = await validators.get_height(3)
        await validators.kill(3)
        await validators.spawn(3)
        await validators.kill(1)
        await check_still(validators, 0, 2)
        await validators.spawn(1)
        height = await validators.rise(5, 0, 1, 2)
        assert await validators.get_height(3) == behind
        assert "more validators must be up" in (await validators.show(3))["why_no_votes"]
        wires.set_all()
        await validators.wait_height(height, 3)
        await validators.wait_votes(3)
        await validators.rise(3)
        await check_end(validators)


def test_three_go_on_without_the_fourth_which_catches_up(tmp_path: Path) -> None:
    asyncio.run(cut_one_off(tmp_path))


async def lose(top: Path) -> None:
    async with connected(top, 4) as (wires, validators):
        wires.set_all(delay_ms=10, jitter_ms=5, loss=0.05)
        await validators.rise(10)
        await validators.kill(0)
        await validators.spawn(0)
        await validators.wait_votes(0)
        await validators.rise(3)
        await check_end(validators)


def test_a_network_that_loses_one_packet_of_twenty_is_slow_and_right(tmp_path: Path) -> None:
    asyncio.run(lose(tmp_path))


async def run_odd(top: Path, *modes: str) -> None:
    async with connected(top, 4) as (_, validators):
        for mode in modes:
            await validators.kill(3)
            await validators.spawn_odd(3, mode)
            await validators.rise(5, 0, 1, 2)
            await validators.rise(9, 0, 1, 2)  # past two of its turns
            blocks = await validators.ask(0, "/blocks/last/9")
            assert mode == "behind" or any(block["round"] for block in blocks), mode
        await validators.check_accused()
        await validators.kill(3)
        await validators.spawn(3)
        await validators.wait_votes(3)
        await validators.rise(3)
        await check_end(validators)


def test_a_clock_an_hour_off_costs_one_voice(tmp_path: Path) -> None:
    asyncio.run(run_odd(tmp_path, "ahead", "behind"))


def test_one_that_withholds_stops_nobody(tmp_path: Path) -> None:
    asyncio.run(run_odd(tmp_path, "withhold"))


async def be_flooded(top: Path) -> None:
    async with connected(top, 4) as (_, validators):
        await validators.kill(3)
        await validators.spawn_odd(3, "flood")
        flooding = validators.publics[3].hex()

        async def is_blamed(number: int) -> bool:
            peers = (await validators.show(number))["peers"]
            return any(peer["key"] == flooding and peer["misdeeds"] for peer in peers)

        for number in (0, 1, 2):
            await validators.until(lambda number=number: is_blamed(number))
        await validators.rise(9, 0, 1, 2)
        await validators.check_accused()
        await validators.kill(3)
        await validators.end()
        validators.check_one_history(0, 1, 2)


def test_a_flood_of_votes_to_come_and_of_garbage_is_counted_and_borne(tmp_path: Path) -> None:
    asyncio.run(be_flooded(tmp_path))


async def be_lied_to(top: Path) -> None:
    async with connected(top, 4) as (_, validators):
        await validators.kill(3)
        await validators.spawn_odd(3, "equivocate")

        async def is_removed(number: int) -> bool:
            return int((await validators.ask(number, "/validators"))["n"]) == 3

        for number in (0, 1, 2):
            await validators.until(lambda number=number: is_removed(number))
        await validators.rise(5, 0, 1, 2)
        await validators.check_accused(3)
        await validators.kill(3)
        await validators.end()
        validators.check_one_history(0, 1, 2)


def test_one_that_says_two_things_is_convicted_and_removed(tmp_path: Path) -> None:
    asyncio.run(be_lied_to(tmp_path))
