"""Against the server's own intake and store, over HTTP: two halves that were written apart."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from chainlite import tile
from chainlite.bpci.intake import BROKEN, KNOWN, REFUSED, TAKEN
from chainlite.bpci.intake import Answer as Judged
from chainlite.bpci.own_log import make_tile
from chainlite.errors import PeerError
from docklock.evidence import erasing, rotation
from docklock.outbox.sent import REFUSED as SENT_REFUSED
from docklock.outbox.sent import Sent
from docklock.paths import Paths
from tests.bpci.servers import KEY, Server
from tests.evidence.logs import grow
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record
from tests.ledger.offered import get_size, make_host
from tests.outbox.sends import get_host, run_pass
from tests.outbox.servers import Answer, Books, BooksServer, Request

Found = TypeVar("Found")


class IntakeBooks(Books):
    """The real store in a directory. SQLite is one thread's, so all of it is done in one."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.key, self.origin, self.log_keys = KEY.pair, KEY.origin, KEY.log_keys
        self.kinds: list[str] = []
        self._pool = ThreadPoolExecutor(1)
        self._directory = directory
        self.server = self.call(lambda: Server(directory))

    def call(self, what: Callable[[], Found]) -> Found:
        return self._pool.submit(what).result(30)

    def close(self) -> None:
        self.call(self.server.store.close)
        self._pool.shutdown()

    def reopen(self) -> None:
        """As after a crash: what is in memory is gone."""
        self.call(self.server.store.close)
        self.server = self.call(lambda: Server(self._directory))

    def judge(self, request: Request) -> Judged:
        host = request.offer.host
        made = self.call(lambda: self.server.take(host, request.offer_data))[0]
        self.kinds.append(made.kind)
        return made

    def answer(self, request: Request) -> Answer:
        data = self.judge(request)
        status = {TAKEN: 200, KNOWN: 200, REFUSED: 422, BROKEN: 500}[data.kind]
        return status, data.acknowledgement if status == 200 else data.why.encode(), {}

    def get_size(self, host: bytes) -> int:
        return self.call(lambda: self.server.get_size(host))

    def get_file(self, path: str) -> bytes | None:
        size, note = self.call(self.server.store.find_log)
        if path == "/checkpoint":
            return note
        wanted = tile.parse_path(path[1:])
        return self.call(lambda: make_tile(self.server.store, size, wanted))


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[BooksServer, IntakeBooks]]:
    books = IntakeBooks(tmp_path / "server")
    with BooksServer(books) as server:
        server.act = books.answer
        yield server, books
    books.close()


def check_whole(paths: Paths, server: BooksServer, books: IntakeBooks) -> None:
    assert books.get_size(get_host(paths)) == get_size(paths)
    assert books.call(books.server.audit) == []
    with Sent(paths) as sent:
        assert sent.get_contradictions(server.books.origin) == []
        assert sent.get_standing(server.books.origin).size == get_size(paths)


def test_a_life_of_a_host_is_held_by_the_real_server(
    tmp_path: Path, real: tuple[BooksServer, IntakeBooks], small: None
) -> None:
    server, books = real
    paths = make_host(tmp_path)
    record(paths, make_id(3), count=9)
    erasing.erase_values(paths, make_id(3), frozenset(("argv",)))
    books.call(lambda: books.server.enrol(paths))
    recorder = begin(paths, make_id(4))
    for number in range(4):
        append_durably(recorder, number)
        outcome = run_pass(paths, server)
        assert (outcome.error, outcome.standing.trouble) == (None, "")
    rotation.rotate_host_key(paths)
    recorder.close(0)
    grow(paths, 30)
    shutil.rmtree(f"{paths.state}/outbox")
    books.reopen()
    outcome = run_pass(paths, server)
    assert (outcome.error, outcome.standing.trouble) == (None, "")
    check_whole(paths, server, books)
    assert books.kinds.count(TAKEN) > 5 and set(books.kinds) == {TAKEN, KNOWN}


def test_a_host_that_is_not_enrolled_is_refused_with_the_reason(
    tmp_path: Path, real: tuple[BooksServer, IntakeBooks]
) -> None:
    server, books = real
    paths = make_host(tmp_path)
    outcome = run_pass(paths, server)
    assert isinstance(outcome.error, PeerError) and "not enrolled" in str(outcome.error)
    assert outcome.standing.state == SENT_REFUSED
    books.call(lambda: books.server.enrol(paths))
    assert run_pass(paths, server).error is None
    check_whole(paths, server, books)


def test_hosts_share_a_server_whose_log_each_of_them_follows(
    tmp_path: Path, real: tuple[BooksServer, IntakeBooks]
) -> None:
    server, books = real
    hosts = [make_paths(tmp_path / str(number)) for number in range(3)]
    for paths in hosts:
        grow(paths, 3)
        books.call(lambda paths=paths: books.server.enrol(paths))  # type: ignore[misc]
    for number in range(1, 8):
        for paths in hosts:
            record(paths, make_id(number), count=3)
            outcome = run_pass(paths, server)
            assert (outcome.error, outcome.standing.trouble) == (None, "")
        books.reopen()
    for paths in hosts:
        check_whole(paths, server, books)
