"""A log's checkpoint: a signed note over origin, size and root (C2SP tlog-checkpoint).

Not here: notes and keys as such (note), the tree (merkle), the store (docklock.evidence.host_log)
and what cosigners sign (cosignature). Extension lines are refused; signatures of other keys are
kept and ignored.
Invariant: what is accepted re-encodes to the same note body.
Source: C2SP signed-note and tlog-checkpoint.
"""

from __future__ import annotations

import binascii

from chainlite import keys
from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from chainlite.note import Line, decode_base64, encode_note, parse_note

SIZE_DIGITS_MAX = 19
CHAIN_PREFIX = "docklock/chain/"
"""So begins the origin of every chain's log, and of no host's."""


class Checkpoint(NamedTuple):
    """The state of a log that a signature vouches for."""

    origin: str
    size: int
    root: bytes


def get_origin(host: bytes) -> str:
    """The origin of a host's log; also the name of its key."""
    return f"docklock/host/{host.hex()}"


def get_chain_origin(chain_id: bytes) -> str:
    """The origin of the log of a chain's block hashes; also the name of its validators' keys."""
    return f"{CHAIN_PREFIX}{chain_id.hex()}"


def encode_body(checkpoint: Checkpoint) -> bytes:
    """The signed text: three lines."""
    root = binascii.b2a_base64(checkpoint.root, newline=False).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def sign_checkpoint(checkpoint: Checkpoint, key: keys.Signer) -> bytes:
    """The note: body, empty line, one signature line under the origin's name."""
    body = encode_body(checkpoint)
    note_id = keys.compute_note_id(checkpoint.origin, key.public)
    return encode_note(body, (Line(checkpoint.origin, note_id, keys.sign(key, b"", body)),))


def parse_claim(note: bytes) -> Checkpoint:
    """What a note says, whoever signed it: to tell which log it speaks of."""
    return parse_body(parse_note(note).text)


def parse_checkpoint(note: bytes, *publics: bytes) -> Checkpoint:
    """The checkpoint of a note signed by one of the host's keys; SpecError names what is wrong."""
    checkpoint = parse_claim(note)
    if not get_signers(note, *publics):
        raise SpecError("checkpoint: not signed by the host's key")
    return checkpoint


def get_signers(note: bytes, *publics: bytes) -> frozenset[bytes]:
    """Which of these keys of the log have signed a note; SpecError where it is no checkpoint."""
    body, lines = parse_note(note)
    origin = parse_body(body).origin
    known = {keys.compute_note_id(origin, public): public for public in publics}
    return frozenset(
        known[line.key_id]
        for line in lines
        if line.name == origin
        and line.key_id in known
        and keys.is_signed(known[line.key_id], b"", body, line.signature)
    )


def parse_body(body: bytes) -> Checkpoint:
    """What a note's text says; SpecError if it is not the canonical text of a checkpoint."""
    try:
        lines = body.decode().split("\n")
    except UnicodeDecodeError:
        raise SpecError("checkpoint: is not UTF-8") from None
    if len(lines) != 4 or not lines[0]:
        raise SpecError("checkpoint: want origin, size and root, and no other line")
    origin, size, root = lines[0], lines[1], decode_base64(lines[2].encode())
    if not size.isascii() or not size.isdigit() or len(size) > SIZE_DIGITS_MAX:
        raise SpecError("checkpoint: the size is not a number")
    checkpoint = Checkpoint(origin, int(size), root)
    if len(root) != 32 or encode_body(checkpoint) != body:
        raise SpecError("checkpoint: is not in canonical form")
    return checkpoint
