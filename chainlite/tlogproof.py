"""The proof that a leaf is in a log, as one text (C2SP tlog-proof): encode, parse, check.

Not here: the log's keys and witnesses as options name them (trust), what a leaf says (hostlog).
The `extra` line carries the leaf itself, so that the file needs nothing beside it; it is believed
only because its hash is under the signed root. Source: C2SP tlog-proof.
"""

from __future__ import annotations

import binascii

from chainlite import cosignature, hostlog, merkle, note
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.report import EXIT_TAMPERED, EXIT_WHOLE, escape, is_anchored

if TYPE_CHECKING:
    from typing import Any

    from chainlite.checkpoint import Checkpoint
    from chainlite.cosignature import Cosignature
    from chainlite.note import VerifierKey
    from chainlite.report import Trust

MAGIC = b"c2sp.org/tlog-proof@v1\n"
INDEX_DIGITS_MAX = 19
PATH_MAX = 64
PROOF_LIMIT_BYTES = note.NOTE_LIMIT_BYTES + 100_000


class LogProof(NamedTuple):
    """The parts of the text; `extra` is the leaf, `note` the checkpoint with all its lines."""

    extra: bytes
    leaf_index: int
    path: tuple[bytes, ...]
    note: bytes


class LogProven(NamedTuple):
    """What a proof shows: the leaf, where it is, in which state of which log, and who saw that."""

    leaf: bytes
    leaf_index: int
    state: Checkpoint
    cosignatures: tuple[Cosignature, ...]


def encode_log_proof(proof: LogProof) -> bytes:
    """The text."""
    lines = [f"index {proof.leaf_index}", *[_encode(value) for value in proof.path], "", ""]
    if proof.extra:
        lines.insert(0, f"extra {_encode(proof.extra)}")
    return MAGIC + "\n".join(lines).encode() + proof.note


def parse_log_proof(data: bytes) -> LogProof:
    """The parts of a text; SpecError where it is not the one spelling of a proof."""
    if len(data) > PROOF_LIMIT_BYTES or not data.startswith(MAGIC):
        raise SpecError("tlog-proof: not a proof, or above the limit of bytes")
    head, found, checkpoint = data[len(MAGIC) :].partition(b"\n\n")
    lines = head.split(b"\n")
    extra = b""
    if lines[0].startswith(b"extra "):
        extra = _decode(lines.pop(0)[6:], "the extra line")
    word, _, digits = lines.pop(0).partition(b" ") if lines else (b"", b"", b"")
    if not found or word != b"index" or not digits.isdigit() or len(digits) > INDEX_DIGITS_MAX:
        raise SpecError("tlog-proof: no index, or no checkpoint")
    path = tuple([_decode(line, "a line of the path") for line in lines])
    if len(path) > PATH_MAX or any(len(value) != merkle.HASH_BYTES for value in path):
        raise SpecError("tlog-proof: the path is not one of SHA-256 hashes")
    proof = LogProof(extra, int(digits), path, checkpoint)
    if encode_log_proof(proof) != data:
        raise SpecError("tlog-proof: is not in canonical form")
    return proof


def check_log_proof(
    data: bytes,
    log_keys: tuple[VerifierKey, ...],
    witnesses: tuple[VerifierKey, ...] = (),
    leaf: bytes | None = None,
) -> LogProven:
    """What the proof shows; `leaf` is the one that was expected, else the `extra` line's is taken.

    SpecError: it is no proof, or its checkpoint is not signed by each of the log's keys.
    TamperError: the leaf is not the one under the checkpoint, at that index.
    """
    proof = parse_log_proof(data)
    state = cosignature.check_checkpoint(proof.note, log_keys)
    data = proof.extra if leaf is None else leaf
    value = merkle.compute_leaf_hash(data)
    if not merkle.is_included(value, proof.leaf_index, state.size, proof.path, state.root):
        raise TamperError(f"leaf {proof.leaf_index} is not this one, in the log of {state.size}")
    found = cosignature.get_cosignatures(proof.note, witnesses)
    return LogProven(data, proof.leaf_index, state, found)


def describe_log_proof(proven: LogProven) -> dict[str, Any]:
    """For JSON: what is proven and who saw it."""
    return {
        "ok": True,
        "log": proven.state.origin,
        "size": str(proven.state.size),
        "leaf_index": str(proven.leaf_index),
        "leaf": proven.leaf.hex(),
        "kind": _name_kind(proven.leaf),
        "witnesses": [{"name": one.name, "time": str(one.time)} for one in proven.cosignatures],
    }


def render_log_proof(proven: LogProven) -> str:
    """The same for people: one line, and one for each witness."""
    where = f"leaf {proven.leaf_index} of {proven.state.size}"
    lines = [f"whole: {_name_kind(proven.leaf)} is {where} in {proven.state.origin}"]
    lines += [f"seen by {one.name} at Unix time {one.time}" for one in proven.cosignatures]
    if not proven.cosignatures:
        lines.append("no witness that you named has cosigned this: it is the log's own word")
    return "\n".join(lines) + "\n"


def _name_kind(leaf: bytes) -> str:
    from chainlite.bpci.acknowledgement import decode_held  # which is made of such proofs

    try:
        return type(hostlog.decode_leaf(leaf)).__name__
    except SpecError:
        pass
    try:
        held = decode_held(leaf)
    except SpecError:
        return "something that is no host-log leaf"
    root = held.root.hex()
    return f"the statement that {held.size} leaves of host {held.host.hex()}, root {root}, are held"


def _encode(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _decode(text: bytes, what: str) -> bytes:
    try:
        return note.decode_base64(text)
    except SpecError:
        raise SpecError(f"tlog-proof: {what} is not canonical base64") from None


def check_log_proof_file(data: bytes, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    """As verify.check_file, for the bytes of a tlog-proof."""
    import json

    if not trust.log_keys:
        raise SpecError("a tlog-proof: name both keys of its log with --log-key")
    try:
        proven = check_log_proof(data, trust.log_keys, trust.witnesses)
    except TamperError as error:
        bad = {"ok": False, "first_bad": {"why": str(error)}}
        shown = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(str(error))}\n"
        return shown, EXIT_TAMPERED
    is_refused = trust.is_anchor_required and not is_anchored(trust, proven.cosignatures)
    code = EXIT_TAMPERED if is_refused else EXIT_WHOLE
    if as_json:
        return json.dumps(describe_log_proof(proven)) + "\n", code
    return render_log_proof(proven), code
