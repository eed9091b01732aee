"""Hosts of a test's own that keep what a server says, as docklock.outbox does, and hand it over."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from chainlite import checkpoint, keys, tlogproof
from chainlite.bpci.backup import KEY_FILE
from chainlite.bpci.grant import Grant, sign_grant
from chainlite.bpci.handover import (
    EVERYTHING,
    Place,
    Places,
    Shown,
    decode_places,
    decode_shown,
    encode_places,
    encode_shown,
)
from chainlite.bpci.intake import KNOWN, TAKEN, Request
from docklock.evidence import keyring
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_data
from tests.bpci.servers import KEY, NOW_MS, Server, check
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size

MAGIC_AND_SEED = b"DOCKLOCK-BPCI-KEY\0\0\x01" + b"\x33" * 32


class Host:
    """A host and what it has of one server."""

    def __init__(self, directory: Path, number: int) -> None:
        self.paths: Paths = get_paths(str(directory / f"host-{number}"))
        record(self.paths, make_id(number), count=1)
        key = keyring.ensure_host_key(self.paths)
        self.host = keys.compute_host_id(key.enrolled)
        self.grant = sign_grant(Grant("acme", key.enrolled, NOW_MS - 1), KEY.pair)
        self.places: dict[int, int] = {}
        self.notes: dict[int, bytes] = {}
        self.unsure: set[int] = set()
        self.last, self.size = b"", 0
        self._containers = itertools.count(1000 * number)

    def grow(self, rng: random.Random) -> None:
        record(self.paths, make_id(next(self._containers)), count=rng.randint(1, 3))

    def hear(self, acknowledgement: bytes) -> None:
        """Keep what an acknowledgement says."""
        made = check(acknowledgement, self.host)
        proof = tlogproof.parse_log_proof(made.proof)
        self.places[proof.leaf_index] = self.size = made.held.size
        self.notes[checkpoint.parse_claim(proof.note).size] = proof.note
        self.unsure = {one for one in self.unsure if one > self.size}
        self.last = acknowledgement

    def send(self, server: Server, end: int | None = None, *, is_lost: bool = False) -> None:
        """One batch from where it knows the server; `is_lost`: the answer does not arrive."""
        end = get_size(self.paths) if end is None else end
        if end > self.size:
            self.unsure.add(end)
        data = make_data(self.paths, self.size, end) if end > self.size else make_data(
            self.paths, 0, 1)  # fmt: skip
        [answer] = server.intake.take([Request(self.host, data)])
        assert answer.kind in (TAKEN, KNOWN), answer
        if not is_lost:
            self.hear(answer.acknowledgement)

    def show(self, server: Server) -> None:
        newest = self.notes[max(self.notes)] if self.notes else b""
        shown = Shown(self.last, newest, self.grant)
        server.intake.restore.take_shown(decode_shown(encode_shown(shown)))

    def send_again(self, server: Server, step: int = 3) -> None:
        """Bodies, from where the server stands of this host."""
        while server.intake.restore.is_on and server.get_size(self.host) < get_size(self.paths):
            start = server.get_size(self.host)
            end = min(start + step, get_size(self.paths))
            answer = server.intake.restore.take_bodies(
                Request(self.host, make_data(self.paths, start, end))
            )
            assert (answer.kind, answer.acknowledgement) == (TAKEN, b""), answer

    def place(self, server: Server, notes: int = 2) -> None:
        first = server.intake.log.state.size
        later = sorted(size for size in self.notes if size > first)
        kept = {*later[:notes], max(self.notes)}
        said = Places(
            tuple(sorted(Place(*one) for one in self.places.items() if one[0] >= first)),
            tuple(sorted(self.unsure)),
            tuple(self.notes[size] for size in sorted(kept)),
            EVERYTHING,
        )
        restore = server.intake.restore
        restore.take_places(self.host, decode_places(encode_places(said)))

    def help(self, server: Server) -> None:
        """All of it, as often as the log grows by it."""
        self.show(server)
        self.send_again(server)
        while server.intake.restore.is_on:
            before = server.intake.log.state.size
            self.place(server)
            if server.intake.log.state.size == before:
                break


def put_key(directory: Path) -> None:
    """The key that `Server` has, as a file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY_FILE
    path.write_bytes(MAGIC_AND_SEED)
    path.chmod(0o600)
