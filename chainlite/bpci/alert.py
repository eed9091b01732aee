"""What is in an alert's box: what was wrong, and what shows it. Pure.

The batch is there as it came: with what was held before it, anyone who verifies it meets the same
leaf. A fork has the file that convicts the host beside it, where one could be made.
Not here: finding it (verification). Layout: README.md of this room.
"""

from __future__ import annotations

from chainlite.bpci.batch import BATCH_LIMIT_BYTES
from chainlite.bpci.verification import Trouble
from chainlite.codec import Reader, encode_bytes, encode_text, encode_u64
from chainlite.fork import FORK_LIMIT_BYTES
from chainlite.lean import NamedTuple

KIND_LIMIT = 16
WHY_LIMIT = 4096


class Evidence(NamedTuple):
    """The trouble, and the batch that it was in."""

    trouble: Trouble
    batch: bytes


def encode_evidence(evidence: Evidence) -> bytes:
    """Kind, leaf, first and last receipt (each plus one, 0: none), why, the fork's file, batch."""
    trouble = evidence.trouble
    why = trouble.why.encode()[:WHY_LIMIT].decode(errors="ignore")
    parts = (
        encode_text(trouble.kind), encode_u64(trouble.leaf_index), encode_u64(trouble.first + 1),
        encode_u64(trouble.last + 1), encode_text(why), encode_bytes(trouble.proof),
    )  # fmt: skip
    return b"".join(parts) + encode_bytes(evidence.batch)


def decode_evidence(data: bytes) -> Evidence:
    """What these bytes say; SpecError for any other bytes."""
    r = Reader(data, "alert")
    kind, leaf_index = r.read_text(KIND_LIMIT), r.read_u64()
    first, last = r.read_u64() - 1, r.read_u64() - 1
    why, proof = r.read_text(WHY_LIMIT), r.read_bytes(FORK_LIMIT_BYTES)
    evidence = Evidence(
        Trouble(kind, leaf_index, first, last, why, proof), r.read_bytes(BATCH_LIMIT_BYTES)
    )
    r.finish()
    return evidence
