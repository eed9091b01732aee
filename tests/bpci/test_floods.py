"""Who is slow, silent, or too many keeps no place, takes no memory, and keeps nobody waiting."""

from __future__ import annotations

import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainlite.bpci.batch import WIRE_LIMIT_BYTES
from chainlite.bpci.desk import WAITING_BYTES_MAX
from chainlite.cage.middleware import HELD_BYTES_MAX
from tests.bpci.attacked import (
    GONE_S,
    GROWTH_MAX_BYTES,
    PART_BYTES,
    Attacked,
    parse_responses,
    read_end,
)
from tests.bpci.batches import make_data
from tests.bpci.test_served import NAME
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size
from tests.net.authority import make_authority

HOST = f"host: {NAME}\r\n".encode()
LINKS = 40
STEP_S = 0.05


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with Attacked(tmp_path_factory.mktemp("attacked"), credits=1) as attacked:
        yield attacked
        attacked.check_whole()


def trickle(attacked: Attacked, links: list[socket.socket], part: bytes) -> list[bytes]:
    """Go on sending a little on each until the server has ended them all; what it said to each.

    Meanwhile the honest host is heard. AssertionError where one is still there after GONE_S.
    """
    said = dict.fromkeys(links, b"")
    left, until_s = set(links), time.monotonic() + GONE_S
    while left:
        assert time.monotonic() < until_s, f"{len(left)} are still there"
        for link in select.select(list(left), [], [], STEP_S)[0]:
            try:
                data = link.recv(PART_BYTES)
            except ConnectionError:
                data = b""
            said[link] += data
            if not data:
                left.discard(link)
                link.close()
        for link in left:
            try:
                link.send(part)
            except OSError:
                pass  # it is ended: the next read says so
        attacked.check_well()
    return list(said.values())


def open_links(attacked: Attacked, first: bytes, count: int = LINKS) -> list[socket.socket]:
    links = [attacked.connect() for _ in range(count)]
    for link in links:
        try:
            link.sendall(first)
        except ConnectionError:
            continue  # it was refused before it was whole
    return links


def test_a_slow_head_is_cut_off(attacked: Attacked) -> None:
    heads = (b"", b"GET /healthz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\n" + HOST + b"x: ")
    for head in heads:
        for data in trickle(attacked, open_links(attacked, head), b"a" if head else b""):
            if head:
                assert parse_responses(data, may_be_cut=True)[0].status == 408
            else:
                assert data == b""


def test_a_slow_head_after_a_good_request_is_cut_off_too(attacked: Attacked) -> None:
    first = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /healthz HT"
    for data in trickle(attacked, open_links(attacked, first), b"T"):
        assert parse_responses(data, may_be_cut=True)[0].status == 200


def test_a_slow_body_is_cut_off_before_and_after_its_answer(attacked: Attacked) -> None:
    coded = HOST + b"transfer-encoding: chunked\r\n\r\n"
    refused = trickle(
        attacked, open_links(attacked, b"POST /v1/receipts HTTP/1.1\r\n" + coded), b"1\r\nx\r\n"
    )
    assert {parse_responses(data, may_be_cut=True)[0].status for data in refused} == {401}
    waited = trickle(
        attacked, open_links(attacked, b"POST /v1/enrol HTTP/1.1\r\n" + coded), b"1\r\nx\r\n"
    )
    assert all(len(parse_responses(data, may_be_cut=True)) <= 1 for data in waited)
    signed = attacked.sign("POST", "/v1/receipts", b"x" * 1000)
    one = open_links(attacked, signed[:-900], 1)
    assert parse_responses(trickle(attacked, one, b"x")[0]) == []


MANY = (b"GET /v1/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 400
"""What is asked without end by those who read no answer."""


def open_unread(attacked: Attacked) -> list[socket.socket]:
    """Connections with little room for what comes."""
    links = list[socket.socket]()
    for _ in range(LINKS):
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.bind(("127.0.0.2", 0))
        link.connect(("127.0.0.1", attacked.port))
        link.setblocking(False)
        links.append(link)
    return links


def ask_on(attacked: Attacked, links: list[socket.socket], left: int) -> None:
    """Ask more on each, until the server has ended all but so many."""
    ended, until_s = set[socket.socket](), time.monotonic() + GONE_S
    while len(links) - len(ended) > left:
        assert time.monotonic() < until_s, f"{len(links) - len(ended)} are still there"
        for link in set(links) - ended:
            try:
                link.send(MANY)
            except BlockingIOError:
                continue
            except ConnectionError:
                ended.add(link)
        attacked.check_well()
    for link in links:
        link.close()


def test_answers_that_nobody_reads_are_given_up(attacked: Attacked) -> None:
    """Asked without end on each connection; what is buffered for one is an answer or two."""
    ask_on(attacked, open_unread(attacked), 0)


def test_answers_that_nobody_reads_have_little_memory_in_all(tmp_path: Path) -> None:
    """Long before their time is over, those with most of it are ended."""
    with Attacked(tmp_path, credits=1, WRITE_S=600.0, UNSENT_BYTES_MAX=1 << 20) as attacked:
        ask_on(attacked, open_unread(attacked), LINKS // 2)
        attacked.check_whole()


def test_a_small_answer_that_nobody_reads_keeps_no_place(attacked: Attacked) -> None:
    links = open_links(attacked, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    attacked.check_well()
    for link in links:
        assert parse_responses(read_end(link))[0].status == 200


def test_pipelined_requests_are_answered_in_their_order(attacked: Attacked) -> None:
    paths = [b"/healthz", b"/checkpoint", b"/nothing", b"/readyz", b"/v1/hosts/x"] * 100
    request = b"".join([b"GET %s HTTP/1.1\r\n%s\r\n" % (path, HOST) for path in paths])
    [data] = attacked.exchange_all(request)
    assert [one.status for one in parse_responses(data)] == [200, 200, 404, 200, 401] * 100


def test_half_closed_connections_end(attacked: Attacked) -> None:
    whole = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    signed = attacked.sign("POST", "/v1/receipts", attacked.data)
    for request in (b"", b"G", whole[:-2], whole, signed[:-1], signed, whole * 50):
        links = open_links(attacked, request, 5)
        for link in links:
            link.shutdown(socket.SHUT_WR)
        for link in links:
            assert all(one.status in (200, 401) for one in parse_responses(read_end(link)))
    attacked.check_well()


def test_large_bodies_at_once_are_bounded(tmp_path: Path) -> None:
    """Of a stolen key: what is held is what the cage and the desk hold, and the rest is refused."""
    body = random.Random(1).randbytes(WIRE_LIMIT_BYTES)
    with Attacked(tmp_path, credits=1, BODY_S=60.0) as attacked:
        links = list[socket.socket]()
        for _ in range(HELD_BYTES_MAX // WIRE_LIMIT_BYTES + 8):
            links += open_links(attacked, attacked.sign("POST", "/v1/receipts", body)[:-1], 1)
        attacked.check_well()
        for link in links:
            try:
                link.send(body[-1:])
            except OSError:
                continue  # it was refused already
        statuses = [
            one.status for link in links for one in parse_responses(read_end(link), may_be_cut=True)
        ]
        assert set(statuses) <= {400, 429, 503} and {400, 503} <= set(statuses)
        grown_bytes = attacked.read_memory("VmHWM") - attacked.memory_bytes
        assert grown_bytes < HELD_BYTES_MAX + WAITING_BYTES_MAX + GROWTH_MAX_BYTES // 2
        attacked.check_whole()


def fill_up(
    attacked: Attacked, count: int, get_source: Callable[[int], str]
) -> list[socket.socket]:
    """Many connections; those that are turned away are there too."""
    links = list[socket.socket]()
    for number in range(count):
        try:
            links.append(attacked.connect(get_source(number)))
        except OSError:
            continue
    return links


def count_open(links: list[socket.socket]) -> int:
    """How many the server has not ended."""
    ready = select.select(links, [], [], 0)[0]
    return len(links) - len(ready)


def check_well_soon(attacked: Attacked) -> None:
    """The honest host is turned away only until there is a place again."""
    until_s = time.monotonic() + GONE_S
    while True:
        try:
            attacked.check_well()
        except OSError:
            assert time.monotonic() < until_s
            continue
        return


def test_one_address_cannot_take_all_places(tmp_path: Path) -> None:
    with Attacked(tmp_path, CONNECTIONS_MAX=64, OF_ADDRESS_MAX=16, HEAD_S=60.0) as attacked:
        links = fill_up(attacked, 200, lambda _: "127.0.0.2")
        attacked.check_well()
        assert count_open(links) == 16
        for link in links:
            link.close()
        attacked.check_well()
        attacked.check_whole()


def test_all_places_taken_are_free_again_soon(tmp_path: Path) -> None:
    """From many addresses: who comes is turned away at once, and let in when the silent are out."""
    with Attacked(tmp_path, CONNECTIONS_MAX=64, OF_ADDRESS_MAX=16, HEAD_S=60.0) as attacked:
        links = fill_up(attacked, 200, lambda number: f"127.0.1.{1 + number % 50}")
        check_well_soon(attacked)
        for link in links:
            link.close()
        attacked.check_whole()


def test_too_few_descriptors_leave_enough_for_the_store(tmp_path: Path) -> None:
    """With all places taken, a host that has one is heard, and what it sends is written."""
    with Attacked(tmp_path, files=160, HEAD_S=60.0, IDLE_S=60.0, CROWDED_S=60.0) as attacked:
        size = get_size(attacked.paths)
        record(attacked.paths, make_id(9), count=5)
        fields = {"content-type": "application/octet-stream"}
        call = attacked.sign("POST", "/v1/receipts", make_data(attacked.paths, size), fields)
        honest = attacked.connect("127.0.0.1")
        links = fill_up(attacked, 300, lambda number: f"127.0.1.{1 + number % 50}")
        until_s = time.monotonic() + GONE_S
        while count_open(links) > 32:
            assert time.monotonic() < until_s
        honest.sendall(call)
        assert parse_responses(read_end(honest))[0].status == 200
        for link in links:
            link.close()
        check_well_soon(attacked)
        attacked.check_whole()


def test_a_handshake_that_is_none_keeps_no_place(tmp_path: Path) -> None:
    _, leaf = make_authority(tmp_path)
    words = ("--certificate", str(leaf.path), "--private-key", str(leaf.path))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Attacked(tmp_path, words, CONNECTIONS_MAX=64, OF_ADDRESS_MAX=16) as attacked:
        silent = fill_up(attacked, 60, lambda _: "127.0.0.2")
        plain = open_links(attacked, b"", 0) + [attacked.connect("127.0.0.3") for _ in range(9)]
        for link in plain:
            link.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        with context.wrap_socket(attacked.connect("127.0.0.4")) as honest:
            honest.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            assert honest.recv(PART_BYTES).startswith(b"HTTP/1.1 200")
            for link in silent + plain:
                assert b"HTTP/1.1" not in read_end(link)
            assert honest.read() in (b"", b"ok\n")
        assert attacked.said.read_bytes() == b""
        assert attacked.process.end() == 0


def test_a_flood_of_forgeries_is_refused_and_the_honest_host_is_not(tmp_path: Path) -> None:
    """From one address, on many connections; the host's calls are signed by nobody else."""
    with Attacked(tmp_path) as attacked:
        signed = attacked.sign("GET", f"/v1/hosts/{attacked.host.hex()}")
        forged = signed.replace(b'nonce="nonce', b'nonce="Nonce')
        statuses = list[int]()
        for _ in range(4):
            links = open_links(attacked, forged)
            attacked.check_well()
            for link in links:
                [answer] = parse_responses(read_end(link))
                statuses.append(answer.status)
                if answer.status == 429:
                    assert int(answer.fields["retry-after"]) > 0
        assert statuses[0] == 401 and statuses[-1] == 429
        attacked.check_well()
        attacked.check_whole()


def test_it_stops_though_others_do_not(tmp_path: Path) -> None:
    with Attacked(tmp_path, HEAD_S=60.0, BODY_S=60.0, IDLE_S=60.0, STOP_S=1.0) as attacked:
        links = [
            *open_links(attacked, b"", 3),
            *open_links(attacked, b"GET /healthz HTTP/1.1\r\n", 3),
            *open_links(attacked, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 3),
            *open_links(attacked, attacked.sign("POST", "/v1/receipts", b"x" * 99)[:-9], 1),
        ]
        attacked.check_well()
        began_s = time.monotonic()
        attacked.check_whole()
        assert time.monotonic() - began_s < GONE_S
        for link in links:
            read_end(link)
