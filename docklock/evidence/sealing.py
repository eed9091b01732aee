"""Turn a batch of events into a signed segment: root, body, signatures. No I/O.

Not here: which events (recorder, recovery) and where the segment goes (container_store).
Invariant: the events of a batch are consecutive and of one run, epoch and secret.
"""

from __future__ import annotations

from chainlite import domains, keys, merkle, segment
from chainlite.lean import NamedTuple
from chainlite.receipt import ZERO_USAGE
from docklock.evidence.container_store import EpochRow, SegmentRow

BATCH_LIMIT_BYTES = segment.BODY_LIMIT_BYTES // 2


class Batch:
    """Events that will be one segment; `secret` is empty while none of them has a value.

    `attempts_taken` counts the run's attempts up to its end: recovery goes on after them.
    """

    __slots__ = (
        "attempts_taken",
        "chain_hashes",
        "first_index",
        "frames",
        "leaf_hashes",
        "ops",
        "secret",
        "size_bytes",
        "time_first",
        "time_last",
        "usage",
    )

    def __init__(self, first_index: int) -> None:
        self.first_index = first_index
        self.frames: list[bytes] = []
        self.leaf_hashes: list[bytes] = []
        self.chain_hashes: list[bytes] = []
        self.ops: set[str] = set()
        self.secret = b""
        self.attempts_taken = 0
        self.size_bytes = 0
        self.time_first = self.time_last = 0
        self.usage: tuple[int, ...] = ZERO_USAGE

    def is_full(self) -> bool:
        """Whether the next event must go into another batch."""
        return len(self.frames) >= segment.EVENTS_MAX or self.size_bytes >= BATCH_LIMIT_BYTES


class Epoch(NamedTuple):
    """A key in use and its certificate. Only in guarded memory of the process that made it.

    `certificate_hash` is what every header of the epoch names: taken once.
    """

    certificate: segment.Certificate
    certificate_hash: bytes
    signature: bytes
    key: keys.GuardedKey


def make_epoch(
    certificate: segment.Certificate, key: keys.GuardedKey, issuer: keys.Signer
) -> Epoch:
    """An epoch of `key`, which it owns from now on, certified by `issuer`."""
    whole = certificate._replace(public=key.public)
    data = segment.encode_certificate(whole)
    signature = keys.sign(issuer, domains.SIGN_CERTIFICATE, data)
    return Epoch(whole, segment.compute_certificate_hash(data), signature, key)


def get_epoch_row(epoch: Epoch) -> EpochRow:
    """The epoch as the container's store keeps it."""
    c = epoch.certificate
    return EpochRow(c.run, c.epoch, segment.encode_certificate(c), epoch.signature)


def seal_batch(epoch: Epoch, batch: Batch, *, sign_each: bool) -> SegmentRow:
    """The signed row of a batch."""
    certificate = epoch.certificate
    header = segment.encode_header(
        segment.Header(
            host=certificate.host,
            container=certificate.container,
            run=certificate.run,
            epoch=certificate.epoch,
            certificate_hash=epoch.certificate_hash,
            first_index=batch.first_index,
            event_count=len(batch.frames),
            mode=segment.SIGN_EACH if sign_each else segment.SIGN_SEGMENTS,
            has_secret=1 if batch.secret else 0,
            root=merkle.compute_root(batch.leaf_hashes),
            head=batch.chain_hashes[-1],
            time_first=batch.time_first,
            time_last=batch.time_last,
            usage=batch.usage,
        )
    )
    body = b"".join(batch.frames)
    if sign_each:
        body += b"".join(
            [keys.sign(epoch.key, domains.SIGN_RECEIPT, value) for value in batch.chain_hashes]
        )
    return SegmentRow(
        certificate.run,
        batch.first_index,
        len(batch.frames),
        batch.time_last,
        "\n".join(sorted(batch.ops)),
        header,
        keys.sign(epoch.key, domains.SIGN_SEGMENT, header),
        batch.secret,
        b"".join([value[: segment.LEAF_TAG_BYTES] for value in batch.leaf_hashes]),
        segment.pack_body(body),
        batch.attempts_taken,
    )
