"""How the set of validators, the archives and the parameters change: by votes and by evidence.

Not here: who signs blocks (chainlite.consensus). Invariants: one validator of this height, one
vote; a proposal passes with a quorum of them; who joins or leaves by a vote in block h does so at
h + 2, who is convicted in block h is out at h + 1 and never comes back; a set is never empty and
never above VALIDATORS_MAX. Source: CHAIN.md, "Consensus"; README.md of this room, "Validators".
"""

from __future__ import annotations

from hashlib import sha256

from chainlite.consensus.equivocation import check_equivocation, decode_equivocation
from chainlite.consensus.validators import VALIDATORS_MAX, ValidatorSet
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger import records
from chainlite.ledger.genesis import Member, check_parameter
from chainlite.ledger.operations import ARCHIVE, VALIDATOR, encode_operation, is_operator
from chainlite.ledger.records import Proposal, Removed, Validators
from chainlite.ledger.view import Refused

if TYPE_CHECKING:
    from chainlite.ledger.operations import MemberVote, ParameterVote, VotesEvidence
    from chainlite.ledger.tx import Tx
    from chainlite.ledger.view import View

PROPOSALS_EACH_MAX = 2
"""Proposals in progress that one validator has begun, so that none can fill the table."""
JOIN_BLOCKS = 2


def begin_block(view: View) -> None:
    """V(h) becomes what V(h + 1) was to the block before; what is due then changes the next set."""
    before = view.validators
    height, following = view.height, before.next
    keys = dict.fromkeys(following.keys)
    for due, present, public in before.changes:
        if due != height + 1:
            continue
        if present and len(keys) < VALIDATORS_MAX:
            keys[public] = None
        elif not present and len(keys) > 1:
            keys.pop(public, None)
    changes = tuple([change for change in before.changes if change[0] > height + 1])
    next_set = following if tuple(sorted(keys)) == following.keys else ValidatorSet(keys)
    if (following, next_set, changes) == (before.current, following, before.changes):
        return
    view.put(
        records.VALIDATORS_KEY,
        _drop_strangers(Validators(following, next_set, before.members, changes)),
    )


def _drop_strangers(validators: Validators) -> Validators:
    """Without members that are in no set and have no change before them."""
    coming = {public for _, _, public in validators.changes}
    members = tuple([
        member
        for member in validators.members
        if member.public in validators.current
        or member.public in validators.next
        or member.public in coming
    ])  # fmt: skip
    return validators._replace(members=members)


def apply_evidence(view: View, _tx: Tx, operation: VotesEvidence) -> None:
    """A validator that voted twice is out of V(h + 1)."""
    accused, validators = operation.accused, view.validators
    coming = [public for _, present, public in validators.changes if present]
    if accused not in validators.next and accused not in coming:
        raise Refused("the accused is no validator, or was removed")
    try:
        evidence = decode_equivocation(operation.evidence)
        check_equivocation(evidence, view.chain_id)
    except SpecError as error:
        raise Refused(f"evidence: {error}") from None
    if evidence.signer != accused:
        raise Refused("the evidence is of another signer")
    left = [public for public in validators.next.keys if public != accused]
    if not left:
        raise Refused("the accused is the last validator")
    changes = tuple([change for change in validators.changes if change[2] != accused])
    view.put(
        records.VALIDATORS_KEY,
        _drop_strangers(validators._replace(next=ValidatorSet(left), changes=changes)),
    )
    view.put(
        records.REMOVED + accused,
        Removed(view.height, sha256(operation.evidence).digest()),
    )


def apply_member_vote(view: View, tx: Tx, operation: MemberVote) -> None:
    """Count a validator's vote on who is validator or archive; with a quorum it is done."""
    _check_voter(view, tx)
    if _is_done(view, operation):
        return
    _check_member_vote(view, operation)
    if not _count_vote(view, tx, encode_operation(operation)[0]):
        return
    member = Member(*operation[2:])
    if operation.role == ARCHIVE:
        archives = {one.public: one for one in view.get(records.ARCHIVES_KEY, tuple)}
        archives.pop(member.public, None)
        if operation.present:
            archives[member.public] = member
        view.put(records.ARCHIVES_KEY, tuple([archives[public] for public in sorted(archives)]))
        return
    validators = view.validators
    members = {one.public: one for one in validators.members}
    if operation.present:
        members[member.public] = member
    change = (view.height + JOIN_BLOCKS, operation.present, member.public)
    ordered = tuple([members[public] for public in sorted(members)])
    changes = tuple(sorted((*validators.changes, change)))
    view.put(records.VALIDATORS_KEY, validators._replace(members=ordered, changes=changes))


def _check_voter(view: View, tx: Tx) -> None:
    if tx.key not in view.validators.current:
        raise Refused("the signer is no validator of this height", later=True)


def _is_done(view: View, operation: MemberVote) -> bool:
    """Whether it is so, or decided: the vote came late, which is no fault and changes nothing."""
    public, present = operation.public, operation.present
    if operation.role == ARCHIVE:
        return (public in view.archives) == bool(present)
    validators = view.validators
    for _, coming, changing in validators.changes:
        if changing == public:
            return coming == present
    return (public in validators.next) == bool(present)


def _check_member_vote(view: View, operation: MemberVote) -> None:
    """Whether the vote is on something that can be done."""
    public, present = operation.public, bool(operation.present)
    if present and not is_operator(operation.operator):
        raise Refused("the operator has no name")
    if operation.role == ARCHIVE:
        if present and len(view.archives) >= records.ARCHIVES_MAX:
            raise Refused(f"there are {records.ARCHIVES_MAX} archives")
        return
    assert operation.role == VALIDATOR
    validators = view.validators
    if any(public == changing for _, _, changing in validators.changes):
        raise Refused("the key's last change is still to come")
    if present and view.find(records.REMOVED + public, Removed) is not None:
        raise Refused("the key was removed on evidence")
    joining = sum(present for _, present, _ in validators.changes)
    leaving = len(validators.changes) - joining
    if present and validators.next.size + joining >= VALIDATORS_MAX:
        raise Refused(f"there are {VALIDATORS_MAX} validators")
    if not present and validators.next.size - leaving <= 1:
        raise Refused("it is the last validator")


def apply_parameter_vote(view: View, tx: Tx, operation: ParameterVote) -> None:
    """Count a validator's vote on a parameter; with a quorum it holds from the next block on."""
    try:
        check_parameter(operation.parameter, operation.value)
    except SpecError as error:
        raise Refused(str(error)) from None
    parameters = view.parameters
    name = parameters._fields[operation.parameter]
    _check_voter(view, tx)
    if parameters[operation.parameter] != operation.value and _count_vote(
        view, tx, encode_operation(operation)[0]
    ):
        view.put(records.PARAMETERS_KEY, parameters._replace(**{name: operation.value}))


def _count_vote(view: View, tx: Tx, claim: bytes) -> bool:
    """Whether a quorum of this height's validators has voted for it, with this vote.

    Proposals that waited too long go first, and those whose beginner is no validator any more; one
    that passes goes too.
    """
    validators = view.validators.current
    oldest = view.height - view.parameters.vote_blocks
    proposals = {
        one.claim: one
        for one in view.get(records.PROPOSALS_KEY, tuple)
        if one.height > oldest and one.voters[0] in validators
    }  # fmt: skip
    proposal = proposals.get(claim)
    if proposal is None:
        begun = sum(one.voters[:1] == (tx.key,) for one in proposals.values())
        if begun >= PROPOSALS_EACH_MAX:
            raise Refused("too many proposals that the signer began wait for votes")
        proposal = Proposal(claim, view.height, ())
    if tx.key in proposal.voters:
        raise Refused("the signer has voted for it")
    proposals[claim] = proposal._replace(voters=(*proposal.voters, tx.key))
    passed = sum(public in validators for public in proposals[claim].voters) >= validators.quorum
    if passed:
        del proposals[claim]
    view.put(records.PROPOSALS_KEY, tuple([proposals[one] for one in sorted(proposals)]))
    return passed
