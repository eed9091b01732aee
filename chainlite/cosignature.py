"""Cosignatures: a witness says that it saw a log's checkpoint, and when (C2SP tlog-cosignature).

Not here: the checkpoint itself (checkpoint) and which witnesses to believe: their keys are named
by whoever verifies. Invariants: a cosignature covers the whole text of the note and its own time;
a key of one type is never taken for one of another, since the type is hashed into its id.
Source: C2SP tlog-cosignature, Ed25519 (type 0x04); C2SP signed-note for keys and lines.
"""

from __future__ import annotations

import binascii

from chainlite import keys
from chainlite.checkpoint import split_note
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from chainlite.sha2 import sha256

TYPE = b"\x04"
_TIME_BYTES = 8


class Witness(NamedTuple):
    """A witness that the verifier believes: its name and its Ed25519 key."""

    name: str
    public: bytes


class Cosignature(NamedTuple):
    """A cosignature that holds: whose, and its time in Unix seconds."""

    name: str
    time: int


def encode_witness(witness: Witness) -> str:
    """`NAME+HASH+BASE64`, as C2SP writes a witness's key."""
    key = binascii.b2a_base64(TYPE + witness.public, newline=False).decode()
    return f"{witness.name}+{_compute_id(witness).hex()}+{key}"


def parse_witness(text: str, where: str = "--witness-key") -> Witness:
    """The witness of `NAME+HASH+BASE64`; SpecError if it is not a cosigner's Ed25519 key."""
    name, _, rest = text.strip().partition("+")
    digest, _, encoded = rest.partition("+")
    try:
        raw = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise SpecError(f"{where}: not a witness's key: want NAME+HASH+BASE64") from None
    witness = Witness(name, raw[1:])
    if raw[:1] != TYPE or len(raw) != 1 + keys.PUBLIC_BYTES:
        raise SpecError(f"{where}: not a witness's Ed25519 key (type 4)")
    if not name or " " in name or len(name) > keys.NAME_LIMIT:
        raise SpecError(f"{where}: a witness's name has 1 to {keys.NAME_LIMIT} characters")
    if digest != _compute_id(witness).hex():
        raise SpecError(f"{where}: name and hash do not belong to the key")
    return witness


def cosign(note: bytes, name: str, key: keys.KeyPair, time_s: int) -> bytes:
    """The note with one more line: the witness's, at `time_s` (Unix seconds)."""
    body, _ = split_note(note)
    witness = Witness(name, key.public)
    signature = keys.sign(key, b"", _encode_message(body, time_s))
    raw = _compute_id(witness) + time_s.to_bytes(_TIME_BYTES, "big") + signature
    line = binascii.b2a_base64(raw, newline=False).decode()
    return note + f"\u2014 {name} {line}\n".encode()


def get_cosignatures(note: bytes, witnesses: tuple[Witness, ...]) -> tuple[Cosignature, ...]:
    """The cosignatures of these witnesses that hold, one per witness, in the note's order.

    Lines of others are passed over, and so is a line of theirs that does not hold. SpecError if it
    is not a note.
    """
    body, lines = split_note(note)
    known = {(witness.name, _compute_id(witness)): witness for witness in witnesses}
    found: dict[str, Cosignature] = {}
    for name, raw in lines:
        witness = known.get((name, raw[:4]))
        if witness is None or name in found:
            continue
        time_s = int.from_bytes(raw[4 : 4 + _TIME_BYTES], "big")
        message, signature = _encode_message(body, time_s), raw[4 + _TIME_BYTES :]
        if keys.is_signed(witness.public, b"", message, signature):
            found[name] = Cosignature(name, time_s)
    return tuple(found.values())


def _compute_id(witness: Witness) -> bytes:
    return sha256(witness.name.encode() + b"\n" + TYPE + witness.public).digest()[:4]


def _encode_message(body: bytes, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + body
