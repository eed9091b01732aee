"""A member's own key (reader, auditor, admin), in one file.

Not here: the file's layout (docklock.evidence.key_file), who lets it in (chainlite.bpci).
It is marked with a number that no host's, witness's or node's key has, so that none is ever taken
for another. Invariant: a key that is there is never replaced.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from chainlite.keys import compute_host_id, encode_verifier
from docklock.evidence import key_file

if TYPE_CHECKING:
    from chainlite.keys import GuardedKey

NUMBER = 0xFFFFFFFD
"""Where a host's key has its number, a member's has this."""
NAME_PREFIX = "docklock/member/"


FIRST = bytes(32)
"""Where a later key has the one that its member was enrolled by."""


def make_key(path: str, enrolled: bytes = FIRST) -> str:
    """A new key, and its public half as `docklock bpci grant` takes it; StateError if one is.

    `enrolled`: of a later key, its member's first one.
    """
    if os.path.lexists(path):
        raise StateError(f"{path}: there is a file already")
    key = key_file.write_new_key(path, number=NUMBER, enrolled=enrolled)
    public = key.public
    key.erase()
    return describe_public(public)


def show_key(path: str) -> str:
    """The public half of a key."""
    return describe_public(_read_head(path).public)


def read_enrolled(path: str) -> bytes:
    """The public key that the member of this key was enrolled by; errors as those of `show_key`."""
    head = _read_head(path)
    return head.public if head.enrolled == FIRST else head.enrolled


def _read_head(path: str) -> key_file.KeyHead:
    if not os.path.exists(path):
        raise StateError(f"{path}: there is no key: `docklock audit key {path}`")
    head = key_file.read_head(path)
    _check(head, path)
    return head


def load_key(path: str) -> GuardedKey:
    """What signs. StateError: there is none; SpecError: it is another's."""
    loaded = key_file.load_key(path)
    if loaded is None:
        raise StateError(f"{path}: there is no key: `docklock audit key {path}`")
    try:
        _check(loaded[0], path)
    except SpecError:
        loaded[1].erase()
        raise
    return loaded[1]


def describe_public(public: bytes) -> str:
    """`NAME+ID+BASE64`; the name has the id that it is enrolled under."""
    return encode_verifier(f"{NAME_PREFIX}{compute_host_id(public).hex()}", public)


def _check(head: key_file.KeyHead, path: str) -> bytes:
    if head.number != NUMBER:
        raise SpecError(f"{path}: not a member's key: a host's or a witness's is none")
    return head.public
