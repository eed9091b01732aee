"""What a disk does to a validator: spoilt stores and votes, no room. It says so, and goes on."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.consensus.messages import NewBlock
from chainlite.consensus.wal import VoteLog
from chainlite.ledger.genesis import Parameters
from tests.conftest import FULL
from tests.e2e.validators import Validators, find_addresses

SPOILT, SPOILT_FULL = 5, 60
HURT = 3
OTHERS = (0, 1, 2)
PAGE_BYTES = 4096
PLACES = (5, 14, 40) if FULL else (14,)
"""Of the first record of the votes: its height, its number, the vote in it."""
STILL_S = 1.0
TRIES = 20
SMALL_DISK = "size=24m"
QUICK = Parameters(block_interval_ms=60)


def spoil(path: Path, rng: random.Random) -> str:
    """One thing that a disk does, at a random place; what it was."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    kind = rng.choice(("a bit flipped", "a byte lost", "a page lost", "the end lost", "its pages"))
    if kind == "a bit flipped":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "a byte lost":
        data[at] = 0
    elif kind == "a page lost":
        start = at // PAGE_BYTES * PAGE_BYTES
        data[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    elif kind == "the end lost":
        del data[at:]
    else:  # written back in part: two pages in each other's place
        one, other = (rng.randrange(len(data) // PAGE_BYTES) * PAGE_BYTES for _ in range(2))
        page = data[one : one + PAGE_BYTES]
        data[one : one + PAGE_BYTES] = data[other : other + PAGE_BYTES]
        data[other : other + PAGE_BYTES] = page
    path.write_bytes(data)
    return f"{kind} at {at} of {len(data)}"


async def start_hurt(validators: Validators, what: str) -> None:
    """It refuses with exit 3 and the place, or begins and takes part; nothing else."""
    before = len(validators.said(HURT))
    await validators.spawn(HURT)
    process = validators.processes[HURT]

    async def is_settled() -> bool:
        return process.returncode is not None or bool((await validators.show(HURT)).get("votes"))

    await validators.until(is_settled)
    if process.returncode is None:
        process.terminate()  # what it read of its store may still be damaged: 0, or 3 and the place
    code = await validators.wait_exit(HURT)
    said = validators.said(HURT)[before:]
    assert code in (0, 3), f"{what}: {code}: {said}"
    assert "Traceback" not in said, f"{what}: {said}"
    if code == 3:
        assert f"{validators.directories[HURT].database}: table " in said, f"{what}: {said}"


async def spoil_stores(top: Path, seed: int, count: int) -> None:
    rng = random.Random(seed)
    async with Validators(top, find_addresses(4), QUICK) as validators:
        await validators.spawn(*OTHERS, HURT)
        await validators.wait_votes()
        await validators.wait_height(60)
        await validators.end(HURT)
        database = Path(validators.directories[HURT].database)
        whole = top / "whole.db"
        shutil.copy(database, whole)
        for _ in range(count):
            for path in database.parent.glob("chain.db*"):
                path.unlink()
            shutil.copy(whole, database)
            what = spoil(database, rng)
            await start_hurt(validators, what)
            await validators.spawn(HURT, options=["--repair"])
            await validators.wait_votes(HURT)
            await validators.rise(2)
            assert (await validators.ask(0, "/validators"))["n"] == 4, what
            await validators.end(HURT)
            validators.read_hashes(HURT)
        await validators.check_accused()
        await validators.end()
        validators.check_one_history()


def test_a_spoilt_store_is_refused_with_its_place_or_whole_and_repaired_from_peers(
    tmp_path: Path, seed: int, full: bool
) -> None:
    asyncio.run(spoil_stores(tmp_path, seed, SPOILT_FULL if full else SPOILT))


async def spoil_votes(top: Path, place: int) -> None:
    async with Validators(top, find_addresses(4), QUICK) as validators:
        votes = Path(validators.directories[HURT].votes)
        await validators.spawn(*OTHERS, HURT)
        await validators.wait_votes()
        await validators.rise(3)
        height = await wait_for_votes(validators, votes)
        await validators.kill(2, HURT)
        data = bytearray(votes.read_bytes())
        data[place] ^= 1
        votes.write_bytes(data)
        await validators.spawn(0, 1, HURT)  # a quorum, if the third voted
        await validators.until(lambda: says_why(validators, str(votes)))
        await asyncio.sleep(STILL_S)
        assert await validators.get_height(HURT) == height - 1
        await validators.spawn(2)
        await validators.wait_votes()
        await validators.rise(3)
        await validators.check_accused()
        await validators.end()
        validators.check_one_history()


async def wait_for_votes(validators: Validators, path: Path) -> int:
    """Kill two, so that the others speak twice at one height and decide nothing; that height.

    They do where one of the others leads round 0: it is heard, and then a round change.
    """
    for _ in range(TRIES):
        await validators.kill(0, 1)
        await asyncio.sleep(STILL_S)  # what was being decided
        height = await validators.get_height(HURT) + 1
        if count_records(validators, path, height) > 1:
            return height
        await validators.spawn(0, 1)
        await validators.wait_votes()
        await validators.rise(1)
    raise AssertionError(f"{TRIES} times round 0 was led by one of those who were killed")


def count_records(validators: Validators, path: Path, height: int) -> int:
    """What was said in rounds 0 and 1 was written apart."""
    log = VoteLog(path, validators.chain.id)
    try:
        said = log.read(height).messages
        return len({one.vote.round for one in said if not isinstance(one, NewBlock)})
    finally:
        log.close()


async def says_why(validators: Validators, path: str) -> bool:
    said = (await validators.show(HURT)).get("why_no_votes", "")
    return path in said and "may not vote at this height" in said


@pytest.mark.parametrize("place", PLACES)
def test_who_does_not_know_what_it_said_says_nothing_at_that_height(
    tmp_path: Path, place: int
) -> None:
    asyncio.run(spoil_votes(tmp_path, place))


@pytest.fixture
def small_disk(tmp_path: Path, need_root: None) -> Iterator[Path]:
    """Where the hurt validator's directory will be."""
    disk = tmp_path / "chain" / f"v{HURT}"
    disk.mkdir(parents=True)
    words = ("mount", "-t", "tmpfs", "-o", SMALL_DISK, "docklock-small", str(disk))
    subprocess.run(words, check=True)
    yield disk
    subprocess.run(("umount", "-l", str(disk)), check=True)


async def fill_disk(top: Path, disk: Path) -> None:
    async with Validators(top, find_addresses(4), QUICK) as validators:
        await validators.spawn(*OTHERS, HURT)
        await validators.wait_votes()
        await validators.rise(3)
        filler = disk / "filler"
        fill(filler)
        await validators.until(lambda: waits(validators))
        status = await validators.show(HURT)
        assert "the disk is full" in status["waits_for"], status["waits_for"]
        await validators.rise(10, *OTHERS)
        assert await validators.get_height(HURT) == status["height"]
        filler.unlink()
        await validators.rise(5)
        assert not await waits(validators)
        fill(filler)
        await validators.until(lambda: waits(validators))
        await validators.kill(HURT)
        filler.unlink()
        await validators.spawn(HURT)
        await validators.wait_votes(HURT)
        await validators.rise(3)
        await validators.check_accused()
        await validators.end()
        validators.check_one_history()


async def waits(validators: Validators) -> bool:
    return bool((await validators.show(HURT)).get("waits_for"))


def fill(path: Path) -> None:
    """Until not one more byte is free."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, PAGE_BYTES, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except OSError:
            continue
    os.close(fd)


def test_a_full_disk_is_waited_for_and_the_others_go_on(small_disk: Path) -> None:
    asyncio.run(fill_disk(small_disk.parent, small_disk))
