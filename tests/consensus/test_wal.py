"""The vote log: what was written is given back, or refused; never silently forgotten."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite.consensus import messages, wal
from chainlite.consensus.events import Persist, Recorded
from chainlite.consensus.wal import VoteLog
from chainlite.errors import StateError, TamperError
from tests.consensus.samples import CHAIN, make_child, make_genesis, make_keys, make_set, sign_votes

PAIRS = make_keys(4)
GENESIS = make_genesis(make_set(PAIRS))
BLOCK = make_child(GENESIS, PAIRS[0].public, b"transaction" * 50)
PROPOSAL = messages.Proposal(sign_votes(PAIRS[:1], messages.PROPOSAL, BLOCK, 0)[0], BLOCK, (), ())
PREPARES = sign_votes(PAIRS, messages.PREPARE, BLOCK, 0)
COMMIT = messages.Commit(sign_votes(PAIRS[:1], messages.COMMIT, BLOCK, 0)[0])
RECORDS = (
    Persist((PROPOSAL, messages.Prepare(PREPARES[0]))),
    Persist((COMMIT,), BLOCK, PREPARES[:3]),
)
WHOLE = Recorded((PROPOSAL, messages.Prepare(PREPARES[0]), COMMIT), BLOCK, PREPARES[:3])


def write_all(path: Path, *records: Persist) -> None:
    log = VoteLog(path, CHAIN)
    log.begin(1)
    for record in records:
        log.write(record)
    log.close()


def read(path: Path, height: int = 1, chain: bytes = CHAIN) -> Recorded:
    log = VoteLog(path, chain)
    try:
        return log.read(height)
    finally:
        log.close()


def test_what_was_written_is_given_back(tmp_path: Path) -> None:
    write_all(tmp_path / "votes", *RECORDS)
    assert read(tmp_path / "votes") == WHOLE


def test_a_prepared_block_that_was_no_own_proposal_is_given_back(tmp_path: Path) -> None:
    write_all(tmp_path / "votes", RECORDS[1])
    assert read(tmp_path / "votes") == Recorded((COMMIT,), BLOCK, PREPARES[:3])


def test_another_height_and_another_chain_have_nothing(tmp_path: Path) -> None:
    write_all(tmp_path / "votes", *RECORDS)
    assert read(tmp_path / "votes", 2) == Recorded()
    assert read(tmp_path / "votes", 1, b"d" * 32) == Recorded()


def test_a_new_height_writes_over_the_last_one(tmp_path: Path) -> None:
    write_all(tmp_path / "votes", *RECORDS)
    log = VoteLog(tmp_path / "votes", CHAIN)
    log.read(1)
    log.begin(2)
    block = make_child(BLOCK, PAIRS[1].public)
    prepare = messages.Prepare(sign_votes(PAIRS[:1], messages.PREPARE, block, 0)[0])
    log.write(Persist((prepare,)))
    log.close()
    assert read(tmp_path / "votes", 2) == Recorded((prepare,))
    with pytest.raises(TamperError, match="byte 0: vote 0 of height 1 is spoilt"):
        read(tmp_path / "votes", 1)


def test_writing_goes_on_after_what_was_read(tmp_path: Path) -> None:
    write_all(tmp_path / "votes", RECORDS[0])
    log = VoteLog(tmp_path / "votes", CHAIN)
    assert log.read(1) == Recorded(WHOLE.messages[:2])
    log.write(RECORDS[1])
    log.close()
    assert read(tmp_path / "votes") == WHOLE


def get_end(path: Path) -> int:
    return len(path.read_bytes().rstrip(b"\0"))


def test_a_torn_last_write_is_forgotten_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    write_all(path, RECORDS[0])
    start = get_end(path)
    write_all(path, *RECORDS)
    whole, end = path.read_bytes(), get_end(path)
    for cut in range(start, end, 7):
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        assert read(path) == Recorded(WHOLE.messages[:2])


def test_a_spoilt_record_before_a_whole_one_is_refused_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    write_all(path, RECORDS[0])
    start = get_end(path)
    write_all(path, *RECORDS)
    whole = path.read_bytes()
    chance = random.Random(1)
    for at in range(0, start, 5):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(TamperError, match=r"byte \d+: vote \d of height 1 is spoilt"):
            read(path)


def test_a_log_grows_for_large_blocks(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    parts = [bytes(250_000)] * 8
    large = make_child(GENESIS, PAIRS[0].public, *parts)
    prepares = sign_votes(PAIRS, messages.PREPARE, large, 0)
    changes = [
        messages.RoundChange(vote, large, prepares)
        for number in range(1, 6)
        for vote in sign_votes(PAIRS[:1], messages.ROUND_CHANGE, large, number)
    ]
    changes = [change._replace(vote=change.vote._replace(prepared_round=0)) for change in changes]
    write_all(path, *(Persist((change,)) for change in changes))
    assert read(path).messages == tuple(changes)
    assert path.stat().st_size > wal.STEP_BYTES


def test_a_full_disk_says_that_the_vote_is_not_sent(tmp_path: Path) -> None:
    log = VoteLog(tmp_path / "votes", CHAIN)
    log.begin(1)
    large = make_child(GENESIS, PAIRS[0].public, *[bytes(250_000)] * 8)
    proposal = PROPOSAL._replace(block=large)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.STEP_BYTES, limits[1]))
    try:
        log.write(Persist((proposal,)))
        with pytest.raises(StateError, match="not durable, so it is not sent"):
            log.write(Persist((proposal, proposal)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    log.write(RECORDS[1])
    log.close()
    assert read(tmp_path / "votes").messages == (proposal, COMMIT)


WRITER = """
import sys
from pathlib import Path
from chainlite.consensus import messages
from chainlite.consensus.events import Persist
from chainlite.consensus.wal import VoteLog
from tests.consensus.test_wal import CHAIN, GENESIS, PAIRS, make_child, sign_votes
log = VoteLog(Path(sys.argv[1]), CHAIN)
block, height = GENESIS, 0
while True:
    block = make_child(block, PAIRS[0].public)
    height += 1
    log.begin(height)
    for round in range(3):
        prepare = messages.Prepare(sign_votes(PAIRS[:1], messages.PREPARE, block, round)[0])
        log.write(Persist((prepare,)))
        print(height, round, flush=True)
"""


@pytest.mark.parametrize("seed", range(200 if os.environ.get("DOCKLOCK_TEST_FULL") == "1" else 12))
def test_a_killed_writer_has_every_vote_that_it_told_of(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "votes"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    lines = random.Random(seed).randrange(1, 60)
    for _ in range(lines):
        last = writer.stdout.readline()
    writer.kill()
    rest = writer.stdout.read()
    writer.stdout.close()
    writer.wait()
    whole = rest[: rest.rfind("\n") + 1].splitlines()  # it may have died within a line
    height, said = map(int, (whole[-1] if whole else last).split())
    if later := read(path, height + 1).messages:
        assert len(later) == 1  # the height that was told of is over
    else:
        rounds = [message.vote.round for message in read(path, height).messages]
        assert rounds[: said + 1] == list(range(said + 1))
