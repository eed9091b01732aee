"""Hosts that have the bodies of their receipts kept by validators, for the benchmark `chain`.

Run by `chain` as `chain_bodies.py DIRECTORY GENESIS_HEX bodies SECONDS`, and spoken with as
chain_load.py is. Real recorders write the receipts before the clock starts. Each host sends a range
of its log, of some 2,000 receipts, to f + 1 validators, with the anchor over it, and goes on when
both have answered that they keep it. For each range a line on stdout: host, log size, receipts, and
when it was sent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chain_node import Peer, open_stdin, read_line

from chainlite import keys
from chainlite.consensus.validators import compute_faults
from chainlite.consensus.wire import FULL, decode_verdicts, encode_transactions
from chainlite.errors import StateError
from chainlite.ledger import operations as ops
from chainlite.ledger.genesis import compute_chain_id, decode_genesis
from chainlite.ledger.host_status import decode_host_status, encode_want_host
from chainlite.ledger.tx import sign_tx
from chainlite.net.registration import encode_registration
from chainlite.net.transport import Channel, PeerId
from docklock.evidence import keyring
from docklock.evidence.host_log import HostLog
from docklock.evidence.offering import MadeOffer, make_offer
from docklock.evidence.recorder import RunRecorder
from docklock.paths import Paths, get_paths

HOSTS = 8
RATE_PER_S = 115_000
RANGE = 2_048
"""Receipts of one range, or a few more."""
ANSWER_S = 30.0


class Range(NamedTuple):
    """What is sent at once: the offer, and the anchor as a signed transaction."""

    made: MadeOffer
    anchor: bytes


def record(paths: Paths, count: int) -> None:
    recorder = RunRecorder.begin(
        paths, container_id="1" * 64, run=0, app="web", image_digest="sha256:" + "ab" * 32,
        policy_digest=bytes(32), closed=(), sign_each=False, rules=(),
    )  # fmt: skip
    recorder.begin_commits()
    for index in range(count):
        values = (("path", b"/usr/lib/x%d.so" % (index % 100)),) if index % 2 else ()
        recorder.append(
            "syscall.openat", decision=0, plane=0, seen=0, pid=100, tid=100, nr=42,
            args=(index,) * 6, values=values,
        )  # fmt: skip
    recorder.close(0)


class Host:
    """A host's log in ranges, ready to be sent."""

    def __init__(self, paths: Paths, chain_id: bytes, count: int) -> None:
        record(paths, count)
        self.key = keyring.ensure_host_key(paths)
        self.name = keys.compute_host_id(self.key.public)
        register = ops.Register("bench", bytes(32))
        self.register = sign_tx(self.key, chain_id, 0, [register]).encoded
        self.ranges: list[Range] = []
        start = 0
        with HostLog(paths, None) as log:
            for made in make_ranges(paths, log):
                proof = b"".join(log.get_consistency(start, made.end)) if start else b""
                anchor = ops.Anchor(made.end, made.root, proof)
                nonce = 1 + len(self.ranges)
                tx = sign_tx(self.key, chain_id, nonce, [anchor])
                self.ranges.append(Range(made, tx.encoded))
                start = made.end


def make_ranges(paths: Paths, log: HostLog) -> Iterator[MadeOffer]:
    """The whole log: each time the next leaves with RANGE receipts or a few more."""
    start = end = 0
    while start < log.get_size():
        end = min(end + 2, log.get_size())
        made = make_offer(paths, log, start, end)
        assert made is not None
        if made.receipts >= RANGE or made.end == log.get_size():
            yield made
            start = end = made.end


async def submit(peer: Peer, validator: PeerId, encoded: list[bytes]) -> None:
    """Until all are taken."""
    while encoded:
        try:
            answer = await peer.mesh.request(
                validator, Channel.TRANSACTIONS, encode_transactions(encoded), ANSWER_S
            )
        except StateError:
            continue
        verdicts = decode_verdicts(answer)
        encoded = [tx for tx, one in zip(encoded, verdicts, strict=True) if one.kind == FULL]


async def until_registered(peer: Peer, validator: PeerId, host: Host) -> None:
    want = encode_want_host(host.name)
    while True:
        answer = await peer.mesh.request(validator, Channel.BODIES, want, ANSWER_S)
        if decode_host_status(answer).is_registered:
            return
        await asyncio.sleep(0.05)


async def send(peer: Peer, validator: PeerId, host: Host, offer: bytes) -> None:
    """Until the validator keeps it."""
    while True:
        try:
            await peer.mesh.request(validator, Channel.BODIES, offer, ANSWER_S)
            return
        except StateError as error:
            print(f"{host.name.hex()[:8]}: {error}", file=sys.stderr)
            await asyncio.sleep(0.1)


async def send_all(peer: Peer, host: Host, keepers: list[PeerId], late_s: float) -> None:
    """One range after another, each when it is due: a host has its receipts at some rate."""
    loop = asyncio.get_running_loop()
    due = loop.time() + late_s
    for made, anchor in host.ranges:
        await asyncio.sleep(due - loop.time())
        due = max(due + made.receipts * HOSTS / RATE_PER_S, loop.time())
        line = f"{host.name.hex()} {made.end} {made.receipts} {time.time()}"
        sending = [send(peer, keeper, host, made.data) for keeper in keepers]
        await asyncio.gather(submit(peer, keepers[0], [anchor]), *sending)
        print(line, flush=True)


async def run(directory: Path, genesis: bytes, seconds: float) -> None:
    stdin = await open_stdin()
    peer = Peer(directory, keys.make_key_pair(bytes(31) + b"b"), "bodies")
    await peer.mesh.start()
    print(encode_registration(peer.register()).hex(), flush=True)
    lines = (await read_line(stdin)).split()
    peer.meet(lines)
    chain_id = compute_chain_id(genesis)
    count = int(RATE_PER_S * seconds / HOSTS)
    hosts = [
        Host(get_paths(str(directory / f"host-{number}")), chain_id, count)
        for number in range(HOSTS)
    ]
    while len(peer.mesh.peers()) < len(lines):
        await asyncio.sleep(0.05)
    validators = sorted(peer.mesh.peers())
    await submit(peer, validators[0], [host.register for host in hosts])
    for host in hosts:
        await until_registered(peer, validators[0], host)
    needed = compute_faults(len(decode_genesis(genesis).members)) + 1
    keepers = [
        [validators[(number + place) % len(validators)] for place in range(needed)]
        for number in range(HOSTS)
    ]
    print("registered", flush=True)
    await read_line(stdin)
    sending = asyncio.gather(
        *[
            send_all(peer, host, some, RANGE / RATE_PER_S * number)
            for number, (host, some) in enumerate(zip(hosts, keepers, strict=True))
        ]
    )
    while await read_line(stdin):
        pass
    sending.cancel()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), float(sys.argv[4])))
