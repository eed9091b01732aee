"""Ed25519 keys: sign and check tagged messages, host ids, signed-note key texts.

Not here: where keys lie (docklock.evidence.keyring). A GuardedKey's secret is used where it lies:
no copy of it is ever an object of Python, and only the process that made it can use it. One
verification rule everywhere, libsodium's: it refuses small-order points, non-canonical encodings
and S >= L. libsodium is imported on first use, because many commands never sign.
Source: RFC 8032; C2SP signed-note.
"""

from __future__ import annotations

import binascii

from chainlite import domains, note, sodium
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple, Protocol
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

SEED_BYTES = 32
SECRET_BYTES = 64
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
_DERIVED_AT = 512
"""Where in guarded memory a seed is derived: after all that lies there otherwise."""
_NOTE_ED25519 = note.ED25519.to_bytes(1, "big")


class Signer(Protocol):
    """What can sign for a public key: a KeyPair, a GuardedKey, the host's key."""

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message as it is; callers tag it (`sign` below)."""


class Memory(Protocol):
    """A page that a caller guards: this module knows no system calls."""

    @property
    def address(self) -> int:
        """Where it lies; at least 4096 bytes, zeroed at first."""

    def check_owner(self) -> None:
        """StateError where the memory does not exist: in a forked child."""

    def release(self) -> None:
        """Give it back."""


class KeyPair(NamedTuple):
    """An Ed25519 key: the public half, and libsodium's 64-byte secret (seed and public key)."""

    public: bytes
    secret: bytes

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message as it is."""
        return sodium.sign(self.secret, message)


class GuardedKey:
    """An Ed25519 key whose 64-byte secret lies at the start of guarded memory, and nowhere else."""

    __slots__ = ("_memory", "public")

    def __init__(self, public: bytes, memory: Memory) -> None:
        """For `make_guarded_pair` and `load_guarded_pair`."""
        self.public = public
        self._memory: Memory | None = memory

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message as it is; StateError once erased, or in a forked child."""
        if self._memory is None:
            raise StateError("the key is erased: its time is over")
        self._memory.check_owner()
        return sodium.sign_at(self._memory.address, message)

    def derive_seed(self, tag: bytes) -> bytes:
        """SHA-256 of a tag byte and this key's seed: the seed of another key that goes with it.

        The seed itself stays where it lies; who learns the derived one does not learn it.
        """
        assert len(tag) == 1
        if self._memory is None:
            raise StateError("the key is erased: its time is over")
        self._memory.check_owner()
        start = self._memory.address + _DERIVED_AT
        sodium.get_view(start, 1)[:] = tag
        source = sodium.get_view(self._memory.address, SEED_BYTES)
        sodium.get_view(start + 1, SEED_BYTES)[:] = source
        sodium.hash_at(start + 64, start, 1 + SEED_BYTES)
        derived = bytes(sodium.get_view(start + 64, SEED_BYTES))
        sodium.erase_at(start, 64 + SEED_BYTES)
        return derived

    def erase(self) -> None:
        """Overwrite the secret and give its memory back. Again does nothing."""
        memory, self._memory = self._memory, None
        if memory is not None:
            release_erased(memory, SECRET_BYTES)


def make_key_pair(seed: bytes) -> KeyPair:
    """The key pair of a 32-byte seed."""
    return KeyPair(*sodium.make_key_pair(seed))


def make_guarded_pair(memory: Memory) -> GuardedKey:
    """A new random key, made by libsodium inside `memory`, which the key owns from now on."""
    return GuardedKey(sodium.make_random_pair_at(memory.address), memory)


def load_guarded_pair(memory: Memory, seed_offset: int) -> GuardedKey:
    """The key of the 32-byte seed in `memory` at `seed_offset` (64 or more), which is erased."""
    assert seed_offset >= SECRET_BYTES
    seed = memory.address + seed_offset
    public = sodium.make_key_pair_at(memory.address, seed)
    sodium.erase_at(seed, SEED_BYTES)
    return GuardedKey(public, memory)


def release_erased(memory: Memory, size: int) -> None:
    """Overwrite the first `size` bytes and give the memory back."""
    memory.check_owner()
    sodium.erase_at(memory.address, size)
    memory.release()


def sign(key: Signer, tag: bytes, message: bytes) -> bytes:
    """64 bytes over the tag and the message."""
    return key.sign(tag + message)


def is_signed(public: bytes, tag: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is this key's over the tag and the message (libsodium's rule)."""
    return sodium.is_signed(public, tag + message, signature)


def compute_host_id(public: bytes) -> bytes:
    """The host's id: SHA-256 over a tag and its enrolled key. Its hex is the fingerprint."""
    return sha256(domains.HOST_ID + public).digest()


def compute_note_id(name: str, public: bytes) -> bytes:
    """The four bytes by which a signed note names an Ed25519 key."""
    return note.compute_key_id(note.VerifierKey(name, public, note.ED25519))


def encode_verifier(name: str, public: bytes) -> str:
    """`NAME+ID+BASE64`, as C2SP signed-note writes a public key."""
    return note.encode_vkey(note.VerifierKey(name, public, note.ED25519))


def encode_signer(name: str, seed: bytes, public: bytes) -> str:
    """`PRIVATE+KEY+NAME+HASH+BASE64`: a private key as Go's sumdb note writes it."""
    key = binascii.b2a_base64(_NOTE_ED25519 + seed, newline=False).decode()
    return f"PRIVATE+KEY+{name}+{compute_note_id(name, public).hex()}+{key}"


def parse_verifier(text: str, where: str) -> tuple[str, bytes]:
    """Name and Ed25519 public key from `NAME+ID+BASE64`; SpecError if it is not one."""
    key = note.parse_vkey(text, where)
    if key.kind != note.ED25519:
        raise SpecError(f"{where}: not an Ed25519 key that signs notes (type 1)")
    return key.name, key.public


def parse_fingerprint(
    text: str,
    where: str = "--host-key",
    compute_id: Callable[[bytes], bytes] = compute_host_id,
) -> str:
    """The fingerprint that a text names: itself (64 hex digits), or that of a public key."""
    text = text.strip()
    if len(text) == 64 and "+" not in text:
        try:
            return bytes.fromhex(text).hex()
        except ValueError:
            raise SpecError(f"{where}: a fingerprint is 64 hex digits") from None
    return compute_id(parse_verifier(text, where)[1]).hex()


def parse_signer(text: str, where: str) -> tuple[str, KeyPair]:
    """Name and key pair from `PRIVATE+KEY+NAME+HASH+BASE64`; SpecError if it is not one."""
    prefix = "PRIVATE+KEY+"
    if not text.startswith(prefix):
        raise SpecError(f"{where}: not a private key: it must start with {prefix}")
    name, _, rest = text[len(prefix) :].strip().partition("+")
    digest, _, encoded = rest.partition("+")
    key = make_key_pair(_parse_note_key(encoded, where))
    if not name or digest != compute_note_id(name, key.public).hex():
        raise SpecError(f"{where}: not a private key: name and hash do not belong to it")
    return name, key


def _parse_note_key(encoded: str, where: str) -> bytes:
    try:
        raw = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise SpecError(f"{where}: not a key: want NAME+HASH+BASE64") from None
    if len(raw) != 1 + PUBLIC_BYTES or raw[:1] != _NOTE_ED25519:
        raise SpecError(f"{where}: not an Ed25519 key")
    return raw[1:]
