"""Which ML-DSA-44 key signs a host's checkpoints with its Ed25519 key, as the log's records say.

Each record is signed by the host's key of that leaf and by the ML-DSA key before it, the first by
itself: whoever breaks one of the two still cannot bring a key of their own. Not here: the host's
Ed25519 keys (hostkeys), private keys (docklock.evidence.keyring).
Invariants: numbers and leaf indexes rise; each record names its own leaf. Layout: README.md.
"""

from __future__ import annotations

from chainlite import domains, hostlog, keys, mldsa, note
from chainlite.checkpoint import get_origin
from chainlite.errors import TamperError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.hostkeys import HostKeys


class MldsaKeys:
    """The ML-DSA keys of one log, in order; `newest` is None before the first record."""

    __slots__ = ("newest",)

    def __init__(self) -> None:
        """No key yet."""
        self.newest: hostlog.MldsaKey | None = None

    def take(self, leaf: hostlog.MldsaKey, host_keys: HostKeys) -> None:
        """The next record; TamperError if it does not follow. `host_keys` are those before it."""
        where, old = f"the ML-DSA key record at leaf {leaf.leaf_index}", self.newest
        if leaf.host != host_keys.host or leaf.number != host_keys.number:
            raise TamperError(f"{where} is of another host, or of another key of this one")
        if old is not None and (leaf.number, leaf.leaf_index) <= (old.number, old.leaf_index):
            raise TamperError(f"{where} is out of order")
        message = _encode_unsigned(leaf)
        by = leaf.public if old is None else old.public
        if not keys.is_signed(host_keys.public, domains.SIGN_KEY, message, leaf.signature):
            raise TamperError(f"{where} is not signed by the host's key number {leaf.number}")
        if not mldsa.is_signed(by, domains.SIGN_KEY + message, leaf.mldsa_signature):
            raise TamperError(f"{where} is not signed by the ML-DSA key before it")
        self.newest = leaf


def sign_mldsa_key(
    leaf: hostlog.MldsaKey, by: keys.Signer, sign_mldsa: Callable[[bytes], bytes]
) -> hostlog.MldsaKey:
    """The record with its signatures: by the host's key, and by the ML-DSA key before."""
    message = _encode_unsigned(leaf)
    signature = keys.sign(by, domains.SIGN_KEY, message)
    return leaf._replace(
        signature=signature, mldsa_signature=sign_mldsa(domains.SIGN_KEY + message)
    )


def get_log_keys(
    host: bytes, public: bytes, mldsa_public: bytes
) -> tuple[note.VerifierKey, note.VerifierKey]:
    """Both keys of a host's log as verifier keys under its origin: types 1 and 6."""
    name = get_origin(host)
    return (
        note.VerifierKey(name, public, note.ED25519),
        note.VerifierKey(name, mldsa_public, note.COSIGNED_MLDSA44),
    )


def _encode_unsigned(leaf: hostlog.MldsaKey) -> bytes:
    return hostlog.encode_mldsa_key(leaf._replace(signature=b"", mldsa_signature=b""))
