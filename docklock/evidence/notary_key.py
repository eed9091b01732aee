"""The notary's key: keys/notary.key, made once, in memory only while it signs.

Not here: what it signs (enc.notary), the file's bytes (key_file: as the host's, sealed where there
is a credential). It is another key than the host's: a notary vouches for what hosts say.
"""

from __future__ import annotations

import os

from chainlite import keys, logblock
from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import key_file, keyring

if TYPE_CHECKING:
    from docklock.paths import Paths


class NotaryKey:
    """The notary's key, read from its file for each signature."""

    __slots__ = ("_path", "public")

    def __init__(self, path: str, public: bytes) -> None:
        self._path, self.public = path, public

    def sign(self, message: bytes) -> bytes:
        """64 bytes over the message as it is."""
        loaded = key_file.load_key(self._path)
        if loaded is None or loaded[0].public != self.public:
            raise StateError(f"{self._path}: the notary's key is not there any more")
        try:
            return loaded[1].sign(message)
        finally:
            loaded[1].erase()


def get_notary_key_path(paths: Paths) -> str:
    """The notary's private key."""
    return f"{paths.keys}/notary.key"


def ensure_notary_key(paths: Paths) -> NotaryKey:
    """The notary's key, made on first use; safe with two commands at once."""
    path = get_notary_key_path(paths)
    if not os.path.exists(path):
        with keyring.KeysLock(paths, wait=True):
            if not os.path.exists(path):
                key_file.write_new_key(path, number=0, enrolled=b"").erase()
    key = NotaryKey(path, key_file.read_head(path).public)
    public = f"{paths.keys}/notary.pub"
    if not os.path.exists(public):
        _write_public(public, key.public)
    return key


def encode_public(public: bytes) -> str:
    """`NAME+HASH+BASE64` of a notary's key."""
    name = logblock.get_notary_name(logblock.compute_notary_id(public))
    return keys.encode_verifier(name, public)


def get_notary_fingerprint(paths: Paths) -> str:
    """The fingerprint of this host's notary; empty if it has none."""
    path = get_notary_key_path(paths)
    if not os.path.exists(path):
        return ""
    return logblock.compute_notary_id(key_file.read_head(path).public).hex()


def _write_public(path: str, public: bytes) -> None:
    with open(f"{path}.{os.getpid()}.part", "w", encoding="ascii") as file:
        file.write(f"{encode_public(public)}\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.rename(file.name, path)
