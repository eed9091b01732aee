"""What who joins asks for of a snapshot, and the changes of validators that lead to its header.

Not here: manifest and chunks (chainlite.ledger.snapshot), the snapshot's block, which is an answer
of blocks (wire), who asks and who answers (joining, serving). Pure. Invariants: a question has one
form, and what its kind does not need is zero; what a decoder accepts is canonical.
Layout: README.md of this room, "Snapshots".
"""

from __future__ import annotations

from chainlite import domains
from chainlite.codec import Reader, encode_head, encode_u8, encode_u32, encode_u64
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.ledger.snapshot import DEPTH_MAX
from chainlite.proofs.light_format import encode_link, read_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.proofs.light_format import Link

VERSION = 1
LINKS_IN_ANSWER_MAX = 64
"""Each is at most 10 KiB, of 128 validators who all leave."""
HEAD, LINKS, MANIFEST, CHUNK = 0, 1, 2, 3


class WantSnapshot(NamedTuple):
    """HEAD: the newest snapshot's block. LINKS: the changes of validators after `height`.

    MANIFEST of the snapshot of block `height`; CHUNK `number` of the 2^`depth` of that one.
    """

    kind: int
    height: int = 0
    depth: int = 0
    number: int = 0


def encode_want_snapshot(want: WantSnapshot) -> bytes:
    """Kind u8, height u64, depth u8, number u32."""
    head = encode_head(domains.WANT_SNAPSHOT, VERSION) + encode_u8(want.kind)
    return head + encode_u64(want.height) + encode_u8(want.depth) + encode_u32(want.number)


def decode_want_snapshot(data: bytes) -> WantSnapshot:
    """The question that these bytes are; SpecError for any other bytes."""
    r = Reader(data, "want snapshot")
    r.read_head(domains.WANT_SNAPSHOT, VERSION)
    kind, height, depth = r.read_u8(limit=CHUNK), r.read_u64(), r.read_u8(limit=DEPTH_MAX)
    want = WantSnapshot(kind, height, depth, r.read_u32(limit=(1 << depth) - 1))
    r.finish()
    if (kind == HEAD and height) or (kind != CHUNK and depth):
        r.refuse("a field that its kind does not have")
    return want


def encode_links(links: Sequence[Link]) -> bytes:
    """u16 count, and each as in a light proof."""
    head = encode_head(domains.SNAPSHOT_LINKS, VERSION) + len(links).to_bytes(2, "big")
    return head + b"".join(map(encode_link, links))


def decode_links(data: bytes) -> tuple[Link, ...]:
    """The changes of validators in an answer; SpecError for any other bytes. Checks no seal."""
    r = Reader(data, "snapshot links")
    r.read_head(domains.SNAPSHOT_LINKS, VERSION)
    links = tuple([read_link(r) for _ in range(r.read_u16(limit=LINKS_IN_ANSWER_MAX))])
    r.finish()
    return links
