"""A node's own keys, made on first use: Ed25519, which votes and registers, and TLS's.

Not here: the layout of a key's file (docklock.evidence.key_file), certificates (chainlite.net.tls).
`node.key` (0600, sealed if there is a credential) is marked with a number that no host's and no
witness's key has, so that none is ever taken for another. Invariants: a key that is there is never
replaced; the key in guarded memory is the one that its file names.
"""

from __future__ import annotations

import os
from pathlib import Path

from chainlite import keys
from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import key_file

if TYPE_CHECKING:
    from chainlite.net.tls import NodeCertificate
    from docklock.chain.directory import ChainDirectory

NUMBER = 0xFFFFFFFE
"""Where a host's key has its number, a node's has this; a witness's has the one above."""


def ensure_node_key(directory: ChainDirectory) -> bytes:
    """The public key of the directory's node, made on first use. The caller has the lock."""
    if not os.path.exists(directory.key):
        key_file.write_new_key(directory.key, number=NUMBER, enrolled=bytes(32)).erase()
    return read_node_key(directory)


def read_node_key(directory: ChainDirectory) -> bytes:
    """The public key of the directory's node; StateError before it was made."""
    if not os.path.exists(directory.key):
        raise StateError(
            f"{directory.key}: there is no key: `docklock chain init --dir {directory.path}`"
        )
    return _check_head(key_file.read_head(directory.key), directory)


def load_node_key(directory: ChainDirectory) -> keys.GuardedKey:
    """What signs for the node. StateError, SpecError where the file is not as it was."""
    loaded = key_file.load_key(directory.key)
    if loaded is None:
        raise StateError(f"{directory.key}: the node's key is gone: restore it, or make a new node")
    try:
        _check_head(loaded[0], directory)
    except SpecError:
        loaded[1].erase()
        raise
    return loaded[1]


def ensure_certificate(directory: ChainDirectory, public: bytes) -> NodeCertificate:
    """The node's TLS key and certificate, made on first use. The caller has the lock."""
    from chainlite.net import tls

    path = Path(directory.certificate)
    if not path.exists():
        part = Path(f"{path}.part")
        part.unlink(missing_ok=True)  # of a process that was killed
        tls.make_certificate(part, public)
        part.rename(path)
        key_file.sync_directory(directory.path)
    return tls.load_certificate(path)


def _check_head(head: key_file.KeyHead, directory: ChainDirectory) -> bytes:
    if head.number != NUMBER:
        raise SpecError(f"{directory.key}: not a node's key: a host's or a witness's is none")
    return head.public
