"""Signed notes and verifier keys of types 1, 4 and 6: the specifications' own examples first."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, keys, mldsa, note
from chainlite.errors import SpecError
from tests.chainlite.samples import make_key

VECTORS = Path(__file__).parents[1] / "vectors/notes"
# C2SP signed-note, "Example".
FOO_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
""".encode()  # noqa: E501
# C2SP signed-note, its head: a text of two paragraphs.
QUASIMODO = """Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
""".encode()  # noqa: E501
# C2SP tlog-cosignature, its head.
SOFA = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
""".encode()  # noqa: E501

SEED = b"\x31" * 32
HOST = make_key(0x31)
ORIGIN = checkpoint.get_origin(keys.compute_host_id(HOST.public))
STATE = checkpoint.Checkpoint(ORIGIN, 17, b"\x05" * 32)
ED25519_KEY = note.VerifierKey(ORIGIN, HOST.public, note.ED25519)
MLDSA_KEY = note.VerifierKey(ORIGIN, mldsa.Signer(SEED).public, note.COSIGNED_MLDSA44)
BOTH = (ED25519_KEY, MLDSA_KEY)
HALF = checkpoint.sign_checkpoint(STATE, HOST)
NOTE = cosignature.cosign_mldsa(HALF, MLDSA_KEY, mldsa.Signer(SEED).sign, 1_795_000_000)


def test_the_specifications_example_holds_and_none_of_its_bits_can_change() -> None:
    key = note.parse_vkey(FOO_KEY, "foo")
    assert (key.name, key.kind) == ("example.com/foo", note.ED25519)
    assert note.encode_vkey(key) == FOO_KEY
    signed = note.parse_note(FOO_NOTE)
    assert signed.text == b"This is an example message.\n"
    assert [line.key_id for line in signed.lines] == [note.compute_key_id(key)]
    assert cosignature.read_time(key, signed, signed.lines[0]) == 0
    for position in range(len(signed.text)):
        spoilt = bytearray(signed.text)
        spoilt[position] ^= 1
        changed = note.Note(bytes(spoilt), signed.lines)
        assert cosignature.read_time(key, changed, signed.lines[0]) is None


@pytest.mark.parametrize("data", [FOO_NOTE, QUASIMODO, SOFA, NOTE])
def test_what_is_parsed_encodes_to_the_same_bytes(data: bytes) -> None:
    assert note.encode_note(*note.parse_note(data)) == data


def test_the_last_empty_line_parts_text_and_signatures() -> None:
    signed = note.parse_note(QUASIMODO)
    assert signed.text.endswith("ed è subito sera.\n".encode()) and b"\n\n" in signed.text
    assert [line.name for line in signed.lines] == ["quasimodo.example/salvatore"]


def test_the_cosigned_example_says_its_size_and_the_witnesss_time() -> None:
    signed = note.parse_note(SOFA)
    assert checkpoint.parse_body(signed.text).size == 20852163
    assert signed.lines[1].name == "witness.example.com/w1"
    assert int.from_bytes(signed.lines[1].signature[:8], "big") == 1679315147


def test_a_type_6_checkpoint_of_another_implementation_holds() -> None:
    """filippo.io/torchwood, cmd/litewitness/testdata/mldsa.txt: a log that signs with time 0."""
    key = note.parse_vkey((VECTORS / "torchwood.vkey").read_text(), "torchwood")
    data = (VECTORS / "torchwood.note").read_bytes()
    assert key.kind == note.COSIGNED_MLDSA44
    assert note.encode_vkey(key) == (VECTORS / "torchwood.vkey").read_text().strip()
    assert cosignature.check_checkpoint(data, (key,)).size == 1
    assert cosignature.get_cosignatures(data, (key,)) == (cosignature.Cosignature(key.name, 0),)
    for place in (b"log\n1", b"+zoE"):
        at = data.index(place) + len(place) - 1
        with pytest.raises(SpecError):
            cosignature.check_checkpoint(data[:at] + b"7" + data[at + 1 :], (key,))


def test_a_log_with_two_keys_is_believed_only_with_both() -> None:
    assert cosignature.check_checkpoint(NOTE, BOTH) == STATE
    with pytest.raises(SpecError, match="no signature by the log's key of type 6"):
        cosignature.check_checkpoint(HALF, BOTH)
    stripped = note.encode_note(note.parse_note(NOTE).text, note.parse_note(NOTE).lines[1:])
    with pytest.raises(SpecError, match="no signature by the log's key of type 1"):
        cosignature.check_checkpoint(stripped, BOTH)
    assert cosignature.check_checkpoint(HALF, (ED25519_KEY,)) == STATE


def test_a_signature_of_a_known_key_that_does_not_hold_refuses_the_note() -> None:
    signed = note.parse_note(NOTE)
    for number, key in enumerate(BOTH):
        line = signed.lines[number]
        for position in (0, 7, 8, len(line.signature) - 1):
            if key.kind == note.ED25519 and position < 8:
                continue
            spoilt = bytearray(line.signature)
            spoilt[position] ^= 1
            lines = list(signed.lines)
            lines[number] = line._replace(signature=bytes(spoilt))
            with pytest.raises(SpecError, match=f"type {key.kind} does not hold"):
                cosignature.check_checkpoint(note.encode_note(signed.text, lines), BOTH)


def test_a_type_6_signature_names_its_cosigner_and_its_log() -> None:
    """Unlike type 4, whose message has no name of the cosigner."""
    signed = note.parse_note(NOTE)
    line = signed.lines[1]
    assert cosignature.read_time(MLDSA_KEY, signed, line) == 1_795_000_000
    assert cosignature.read_time(MLDSA_KEY._replace(name="w2"), signed, line) is None
    for other in (STATE._replace(origin="other"), STATE._replace(size=18)):
        changed = note.Note(checkpoint.encode_body(other), signed.lines)
        assert cosignature.read_time(MLDSA_KEY, changed, line) is None


def test_a_witness_with_two_keys_has_cosigned_where_both_have() -> None:
    name = "witness.example/w9"
    key, seed = make_key(9), b"\x19" * 32
    pair = (
        note.VerifierKey(name, key.public),
        note.VerifierKey(name, mldsa.Signer(seed).public, note.COSIGNED_MLDSA44),
    )
    one = cosignature.cosign(NOTE, name, key, 5)
    two = cosignature.cosign_mldsa(one, pair[1], mldsa.Signer(seed).sign, 6)
    assert cosignature.get_cosignatures(one, pair) == ()
    assert cosignature.get_cosignatures(one, pair[:1]) == (cosignature.Cosignature(name, 5),)
    assert cosignature.get_cosignatures(two, pair) == (cosignature.Cosignature(name, 6),)


@pytest.mark.parametrize("key", [*BOTH, note.VerifierKey("w", HOST.public)])
def test_verifier_keys_come_back_and_every_changed_letter_is_refused(key: note.VerifierKey) -> None:
    text = note.encode_vkey(key)
    assert note.parse_vkey(f"{text}\n", "k") == key
    step = 1 if len(text) < 200 else 61
    for position in range(0, len(text), step):
        other = "A" if text[position] != "A" else "B"
        with pytest.raises(SpecError, match="here"):
            note.parse_vkey(text[:position] + other + text[position + 1 :], "here")


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a+b", "a+b+c", "+00000000+AA==", "a b+00000000+AA==",
        FOO_KEY.replace("530d", "530D"), FOO_KEY[:-4], FOO_KEY + "=", FOO_KEY.replace("+A", "+B"),
        FOO_KEY.replace("example.com/foo", "example.com/\u00a0foo"),
    ],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SpecError, match="^here: "):
        note.parse_vkey(text, "here")


def test_what_is_no_note_is_refused() -> None:
    dash = "\u2014"
    for tail in (
        "", "\n", f"{dash} name\n", f"{dash}  AAAAAAAA\n", f"{dash} na+me AAAAAAAA\n",
        f"{dash} n\u2003m AAAAAAAA\n", "- name AAAAAAAA\n", f"{dash} name AAAAAA==\n",
        f"{dash} name AAAAAAB=\n", f"{dash} name AAAA AAAA\n", f"{dash} name AAAAAAAA",
        f"{dash} name AAAAAAAA\n" * (note.LINES_MAX + 1), f"{dash} na\tme AAAAAAAA\n",
    ):  # fmt: skip
        with pytest.raises(SpecError, match="^signed note: "):
            note.parse_note(f"text\n\n{tail}".encode())
    for data in (b"\xff\n\n", b"text\n" + b"x" * note.NOTE_LIMIT_BYTES, b"te\rxt\n\n", b"text"):
        with pytest.raises(SpecError, match="^signed note: "):
            note.parse_note(data)


def test_sixteen_of_the_longest_signatures_are_taken() -> None:
    """C2SP signed-note: verifiers MUST accept at least up to 16; nearly 5 kB each."""
    data = b"text\n\n" + note.encode_line(note.Line("n" * 60, bytes(4), bytes(4900))) * 16
    assert len(note.parse_note(data).lines) == 16
