"""Signed notes over a log's state."""

from __future__ import annotations

import pytest

from chainlite import checkpoint, keys
from chainlite.errors import SpecError

KEY = keys.make_key_pair(b"\x09" * 32)
ORIGIN = checkpoint.get_origin(keys.compute_host_id(KEY.public))
STATE = checkpoint.Checkpoint(ORIGIN, 17, b"\x05" * 32)
NOTE = checkpoint.sign_checkpoint(STATE, KEY)


def test_a_note_gives_back_what_was_signed() -> None:
    assert checkpoint.parse_checkpoint(NOTE, KEY.public) == STATE


def test_every_bit_of_a_note_is_covered() -> None:
    for position in range(len(NOTE)):
        for bit in range(8):
            spoilt = bytearray(NOTE)
            spoilt[position] ^= 1 << bit
            with pytest.raises(SpecError):
                checkpoint.parse_checkpoint(bytes(spoilt), KEY.public)


def test_a_cosignature_of_another_key_is_kept_and_ignored() -> None:
    other = keys.make_key_pair(b"\x0a" * 32)
    line = checkpoint.sign_checkpoint(STATE, other).split(b"\n\n")[1]
    assert checkpoint.parse_checkpoint(NOTE + line, KEY.public) == STATE
    with pytest.raises(SpecError, match="not signed by the host"):
        checkpoint.parse_checkpoint(NOTE.split(b"\n\n")[0] + b"\n\n" + line, KEY.public)


@pytest.mark.parametrize("size", ["017", "-1", "1e3", "", "9" * 40])
def test_a_size_that_is_not_canonical_is_refused(size: str) -> None:
    body = checkpoint.encode_body(STATE).replace(b"\n17\n", f"\n{size}\n".encode())
    with pytest.raises(SpecError):
        checkpoint.parse_checkpoint(body + NOTE[NOTE.index(b"\n\n") + 1 :], KEY.public)
