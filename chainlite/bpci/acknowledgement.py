"""What a server answers a host: it holds its log up to here, and says so in a log of its own. Pure.

The server's word is its signature over host, size, root and time; the proof (tlogproof) shows that
the leaf with these three is under a checkpoint that it has signed, so that it can neither deny it
later nor tell someone else another story without forking its own log.
Not here: how the server keeps that log (own_log). Invariant: what `decode_acknowledgement` accepts
is what `encode_acknowledgement` writes, and its proof is of the leaf that it speaks of.
Layout: README.md of this room. Source: C2SP tlog-proof.
"""

from __future__ import annotations

from chainlite import domains, keys, note, tlogproof
from chainlite.codec import Reader, encode_bytes, encode_head, encode_u64
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from chainlite.note import VerifierKey

VERSION = 1
SERVER_PREFIX = "docklock/bpci/"


class Held(NamedTuple):
    """A leaf of a server's log: all of a host's log up to `size` is held and verified."""

    host: bytes
    size: int
    root: bytes


class Acknowledgement(NamedTuple):
    """The answer to a batch: `time_ms` is Unix time at the server, `proof` a tlog-proof's text."""

    held: Held
    time_ms: int
    signature: bytes
    proof: bytes


def get_server_origin(public: bytes) -> str:
    """The origin of a server's log, from its Ed25519 key; also the name of its keys."""
    return f"{SERVER_PREFIX}{keys.compute_host_id(public).hex()}"


def encode_held(held: Held) -> bytes:
    """Host 32, size u64, root 32: the leaf."""
    head = encode_head(domains.BPCI_HELD, VERSION)
    return head + held.host + encode_u64(held.size) + held.root


def decode_held(data: bytes) -> Held:
    """The leaf that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "leaf of a server's log")
    reader.read_head(domains.BPCI_HELD, VERSION)
    held = _read_held(reader)
    reader.finish()
    return held


def sign_acknowledgement(
    key: keys.Signer, held: Held, time_ms: int, proof: tlogproof.LogProof
) -> Acknowledgement:
    """The server's answer, whose proof is of the leaf of `held`."""
    signature = keys.sign(key, domains.SIGN_ACKNOWLEDGEMENT, _encode_signed(held, time_ms))
    return Acknowledgement(held, time_ms, signature, tlogproof.encode_log_proof(proof))


def encode_acknowledgement(made: Acknowledgement) -> bytes:
    """What was signed, the signature, the proof's text."""
    return _encode_signed(made.held, made.time_ms) + made.signature + encode_bytes(made.proof)


def decode_acknowledgement(data: bytes) -> Acknowledgement:
    """The answer that these bytes are; SpecError for any other bytes. Nothing is verified."""
    reader = Reader(data, "acknowledgement")
    reader.read_head(domains.BPCI_ACKNOWLEDGEMENT, VERSION)
    held, time_ms = _read_held(reader), reader.read_u64()
    signature = reader.read_fixed(keys.SIGNATURE_BYTES)
    made = Acknowledgement(held, time_ms, signature, reader.read_bytes(tlogproof.PROOF_LIMIT_BYTES))
    reader.finish()
    return made


def verify_acknowledgement(
    data: bytes, server_keys: tuple[VerifierKey, ...], host: bytes
) -> Acknowledgement:
    """What a server says that it holds of a host's log: perhaps less, or more, than was sent.

    `server_keys` are the keys of its log, the Ed25519 one first. SpecError: it does not read, or
    is not signed by them. TamperError: it is of another host, or its leaf is not in that log.
    """
    made = decode_acknowledgement(data)
    public = _get_public(server_keys)
    signed = _encode_signed(made.held, made.time_ms)
    if not keys.is_signed(public, domains.SIGN_ACKNOWLEDGEMENT, signed, made.signature):
        raise SpecError("acknowledgement: not signed by the server's key")
    if made.held.host != host:
        raise TamperError("acknowledgement: is of another host's log")
    leaf = encode_held(made.held)
    if tlogproof.parse_log_proof(made.proof).extra != leaf:
        raise TamperError("acknowledgement: its proof is of another leaf")
    tlogproof.check_log_proof(made.proof, server_keys, leaf=leaf)
    return made


def check_acknowledgement(
    data: bytes, server_keys: tuple[VerifierKey, ...], host: bytes, size: int, root: bytes
) -> Acknowledgement:
    """As verify_acknowledgement; TamperError too where the server holds another size or root."""
    made = verify_acknowledgement(data, server_keys, host)
    if made.held != (host, size, root):
        raise TamperError(
            f"acknowledgement: of {made.held.size} leaves with root {made.held.root.hex()[:16]}, "
            f"not of {size} with {root.hex()[:16]}"
        )
    return made


def _encode_signed(held: Held, time_ms: int) -> bytes:
    head = encode_head(domains.BPCI_ACKNOWLEDGEMENT, VERSION)
    return head + held.host + encode_u64(held.size) + held.root + encode_u64(time_ms)


def _read_held(reader: Reader) -> Held:
    return Held(reader.read_fixed(32), reader.read_u64(), reader.read_fixed(32))


def _get_public(server_keys: tuple[VerifierKey, ...]) -> bytes:
    for key in server_keys:
        if key.kind == note.ED25519:
            return key.public
    raise SpecError("acknowledgement: name the server's Ed25519 key")
