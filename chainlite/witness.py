"""What a witness is asked, and what it answers: C2SP tlog-witness, add-checkpoint.

Not here: its state on disk, its key and HTTP (docklock.witness), forks as proof (fork). Pure.
Invariants: nothing is to be cosigned but a checkpoint that continues the last one cosigned of its
origin; every refusal has the status that the specification gives. Checkpoints with extension lines
are refused (400): an ML-DSA cosignature would not cover them.
Source: C2SP tlog-witness, add-checkpoint.
"""

from __future__ import annotations

import binascii

from chainlite import checkpoint, cosignature, merkle, note
from chainlite.checkpoint import Checkpoint
from chainlite.consensus.validators import compute_faults
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chainlite.note import Line, Note, VerifierKey

    LogKeys = Mapping[str, tuple[VerifierKey, ...]]
    """Origin -> the keys of its log that the witness was told."""

PROOF_LINES_MAX = 63
BODY_BYTES_MAX = note.NOTE_LIMIT_BYTES + 4096
"""A note, 63 lines of 45 bytes and the size before them."""
OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND = 200, 400, 403, 404
CONFLICT, UNPROCESSABLE, UNAVAILABLE = 409, 422, 503
TEXT, SIZE_TEXT = "text/plain; charset=utf-8", "text/x.tlog.size"
_HASH_LINE_BYTES = 44


class Answer(NamedTuple):
    """A status of HTTP, the body, and what kind of text it is."""

    status: int
    body: bytes
    kind: str = TEXT


class Refused(Exception):
    """The request is not granted; `answer` says so to whoever asked."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.answer = Answer(status, f"{why}\n".encode())


class Seen(NamedTuple):
    """The latest checkpoint of an origin that the witness cosigned; of size 0 before any."""

    size: int = 0
    root: bytes = merkle.EMPTY_ROOT


class Submission(NamedTuple):
    """A checkpoint that a log's key has signed, and how it continues a tree of `old_size`."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes
    state: Checkpoint


def encode_request(old_size: int, proof: Sequence[bytes], data: bytes) -> bytes:
    """The body of an add-checkpoint: the size before, the proof, an empty line, the note."""
    lines = [b"old %d\n" % old_size, *[binascii.b2a_base64(one) for one in proof]]
    return b"".join((*lines, b"\n", data))


def parse_request(body: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """Old size, consistency proof and note of a body; SpecError if it is not one."""
    head, found, data = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    word, _, digits = first.partition(b" ")
    if not found or word != b"old" or not _is_size(digits):
        raise SpecError("want `old SIZE`, proof lines, an empty line and a checkpoint")
    if len(lines) > PROOF_LINES_MAX:
        raise SpecError(f"{len(lines)} proof lines, above the limit of {PROOF_LINES_MAX}")
    return int(digits), tuple([_parse_hash(line) for line in lines]), data


def parse_submission(body: bytes, logs: LogKeys) -> Submission:
    """A body whose checkpoint a log that is known has signed. Refused: 400, 404 or 403."""
    try:
        old_size, proof, data = parse_request(body)
    except SpecError as error:
        raise Refused(BAD_REQUEST, str(error)) from None
    state = check_note(data, logs)
    if old_size > state.size:
        raise Refused(BAD_REQUEST, f"old size {old_size} is above the checkpoint's {state.size}")
    if not old_size and proof:
        raise Refused(UNPROCESSABLE, "nothing needs no proof that it is continued")
    return Submission(old_size, proof, data, state)


def check_note(data: bytes, logs: LogKeys) -> Checkpoint:
    """The checkpoint of a note that a log that is known has signed. Refused: 400, 404 or 403."""
    try:
        signed = note.parse_note(data)
        state = checkpoint.parse_body(signed.text)
    except SpecError as error:
        raise Refused(BAD_REQUEST, str(error)) from None
    if state.origin not in logs:
        raise Refused(NOT_FOUND, "this log is not known here")
    if not is_signed_by_log(signed, logs[state.origin]):
        raise Refused(FORBIDDEN, "not signed by the log's keys that are known here, or by too few")
    return state


def is_signed_by_log(signed: Note, log_keys: tuple[VerifierKey, ...]) -> bool:
    """Whether, of each type of key that is named for the log, enough keys' signatures hold.

    One is enough: a log that changes its key has several of a type, and who names keys of two types
    asks for both. Of a chain's log, which its validators sign, f + 1 of n: one of them is honest,
    and so no f of them get blocks cosigned that are not final, or shut the chain out of a witness.
    """
    kinds = [key.kind for key in log_keys]
    held = [key.kind for key in log_keys if _holds(signed, key)]
    return bool(kinds) and all(
        held.count(kind) >= _compute_needed(log_keys[0].name, kinds.count(kind)) for kind in kinds
    )


def find_refusal(asked: Submission, seen: Seen) -> Answer | None:
    """Why the checkpoint is not to be cosigned; None if it continues what was cosigned last."""
    old, state = asked.old_size, asked.state
    if old != seen.size:
        return _conflict(seen)
    if old == state.size:
        if asked.proof:
            return Answer(UNPROCESSABLE, b"a tree needs no proof that it continues itself\n")
        return None if state.root == seen.root else _conflict(seen)
    if old and not merkle.is_consistent(old, state.size, asked.proof, seen.root, state.root):
        return Answer(UNPROCESSABLE, b"the proof does not show that the log continues its tree\n")
    return None


def compute_origin_hash(origin: str) -> str:
    """How an origin is named in a path: SHA-256 in hex."""
    return sha256(origin.encode()).hexdigest()


def merge_lines(data: bytes, others: Iterable[bytes]) -> bytes:
    """The note with the signature lines of other notes of the same text, one line a key.

    Of two lines by one key the later one in order stands, so the newest goes last.
    """
    signed = note.parse_note(data)
    lines: dict[tuple[str, bytes], Line] = {(one.name, one.key_id): one for one in signed.lines}
    for other in others:
        found = note.parse_note(other)
        if found.text == signed.text:
            lines |= {(one.name, one.key_id): one for one in found.lines}
    return note.encode_note(signed.text, list(lines.values())[: note.LINES_MAX])


def keep_lines(data: bytes, known: Iterable[VerifierKey]) -> bytes:
    """The note with those of its lines that hold and are by one of these keys.

    What strangers add is not carried on: nobody can fill a note.
    """
    signed = note.parse_note(data)
    kept: dict[tuple[str, bytes], Line] = {}
    for key in known:
        key_id = note.compute_key_id(key)
        for line in signed.lines:
            if (line.name, line.key_id) == (key.name, key_id) and _is_held(signed, key, line):
                kept.setdefault((line.name, line.key_id), line)
    return note.encode_note(signed.text, kept.values())


def _compute_needed(origin: str, count: int) -> int:
    is_chain = origin.startswith(checkpoint.CHAIN_PREFIX)
    return compute_faults(count) + 1 if is_chain else 1


def _holds(signed: Note, key: VerifierKey) -> bool:
    key_id = note.compute_key_id(key)
    lines = [line for line in signed.lines if (line.name, line.key_id) == (key.name, key_id)]
    return any(_is_held(signed, key, line) for line in lines[:1])


def _is_held(signed: Note, key: VerifierKey, line: Line) -> bool:
    return cosignature.read_time(key, signed, line) is not None


def _conflict(seen: Seen) -> Answer:
    return Answer(CONFLICT, b"%d\n" % seen.size, SIZE_TEXT)


def _is_size(digits: bytes) -> bool:
    return (
        0 < len(digits) <= checkpoint.SIZE_DIGITS_MAX
        and digits.isdigit()
        and (digits == b"0" or digits[:1] != b"0")
    )


def _parse_hash(line: bytes) -> bytes:
    if len(line) != _HASH_LINE_BYTES:
        raise SpecError("a proof line is not a hash in base64")
    raw = note.decode_base64(line)
    if len(raw) != merkle.HASH_BYTES:
        raise SpecError("a proof line is not a hash in base64")
    return raw
