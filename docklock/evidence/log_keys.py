"""The ML-DSA-44 key of this host's log: its record in the log, and both keys that sign for it.

Not here: the private key, which goes with the host's (keyring), and what records mean to a
verifier (chainlite.logkeys). Invariants: the log names the ML-DSA key of the host's key that signs
it before anything is signed with it; a rotation names the next in its own transaction, signed by
the one before.
"""

from __future__ import annotations

import time

from chainlite import hostlog, logkeys
from chainlite.lean import TYPE_CHECKING
from docklock.evidence.host_log import HostLog

if TYPE_CHECKING:
    from chainlite.mldsa import Signer
    from chainlite.note import VerifierKey
    from docklock.evidence.keyring import HostKey
    from docklock.paths import Paths


def find_log_key(log: HostLog) -> hostlog.MldsaKey | None:
    """The newest record of an ML-DSA key; None before the first."""
    found = log.get_key_leaves((hostlog.MLDSA_KEY_KIND,))
    if not found:
        return None
    leaf = hostlog.decode_leaf(found[-1][1])
    assert isinstance(leaf, hostlog.MldsaKey)
    return leaf


def get_signer(log: HostLog, key: HostKey) -> Signer | None:
    """The ML-DSA key that the log names, within `write`; None where it names none yet."""
    return None if find_log_key(log) is None else key.make_mldsa_signer()


def append_log_key(log: HostLog, key: HostKey, before: Signer | None) -> int:
    """Append the record of the ML-DSA key that goes with the held key, within `write`."""
    new = key.make_mldsa_signer()
    leaf = hostlog.MldsaKey(
        key.host, key.number, log.get_size(), new.public, time.time_ns(), b"", b""
    )
    signed = logkeys.sign_mldsa_key(leaf, key, (before or new).sign)
    return log.append(hostlog.encode_mldsa_key(signed))


def ensure_log_key(paths: Paths, key: HostKey) -> None:
    """Have the log name an ML-DSA key, if it does not yet."""
    with HostLog(paths, key) as log:
        if find_log_key(log) is not None:
            return
        with log.write():
            if find_log_key(log) is None:
                append_log_key(log, key, None)


def get_log_keys(log: HostLog, enrolled: bytes) -> tuple[VerifierKey, ...]:
    """The keys that sign the log's checkpoints now: types 1 and 6 (1 alone before the first)."""
    known = log.read_keys(enrolled)
    record = find_log_key(log)
    both = logkeys.get_log_keys(known.host, known.public, record.public if record else b"")
    return both if record else both[:1]
