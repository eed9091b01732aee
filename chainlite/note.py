"""Signed notes and the keys that check them: text, signature lines, verifier keys.

Not here: whether a signature holds (cosignature) and what a log's note says (checkpoint).
Invariants: what is parsed encodes to the same bytes; a key of one type is never taken for one of
another, since the type is hashed into its id. Source: C2SP signed-note.
"""

from __future__ import annotations

import binascii

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

ED25519 = 1
COSIGNED_ED25519 = 4
COSIGNED_MLDSA44 = 6
PUBLIC_BYTES = {ED25519: 32, COSIGNED_ED25519: 32, COSIGNED_MLDSA44: 1312}
"""Signature types, and the size of a public key of each."""
NAME_LIMIT = 200
KEY_ID_BYTES = 4
NOTE_LIMIT_BYTES = 131_072
LINES_MAX = 64
"""The specification asks for 16 at least, and ML-DSA lines have some 3,300 bytes."""
_DASH = "\u2014"


class VerifierKey(NamedTuple):
    """A public key under a name, and the type of signatures that it checks."""

    name: str
    public: bytes
    kind: int = COSIGNED_ED25519


class Line(NamedTuple):
    """One signature line: whose it says it is, and what follows the key id."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A text, its last newline included, and the lines under it. Nothing of it is checked yet."""

    text: bytes
    lines: tuple[Line, ...]


def compute_key_id(key: VerifierKey) -> bytes:
    """The four bytes by which a line names a key: they tell keys apart and prove nothing."""
    kind = key.kind.to_bytes(1, "big")
    return sha256(key.name.encode() + b"\n" + kind + key.public).digest()[:KEY_ID_BYTES]


def encode_vkey(key: VerifierKey) -> str:
    """`NAME+ID+BASE64`: the text of a verifier key."""
    material = key.kind.to_bytes(1, "big") + key.public
    encoded = binascii.b2a_base64(material, newline=False).decode()
    return f"{key.name}+{compute_key_id(key).hex()}+{encoded}"


def parse_vkey(text: str, where: str) -> VerifierKey:
    """The key of `NAME+ID+BASE64`; SpecError if it is not one of the types above."""
    name, _, rest = text.strip().partition("+")
    digest, _, encoded = rest.partition("+")
    try:
        raw = decode_base64(encoded.encode())
    except SpecError:
        raise SpecError(f"{where}: not a key: want NAME+ID+BASE64") from None
    if PUBLIC_BYTES.get(raw[0] if raw else 0) != len(raw) - 1:
        raise SpecError(f"{where}: not a key of a type that is known here (1, 4 or 6)")
    if not is_name(name):
        raise SpecError(f"{where}: a key's name has 1 to {NAME_LIMIT} characters and no spaces")
    key = VerifierKey(name, raw[1:], raw[0])
    if digest != compute_key_id(key).hex():
        raise SpecError(f"{where}: not a key: name and id do not belong to it")
    return key


def is_name(name: str) -> bool:
    """Whether it can be a key's name: no spaces of any alphabet, no plus, no control characters."""
    return 0 < len(name) <= NAME_LIMIT and not any(
        letter == "+" or letter.isspace() or letter < " " for letter in name
    )


def parse_note(data: bytes) -> Note:
    """Text and lines of a signed note; SpecError if it is none. The last empty line parts them."""
    if len(data) > NOTE_LIMIT_BYTES:
        raise SpecError(f"signed note: {len(data)} bytes, above the limit of {NOTE_LIMIT_BYTES}")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise SpecError("signed note: is not UTF-8") from None
    if any(letter < " " and letter != "\n" for letter in whole):
        raise SpecError("signed note: has a control character")
    text, found, tail = whole.rpartition("\n\n")
    if not found or not tail.endswith("\n"):
        raise SpecError("signed note: no signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > LINES_MAX:
        raise SpecError(f"signed note: {len(lines)} signatures, above the limit of {LINES_MAX}")
    return Note(f"{text}\n".encode(), tuple([_parse_line(line) for line in lines]))


def encode_note(text: bytes, lines: Iterable[Line]) -> bytes:
    """The note of a text (which ends in a newline) and lines."""
    return text + b"\n" + b"".join([encode_line(line) for line in lines])


def encode_line(line: Line) -> bytes:
    """A signature line with its newline."""
    encoded = binascii.b2a_base64(line.key_id + line.signature, newline=False).decode()
    return f"{_DASH} {line.name} {encoded}\n".encode()


def decode_base64(text: bytes) -> bytes:
    """The bytes of canonical base64; SpecError for any other spelling of them."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise SpecError("signed note: a line is not base64") from None
    if binascii.b2a_base64(raw, newline=False) != text:
        raise SpecError("signed note: a line is not canonical base64")
    return raw


def _parse_line(line: str) -> Line:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not is_name(parts[1]):
        raise SpecError("signed note: a signature line is not one")
    raw = decode_base64(parts[2].encode())
    if len(raw) <= KEY_ID_BYTES:
        raise SpecError("signed note: a signature line has no signature")
    return Line(parts[1], raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])
