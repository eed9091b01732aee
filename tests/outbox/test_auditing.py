"""A server's own log: what it showed once is in what it serves later, or it is convicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite import fork
from chainlite.bpci.acknowledgement import Held
from docklock.outbox import auditing
from docklock.outbox.checking import Contradicted
from docklock.outbox.sending import Outcome
from docklock.outbox.sent import CONTRADICTED, WELL, Sent
from docklock.paths import Paths
from docklock.witness.fork_files import list_forks
from tests.evidence.recording import make_id, make_paths, record
from tests.outbox.sends import run_pass
from tests.outbox.servers import Books, BooksServer


def others(count: int, first: int = 0) -> list[Held]:
    """Leaves of other hosts."""
    return [Held(bytes([9]) * 32, number, bytes(32)) for number in range(first, first + count)]


def send_often(paths: Paths, server: BooksServer, count: int, first: int = 1) -> Outcome:
    """Something new each time, and other hosts between."""
    for number in range(first, first + count):
        record(paths, make_id(number), count=2)
        server.books.leaves += others(number * 5, 100 * number)
        outcome = run_pass(paths, server)
    return outcome


def count_unaudited(paths: Paths, server: BooksServer) -> int:
    with Sent(paths) as sent:
        return len(sent.get_unaudited(server.books.origin, 1000))


def test_a_log_that_only_grows_is_followed(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)
    outcome = send_often(paths, server, 6)
    assert (outcome.error, outcome.standing.trouble) == (None, "")
    assert "/checkpoint" in server.asked and any("/tile/" in path for path in server.asked)
    assert count_unaudited(paths, server) == 1  # the newest, for the next time


def test_more_states_than_are_looked_for_at_once(
    tmp_path: Path, server: BooksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    monkeypatch.setattr(auditing, "AUDITED_MAX", 0)
    send_often(paths, server, 5)
    assert count_unaudited(paths, server) > 5
    monkeypatch.setattr(auditing, "AUDITED_MAX", 2)
    for _ in range(6):
        assert run_pass(paths, server).error is None
    assert count_unaudited(paths, server) <= 2


@pytest.mark.parametrize("more", [1, 40])
def test_a_log_that_drops_what_it_showed_is_convicted(
    tmp_path: Path, server: BooksServer, more: int
) -> None:
    """The acknowledgement is as it should be: only what others are served is another story."""
    paths = make_paths(tmp_path)
    send_often(paths, server, 3)
    leaves = server.books.leaves
    server.shown = server.books.get_tree([*leaves[:4], *leaves[5:], *others(more + 1, 900)])
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, Contradicted) and "does not begin with" in str(outcome.error)
    assert outcome.standing.state == CONTRADICTED
    [file] = list_forks(paths)
    forked = fork.check_fork(Path(file).read_bytes(), (server.books.key.public,))
    assert forked.first.size < forked.second.size == len(leaves) + more


def test_a_log_of_the_same_size_with_another_root_is_convicted_without_tiles(
    tmp_path: Path, server: BooksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    send_often(paths, server, 3)
    monkeypatch.setattr(
        "tests.outbox.servers.get_file",
        lambda tree, size, path: tree.note(size) if path == "/checkpoint" else None,
    )
    server.shown = server.books.get_tree([*server.books.leaves[:-1], *others(1, 77)])
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, Contradicted) and len(list_forks(paths)) == 1


def check_told(outcome: Outcome, said: str) -> None:
    """All was sent, and it is said that the log could not be checked."""
    assert outcome.error is None and outcome.standing.state == WELL
    assert said in outcome.standing.trouble


def test_a_log_that_is_kept_back_is_told_of(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)
    send_often(paths, server, 3)
    server.shown = server.books.get_tree(server.books.leaves[:10])
    outcome = send_often(paths, server, 1, 4)
    check_told(outcome, "serves a log of 10 leaves, and has shown")
    server.shown = None
    assert run_pass(paths, server).standing.trouble == ""


def test_a_server_that_serves_no_log_is_told_of(
    tmp_path: Path, server: BooksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    with monkeypatch.context() as changed:
        changed.setattr("tests.outbox.servers.get_file", lambda *_: None)
        check_told(send_often(paths, server, 1), "its log cannot be checked")
    assert count_unaudited(paths, server) > 0


def test_another_servers_log_is_no_log_of_this_one(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)
    send_often(paths, server, 2)
    server.shown = Books(80).get_tree(others(90))
    check_told(run_pass(paths, server), "its checkpoint: ")
    assert list_forks(paths) == []


def test_tiles_of_another_tree_convict_nobody(tmp_path: Path, server: BooksServer) -> None:
    """Who serves other hashes than its checkpoint is over has signed nothing about them."""
    paths = make_paths(tmp_path)
    send_often(paths, server, 2)
    honest = server.books.get_tree(server.books.leaves)
    server.shown = server.books.get_tree(others(len(server.books.leaves)))
    server.shown.note = honest.note  # type: ignore[method-assign]
    check_told(run_pass(paths, server), "serves other hashes than its checkpoint")
    assert list_forks(paths) == []
