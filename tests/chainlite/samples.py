"""Make evidence in memory: a log, a run, its receipts, the sealed file. Also what the tests change.

Not here: the recorder, which does the same on disk. `python tests/chainlite/samples.py IN OUT`
signs a copy of an evidence file with a new key: every byte is consistent, only the key is another.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chainlite import (
    bundle,
    checkpoint,
    cosignature,
    domains,
    hostlog,
    keys,
    merkle,
    receipt,
    segment,
)


def make_key(number: int) -> keys.KeyPair:
    return keys.make_key_pair(bytes([number]) * 32)


WITNESS_KEY = make_key(0x77)
WITNESS = cosignature.Witness("witness.example/w1", WITNESS_KEY.public)


class Event(NamedTuple):
    """A receipt but for its host, and its values."""

    receipt: receipt.Receipt
    values: tuple[bytes | None, ...]


class Sample(NamedTuple):
    """What an evidence file of one run is made of."""

    genesis: segment.Genesis
    events: tuple[Event, ...]
    segment_sizes: tuple[int, ...]
    is_closed: bool


def make_receipt(index: int, **changes: object) -> receipt.Receipt:
    base = receipt.Receipt(
        run=0,
        host=bytes(32),
        container=b"\x22" * 32,
        policy=b"\x33" * 32,
        boot=b"\x44" * 16,
        event_index=index,
        mono=10**9 + index,
        time=1_795_000_000_000_000_000 + index,
        pid=7,
        tid=8,
        arch=0xC000003E,
        nr=42,
        errno=0,
        ret=-1,
        decision=receipt.ALLOWED,
        plane=receipt.GATE,
        seen=receipt.CLAIMED,
        args=(1, 2, 3, 4, 5, 2**64 - 1),
        usage=(1, 2, 3, 4, 5),
        app="web",
        op="syscall.connect",
        labels=(("note", "a label"),),
        commitments=(),
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def make_sample(*, count: int = 20, per_segment: int = 8, sign_each: bool = False) -> Sample:
    genesis = segment.Genesis(
        host=bytes(32),
        container=b"\x22" * 32,
        run=0,
        number=0,
        policy=b"\x33" * 32,
        previous=bytes(32),
        boot=b"\x44" * 16,
        boottime=5,
        time=1_795_000_000_000_000_000,
        checkpoint=bytes(32),
        sign_each=int(sign_each),
        image="sha256:" + "ab" * 32,
        app="web",
        closed=("io_uring_enter", "io_uring_setup"),
    )
    events = []
    for index in range(count):
        values = ((b"/tmp/%d" % index, b"ls\0-l\0"), (b"", b"x"), ())[index % 3]
        events.append(Event(make_receipt(index), values))
    sizes = [per_segment] * (count // per_segment) + [count % per_segment] * bool(
        count % per_segment
    )
    return Sample(genesis, tuple(events), tuple(sizes), is_closed=True)


def encode_segment(
    sample: Sample, first: int, count: int, chain: bytes, key: keys.KeyPair, certificate: bytes
) -> tuple[bundle.StoredSegment, bytes]:
    """A segment of `count` events, signed by the key of this certificate; the head after it."""
    host, _, _, epoch = segment.decode_certificate(certificate)[:4]
    secret = sha256(b"secret%d" % first).digest()
    frames, leaves, chains = [], [], []
    for event, values in sample.events[first : first + count]:
        names = [name for name, _ in event.commitments] or [f"v{n}" for n in range(len(values))]
        commitments = tuple(
            (names[n], receipt.compute_commitment(secret, event.event_index, n, value or b""))
            for n, value in enumerate(values)
        )
        raw = receipt.encode_receipt(event._replace(host=host, commitments=commitments))
        stored = receipt.encode_values(values)
        frames.append(receipt.FRAME.pack(len(raw), len(stored)) + raw + stored)
        leaves.append(merkle.compute_leaf_hash(raw))
        chain = receipt.compute_chain_hash(chain, raw)
        chains.append(chain)
    has_secret = any(values for _, values in sample.events[first : first + count])
    g, last = sample.genesis, sample.events[first + count - 1].receipt
    header = segment.encode_header(
        segment.Header(
            host, g.container, g.run, epoch, segment.compute_certificate_hash(certificate), first,
            count, g.sign_each, int(has_secret), merkle.compute_root(leaves), chain,
            sample.events[first].receipt.time, last.time, last.usage,
        )
    )  # fmt: skip
    body = b"".join(frames)
    if g.sign_each:
        body += b"".join(keys.sign(key, domains.SIGN_RECEIPT, value) for value in chains)
    stored_segment = bundle.StoredSegment(
        header,
        keys.sign(key, domains.SIGN_SEGMENT, header),
        secret if has_secret else b"",
        b"".join(leaf[:4] for leaf in leaves),
        segment.pack_body(body),
    )
    return stored_segment, chain


def encode_sample(sample: Sample, seed: bytes, **exit_changes: object) -> bytes:
    """The evidence file of a sample, as the host with this seed would seal it.

    `exit_changes` make an exit leaf that does not agree with the receipts.
    """
    host_key, epoch_key = keys.make_key_pair(seed), keys.make_key_pair(sha256(seed).digest())
    host = keys.compute_host_id(host_key.public)
    genesis = sample.genesis._replace(host=host)
    certificate = segment.encode_certificate(
        segment.Certificate(
            host, genesis.container, genesis.run, 0, 0, segment.BY_HOST, epoch_key.public,
            genesis.boot, 5, genesis.time, bytes(32),
        )
    )  # fmt: skip
    start = hostlog.Start(
        segment.encode_genesis(genesis),
        certificate,
        keys.sign(host_key, domains.SIGN_CERTIFICATE, certificate),
    )
    chain, first, segments = segment.compute_genesis_hash(start.genesis), 0, []
    for size in sample.segment_sizes:
        stored, chain = encode_segment(sample, first, size, chain, epoch_key, certificate)
        segments.append((bundle.SEGMENT, bundle.encode_segment(stored)))
        first += size
    leaf = hostlog.Exit(host, genesis.container, genesis.run, first, chain, 0, 0, 0, genesis.time)
    leaf = leaf._replace(**exit_changes)  # type: ignore[arg-type]
    leaves = [hostlog.encode_start(start), hostlog.encode_exit(leaf)][: 1 + sample.is_closed]
    hashes = [merkle.compute_leaf_hash(data) for data in leaves]
    log = checkpoint.Checkpoint(
        checkpoint.get_origin(host), len(leaves), merkle.compute_root(hashes)
    )
    logged = [
        bundle.encode_logged_leaf(bundle.LoggedLeaf(index, data, tuple(hashes[1 - index :][:1])))
        if len(leaves) == 2
        else bundle.encode_logged_leaf(bundle.LoggedLeaf(index, data, ()))
        for index, data in enumerate(leaves)
    ]
    frames = [
        (bundle.HOST_KEY, host_key.public),
        (bundle.CHECKPOINT, checkpoint.sign_checkpoint(log, host_key)),
        (bundle.START, logged[0]),
        *segments,
        *[(bundle.EXIT, data) for data in logged[1:]],
    ]
    state = bundle.CLOSED if sample.is_closed else bundle.OPEN
    runs = (bundle.RunState(genesis.run, state, first, chain),)
    return seal_frames(frames, host_key, genesis.container, log, runs)


def seal_frames(
    frames: list[tuple[int, bytes]],
    host_key: keys.KeyPair,
    container: bytes,
    log: checkpoint.Checkpoint,
    runs: tuple[bundle.RunState, ...],
) -> bytes:
    data, digest = encode_frames(frames)
    host = keys.compute_host_id(host_key.public)
    seal = bundle.encode_seal(bundle.Seal(host, container, log.size, log.root, 9, digest, runs))
    payload = seal + keys.sign(host_key, domains.SIGN_SEAL, seal)
    return data + bundle.encode_frame(bundle.SEAL, payload, digest)[0]


def encode_frames(frames: list[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """Frames with right checks, and the running digest after them."""
    parts, digest = [bundle.MAGIC], bundle.compute_first_digest()
    for kind, payload in frames:
        data, digest = bundle.encode_frame(kind, payload, digest)
        parts.append(data)
    return b"".join(parts), digest


def decode_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and payload of every frame of a file."""
    return [(f.kind, f.payload) for f in bundle.iterate_frames(io.BytesIO(data).read)]


def make_tree(leaves: list[bytes]) -> tuple[bytes, Callable[[int, int], bytes]]:
    """Root of a tree over these leaf hashes, and a reader of its complete subtrees."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = iter(levels[-1])
        pairs = zip(below, below, strict=False)
        levels.append([merkle.compute_node_hash(left, right) for left, right in pairs])

    def read(level: int, number: int) -> bytes:
        return levels[level][number]

    return merkle.compute_tree_root(len(leaves), read), read


def read_sample(data: bytes) -> Sample:
    """The sample that a file of one run holds."""
    genesis, events, sizes, is_closed = None, list[Event](), list[int](), False
    for kind, payload in decode_frames(data):
        is_closed = is_closed or kind == bundle.EXIT
        if kind == bundle.START:
            if genesis is not None:
                raise SystemExit("only evidence of one run can be copied")
            start = hostlog.decode_leaf(bundle.decode_logged_leaf(payload).leaf)
            assert isinstance(start, hostlog.Start)
            genesis = segment.decode_genesis(start.genesis)
        elif kind == bundle.SEGMENT:
            header, stored = bundle.decode_segment(payload)
            body, position = segment.unpack_body(stored.body), 0
            sizes.append(header.event_count)
            for _ in range(header.event_count):
                size, values_size = receipt.FRAME.unpack_from(body, position)
                middle = position + receipt.FRAME.size + size
                event = receipt.decode_receipt(body[position + receipt.FRAME.size : middle])
                position = middle + values_size
                values = body[middle:position]
                count = len(event.commitments)
                events.append(Event(event, receipt.decode_values(values, count, "values")))
    assert genesis is not None
    return Sample(genesis, tuple(events), tuple(sizes), is_closed)


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(
        encode_sample(read_sample(Path(sys.argv[1]).read_bytes()), os.urandom(32))
    )
