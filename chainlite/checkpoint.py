"""A log's checkpoint: a signed note over origin, size and root (C2SP tlog-checkpoint).

Not here: the tree (merkle), the store (docklock.evidence.host_log) and what witnesses sign
(cosignature). Extension lines are refused; signatures of other keys are kept and ignored.
Invariant: what is accepted re-encodes to the same note body.
Source: C2SP signed-note and tlog-checkpoint.
"""

from __future__ import annotations

import binascii

from chainlite import keys
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple

NOTE_LIMIT_BYTES = 16384
SIZE_DIGITS_MAX = 19


class Checkpoint(NamedTuple):
    """The state of a log that a signature vouches for."""

    origin: str
    size: int
    root: bytes


def get_origin(host: bytes) -> str:
    """The origin of a host's log; also the name of its key."""
    return f"docklock/host/{host.hex()}"


def encode_body(checkpoint: Checkpoint) -> bytes:
    """The signed text: three lines."""
    root = binascii.b2a_base64(checkpoint.root, newline=False).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def sign_checkpoint(checkpoint: Checkpoint, key: keys.Signer) -> bytes:
    """The note: body, empty line, one signature line under the origin's name."""
    body = encode_body(checkpoint)
    note_id = keys.compute_note_id(checkpoint.origin, key.public)
    line = binascii.b2a_base64(note_id + keys.sign(key, b"", body), newline=False).decode()
    return body + f"\n\u2014 {checkpoint.origin} {line}\n".encode()


def split_note(note: bytes) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The signed text of a note, and (name, key id and signature) of each of its signature lines.

    SpecError where it is not a signed note; whose the signatures are, and whether they hold, is
    not looked at.
    """
    if len(note) > NOTE_LIMIT_BYTES:
        raise SpecError(f"checkpoint: {len(note)} bytes, above the limit of {NOTE_LIMIT_BYTES}")
    body, found, tail = note.partition(b"\n\n")
    if not found or not tail.endswith(b"\n"):
        raise SpecError("checkpoint: no signature lines")
    return body + b"\n", tuple([_parse_line(line) for line in tail[:-1].split(b"\n")])


def parse_claim(note: bytes) -> Checkpoint:
    """What a note says, whoever signed it: to tell which log it speaks of."""
    return _parse_body(split_note(note)[0])


def parse_checkpoint(note: bytes, *publics: bytes) -> Checkpoint:
    """The checkpoint of a note signed by one of the host's keys; SpecError names what is wrong."""
    body, lines = split_note(note)
    checkpoint = _parse_body(body)
    known = {keys.compute_note_id(checkpoint.origin, public): public for public in publics}
    for name, raw in lines:
        if name != checkpoint.origin or raw[:4] not in known:
            continue
        if keys.is_signed(known[raw[:4]], b"", body, raw[4:]):
            return checkpoint
    raise SpecError("checkpoint: not signed by the host's key")


def _parse_line(line: bytes) -> tuple[str, bytes]:
    """Name and signature of one line: a dash, a name without spaces, base64."""
    try:
        dash, name, signature = line.decode().split(" ")
    except ValueError:
        raise SpecError("checkpoint: a signature line is not one") from None
    if dash != "\u2014" or not name or "+" in name:
        raise SpecError("checkpoint: a signature line is not one")
    return name, _decode(signature.encode())


def _parse_body(body: bytes) -> Checkpoint:
    try:
        lines = body.decode().split("\n")
    except UnicodeDecodeError:
        raise SpecError("checkpoint: is not UTF-8") from None
    if len(lines) != 4 or not lines[0]:
        raise SpecError("checkpoint: want origin, size and root, and no other line")
    origin, size, root = lines[0], lines[1], _decode(lines[2].encode())
    if not size.isascii() or not size.isdigit() or len(size) > SIZE_DIGITS_MAX:
        raise SpecError("checkpoint: the size is not a number")
    checkpoint = Checkpoint(origin, int(size), root)
    if len(root) != 32 or encode_body(checkpoint) != body:
        raise SpecError("checkpoint: is not in canonical form")
    return checkpoint


def _decode(text: bytes) -> bytes:
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise SpecError("checkpoint: a line is not base64") from None
    if binascii.b2a_base64(raw, newline=False) != text:
        raise SpecError("checkpoint: a line is not canonical base64")
    return raw
