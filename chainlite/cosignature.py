"""Signatures over a log's checkpoint: by the log (type 1), by cosigners, and when (types 4 and 6).

A log signs with two keys, Ed25519 and ML-DSA-44, and whoever has both asks for both
(`check_checkpoint`): lines of unknown keys are ignored, so one that was stripped would go unseen.
Not here: notes and keys as such (note), the checkpoint's text (checkpoint), which keys to believe:
whoever verifies names them. Invariants: a cosignature covers origin, size and root, and its own
time; a key of one type is never taken for one of another.
Source: C2SP tlog-cosignature, tlog-checkpoint.
"""

from __future__ import annotations

from chainlite import checkpoint, keys, mldsa, note
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.checkpoint import Checkpoint
    from chainlite.note import Note, VerifierKey

Witness = note.VerifierKey
"""A cosigner that the verifier believes: its name, its public key, and that key's type."""
WITNESS_KINDS = (note.COSIGNED_ED25519, note.COSIGNED_MLDSA44)
TIME_MAX = 2**63 - 1
_TIME_BYTES = 8
_LABEL = b"subtree/v1\n\0"


class Cosignature(NamedTuple):
    """A cosignature that holds: whose, and its time in Unix seconds."""

    name: str
    time: int


def encode_witness(witness: VerifierKey) -> str:
    """`NAME+ID+BASE64`, as C2SP writes a cosigner's key."""
    return note.encode_vkey(witness)


def parse_witness(text: str, where: str = "--witness-key") -> VerifierKey:
    """The cosigner of `NAME+ID+BASE64`; SpecError if it is not a key of type 4 or 6."""
    witness = note.parse_vkey(text, where)
    if witness.kind not in WITNESS_KINDS:
        raise SpecError(f"{where}: not a witness's key (type 4 or 6)")
    return witness


def cosign(data: bytes, name: str, key: keys.Signer, time_s: int) -> bytes:
    """The note with one more line: the Ed25519 cosigner's, at `time_s` (Unix seconds)."""
    cosigner = note.VerifierKey(name, key.public, note.COSIGNED_ED25519)
    return _append(data, cosigner, time_s, lambda message: keys.sign(key, b"", message))


def cosign_mldsa(
    data: bytes, cosigner: VerifierKey, sign: Callable[[bytes], bytes], time_s: int
) -> bytes:
    """The same by a cosigner of type 6, whose `sign` gives 2420 bytes over a message."""
    assert cosigner.kind == note.COSIGNED_MLDSA44
    return _append(data, cosigner, time_s, sign)


def read_time(key: VerifierKey, signed: Note, line: note.Line) -> int | None:
    """The time of a line by this key, in Unix seconds, if its signature holds; 0 for type 1.

    None for a line that does not hold. Whether name and id are the key's is the caller's to see.
    """
    if key.kind == note.ED25519:
        return 0 if keys.is_signed(key.public, b"", signed.text, line.signature) else None
    time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    signature = line.signature[_TIME_BYTES:]
    if time_s > TIME_MAX:
        return None
    message = _encode_message(key, signed.text, time_s)
    if key.kind == note.COSIGNED_MLDSA44:
        return time_s if mldsa.is_signed(key.public, message, signature) else None
    return time_s if keys.is_signed(key.public, b"", message, signature) else None


def get_cosignatures(data: bytes, witnesses: tuple[VerifierKey, ...]) -> tuple[Cosignature, ...]:
    """The cosignatures of these witnesses that hold, one per name, in the note's order.

    A witness that is named with two keys has cosigned where both have; the time is the later one.
    Lines of others are passed over, and so is a line of theirs that does not hold. SpecError if it
    is not a note.
    """
    signed = note.parse_note(data)
    known = {(witness.name, note.compute_key_id(witness)): witness for witness in witnesses}
    held: dict[VerifierKey, int] = {}
    for line in signed.lines:
        key = known.get((line.name, line.key_id))
        if key is None or key in held:
            continue
        time_s = read_time(key, signed, line)
        if time_s is not None:
            held[key] = time_s
    missing = {key.name for key in known.values() if key not in held}
    times: dict[str, int] = {}
    for key, time_s in held.items():
        if key.name not in missing:
            times[key.name] = max(time_s, times.get(key.name, 0))
    return tuple([Cosignature(name, time_s) for name, time_s in times.items()])


def check_checkpoint(data: bytes, log_keys: tuple[VerifierKey, ...]) -> Checkpoint:
    """The checkpoint of a note that each of the log's keys has signed; SpecError otherwise.

    The first line of a key decides; one that does not hold refuses the note, as the specification
    asks.
    """
    assert log_keys, "a log without keys vouches for nothing"
    signed = note.parse_note(data)
    state = checkpoint.parse_body(signed.text)
    for key in log_keys:
        if key.name != state.origin:
            raise SpecError(f"checkpoint: it is of log {state.origin}, and the key of {key.name}")
        key_id = note.compute_key_id(key)
        lines = [line for line in signed.lines if (line.name, line.key_id) == (key.name, key_id)]
        if not lines:
            raise SpecError(f"checkpoint: no signature by the log's key of type {key.kind}")
        if read_time(key, signed, lines[0]) is None:
            raise SpecError(f"checkpoint: the signature of type {key.kind} does not hold")
    return state


def _append(
    data: bytes, cosigner: VerifierKey, time_s: int, sign: Callable[[bytes], bytes]
) -> bytes:
    assert 0 <= time_s <= TIME_MAX
    text = note.parse_note(data).text
    signature = sign(_encode_message(cosigner, text, time_s))
    timed = time_s.to_bytes(_TIME_BYTES, "big") + signature
    line = note.Line(cosigner.name, note.compute_key_id(cosigner), timed)
    return data + note.encode_line(line)


def _encode_message(key: VerifierKey, text: bytes, time_s: int) -> bytes:
    """What a cosigner signs: for type 4 the text itself, for type 6 what the text says."""
    if key.kind == note.COSIGNED_ED25519:
        return f"cosignature/v1\ntime {time_s}\n".encode() + text
    state = checkpoint.parse_body(text)
    name, origin = key.name.encode(), state.origin.encode()
    if not 1 <= len(name) <= 255 or not 1 <= len(origin) <= 255:
        raise SpecError("cosignature: a name or an origin has 1 to 255 bytes")
    return b"".join(
        (
            _LABEL,
            len(name).to_bytes(1, "big") + name,
            time_s.to_bytes(8, "big"),
            len(origin).to_bytes(1, "big") + origin,
            (0).to_bytes(8, "big"),
            state.size.to_bytes(8, "big"),
            state.root,
        )
    )
