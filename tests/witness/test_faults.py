"""Killed at any moment, flooded, sent garbage: a witness never goes back and stays as large."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chainlite import cosignature, witness
from chainlite.errors import SpecError
from docklock.paths import get_paths
from docklock.witness import http
from docklock.witness.config import Log, Settings
from docklock.witness.key import ensure_witness, load_cosigner
from docklock.witness.server import Server
from docklock.witness.store import Store
from docklock.witness.witness import Door, Witness
from tests.chainlite.samples import make_key
from tests.chainlite.trees import make_tree
from tests.witness.conftest import Make
from tests.witness.witnesses import Running

TREE = make_tree(4000)
OTHER = TREE.fork(3)
KILLS = {True: 500, False: 8}
MESSAGES = {True: 100_000, False: 2_000}
SOCKET_MESSAGES = {True: 5_000, False: 300}
GROWTH_MAX_BYTES = 24 << 20
"""64 connections with a body and its buffers, and what an allocator keeps."""


class Submitter:
    """Submits one size after the other from a thread, as fast as it is answered."""

    def __init__(self, one: Running, start: int) -> None:
        self.one, self.size, self.cosigned = one, start, start
        self.is_stopped = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.is_stopped:
            new = self.size + 1
            try:
                got = self.one.submit(self.size, TREE.prove(self.size, new), TREE.note(new))
            except OSError:
                return
            assert got.status == 200, got
            assert cosignature.get_cosignatures(TREE.note(new) + got.body, self.one.keys)
            self.size = self.cosigned = new

    def stop(self) -> None:
        self.is_stopped = True
        self.thread.join()


def test_no_kill_makes_a_witness_go_back(make_running: Make, full: bool, seed: int) -> None:
    """After each kill -9 it knows at least what it gave a cosignature for, and signs no fork."""
    draw = random.Random(seed)
    one = make_running("w1.example")
    one.configure([((TREE.vkey,), "")])
    known = 0
    for _ in range(KILLS[full]):
        one.start()
        log = Submitter(one, known)
        time.sleep(draw.uniform(0.0, 0.06))
        one.stop(signal.SIGKILL)
        log.stop()
        one.start()
        body = one.submit(3999, TREE.prove(3999, 4000), TREE.note(4000)).body
        known = int(body)
        assert log.cosigned <= known <= log.cosigned + 1
        if known > 3:
            for size in {4, known}:
                got = one.submit(known, OTHER.prove(known, known + 1), OTHER.note(known + 1))
                assert got.status == 422
                assert one.submit(size, (), OTHER.note(size)).status == 409
        one.stop()
    assert known > 0


class Quiet:
    """A witness in this process, for messages by the hundred thousand."""

    def __init__(self, tmp_path: Path) -> None:
        paths = get_paths(str(tmp_path / "root"))
        self.vkeys = ensure_witness(paths, "w1.example")
        self.store = Store(paths)
        settings = Settings(logs=(Log((TREE.vkey,)),))
        self.said: list[str] = []
        self.time_s = 1_795_000_000
        door = Door(self.said.append, lambda *_: None, lambda: self.time_s)
        self.witness = Witness(paths, self.store, load_cosigner(paths), settings, door)
        self.server = Server(self.witness, lambda: "")


def make_samples() -> list[bytes]:
    """Requests that are right at some time, with every status, and strangers' lines."""
    sizes = ((0, 7), (7, 12), (7, 7), (12, 30), (0, 0), (5, 9))
    found = [
        witness.encode_request(old, tree.prove(old, new), tree.note(new))
        for old, new in sizes
        for tree in (TREE, OTHER, make_tree(number=8))
    ]
    lined = cosignature.cosign(TREE.note(7), "stranger", make_key(4), 5)
    return [*found, witness.encode_request(0, (), lined), lined, TREE.note(7), b"", b"\n\n"]


def spoil(draw: random.Random, data: bytes) -> bytes:
    """A message with a few bytes set, cut, doubled or put in."""
    spoilt = bytearray(data)
    for _ in range(draw.randint(0, 3)):
        at, count = draw.randint(0, len(spoilt)), draw.randint(1, 48)
        match draw.randint(0, 4):
            case 0:
                spoilt[at : at + 1] = draw.randbytes(1)
            case 1:
                del spoilt[at : at + count]
            case 2:
                spoilt[at:at] = spoilt[at : at + count]
            case 3:
                spoilt[at:at] = draw.choice((b"\n", b"\n\n", b"\0", "\u2014 ".encode(), b"9" * 30))
            case 4:
                spoilt[at:at] = draw.randbytes(count)
    return bytes(spoilt)


def read_resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_any_messages_leave_state_and_memory_as_they_are(
    tmp_path: Path, full: bool, seed: int
) -> None:
    """Replayed, spoilt and foreign requests in any order: every answer has a status of the
    specification, the size never shrinks, and only the one history is ever cosigned."""
    draw, quiet, samples = random.Random(seed), Quiet(tmp_path), make_samples()
    paths = ("/add-checkpoint", "/add-checkpoint", "/add-cosigned", "/checkpoints/x", "/")
    statuses: set[int] = set()
    size, grown = 0, 0
    for number in range(MESSAGES[full]):
        path, body = draw.choice(paths), spoil(draw, draw.choice(samples))
        answer = quiet.server.answer(draw.choice(("POST", "POST", "POST", "GET")), path, body)
        statuses.add(answer.status)
        assert answer.status in (200, 400, 403, 404, 405, 409, 422)
        last = quiet.store.get(TREE.origin)
        if last is not None:
            assert last.size >= size
            assert last.root in (TREE.root(last.size), OTHER.root(last.size))
            size = last.size
        if number == MESSAGES[full] // 10:
            grown = read_resident_self()
    assert {400, 404, 409} <= statuses
    assert read_resident_self() - grown < GROWTH_MAX_BYTES
    assert len(list((tmp_path / "root/forks").glob("*"))) <= 8
    quiet.store.close()


def read_resident_self() -> int:
    return read_resident(os.getpid())


def test_a_flood_over_sockets_takes_bounded_memory(
    make_running: Make, full: bool, seed: int
) -> None:
    """Garbage, heads without end, bodies that never come, many at once: it still serves a log."""
    draw, samples = random.Random(seed), make_samples()
    one = make_running("w1.example")
    one.configure([((TREE.vkey,), "")])
    one.start()
    assert one.process is not None
    before = read_resident(one.process.pid)
    place = urlsplit(one.url)
    held: list[socket.socket] = []
    for _ in range(SOCKET_MESSAGES[full]):
        try:
            client = socket.create_connection((place.hostname or "", place.port or 0), timeout=5)
            client.sendall(make_garbage(draw, samples))
            held.append(client)
        except OSError:
            pass
        if len(held) > 80:
            held.pop(draw.randrange(len(held))).close()
    peak = read_resident(one.process.pid)
    for client in held:
        client.close()
    assert peak - before < GROWTH_MAX_BYTES
    time.sleep(2.5)  # what the flood took of the address's requests comes back
    assert one.submit(0, (), TREE.note(7)).status in (200, 409)
    assert one.said().count("Traceback") == 0


def make_garbage(draw: random.Random, samples: list[bytes]) -> bytes:
    body = spoil(draw, draw.choice(samples))
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: "
    match draw.randint(0, 4):
        case 0:
            return draw.randbytes(draw.randint(1, 2000))
        case 1:
            return b"GET / HTTP/1.1\r\nx: " + b"y" * draw.randint(1, 20_000)
        case 2:
            return head + b"135168\r\n\r\n" + body
        case 3:
            return spoil(draw, head + b"%d\r\n\r\n" % len(body) + body)
        case _:
            return head + b"%d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("kind", ["request", "answer"])
def test_any_head_is_read_or_refused(kind: str, full: bool, seed: int) -> None:
    draw = random.Random(seed)
    parse = http.parse_request if kind == "request" else http.parse_answer
    good = http.encode_request("POST", "x", "/add-checkpoint", b"")
    if kind == "answer":
        good = http.encode_answer(witness.Answer(200, b""), is_kept=True)
    assert parse(good).length == 0
    for _ in range(MESSAGES[full]):
        try:
            head = parse(spoil(draw, good))
        except SpecError:
            continue
        assert 0 <= head.length < 10**9


def test_two_histories_are_never_both_cosigned(tmp_path: Path, seed: int) -> None:
    """Two honest-looking logs of one key take turns at one witness."""
    draw, quiet = random.Random(seed), Quiet(tmp_path)
    trees, cosigned = (TREE, TREE.fork(2)), dict[int, bytes]()
    for _ in range(400):
        tree, old = draw.choice(trees), draw.randint(0, 40)
        new = old + draw.randint(0, 8)
        body = witness.encode_request(old, tree.prove(old, new), tree.note(new))
        if quiet.witness.add_checkpoint(body).status == 200 and new:
            assert cosigned.setdefault(new, tree.root(new)) == tree.root(new)
    for one in cosigned:
        first = next(tree for tree in trees if tree.root(one) == cosigned[one])
        assert all(first.root(size) == root or size <= 2 for size, root in cosigned.items())
    quiet.store.close()


def test_a_clock_that_goes_back_repeats_the_last_time(tmp_path: Path) -> None:
    """Else a later time would be signed for a smaller tree than an earlier one."""
    quiet, times = Quiet(tmp_path), list[int]()
    for size, step in ((3, 0), (5, -100), (9, -100), (12, 300)):
        quiet.time_s += step
        old = quiet.witness.get_size(TREE.origin)
        body = witness.encode_request(old, TREE.prove(old, size), TREE.note(size))
        assert quiet.witness.add_checkpoint(body).status == 200
        signed = quiet.witness.get_notes(TREE.origin)[0]
        times += [one.time for one in cosignature.get_cosignatures(signed, quiet.vkeys)]
    assert [time_s - 1_795_000_000 for time_s in times] == [0, 0, 0, 100]
    quiet.store.close()
