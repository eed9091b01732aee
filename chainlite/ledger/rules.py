"""What each operation on hosts does to the state, and when it is refused; the sender's rules.

Not here: votes and evidence against validators (votes), LogBlocks and PoE bundles
(notarised_rules), order and limits of a block (order). Invariants: nonces of a sender have no
hole; an anchor continues the state's anchor of its host, by proof; an anchor is available once
f + 1 distinct validators or archives hold it, and what is available stays so; a forked host does
nothing more. Source: README.md of this room, "Rules".
"""

from __future__ import annotations

import struct

from chainlite import domains, fork, keys, merkle
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import notarised_rules, records, votes
from chainlite.ledger import operations as ops
from chainlite.ledger.records import (
    ACTIVE,
    FORKED,
    POINT_BYTES,
    POINTS_MAX,
    Account,
    Counts,
    Host,
    HostKey,
)
from chainlite.ledger.view import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chainlite.ledger.tx import Tx
    from chainlite.ledger.view import View

HOSTS_MAX = 100_000
"""Registered: all are in every validator's memory, and anybody can register."""
KEYS_MAX = 4096
"""Rotations of one host."""
_POINT = struct.Struct(">Q32s")
_ACK = struct.Struct(">32sQ")


def apply_tx(view: View, tx: Tx) -> None:
    """All that a transaction does; Refused, with nothing done, where one part does not apply."""
    try:
        _take_nonce(view, tx)
        for operation in tx.operations:
            _RULES[type(operation)](view, tx, operation)
    except Refused:
        view.undo()
        raise
    view.keep()


def get_nonce(view: View, sender: bytes) -> int:
    """The nonce that a sender's next transaction has."""
    host = view.find(records.HOST + sender, Host)
    if host is not None:
        return host.nonce
    account = view.find(records.ACCOUNT + sender, Account)
    return account.nonce if account is not None else 0


def sign_possession(key: keys.Signer, chain_id: bytes, host: bytes, number: int) -> bytes:
    """A new key's signature that it is to be a host's key `number`."""
    message = chain_id + host + number.to_bytes(4, "big")
    return keys.sign(key, domains.SIGN_POSSESSION, message)


def _take_nonce(view: View, tx: Tx) -> None:
    """The sender is whom the key speaks for, and this is its next transaction."""
    key = records.HOST + tx.sender
    host = view.find(key, Host)
    if host is not None:
        if host.key != tx.key:
            raise Refused("the key is not the host's present one")
        if host.status != ACTIVE:
            raise Refused("the host has signed two histories")
        _check_nonce(host.nonce, tx.nonce)
        view.put(key, host._replace(nonce=tx.nonce + 1))
        return
    if keys.compute_host_id(tx.key) != tx.sender:
        raise Refused("the sender is not known, and not the key's own id")
    registers = isinstance(tx.operations[0], ops.Register)
    if not registers and not is_member(view, tx.key):
        raise Refused("the sender is not registered, no validator and no archive", later=True)
    _check_nonce(get_nonce(view, tx.sender), tx.nonce)
    view.put(records.ACCOUNT + tx.sender, Account(tx.nonce + 1))


def is_member(view: View, public: bytes) -> bool:
    """Whether it is a validator of this height or the next, or an archive."""
    validators = view.validators
    return public in validators.current or public in validators.next or public in view.archives


def _check_nonce(expected: int, nonce: int) -> None:
    if nonce < expected:
        raise Refused(f"nonce {nonce} was used; the next is {expected}")
    if nonce > expected:
        raise Refused(f"nonce {nonce} is too early; the next is {expected}", later=True)


def _register(view: View, tx: Tx, operation: ops.Register) -> None:
    key = records.HOST + tx.sender
    if view.find(key, Host) is not None:
        raise Refused("the host is registered")
    if not ops.is_operator(operation.operator):
        raise Refused("the operator has no name")
    hosts = view.get(records.COUNTS_KEY, Counts).hosts
    before = view.get_before(records.COUNTS_KEY, Counts).hosts
    if hosts - before >= view.parameters.registrations_per_block:
        raise Refused("the block has registered as many hosts as it may", later=True)
    if hosts >= HOSTS_MAX:
        raise Refused(f"{HOSTS_MAX} hosts are registered")
    view.put(records.COUNTS_KEY, Counts(hosts + 1))
    view.put(records.ACCOUNT + tx.sender, None)
    view.put(key, Host(
        tx.key, 0, ACTIVE, operation.certificate, view.height, tx.nonce + 1,
        0, merkle.EMPTY_ROOT, 0, 0, merkle.EMPTY_ROOT, b"", b"", operation.operator,
    ))  # fmt: skip
    view.put(records.get_key_key(tx.sender, 0), HostKey(tx.key, view.height, records.NOT_REVOKED))


def _get_own(view: View, tx: Tx) -> Host:
    host = view.find(records.HOST + tx.sender, Host)
    if host is None:
        raise Refused("the sender is not a registered host", later=True)
    return host


def _anchor(view: View, tx: Tx, operation: ops.Anchor) -> None:
    host = _get_own(view, tx)
    size, root = operation.size, operation.root
    if size <= host.size:
        raise Refused(f"the anchor is of {size} leaves; the state has {host.size}")
    if host.size:
        due = host.anchored + view.parameters.anchor_interval_blocks
        if view.height < due:
            raise Refused(f"the host's next anchor is due in block {due}", later=True)
        proof = ops.split_proof(operation.proof)
        if not merkle.is_consistent(host.size, size, proof, host.root, root):
            raise Refused(f"the anchor does not continue the {host.size} leaves of the state")
    elif operation.proof:
        raise Refused("the first anchor has nothing to be consistent with")
    points = host.points
    if len(points) == POINTS_MAX * POINT_BYTES:
        points = b"".join(
            [
                points[at : at + POINT_BYTES]
                for at in range(POINT_BYTES, len(points), 2 * POINT_BYTES)
            ]
        )
    view.put(
        records.HOST + tx.sender,
        host._replace(
            size=size, root=root, anchored=view.height, points=points + _POINT.pack(size, root)
        ),
    )


def get_points(host: Host) -> Iterator[tuple[int, bytes]]:
    """The recent anchors of a host, ascending."""
    return _POINT.iter_unpack(host.points)


def _available(view: View, tx: Tx, operation: ops.Available) -> None:
    """An anchor that is available already, or one that is too old to be known, changes nothing.

    So a validator's batch stays good when another validator was faster.
    """
    validators, archives = view.validators.current, view.archives
    if tx.key not in validators and tx.key not in archives:
        raise Refused("the signer is no validator of this height and no archive", later=True)
    key = records.HOST + operation.host
    host = view.find(key, Host)
    if host is None:
        raise Refused("the host is not registered", later=True)
    if operation.size > host.size:
        raise Refused("the anchor is not in the state", later=True)
    root = records.find_point(host.points, operation.size)
    if root is not None and root != operation.root:
        raise Refused("the anchor in the state has another root")
    if root is None or operation.size <= host.available:
        return
    acks: dict[bytes, int] = dict(_ACK.iter_unpack(host.acks))
    acks[tx.key] = max(operation.size, acks.get(tx.key, 0))
    known = [public for public in acks if public in validators or public in archives]
    acks = {public: acks[public] for public in sorted(known)}
    view.put(key, _count_acks(host, acks, validators.weak_quorum))


def _count_acks(host: Host, acks: dict[bytes, int], needed: int) -> Host:
    """The host with these acknowledgements: who holds more leaves holds all that come before."""
    held = sorted(acks.values(), reverse=True)
    available, root = host.available, host.available_root
    if len(held) >= needed:
        for size, found in get_points(host):
            if available < size <= held[needed - 1]:
                available, root = size, found
    left = [_ACK.pack(public, size) for public, size in acks.items() if size > available]
    assert len(left) <= records.ACKS_MAX
    return host._replace(available=available, available_root=root, acks=b"".join(left))


def _rotate(view: View, tx: Tx, operation: ops.Rotate) -> None:
    host = _get_own(view, tx)
    number = host.number + 1
    if number >= KEYS_MAX:
        raise Refused(f"the host has had {KEYS_MAX} keys")
    message = view.chain_id + tx.sender + number.to_bytes(4, "big")
    if not keys.is_signed(operation.public, domains.SIGN_POSSESSION, message, operation.possession):
        raise Refused("the new key did not sign that it is the host's next one")
    new = HostKey(operation.public, view.height, records.NOT_REVOKED)
    view.put(records.get_key_key(tx.sender, number), new)
    view.put(records.HOST + tx.sender, host._replace(key=operation.public, number=number))


def _revoke(view: View, tx: Tx, operation: ops.Revoke) -> None:
    host = _get_own(view, tx)
    if operation.number >= host.number:
        raise Refused(f"key {operation.number} is not older than the host's key {host.number}")
    row = records.get_key_key(tx.sender, operation.number)
    old = view.get(row, HostKey)
    if old.revoked_from <= operation.first_index:
        raise Refused("the key is revoked from there on, or from an earlier leaf")
    view.put(row, old._replace(revoked_from=operation.first_index))


def _state(_view: View, _tx: Tx, _operation: ops.Statement) -> None:
    """Nothing: that it stands in a block is all that is asked."""


def _take_fork(view: View, _tx: Tx, operation: ops.ForkEvidence) -> None:
    key = records.HOST + operation.host
    host = view.find(key, Host)
    if host is None or host.status == FORKED:
        raise Refused("the host is not registered, or known to have forked")
    try:
        proven = fork.check_fork(operation.evidence)
    except SpecError as error:
        raise Refused(f"evidence: {error}") from None
    if proven.host != operation.host.hex():
        raise Refused("the evidence is of another log")
    view.put(key, host._replace(status=FORKED))


_RULES: dict[type, Callable[..., None]] = {
    ops.Anchor: _anchor,
    ops.Register: _register,
    ops.Rotate: _rotate,
    ops.Revoke: _revoke,
    ops.VotesEvidence: votes.apply_evidence,
    ops.ForkEvidence: _take_fork,
    ops.Available: _available,
    ops.NotaryBlock: notarised_rules.apply_block,
    ops.NotaryBundle: notarised_rules.apply_bundle,
    ops.MemberVote: votes.apply_member_vote,
    ops.ParameterVote: votes.apply_parameter_vote,
    ops.Statement: _state,
}
