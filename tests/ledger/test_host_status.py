"""What the chain says of a host, as bytes: one form for each answer, and no other is read."""

from __future__ import annotations

import random

import pytest

from chainlite.errors import SpecError
from chainlite.ledger.host_status import (
    HostStatus,
    decode_host_status,
    decode_want_host,
    encode_host_status,
    encode_want_host,
)
from tests.conftest import get_seed

KNOWN = HostStatus(b"c" * 32, 7, True, b"k" * 32, 3, 90, b"r" * 32, 6, 7, 80)
UNKNOWN = HostStatus(b"c" * 32, 7, is_registered=False)


@pytest.mark.parametrize("status", [KNOWN, UNKNOWN])
def test_what_is_written_is_read_back(status: HostStatus) -> None:
    assert decode_host_status(encode_host_status(status)) == status
    assert decode_want_host(encode_want_host(b"h" * 32)) == b"h" * 32


def test_every_changed_byte_is_refused_or_another_answer() -> None:
    rng = random.Random(get_seed())
    for status in (KNOWN, UNKNOWN):
        data = encode_host_status(status)
        for at in range(len(data)):
            bad = bytearray(data)
            bad[at] ^= 1 << rng.randrange(8)
            try:
                found = decode_host_status(bytes(bad))
            except SpecError:
                continue
            assert found != status and encode_host_status(found) == bytes(bad)
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(SpecError):
                decode_host_status(wrong)
