"""Make a notary's file in memory: a host's log, segment headers without bodies, LogBlocks, bundles.

Not here: the notary, which does the same from real segments (tests/enc).
"""

from __future__ import annotations

import io
from typing import NamedTuple

from chainlite import bundle, checkpoint, domains, hostlog, keys, logblock, notarised, segment
from chainlite.economy import poe_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, Terms
from tests.chainlite.samples import make_key, make_sample, make_tree

HOUR = 3600
NS = 10**9
START = 1_795_000_000 // HOUR * HOUR
HOST_KEY, NOTARY_KEY = make_key(1), make_key(2)
EPOCH_KEYS = (make_key(3), make_key(4))
HOST = keys.compute_host_id(HOST_KEY.public)
NOTARY = logblock.compute_notary_id(NOTARY_KEY.public)
CONTAINER = b"\x22" * 32
GENESIS = make_sample().genesis._replace(host=HOST, container=CONTAINER)


class Plan(NamedTuple):
    """Segments as (epoch, events, usage), grouped in blocks of (time in seconds, segments)."""

    blocks: tuple[tuple[int, tuple[tuple[int, int, tuple[int, ...]], ...]], ...]
    windows: tuple[int, ...] = ()
    terms: Terms = DEFAULT_TERMS


def usage(number: int) -> tuple[int, ...]:
    return tuple(number * scale for scale in (7_000_000, 5_000_000, 100, 30_000, 1_000_000))


PLAN = Plan(
    (
        (START + 60, ((0, 500, usage(1)), (0, 12, usage(2)))),
        (START + 120, ((0, 1024, usage(3)),)),
        (START + HOUR + 5, ((1, 3, usage(5)), (1, 400, usage(8)))),
        (START + 3 * HOUR + 1, ((1, 1, usage(9)),)),
    ),
    (START, START + HOUR),
)


def make_certificate(epoch: int, first_index: int) -> bytes:
    issuer = segment.BY_EPOCH if epoch else segment.BY_HOST
    return segment.encode_certificate(
        segment.Certificate(
            HOST, CONTAINER, 0, epoch, first_index, issuer, EPOCH_KEYS[epoch].public,
            GENESIS.boot, 5, GENESIS.time, bytes(32),
        )
    )  # fmt: skip


def make_frames(plan: Plan = PLAN) -> list[tuple[int, bytes]]:
    """All frames of a notary's file but its seal."""
    second = next(
        (
            sum(events for _, part in plan.blocks for epoch, events, _ in part if epoch == 0)
            for _, part in plan.blocks
            for epoch, _, _ in part
            if epoch == 1
        ),
        0,
    )
    certificates = [make_certificate(0, 0)] + [make_certificate(1, second)] * bool(second)
    start = hostlog.Start(
        segment.encode_genesis(GENESIS),
        certificates[0],
        keys.sign(HOST_KEY, domains.SIGN_CERTIFICATE, certificates[0]),
    )
    leaves, groups, index, head = [hostlog.encode_start(start)], [], 0, b"\x01" * 32
    for time, segments in plan.blocks:
        group = []
        for epoch, events, used in segments:
            header = segment.encode_header(
                segment.Header(
                    HOST, CONTAINER, 0, epoch,
                    segment.compute_certificate_hash(certificates[epoch]), index, events, 0, 0,
                    head, head, time * NS, time * NS, used,
                )
            )  # fmt: skip
            signature = keys.sign(EPOCH_KEYS[epoch], domains.SIGN_SEGMENT, header)
            group.append(logblock.SignedHeader(header, signature))
            leaves.append(hostlog.encode_segment(hostlog.Segment(header, signature)))
            index += events
        groups.append((time, group))
    hashes = [logblock.merkle.compute_leaf_hash(leaf) for leaf in leaves]
    root, read = make_tree(hashes)
    log = checkpoint.Checkpoint(checkpoint.get_origin(HOST), len(leaves), root)
    proof = logblock.merkle.compute_inclusion(0, len(leaves), read)
    logged = bundle.encode_logged_leaf(bundle.LoggedLeaf(0, leaves[0], proof))
    frames = [
        (notarised.NOTARY_KEY, NOTARY_KEY.public),
        (bundle.HOST_KEY, HOST_KEY.public),
        (bundle.CHECKPOINT, checkpoint.sign_checkpoint(log, HOST_KEY)),
        (bundle.START, logged),
    ]
    if second:
        signature = keys.sign(EPOCH_KEYS[0], domains.SIGN_CERTIFICATE, certificates[1])
        frames.append((bundle.CERTIFICATE, certificates[1] + signature))
    blocks, seen = make_blocks(groups, log)
    frames += blocks
    for window_start in plan.windows:
        window = poe_bundle.Window(window_start)
        parts = notarised.compute_parts(window, {HOST: seen})
        end = (window_start + HOUR) * NS
        made = poe_bundle.make_bundle(NOTARY, "web", window, plan.terms, parts, end)
        data = poe_bundle.encode_bundle(made)
        signed = notarised.encode_signed(data, poe_bundle.sign_bundle(data, NOTARY_KEY))
        frames.append((notarised.POE_BUNDLE, signed))
    return frames


def make_blocks(
    groups: list[tuple[int, list[logblock.SignedHeader]]], log: checkpoint.Checkpoint
) -> tuple[list[tuple[int, bytes]], list[poe_bundle.ChainPoint]]:
    frames, seen = [], list[poe_bundle.ChainPoint]()
    previous, before, totals = logblock.ZERO_HASH, logblock.ZERO_TOTALS, logblock.ZERO_TOTALS
    for height, (time, group) in enumerate(groups):
        headers = [segment.decode_header(signed.header) for signed in group]
        totals = logblock.add_usage(totals, before, headers[-1].usage)
        before = headers[-1].usage
        block = logblock.LogBlock(
            NOTARY, HOST, height, previous, log.size, log.root, len(group),
            sum(header.event_count for header in headers), logblock.compute_segments_root(group),
            time * NS, totals, "web",
        )  # fmt: skip
        data = logblock.encode_block(block)
        previous = logblock.compute_block_hash(data)
        seen.append(poe_bundle.make_point(data))
        signature = logblock.sign_block(data, NOTARY_KEY)
        body = logblock.encode_segments(group)
        frames.append((notarised.LOGBLOCK, notarised.encode_block_frame(data, signature, body)))
    return frames, seen


def seal(frames: list[tuple[int, bytes]], key: keys.KeyPair = NOTARY_KEY) -> bytes:
    """The file of these frames with right checks and a right seal, whatever is in them."""
    digest = bundle.compute_first_digest(notarised.LAYOUT)
    parts = [bundle.NOTARY_MAGIC]
    for kind, payload in frames:
        data, digest = bundle.encode_frame(kind, payload, digest)
        parts.append(data)
    stamp = (7).to_bytes(8, "big")
    payload = stamp + keys.sign(key, domains.SIGN_NOTARY_SEAL, digest + stamp)
    return b"".join(parts) + bundle.encode_frame(notarised.SEAL, payload, digest)[0]


def read(data: bytes) -> tuple[notarised.NotaryVerification, str]:
    return notarised.read_file(io.BytesIO(data).read)
