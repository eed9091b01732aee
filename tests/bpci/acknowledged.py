"""A server's keys and log of a test's own, and what it acknowledges."""

from __future__ import annotations

from chainlite import checkpoint, cosignature, merkle, mldsa, note
from chainlite.bpci import acknowledgement
from chainlite.bpci.acknowledgement import Held, encode_held, get_server_origin
from chainlite.tlogproof import LogProof
from tests.chainlite.samples import make_key

SERVER = make_key(77)
ORIGIN = get_server_origin(SERVER.public)
MLDSA = mldsa.Signer(b"\x07" * 32)
BOTH = (
    note.VerifierKey(ORIGIN, SERVER.public, note.ED25519),
    note.VerifierKey(ORIGIN, MLDSA.public, note.COSIGNED_MLDSA44),
)
TIME_MS = 1_795_000_000_123


def make_acknowledgement(leaves: list[Held], index: int) -> acknowledgement.Acknowledgement:
    """Of the leaf at this index of a log that has these."""
    hashes = [merkle.compute_leaf_hash(encode_held(one)) for one in leaves]

    def read(level: int, number: int) -> bytes:
        return merkle.compute_root(hashes[number << level : (number + 1) << level])

    state = checkpoint.Checkpoint(ORIGIN, len(hashes), merkle.compute_root(hashes))
    signed = checkpoint.sign_checkpoint(state, SERVER)
    whole = cosignature.cosign_mldsa(signed, BOTH[1], MLDSA.sign, TIME_MS // 1000)
    path = merkle.compute_inclusion(index, len(hashes), read)
    proof = LogProof(encode_held(leaves[index]), index, path, whole)
    return acknowledgement.sign_acknowledgement(SERVER, leaves[index], TIME_MS, proof)
