"""Cosignatures: whose, when, over which text; nothing else passes."""

from __future__ import annotations

import pytest

from chainlite import checkpoint, cosignature, keys, note
from chainlite.errors import SpecError
from tests.chainlite.samples import WITNESS, WITNESS_KEY, make_key

HOST = make_key(1)
STATE = checkpoint.Checkpoint(
    checkpoint.get_origin(keys.compute_host_id(HOST.public)), 17, b"\x05" * 32
)
NOTE = checkpoint.sign_checkpoint(STATE, HOST)
COSIGNED = cosignature.cosign(NOTE, WITNESS.name, WITNESS_KEY, 1_795_000_000)


def test_a_cosignature_says_who_and_when_and_the_note_stays_the_hosts() -> None:
    found = cosignature.get_cosignatures(COSIGNED, (WITNESS,))
    assert found == (cosignature.Cosignature(WITNESS.name, 1_795_000_000),)
    assert checkpoint.parse_checkpoint(COSIGNED, HOST.public) == STATE
    assert cosignature.get_cosignatures(NOTE, (WITNESS,)) == ()
    assert cosignature.get_cosignatures(COSIGNED, ()) == ()


def test_every_bit_of_a_cosigned_note_is_covered_by_host_or_witness() -> None:
    for position in range(len(COSIGNED)):
        for bit in range(8):
            spoilt = bytearray(COSIGNED)
            spoilt[position] ^= 1 << bit
            try:
                held = checkpoint.parse_checkpoint(bytes(spoilt), HOST.public) == STATE
                found = cosignature.get_cosignatures(bytes(spoilt), (WITNESS,))
            except SpecError:
                continue
            assert not (held and found)


def test_another_key_under_the_witnesss_name_does_not_count() -> None:
    other = make_key(7)
    note = cosignature.cosign(NOTE, WITNESS.name, other, 5)
    assert cosignature.get_cosignatures(note, (WITNESS,)) == ()
    # The log's own signature is over the same text, and is of another type.
    as_witness = cosignature.Witness(STATE.origin, HOST.public)
    assert cosignature.get_cosignatures(NOTE, (as_witness,)) == ()
    assert len(cosignature.get_cosignatures(COSIGNED + _get_line(note), (WITNESS,))) == 1


def _get_line(note: bytes) -> bytes:
    return note.splitlines(keepends=True)[-1]


def test_a_witnesss_key_comes_back_and_a_logs_key_is_none() -> None:
    text = cosignature.encode_witness(WITNESS)
    assert cosignature.parse_witness(text + "\n") == WITNESS
    log_key = keys.encode_verifier(WITNESS.name, WITNESS.public)
    for spoilt in (log_key, "", "a+b+c", text[:-4], text.replace("+", "-"), "x" + text, " " + text):
        if spoilt.strip() != text:
            with pytest.raises(SpecError, match="--witness-key"):
                cosignature.parse_witness(spoilt)


def test_the_message_is_that_of_the_specification() -> None:
    """C2SP tlog-cosignature: the head line, the time, then the note's text to its last newline."""
    signed = note.parse_note(COSIGNED)
    line = signed.lines[-1]
    message = b"cosignature/v1\ntime 1795000000\n" + signed.text
    assert line.name == WITNESS.name
    assert line.signature[:8] == (1_795_000_000).to_bytes(8, "big")
    assert keys.is_signed(WITNESS.public, b"", message, line.signature[8:])
    assert len(line.signature) == 72
