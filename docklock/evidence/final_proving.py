"""Make the proof that one event is final: from its receipt to the seals of a quorum of validators.

Not here: its bytes and checks (chainlite.proofs), the event's part of it (proving), who asks the
chain (docklock.cli.prove). Invariant: the log whose root is final is the one that this host has.
"""

from __future__ import annotations

from chainlite import checkpoint, proof
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.lean import TYPE_CHECKING
from chainlite.proofs.light_format import LightProof, decode_light, encode_light
from chainlite.proofs.light_make import add_event, make_event_of_proof
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.proving import make_proof

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.paths import Paths


def make_final_proof(
    paths: Paths,
    container: str,
    run: int,
    index: int,
    *,
    classes: frozenset[str],
    find: Callable[[bytes, int], LightProof],
) -> tuple[bytes, LightProof]:
    """The proof that receipt `index` of a run is final, with its values of these classes.

    `find` gives the chain's proof of an anchor of this host's log that holds a leaf. StateError
    where there is none, or no such receipt; TamperError where the chain has another history of
    this host's log.
    """
    data, proven = make_proof(paths, container, run, index, classes=classes, note=b"")
    parts = proof.decode_proof(data)
    anchored = find(bytes.fromhex(proven.host), parts.leaf_index)
    with HostLog(paths, None) as log, log.read():
        _check_history(log, anchored)
        path = log.get_proof(parts.leaf_index, anchored.log_size)
    try:
        made = add_event(anchored, make_event_of_proof(parts, path))
        encoded = encode_light(made)
        if decode_light(encoded, anchored.chain_id) != made:
            raise TamperError("the proof does not come back as it was written")
    except SpecError as error:
        raise TamperError(f"receipt {index} of run {run}: {error}") from None
    return encoded, made


def sign_final_checkpoint(paths: Paths, anchored: LightProof) -> bytes:
    """The checkpoint of this host's log as it stood in the final anchor, signed by its key now.

    As an anchor in an evidence file it shows which receipts of that are final.
    """
    key = ensure_host_key(paths)
    with HostLog(paths, None) as log, log.read():
        _check_history(log, anchored)
    state = checkpoint.Checkpoint(
        checkpoint.get_origin(anchored.host), anchored.log_size, anchored.log_root
    )
    return checkpoint.sign_checkpoint(state, key)


def _check_history(log: HostLog, anchored: LightProof) -> None:
    """What the chain holds of this host's log must be what this host has."""
    size = log.get_size()
    if anchored.log_size > size:
        raise StateError(
            f"the chain has an anchor of {anchored.log_size} leaves of this host's log, which "
            f"has {size}: it was set back"
        )
    if log.compute_root(anchored.log_size) != anchored.log_root:
        raise TamperError(
            f"block {anchored.header.height} has another history of this host's log: at "
            f"{anchored.log_size} leaves its root is not this log's"
        )
