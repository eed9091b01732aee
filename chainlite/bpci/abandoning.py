"""A log that nobody can bring back is given up: for one under a new key, never for a smaller one.

A note, signed by the old key and by the new one, says where the old log ended and what follows it.
What is held of hosts stays: it is what the new log begins with. Tenants' keys and acts are sealed
anew; the old key stays beside the new one, for whoever has to show that it was there.
Not here: whether that has to be (the operator's to say: a leaf is lost with its host).
Invariants: nothing more is signed by the old key than that note; killed at any step it is gone on
with by doing it again.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from chainlite import keys, note
from chainlite.bpci import act_log, own_log, restoring
from chainlite.bpci.at_rest import Vault, load_key_file, make_key_file
from chainlite.bpci.backup import KEY_FILE
from chainlite.bpci.intake import Intake
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.bpci.store import Tenant
from chainlite.errors import SpecError, TamperError
from chainlite.ledger.body_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.checkpoint import Checkpoint

NOTE_FILE, OLD_KEY_FILE = "abandoned.note", "abandoned.key"
TITLE = "docklock/bpci: a log was given up"


def encode_abandoned(published: Checkpoint, kept: Checkpoint, new: ServerKey) -> bytes:
    """The note's text: the title; old log; `published` and `kept` with size and root; new log and
    its Ed25519 key."""
    lines = [TITLE, f"old {published.origin}"]
    for word, state in (("published", published), ("kept", kept)):
        lines.append(f"{word} {state.size} {base64.b64encode(state.root).decode()}")
    lines += [f"new {new.origin}", f"key {note.encode_vkey(new.log_keys[0])}"]
    return "".join([f"{line}\n" for line in lines]).encode()


def check_abandoned(data: bytes, old: bytes) -> note.VerifierKey:
    """The key of the log that follows the one whose Ed25519 key is `old`; SpecError if the note
    does not say so, or is not signed by both."""
    signed = note.parse_note(data)
    lines = signed.text.decode().splitlines()
    if len(lines) != 6 or lines[0] != TITLE or not lines[5].startswith("key "):
        raise SpecError("abandoned: not a note of a log that was given up")
    new = note.parse_vkey(lines[5][4:], "abandoned")
    was = note.VerifierKey(lines[1].removeprefix("old "), old, note.ED25519)
    for key in (was, new):
        key_id = note.compute_key_id(key)
        found = [one for one in signed.lines if (one.name, one.key_id) == (key.name, key_id)]
        if not found or not keys.is_signed(key.public, b"", signed.text, found[0].signature):
            raise SpecError(f"abandoned: not signed by {key.name}")
    return new


def abandon(directory: str, get_now_ms: Callable[[], int]) -> bytes:
    """The note; afterwards the directory's server has a new key and a log that it begins.

    StateError: it is served. TamperError: what is stored is not this server's.
    """
    path, published = f"{directory}/{KEY_FILE}", f"{directory}/{own_log.PUBLISHED}"
    old, new_path = load_key_file(path), f"{path}.new"
    with SqliteStore(directory, is_writer=True) as store:
        new = load_key_file(new_path) if os.path.exists(new_path) else make_key_file(new_path)
        signed = own_log.read_published(f"{directory}/{NOTE_FILE}")
        if not signed:
            log = own_log.OwnLog(store, old, published)
            text = encode_abandoned(log.goal, log.state, new)
            signed = note.encode_note(text, [_sign(text, old), _sign(text, new)])
            own_log.write_published(f"{directory}/{NOTE_FILE}", signed, is_durable=True)
        tenants = [_seal_anew(one, old, new) for one in store.read_tenants()]
        acts = act_log.seal_anew(store, old, new)
        store.begin_log(tenants, acts, restoring.NOT_LOGGED)
        for name in (own_log.PUBLISHED, act_log.FILE, restoring.MARK):
            if os.path.exists(f"{directory}/{name}"):
                os.unlink(f"{directory}/{name}")
        if not os.path.exists(f"{directory}/{OLD_KEY_FILE}"):
            os.link(path, f"{directory}/{OLD_KEY_FILE}")
        os.replace(new_path, path)
        sync_directory(directory)
        Intake(store, new, published, get_now_ms).restore.log_rest()
    return signed


def _sign(text: bytes, key: ServerKey) -> note.Line:
    verifier = key.log_keys[0]
    signature = keys.sign(key.pair, b"", text)
    return note.Line(verifier.name, note.compute_key_id(verifier), signature)


def _seal_anew(tenant: Tenant, old: ServerKey, new: ServerKey) -> Tenant:
    """Its key under the new server's; it may be already, from a time that was killed."""
    try:
        opened = Vault(old).open_tenant_key(tenant.name, tenant.sealed_key)
    except TamperError:
        opened = Vault(new).open_tenant_key(tenant.name, tenant.sealed_key)
    return tenant._replace(sealed_key=Vault(new).seal_tenant_key(tenant.name, opened))
