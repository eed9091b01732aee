"""QBFT as one pure function: `step(state, event, ...)` gives the next state and what to do.

Not here: clocks, disks, networks (node), what makes a block valid (chainlite.ledger), which quorums
justify what (justification). Invariants: a validator votes once per kind and round of a height,
never in a round below its own, and only after a Persist; it prepares only a valid proposal of its
round, commits only what a quorum prepared, and takes a block as final only with a quorum of
commits of one round, or with such seals.
Source: EEA QBFT v1; Consensys qbft-formal-spec-and-verification, node.dfy (the upon_* predicates).
Differences from it, and why: README.md of this room, "Where we leave the specification".
"""

from __future__ import annotations

from chainlite.consensus.equivocation import is_conflict, make_equivocation
from chainlite.consensus.events import (
    Accuse,
    Append,
    BlockTimeout,
    Broadcast,
    Build,
    Built,
    Lagging,
    Persist,
    Received,
    Resend,
    RoundTimeout,
    SetTimer,
    Start,
)
from chainlite.consensus.justification import (
    Place,
    is_valid_proposal,
    is_valid_round_change,
    is_well_formed,
    justify,
)
from chainlite.consensus.messages import (
    COMMIT,
    NO_DIGEST,
    NO_ROUND,
    PREPARE,
    PROPOSAL,
    ROUND_CHANGE,
    Commit,
    NewBlock,
    Prepare,
    Proposal,
    RoundChange,
    Vote,
    sign_vote,
)
from chainlite.consensus.turn import State, Turn
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.header import ROUND_MAX, Seals, is_sealed

if TYPE_CHECKING:
    from chainlite import keys
    from chainlite.consensus.events import Effect, Event
    from chainlite.consensus.justification import IsValid
    from chainlite.consensus.messages import Message
    from chainlite.consensus.turn import Key, Signed
    from chainlite.ledger.block import Block

TIMEOUT_MAX_MS = 30_000
ROUNDS_KEPT = 16
"""Messages of one kind that are kept of one signer at a height.

One of a round that is left goes first, else the one that is furthest ahead: a flood of far rounds
does not push out the vote of this round that convicts the signer.
"""
AHEAD_KEPT = 8
"""Messages that are kept of one signer for the next height."""


def make_state(chain_id: bytes, key: keys.Signer | None) -> State:
    """A validator that waits for its first Start; an observer if it has no key."""
    return State(chain_id, key)


def compute_timeout_ms(base_timeout_ms: int, round: int) -> int:
    """How long a round may take: the base, doubled with each round, at most TIMEOUT_MAX_MS."""
    return min(base_timeout_ms << min(round, 16), TIMEOUT_MAX_MS)


def is_accompanied(state: State) -> bool:
    """Whether the round's timer may run: a quorum is known to be in this round or a later one.

    Always in round 0, and where a leader has shown that quorum. Who leaves a round alone would be
    ahead of all others for ever once every timeout is TIMEOUT_MAX_MS: a quorum that needs it never
    meets. Source: Castro and Liskov, "Practical Byzantine Fault Tolerance" (1999), 4.5.2.
    """
    if state.round == 0 or state.accepted is not None or state.place is None:
        return True
    here = {key[2] for key in state.inbox if key[0] == ROUND_CHANGE and key[1] >= state.round}
    return len(here) >= state.place.validators.quorum


def step(
    state: State, event: Event, now_ms: int, is_valid: IsValid
) -> tuple[State, tuple[Effect, ...]]:
    """What follows from one event. `now_ms` is Unix time; `is_valid` judges a whole block."""
    if isinstance(event, Start):
        place = Place(state.chain_id, event.parent, event.parent_hash, event.validators)
        turn = Turn(state, place, now_ms, is_valid)
        _upon_start(turn, event)
    elif state.place is None:
        return state, ()
    else:
        turn = Turn(state, state.place, now_ms, is_valid)
        _upon(turn, event)
    return turn.state, tuple(turn.effects)


def _upon(turn: Turn, event: Event) -> None:
    if isinstance(event, Received):
        _upon_message(turn, event.message)
    elif turn.state.decided:
        return
    elif isinstance(event, BlockTimeout):
        upon_block_timeout(turn, event)
    elif isinstance(event, Built):
        _upon_built(turn, event)
    elif isinstance(event, RoundTimeout):
        upon_round_timeout(turn, event)
    elif isinstance(event, Resend):
        _upon_resend(turn)


def _upon_start(turn: Turn, event: Start) -> None:
    """A new height: forget the last one's votes, take back what was on disk for this one."""
    before, recorded = turn.state, event.recorded
    own = tuple(message for message in recorded.messages if not isinstance(message, NewBlock))
    turn.state = State(
        before.chain_id,
        before.key,
        turn.place,
        event.base_timeout_ms,
        inbox={_get_key(message.vote): message for message in own},
        own=own,
    )
    if own:
        _upon_restart(turn, event)
    for message in before.ahead:
        if not turn.state.decided:
            _upon_message(turn, message)


def _upon_restart(turn: Turn, event: Start) -> None:
    """Go on in the round of the last vote, bound by all that was said before."""
    own, prepares = turn.state.own, event.recorded.prepares
    turn.set(
        round=max(message.vote.round for message in own),
        timer_runs=True,
        prepared_round=prepares[0].round if prepares else NO_ROUND,
        prepared_block=event.recorded.block,
        prepares=prepares,
    )
    _set_timer(turn)
    mine = turn.state.inbox.get((PROPOSAL, turn.state.round, _get_me(turn)))
    if isinstance(mine, Proposal):
        turn.set(accepted=mine)
    _upon_resend(turn)
    _advance(turn)
    upon_commit(turn, turn.state.round)


def upon_block_timeout(turn: Turn, event: BlockTimeout) -> None:
    """A block is due: round 0's timer starts, and its proposer asks for a block."""
    state = turn.state
    if event.height != turn.place.height or state.timer_runs:
        return
    turn.set(timer_runs=True)
    _set_timer(turn)
    if turn.is_mine(0):
        _build(turn, 0)


def _upon_built(turn: Turn, event: Built) -> None:
    """The block that was asked for; too late if the round is over or its leader must re-propose."""
    state = turn.state
    if event.round != state.round or event.round != state.building or state.accepted:
        return
    turn.set(building=NO_ROUND)
    if event.round == 0:
        _propose(turn, event.block, (), ())
        return
    justification = justify(turn.place, _get_round_changes(turn, event.round))
    if justification is not None:
        block = justification.block or event.block
        _propose(turn, block, justification.round_changes, justification.prepares)


def upon_round_timeout(turn: Turn, event: RoundTimeout) -> None:
    """The round took too long: on to the next one."""
    if (event.height, event.round) == (turn.place.height, turn.state.round):
        _change_round(turn, turn.state.round + 1)
        _advance(turn)


def _upon_resend(turn: Turn) -> None:
    """What was said in this round, and the last commit: others may lack just that one."""
    state = turn.state
    commits = [message for message in state.own if isinstance(message, Commit)]
    if commits and commits[-1].vote.round != state.round:
        turn.effects.append(Broadcast(commits[-1]))
    turn.effects.extend(
        Broadcast(message) for message in state.own if message.vote.round == state.round
    )


def _upon_message(turn: Turn, message: Message) -> None:
    state, height = turn.state, turn.place.height
    if isinstance(message, NewBlock):
        if not state.decided and message.block.header.height == height:
            upon_new_block(turn, message)
        return
    vote = message.vote
    if vote.signer not in turn.place.validators or vote.signer == _get_me(turn):
        return
    if vote.height < height:
        turn.effects.append(Lagging(vote.signer, vote.height))
    elif vote.height == height + 1:
        _keep_ahead(turn, message)
    elif vote.height == height and not state.decided and _take(turn, message):
        _advance(turn)
        upon_commit(turn, vote.round)


def _keep_ahead(turn: Turn, message: Signed) -> None:
    """Of the next height, the first few of each signer: what is lost its signer says again.

    Who passes on another's proposal could wrap its vote in anything: what no block of round 0 has
    does not take the true one's place, and of two bodies only that height tells which is true.
    """
    ahead, signer = turn.state.ahead, message.vote.signer
    if isinstance(message, Proposal) and not is_well_formed(turn.place.chain_id, message):
        return
    count = sum(kept.vote.signer == signer for kept in ahead)
    if count < AHEAD_KEPT and message not in ahead:
        turn.set(ahead=(*ahead, message))


def _take(turn: Turn, message: Signed) -> bool:
    """Put a message of this height into the inbox; False if it is known, or not to be believed."""
    state, vote = turn.state, message.vote
    known = state.inbox.get(_get_key(vote))
    if known is not None:
        if is_conflict(known.vote, vote) and vote.signer not in state.accused:
            turn.set(accused=(*state.accused, vote.signer))
            turn.effects.append(Accuse(make_equivocation(known.vote, vote)))
        return False
    if isinstance(message, Proposal):
        if not is_valid_proposal(turn.place, message, turn.now_ms, turn.is_valid):
            return False
    elif isinstance(message, RoundChange) and not is_valid_round_change(
        turn.place, message, turn.is_valid
    ):
        return False
    return _keep(turn, message)


def _keep(turn: Turn, message: Signed) -> bool:
    inbox, vote = dict(turn.state.inbox), message.vote
    theirs = [key for key in inbox if key[0] == vote.kind and key[2] == vote.signer]
    if len(theirs) >= ROUNDS_KEPT:
        theirs.append(_get_key(vote))
        gone = min(theirs)
        if gone[1] >= turn.state.round:
            gone = max(theirs)
        if gone == _get_key(vote):
            return False
        del inbox[gone]
    inbox[_get_key(vote)] = message
    turn.set(inbox=inbox)
    return True


def _advance(turn: Turn) -> None:
    """Every predicate that holds now, in the order of a round, until none does."""
    while not turn.state.decided and (
        upon_proposal(turn) or upon_prepare(turn) or upon_round_change(turn)
    ):
        pass


def upon_proposal(turn: Turn) -> bool:
    """Accept the proposal of this round, if none is, or the one of the highest later round."""
    state = turn.state
    lowest = state.round + 1 if state.accepted else state.round
    rounds = [key[1] for key in state.inbox if key[0] == PROPOSAL and key[1] >= lowest]
    if not rounds:
        return False
    proposal = state.inbox[PROPOSAL, max(rounds), turn.place.get_proposer(max(rounds))]
    assert isinstance(proposal, Proposal)
    vote = proposal.vote
    said = _get_said(turn, PREPARE, vote.round)
    if said is not None and said.vote.digest != vote.digest:
        return False  # voted for another one before a restart: its leader has lied
    if vote.round > state.round or not state.timer_runs:
        turn.set(round=vote.round, timer_runs=True, building=NO_ROUND)
        _set_timer(turn)
    turn.set(accepted=proposal)
    if said is None:
        _say(turn, PREPARE, vote.digest)
    upon_commit(turn, vote.round)
    return True


def upon_prepare(turn: Turn) -> bool:
    """A quorum prepared this round's proposal: commit to it, once."""
    state = turn.state
    if state.accepted is None or state.prepared_round == state.round:
        return False
    digest = state.accepted.vote.digest
    votes = [m.vote for m in turn.get(PREPARE, state.round) if m.vote.digest == digest]
    quorum = turn.place.validators.quorum
    if len(votes) < quorum:
        return False
    turn.set(
        prepared_round=state.round,
        prepared_block=state.accepted.block,
        prepares=tuple(votes[:quorum]),
    )
    if _get_said(turn, COMMIT, state.round) is None:
        _say(turn, COMMIT, digest)
    upon_commit(turn, state.round)
    return True


def upon_commit(turn: Turn, round: int) -> None:
    """A quorum committed to one block in one round, whatever this validator's own: it is final."""
    state = turn.state
    commits = turn.get(COMMIT, round)
    if state.decided or len(commits) < turn.place.validators.quorum:
        return
    for block in _get_known_blocks(turn):
        digest = turn.place.compute_digest(block, round)
        votes = [message.vote for message in commits if message.vote.digest == digest]
        if len(votes) >= turn.place.validators.quorum:
            chosen = votes[: turn.place.validators.quorum]
            bitmap = turn.place.validators.encode_bitmap(vote.signer for vote in chosen)
            _append(turn, block, Seals(round, bitmap, tuple(vote.signature for vote in chosen)))
            return


def _get_known_blocks(turn: Turn) -> list[Block]:
    """The blocks of this height that were judged valid here, in whichever round they came."""
    proposals = [message for message in turn.state.inbox.values() if isinstance(message, Proposal)]
    known = {proposal.block.hash: proposal.block for proposal in proposals}
    prepared = turn.state.prepared_block
    if prepared is not None:
        known.setdefault(prepared.hash, prepared)
    return list(known.values())


def upon_new_block(turn: Turn, message: NewBlock) -> None:
    """Somebody shows a block of this height that a quorum has sealed."""
    place, block = turn.place, message.block
    if block.header.previous != place.parent_hash:
        return
    sealed = is_sealed(message.seals, place.validators, place.chain_id, place.height, block.hash)
    if sealed and turn.is_valid(block):
        _append(turn, block, message.seals)


def upon_round_change(turn: Turn) -> bool:
    """f + 1 are ahead: follow to the lowest of their rounds. A quorum is in mine: propose."""
    state = turn.state
    later = [key for key in state.inbox if key[0] == ROUND_CHANGE and key[1] > state.round]
    if len({signer for _, _, signer in later}) >= turn.place.validators.weak_quorum:
        _change_round(turn, min(number for _, number, _ in later))
        return True
    if state.round == 0 or state.accepted or state.building == state.round:
        return False
    if not turn.is_mine(state.round) or _get_said(turn, PROPOSAL, state.round):
        return False
    justification = justify(turn.place, _get_round_changes(turn, state.round))
    if justification is None:
        return False
    if justification.block is None:
        _build(turn, state.round)
        return False
    _propose(turn, justification.block, justification.round_changes, justification.prepares)
    return True


def _change_round(turn: Turn, round: int) -> None:
    """Leave the round for a later one, and tell all what was prepared so far."""
    assert turn.state.round < round <= ROUND_MAX
    turn.set(round=round, timer_runs=True, accepted=None, building=NO_ROUND)
    _set_timer(turn)
    state = turn.state
    if _get_said(turn, ROUND_CHANGE, round) is not None:
        return
    digest = NO_DIGEST
    if state.prepared_block is not None:
        digest = turn.place.compute_digest(state.prepared_block, state.prepared_round)
    _say(turn, ROUND_CHANGE, digest)


def _build(turn: Turn, round: int) -> None:
    turn.set(building=round)
    turn.effects.append(Build(turn.place.height, round))


def _propose(
    turn: Turn, block: Block, round_changes: tuple[Vote, ...], prepares: tuple[Vote, ...]
) -> None:
    """Say PROPOSAL and PREPARE in one breath: one write to the disk holds both."""
    state = turn.state
    if _get_said(turn, PROPOSAL, state.round) or _get_said(turn, PREPARE, state.round):
        return
    digest = turn.place.compute_digest(block, state.round)
    proposal = Proposal(_sign(turn, PROPOSAL, digest), block, round_changes, prepares)
    prepare = Prepare(_sign(turn, PREPARE, digest))
    turn.set(accepted=proposal)
    _utter(turn, (proposal, prepare), Persist((proposal, prepare)))
    _advance(turn)


def _say(turn: Turn, kind: int, digest: bytes) -> None:
    """Vote in this round: on disk first, then to all, then to myself."""
    state = turn.state
    if state.key is None or state.key.public not in turn.place.validators:
        return
    assert all(
        (message.vote.kind, message.vote.round) != (kind, state.round) for message in state.own
    )
    vote = _sign(turn, kind, digest)
    if kind == PREPARE:
        _utter(turn, (Prepare(vote),), Persist((Prepare(vote),)))
    elif kind == COMMIT:
        record = Persist((Commit(vote),), state.prepared_block, state.prepares)
        _utter(turn, (Commit(vote),), record)
    else:
        change = RoundChange(vote, state.prepared_block, state.prepares)
        _utter(turn, (change,), Persist((change,)))


def _sign(turn: Turn, kind: int, digest: bytes) -> Vote:
    state = turn.state
    assert state.key is not None
    prepared = state.prepared_round if kind == ROUND_CHANGE else NO_ROUND
    return sign_vote(
        state.key, state.chain_id, kind, turn.place.height, state.round, digest, prepared
    )


def _utter(turn: Turn, messages: tuple[Signed, ...], record: Persist) -> None:
    inbox = dict(turn.state.inbox)
    inbox.update((_get_key(message.vote), message) for message in messages)
    turn.set(inbox=inbox, own=(*turn.state.own, *messages))
    turn.effects.append(record)
    turn.effects.extend(Broadcast(message) for message in messages)


def _append(turn: Turn, block: Block, seals: Seals) -> None:
    turn.set(decided=True)
    turn.effects.append(Append(block, seals))


def _set_timer(turn: Turn) -> None:
    state = turn.state
    delay_ms = compute_timeout_ms(state.base_timeout_ms, state.round)
    turn.effects.append(SetTimer(turn.place.height, state.round, delay_ms))


def _get_round_changes(turn: Turn, round: int) -> list[RoundChange]:
    return [m for m in turn.get(ROUND_CHANGE, round) if isinstance(m, RoundChange)]


def _get_said(turn: Turn, kind: int, round: int) -> Signed | None:
    """What this validator said of this kind in this round, before a restart or after."""
    for message in turn.state.own:
        if (message.vote.kind, message.vote.round) == (kind, round):
            return message
    return None


def _get_me(turn: Turn) -> bytes:
    return turn.state.key.public if turn.state.key else b""


def _get_key(vote: Vote) -> Key:
    return vote.kind, vote.round, vote.signer
