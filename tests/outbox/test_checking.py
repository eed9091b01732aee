"""Answers that are not true: none is written down as an acknowledgement, each is told of."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import fork
from chainlite.bpci.acknowledgement import Held, decode_acknowledgement, encode_acknowledgement
from chainlite.errors import PeerError, TamperError
from docklock.evidence.host_log import HostLog
from docklock.outbox.checking import Contradicted, check_answer
from docklock.outbox.sent import CONTRADICTED, REFUSED, Contradiction, Sent
from docklock.paths import Paths
from docklock.witness.fork_files import list_forks
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host
from tests.outbox.sends import (
    check_alike,
    get_standing,
    make_synced,
    run_pass,
    run_passes,
    run_until_all,
)
from tests.outbox.servers import Answer, Books, BooksServer, Request

Make = Callable[[BooksServer, Held], bytes]


def read_contradictions(paths: Paths, server: BooksServer) -> list[Contradiction]:
    with Sent(paths) as sent:
        return sent.get_contradictions(server.books.origin)


def get_held(paths: Paths) -> Held:
    with HostLog(paths, None) as log:
        return Held(log.read_host(), log.get_size(), log.compute_root(log.get_size()))


def claim_other_host(server: BooksServer, held: Held) -> bytes:
    return server.books.acknowledge(held._replace(host=b"\x05" * 32))


def claim_other_root(server: BooksServer, held: Held) -> bytes:
    return server.books.acknowledge(held._replace(root=b"\x05" * 32))


def claim_more(server: BooksServer, held: Held) -> bytes:
    return server.books.acknowledge(held._replace(size=held.size + 1))


def prove_other_leaf(server: BooksServer, held: Held) -> bytes:
    return server.books.acknowledge(held._replace(size=1), held)


def prove_absent_leaf(server: BooksServer, held: Held) -> bytes:
    """The right leaf, at an index of the log where another one is."""
    whole = decode_acknowledgement(server.books.acknowledge(held))
    spoilt = whole.proof.replace(b"index ", b"index 1", 1)
    changed = whole._replace(proof=spoilt)
    return encode_acknowledgement(changed)


def shrink(server: BooksServer, held: Held) -> bytes:
    """New words under a smaller log than the server has shown before."""
    return server.books.encode([held], 0, held)


def fork_log(server: BooksServer, held: Held) -> bytes:
    """A log as large as the one that was shown, with another leaf."""
    leaves = [held._replace(host=b"\x09" * 32)] * (len(server.books.leaves) - 1)
    return server.books.encode([*leaves, held], len(leaves), held)


def forge(server: BooksServer, held: Held) -> bytes:
    data = bytearray(server.books.acknowledge(held))
    data[90] ^= 1  # in the signature
    return bytes(data)


def sign_as_another(_: BooksServer, held: Held) -> bytes:
    return Books(79).acknowledge(held)


def say_nothing(_: BooksServer, held: Held) -> bytes:
    return b""


def say_more_bytes(server: BooksServer, held: Held) -> bytes:
    return server.books.acknowledge(held) + b"\0"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (claim_other_host, "of another host's log"),
        (claim_other_root, "another history of the first"),
        (claim_more, "the log was cut or restored, or another has the host's key"),
        (prove_other_leaf, "its proof is of another leaf"),
        (prove_absent_leaf, "is not this one"),
        (shrink, "did not hold before, under a log of 1 leaves, and that had 5"),
        (fork_log, "two histories of its log, both of 5 leaves"),
    ],
)
def test_what_a_server_signed_and_cannot_be_true_is_kept_as_evidence(
    tmp_path: Path, server: BooksServer, other: BooksServer, make: Make, said: str
) -> None:
    paths = make_host(tmp_path)
    server.books.leaves += [Held(bytes([n]) * 32, n, bytes(32)) for n in range(3)]  # of others
    run_pass(paths, server)
    before = get_standing(paths, server)
    record(paths, make_id(6))
    held, sent_bytes = get_held(paths), []

    def answer(_: Request) -> Answer:
        sent_bytes.append(make(server, held))
        return 200, sent_bytes[0], {}

    server.act = answer
    outcome, well = run_passes(paths, server, other)
    assert isinstance(outcome.error, Contradicted) and said in str(outcome.error)
    assert well.error is None
    standing = outcome.standing
    assert (standing.size, standing.root, standing.most) == (before.size, before.root, before.size)
    assert standing.state == CONTRADICTED and standing.next_ms == 0
    [kept] = read_contradictions(paths, server)
    assert said in kept.why and kept.other
    if make is not fork_log:
        assert kept.answer == sent_bytes[0]
    run_pass(paths, server)
    assert len(read_contradictions(paths, server)) == 1


def test_a_fork_of_a_servers_log_convicts_it_with_its_key_alone(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    record(paths, make_id(6))
    held = get_held(paths)
    server.act = lambda _: (200, fork_log(server, held), {})
    run_pass(paths, server)
    [file] = list_forks(paths)
    forked = fork.check_fork(Path(file).read_bytes(), (server.books.key.public,))
    assert forked.first.origin == server.books.origin
    assert forked.first.size == forked.second.size == 2


@pytest.mark.parametrize("make", [forge, sign_as_another, say_nothing, say_more_bytes])
def test_what_the_server_has_not_signed_is_nobodys_word(
    tmp_path: Path, server: BooksServer, other: BooksServer, make: Make
) -> None:
    paths = make_host(tmp_path)
    held = get_held(paths)
    server.act = lambda _: (200, make(server, held), {})
    outcome, well = run_passes(paths, server, other)
    assert isinstance(outcome.error, PeerError) and outcome.standing.state == REFUSED
    assert outcome.standing.size == 0 and well.error is None
    assert read_contradictions(paths, server) == []
    server.act = None
    assert run_pass(paths, server).error is None
    check_alike(paths, server)


def test_no_spoilt_byte_of_an_answer_passes(
    tmp_path: Path, server: BooksServer, seed: int, full: bool
) -> None:
    paths = make_synced(tmp_path, server)
    record(paths, make_id(6))
    answer = server.books.acknowledge(get_held(paths))
    rng = random.Random(seed)
    places = range(len(answer)) if full else rng.sample(range(len(answer)), 150)
    with HostLog(paths, None) as log, Sent(paths) as sent:
        assert check_answer(answer, server.settings, log, sent).size == get_size(paths)
        for place in places:
            spoilt = bytearray(answer)
            spoilt[place] ^= 1 << rng.randrange(8)
            with pytest.raises((PeerError, TamperError)):
                check_answer(bytes(spoilt), server.settings, log, sent)


def test_an_answer_that_comes_late_or_twice_sets_nothing_back(
    tmp_path: Path, server: BooksServer, small: None
) -> None:
    """Each answer is that of the request before: the host goes back, asks again, and arrives."""
    paths = make_host(tmp_path)
    late: list[bytes] = []
    count = 0

    def act(request: Request) -> Answer | None:
        nonlocal count
        count += 1
        late.append(server.books.take_request(request))
        return (200, late[-2 if count % 4 == 3 else -1], {})

    server.act = act
    run_until_all(paths, server, may_fail=True)
    assert count > 4
