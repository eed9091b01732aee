"""A witness's own keys, made on first use: Ed25519 (type 4) and ML-DSA-44 (type 6), and its name.

Not here: the layout of a key's file (docklock.evidence.key_file), what is signed
(chainlite.cosignature). Files below `paths.keys`: `witness.key` (0600, sealed if a credential is
there) marked with a number that no host key has, so that neither is ever taken for the other;
`witness.pub`: both public keys under their name. The ML-DSA seed follows from the Ed25519 one.
Invariants: a witness's key is never a log's; a key that is there is never replaced.
The Ed25519 secret lies in guarded memory; that of ML-DSA passes through a library that copies it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite import cosignature, domains, keys, mldsa, note
from chainlite.errors import SpecError, StateError
from docklock.evidence import key_file
from docklock.evidence.keyring import KeysLock

if TYPE_CHECKING:
    from chainlite.note import VerifierKey
    from docklock.paths import Paths

NUMBER = 0xFFFFFFFF
"""Where a host's key has its number, a witness's has this."""
PUBLIC_BYTES_MAX = 16_384


class Cosigner:
    """The witness's name, its public keys, and its signature."""

    def __init__(self, name: str, key: keys.GuardedKey) -> None:
        """For `load_cosigner`."""
        self.name, self._key = name, key
        self._signer = mldsa.Signer(key.derive_seed(domains.MLDSA_SEED))
        self._mldsa = note.VerifierKey(name, self._signer.public, note.COSIGNED_MLDSA44)
        ed25519 = note.VerifierKey(name, key.public, note.COSIGNED_ED25519)
        self.vkeys: tuple[VerifierKey, ...] = (ed25519, self._mldsa)

    def cosign(self, data: bytes, time_s: int) -> bytes:
        """The two lines that say that this witness saw the note's checkpoint at `time_s`."""
        signed = cosignature.cosign(data, self.name, self._key, time_s)
        signed = cosignature.cosign_mldsa(signed, self._mldsa, self._signer.sign, time_s)
        return signed[len(data) :]

    def erase(self) -> None:
        """Overwrite the Ed25519 secret."""
        self._key.erase()


def ensure_witness(paths: Paths, name: str = "") -> tuple[VerifierKey, ...]:
    """The public keys of this host's witness, made on first use under `name`.

    Without a name it is docklock/witness/ and the hash of its key. StateError for another name
    than it has.
    """
    if name and not note.is_name(name):
        raise SpecError(f"a witness's name has 1 to {note.NAME_LIMIT} characters and no spaces")
    with KeysLock(paths, wait=True):
        if not os.path.exists(_get_public_path(paths)):
            _make(paths, name)
    vkeys = read_vkeys(paths)
    if name and vkeys[0].name != name:
        raise StateError(f"this host's witness is called {vkeys[0].name}: its name is in its keys")
    return vkeys


def read_vkeys(paths: Paths) -> tuple[VerifierKey, ...]:
    """The public keys of this host's witness; StateError before they were made."""
    path = _get_public_path(paths)
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read(PUBLIC_BYTES_MAX).splitlines()
    except FileNotFoundError:
        raise StateError("this host has no witness yet: run `docklock witness key`") from None
    found = tuple([cosignature.parse_witness(line, path) for line in lines])
    if len(found) != 2 or found[0].name != found[1].name:
        raise SpecError(f"{path}: want two keys under one name")
    return found


def load_cosigner(paths: Paths) -> Cosigner:
    """What signs for this host's witness. StateError, SpecError where a file is not as it was."""
    vkeys = read_vkeys(paths)
    path = _get_key_path(paths)
    loaded = key_file.load_key(path)
    if loaded is None:
        raise StateError(f"{path}: the witness's key is gone: restore it, or have a new witness")
    head, key = loaded
    if head.number != NUMBER or key.public != vkeys[0].public:
        key.erase()
        raise SpecError(f"{path}: not the key of {vkeys[0].name}: a log's key is no witness's")
    cosigner = Cosigner(vkeys[0].name, key)
    if cosigner.vkeys != vkeys:
        cosigner.erase()
        raise SpecError(f"{_get_public_path(paths)}: not the keys of {path}: restore both")
    return cosigner


def _make(paths: Paths, name: str) -> None:
    """The key, then its public file, which says that it is whole. The lock is held."""
    key_file.erase_file(_get_key_path(paths))  # of a process that was killed before it was done
    key = key_file.write_new_key(_get_key_path(paths), number=NUMBER, enrolled=bytes(32))
    name = name or f"docklock/witness/{keys.compute_host_id(key.public).hex()}"
    cosigner = Cosigner(name, key)
    text = "".join(f"{note.encode_vkey(one)}\n" for one in cosigner.vkeys)
    _write(_get_public_path(paths), text.encode())
    cosigner.erase()


def _write(path: str, data: bytes) -> None:
    fd = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(f"{path}.part", path)
    key_file.sync_directory(os.path.dirname(path))


def _get_key_path(paths: Paths) -> str:
    return f"{paths.keys}/witness.key"


def _get_public_path(paths: Paths) -> str:
    return f"{paths.keys}/witness.pub"
