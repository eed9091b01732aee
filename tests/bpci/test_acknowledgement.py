"""An acknowledgement says what one server holds of one host, and cannot be made to say more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite import keys, note, tlogproof, verify
from chainlite.bpci.acknowledgement import (
    Acknowledgement,
    Held,
    check_acknowledgement,
    decode_acknowledgement,
    decode_held,
    encode_acknowledgement,
    encode_held,
    get_server_origin,
    sign_acknowledgement,
    verify_acknowledgement,
)
from chainlite.errors import SpecError, TamperError
from tests.bpci.acknowledged import BOTH, SERVER, TIME_MS, make_acknowledgement
from tests.chainlite.samples import make_key
from tests.ledger.test_formats import spoil

LEAVES = [Held(bytes([number % 7] * 32), number, bytes([number] * 32)) for number in range(50)]
HELD = LEAVES[33]
MADE = make_acknowledgement(LEAVES, 33)
DATA = encode_acknowledgement(MADE)


def test_its_bytes_are_those_of_the_readme() -> None:
    host, root = HELD.host, HELD.root
    assert encode_held(HELD) == b"\xf5\0\1" + host + (33).to_bytes(8, "big") + root
    signed = b"\xc1\0\1" + host + (33).to_bytes(8, "big") + root + TIME_MS.to_bytes(8, "big")
    assert len(signed) == 83 and DATA[:83] == signed
    assert keys.is_signed(SERVER.public, b"\xf6", signed, DATA[83:147])
    assert DATA[147:] == len(MADE.proof).to_bytes(4, "big") + MADE.proof


def test_it_says_who_holds_what_since_when() -> None:
    for named in (BOTH, BOTH[:1]):
        assert check_acknowledgement(DATA, named, *HELD) == MADE
    assert (MADE.held, MADE.time_ms) == (HELD, TIME_MS)
    assert decode_held(encode_held(HELD)) == HELD
    for index in (0, 49):
        data = encode_acknowledgement(make_acknowledgement(LEAVES, index))
        assert verify_acknowledgement(data, BOTH, LEAVES[index].host).held == LEAVES[index]


def test_another_state_than_the_expected_one_is_refused() -> None:
    for wrong in (
        HELD._replace(size=34), HELD._replace(size=0), HELD._replace(root=bytes(32)),
        HELD._replace(host=bytes(32)),
    ):  # fmt: skip
        with pytest.raises(TamperError, match="^acknowledgement: "):
            check_acknowledgement(DATA, BOTH, *wrong)


def test_another_servers_word_is_none() -> None:
    other = make_key(78).public
    stranger = note.VerifierKey(get_server_origin(other), other, note.ED25519)
    for named in ((stranger,), (stranger, BOTH[1]), (stranger, *BOTH), BOTH[1:]):
        with pytest.raises(SpecError):
            check_acknowledgement(DATA, named, *HELD)


def test_no_part_stands_with_another_ones() -> None:
    other = make_acknowledgement(LEAVES, 40)
    parts: list[Acknowledgement] = [
        MADE._replace(proof=other.proof),
        MADE._replace(held=other.held),
        MADE._replace(signature=other.signature),
        MADE._replace(time_ms=TIME_MS + 1),
    ]
    for made in parts:
        with pytest.raises((SpecError, TamperError)):
            check_acknowledgement(encode_acknowledgement(made), BOTH, *made.held)
    # signed by the server itself, with a proof of another leaf, or of none
    for changes in ({"extra": b""}, {"leaf_index": 34}, {"extra": encode_held(other.held)}):
        proof = tlogproof.parse_log_proof(MADE.proof)._replace(**changes)  # type: ignore[arg-type]
        data = encode_acknowledgement(sign_acknowledgement(SERVER, HELD, TIME_MS, proof))
        with pytest.raises(TamperError):
            check_acknowledgement(data, BOTH, *HELD)


def test_its_proof_is_a_file_for_everyone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "held.tlog-proof"
    path.write_bytes(MADE.proof)
    named = [f"--log-key={note.encode_vkey(key)}" for key in BOTH]
    assert verify.main([str(path), *named]) == 0
    assert "leaf 33 of 50 in docklock/bpci/" in capsys.readouterr().out


@pytest.mark.fuzz
def test_hostile_bytes_are_refused_or_change_no_verdict(full: bool, seed: int) -> None:
    rng, taken = random.Random(seed), 0
    for _ in range(30_000 if full else 1_500):
        data = spoil(rng, DATA)
        try:
            assert encode_acknowledgement(decode_acknowledgement(data)) == data
            taken += 1
            made = check_acknowledgement(data, BOTH, *HELD)
        except (SpecError, TamperError):
            continue
        # a line of the note that is no key's may be another
        assert made[:3] == MADE[:3]
    assert taken > 20, "the mutations never reach what is behind the first check"


def test_every_flipped_bit_of_what_is_signed_is_refused() -> None:
    for bit in range((3 + 32 + 8 + 32 + 8 + 64) * 8):
        data = bytearray(DATA)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SpecError, TamperError)):
            check_acknowledgement(bytes(data), BOTH, *HELD)
