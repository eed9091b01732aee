"""What was done to who may do what at a server: one record each, and their chain. Pure.

Not here: what acts mean together (access), where they lie (act_log). Invariants: what `decode_act`
accepts is what `encode_act` writes; an act's digest is over all acts before it.
Layout: README.md of this room.
"""

from __future__ import annotations

from enum import Enum

from chainlite import domains
from chainlite.bpci.grant import GRANT_LIMIT_BYTES, TENANT_LIMIT
from chainlite.codec import Reader, encode_bytes, encode_head, encode_text, encode_u8, encode_u64
from chainlite.lean import NamedTuple
from chainlite.sha2 import sha256

VERSION = 1
ACT = 0
"""What follows the head of 0xfd, which a next key has too (grant)."""
OPERATOR = b""
"""Who acts at the server's machine."""
FIRST_DIGEST = bytes(32)
NAME_LIMIT = 32
NUMBERS_MAX = 4
DIGEST_BYTES = 32


class Kind(Enum):
    """What is done, and what `numbers` are then."""

    ENROL = 0
    """A member `name` by `record`, a grant: role."""
    ROTATE = 1
    """A member's next key, by `record`, a NextKey."""
    REVOKE = 2
    """A member or a host."""
    QUOTA = 3
    """Of a tenant: receipts a day, bytes, hosts; UNLIMITED: none."""
    RETENTION = 4
    """Of a tenant: days; 0: for ever."""
    DAY = 5
    """A tenant's first receipts of a day: the day since 1970, receipts before it."""
    EXCEED = 6
    """A quota of a tenant was met by host `name`, for the first time that day: which, the day."""
    ERASE = 7
    """Begin to erase what a tenant has from before: cutoff (Unix ns), days."""
    ERASED = 8
    """It is done: cutoff, segments, alerts."""


class Act(NamedTuple):
    """`by`: the admin who did it, or OPERATOR; `name`: of whom it speaks, if of one."""

    kind: Kind
    time_ms: int
    tenant: str
    by: bytes = OPERATOR
    name: bytes = b""
    numbers: tuple[int, ...] = ()
    record: bytes = b""


def encode_act(act: Act, before: bytes) -> bytes:
    """The canonical bytes of an act that follows those with this digest."""
    assert len(before) == DIGEST_BYTES and len(act.record) <= GRANT_LIMIT_BYTES
    parts = [
        encode_head(domains.BPCI_ACT, VERSION),
        encode_u8(ACT),
        before,
        encode_u8(act.kind.value),
        encode_u64(act.time_ms),
        encode_text(act.tenant),
        encode_bytes(act.by),
        encode_bytes(act.name),
        encode_u8(len(act.numbers)),
        *[encode_u64(number) for number in act.numbers],
        encode_bytes(act.record),
    ]
    return b"".join(parts)


def decode_act(data: bytes) -> tuple[Act, bytes]:
    """The act that these bytes are, and the digest of those before; SpecError for other bytes."""
    r = Reader(data, "act")
    r.read_head(domains.BPCI_ACT, VERSION)
    if r.read_u8() != ACT:
        r.refuse("is another record")
    before = r.read_fixed(DIGEST_BYTES)
    kind, time_ms = Kind(r.read_u8(limit=Kind.ERASED.value)), r.read_u64()
    head = (r.read_text(TENANT_LIMIT), r.read_bytes(NAME_LIMIT), r.read_bytes(NAME_LIMIT))
    numbers = tuple([r.read_u64() for _ in range(r.read_u8(limit=NUMBERS_MAX))])
    act = Act(kind, time_ms, *head, numbers, r.read_bytes(GRANT_LIMIT_BYTES))
    r.finish()
    return act, before


def compute_digest(data: bytes) -> bytes:
    """The digest of all acts up to this encoded one, which has that of those before in it."""
    return sha256(data).digest()
