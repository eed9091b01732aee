"""What a node may do: each effect must be one that a predicate of the model gives.

Not here: the predicates (model), what a node must do (lockstep). The model's state follows the
effects in their order. FREEDOM: where it takes over what the implementation chose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainlite.consensus import events as e
from chainlite.consensus import messages as m
from chainlite.consensus.equivocation import is_conflict
from tests.sim.model import Height, IsValid, Seen, get_signers, is_conflicting
from tests.sim.words import View, describe, get_height, is_own_proposal, tell

ROUNDS_CERTAIN = 8
"""FREEDOM: buffers are bounded; a vote so far ahead of the node's round may be dropped."""
EARLY_CERTAIN = 6
"""FREEDOM: the same for votes of the next height, by signer; of heights after it, all may be."""
TIMEOUT_MAX_MS = 30_000


class Permitted:
    """One node's model, following the effects of one event after the other."""

    def __init__(self, chain_id: bytes, key: bytes | None) -> None:
        self.chain_id = chain_id
        self.key = key
        self.at: Height | None = None
        self.early: list[tuple[m.Message, int]] = []
        self.persisted: list[m.Message] = []
        self.timers: set[int] = set()
        self.accused: list[bytes] = []
        self.is_timed_out = False
        self.entered: set[int] = set()
        self.now_timers: list[int] = []
        self.offered: m.Message | None = None
        self.voted: list[m.Message] = []

    def get_height(self) -> Height:
        """The model of the height that the node is at."""
        assert self.at is not None, "before the first Start"
        return self.at

    def _must(self, holds: object, what: str) -> None:
        if holds:
            return
        at = self.at
        where = f"height {at.height} round {at.round}" if at else "before the first Start"
        me = self.key.hex()[:8] if self.key else "an observer"
        raise AssertionError(f"{me}, {where}, {describe(self.event)}: {what}")

    # The event

    def _start(self, event: e.Start, now_ms: int, is_valid: IsValid) -> None:
        at = Height(self.chain_id, self.key, event)
        at.now_ms, at.is_valid = now_ms, is_valid
        self.base_timeout_ms = event.base_timeout_ms
        self.persisted = list(event.recorded.messages)
        self.timers, self.accused = set(), []
        for message in event.recorded.messages:
            at.sent.append(message)
            at.received.append(Seen(message, True))
            at.round = max(at.round, message.vote.round)
        if event.recorded.block is not None:
            at.prepared_block = event.recorded.block
            at.prepared_round = event.recorded.prepares[0].round
            for vote in event.recorded.prepares:
                at.received.append(Seen(m.Prepare(vote), True, True))
        before, self.at = self.at, at
        counts: dict[bytes, int] = {}
        for message, came_at in self.early:
            signer = message.vote.signer if not isinstance(message, m.NewBlock) else b""
            counts[signer] = counts.get(signer, 0) + 1
            if get_height(message) == at.height:
                known = before is not None and signer in before.validators
                sure = known and counts[signer] <= EARLY_CERTAIN
                sure = sure and at.height == came_at + 1
                sure = sure and not event.recorded.messages and signer in at.validators
                sure = sure and not self._is_shadowed(message)
                at.received.append(Seen(message, sure, True))
        self.early = [kept for kept in self.early if get_height(kept[0]) > at.height]

    def _is_shadowed(self, message: m.Message) -> bool:
        """Whether another message came early that carries the same vote.

        FREEDOM: what is around a vote nobody signs, so a liar can send an honest vote with other
        things around it; a node may keep one message for each vote. It is said again (Resend).
        """
        if isinstance(message, m.NewBlock):
            return False
        return any(
            not isinstance(other, m.NewBlock) and other.vote == message.vote and other != message
            for other, _ in self.early
        )

    def _take(self, event: e.Event) -> None:
        at = self.get_height()
        if isinstance(event, e.Received):
            message = event.message
            if get_height(message) > at.height:
                self.early.append((message, at.height))
            elif get_height(message) == at.height and at.decided is None:
                ahead = 0 if isinstance(message, m.NewBlock) else message.vote.round - at.round
                at.received.append(Seen(message, ahead <= ROUNDS_CERTAIN))
                self.offered = message
        elif isinstance(event, e.BlockTimeout):
            at.is_due = at.is_due or event.height == at.height
        elif isinstance(event, e.RoundTimeout):
            self.is_timed_out = (event.height, event.round) == (at.height, at.round)

    # Steps without an effect

    def _settle(self) -> None:
        """A proposal is taken again whose Prepare was said before a restart.

        FREEDOM: UponProposal says the same Prepare again; to have said it is enough. One whose
        justification may be refused is taken if the implementation has taken it (_adopt).
        """
        proposal = self._find_settled(strict=True)
        if proposal is not None:
            self._accept(proposal)

    def _find_settled(self, *, strict: bool) -> m.Proposal | None:
        at = self.get_height()
        if at.accepted is not None or at.decided is not None or not at.is_validator:
            return None
        said = {vote.digest for vote in at.get_own(m.PREPARE, at.round)}
        for message in at.get_messages(m.Proposal, strict=strict):
            named = message.vote.round == at.round and message.vote.digest in said
            if named and at.is_valid_proposal(message, strict=strict):
                assert isinstance(message, m.Proposal)
                return message
        return None

    def _accept(self, message: m.Proposal) -> None:
        at = self.get_height()
        self._enter(message.vote.round)
        at.accepted = message.block
        at.known.append((at.round, message.block))

    def _enter(self, round: int) -> None:
        at = self.get_height()
        if round != at.round:
            at.round = round
            at.accepted = None
        self.entered.add(round)

    def _adopt(self, view: View) -> None:
        """What the implementation may choose and no effect tells.

        FREEDOM: a leader who asked for a block of a later round is in that round at once, or when
        he proposes. After a restart the block that was accepted in the round may be known again by
        this node's own words alone, or come with the next proposal.
        """
        at = self.get_height()
        if view.round > at.round and view.round in at.wanted:
            self._enter(view.round)
        settled = self._find_settled(strict=False)
        if settled is not None and settled.block.hash == view.accepted:
            self._accept(settled)
        if isinstance(self.event, e.Start) and at.accepted is None and view.accepted is not None:
            own = [said.block for said in at.sent if is_own_proposal(said, at.round)]
            if at.prepared_block is not None and at.prepared_round == at.round:
                own.append(at.prepared_block)
            for block in own:
                if block.hash == view.accepted:
                    at.accepted = block
                    at.known.append((at.round, block))
        elif isinstance(self.event, e.Start) and view.accepted is None:
            at.accepted = None

    # Effects

    def explain(self, effect: e.Effect) -> None:
        """The model follows this effect; AssertionError if no predicate gives it."""
        self._settle()
        _EXPLAIN[type(effect)](self, effect)

    def _persist(self, effect: e.Persist) -> None:
        at = self.get_height()
        for message in effect.messages:
            self._must(not isinstance(message, m.NewBlock), "a NEW-BLOCK is nobody's vote")
            vote = message.vote
            self._must(vote.signer == self.key, "persisted a vote of somebody else")
            self._must(vote.height == at.height, f"persisted a vote of height {vote.height}")
            self._must(m.is_vote_signed(vote, self.chain_id), "persisted a vote not signed")
            if vote.kind == m.COMMIT:
                good = effect.block is not None and at.is_prepared_by(
                    effect.prepares, vote.round, at.digest(effect.block, vote.round), strict=True
                )
                self._must(good, "a COMMIT persisted without the block and prepares of its round")
        self.persisted += effect.messages
        self.voted += effect.messages

    def _broadcast(self, effect: e.Broadcast) -> None:
        at = self.get_height()
        message = effect.message
        if isinstance(message, m.NewBlock):
            sealed = at.decided is not None and at.is_final(message.block, message.seals)
            self._must(sealed, "a NEW-BLOCK of no final block")
            return
        self._must(message in self.persisted, f"{tell(message)} was not persisted before")
        if isinstance(self.event, e.Resend):
            self._must(message in at.sent, f"resent {tell(message)}, which it never said")
        if isinstance(self.event, e.Resend | e.Start) and message in at.sent:
            return  # FREEDOM: a restart says again what it had said, as Resend does
        self._must(at.decided is None, f"{tell(message)} after the height is final")
        self._must(at.is_validator, f"{tell(message)} by no validator")
        vote = message.vote
        for said in at.get_own(vote.kind, vote.round):
            self._must(not is_conflicting(said, vote), f"{tell(message)} equivocates")
        newest = max((said.vote.round for said in at.sent), default=0)
        self._must(vote.round >= newest, f"{tell(message)} after a vote of round {newest}")
        _SAY[type(message)](self, message)
        if message not in at.sent:
            at.sent.append(message)
            at.received.append(Seen(message, True))

    def _propose(self, message: m.Proposal) -> None:
        """UponBlockTimeout (round 0) and UponRoundChange, first branch."""
        at = self.get_height()
        vote, place = message.vote, message.vote.round
        self._must(at.proposer(place) == self.key, f"proposes in round {place}, another's")
        is_open = place > at.round or (place == at.round and at.accepted is None)
        self._must(is_open, f"proposes in round {place}")
        self._must(vote.digest == at.digest(message.block, place), "a proposal of another digest")
        built = self.event.block if isinstance(self.event, e.Built) else None
        prepared = [v for v in message.round_changes if v.prepared_round != m.NO_ROUND]
        if not prepared:
            fits = isinstance(self.event, e.Built) and self.event.round == place
            self._must(fits and message.block == built, "a fresh block that was not just built")
        if place:
            known = at.get_round_changes(strict=False)
            mine = all(vote in known for vote in message.round_changes)
            self._must(mine, "a justification with round changes that it never received")
            pool = at.get_votes(m.PREPARE, strict=False)
            mine = all(vote in pool for vote in message.prepares)
            self._must(mine, "a justification with prepares that it never received")
        justified = at.is_proposal_justification(
            message.round_changes, message.prepares, place, message.block, strict=False
        )
        wanted = at.quorum if place else 0
        exact = len(message.round_changes) == wanted
        exact = exact and len(message.prepares) == (at.quorum if prepared else 0)
        self._must(exact, "a justification of more votes, or fewer, than a quorum")
        self._must(justified or not at.is_next(message.block), "a proposal without justification")
        self._enter(place)

    def _prepare(self, message: m.Prepare) -> None:
        """UponProposal."""
        at = self.get_height()
        vote = message.vote
        for proposal in at.get_messages(m.Proposal, strict=False):
            assert isinstance(proposal, m.Proposal)
            named = (proposal.vote.round, proposal.vote.digest)
            if named == (vote.round, vote.digest) and at.is_valid_proposal(proposal, strict=False):
                self._accept(proposal)
                return
        self._must(False, f"{tell(message)} without a valid proposal of that")

    def _commit(self, message: m.Commit) -> None:
        """UponPrepare."""
        at = self.get_height()
        vote = message.vote
        self._must(vote.round == at.round, f"{tell(message)} in another round")
        block = at.accepted
        fits = block is not None and vote.digest == at.digest(block, at.round)
        self._must(fits, f"{tell(message)} of a block that it did not accept")
        prepares = at.valid_prepares(at.round, vote.digest, strict=False)
        count = len(get_signers(prepares))
        self._must(count >= at.quorum, f"{tell(message)} after {count} prepares")
        at.prepared_block, at.prepared_round = block, at.round

    def _change_round(self, message: m.RoundChange) -> None:
        """UponRoundTimeout, and UponRoundChange's second branch.

        FREEDOM: the Dafny text pulls only where no justification for a proposal is there; both may
        be. A node that restarted may say its last ROUND-CHANGE again.
        """
        at = self.get_height()
        vote = message.vote
        again = vote.round == at.round and message in at.sent
        if not again:
            timed_out = self.is_timed_out and vote.round == self.round_before + 1
            pulled = vote.round in at.get_pulls(strict=False)
            self._must(timed_out or pulled, f"{tell(message)}: no timeout, nobody pulls there")
        if at.prepared_block is None or at.prepared_round is None:
            empty = (vote.digest, vote.prepared_round) == (m.NO_DIGEST, m.NO_ROUND)
            empty = empty and message.block is None and not message.prepares
            self._must(empty, f"{tell(message)} claims a prepared block")
        else:
            digest = at.digest(at.prepared_block, at.prepared_round)
            fits = (vote.digest, vote.prepared_round) == (digest, at.prepared_round)
            self._must(fits, f"{tell(message)} does not name what it prepared last")
            self._must(message.block == at.prepared_block, "a round change with another block")
            good = at.is_prepared_by(message.prepares, at.prepared_round, digest, strict=True)
            self._must(good, "a round change without the quorum that prepared its block")
        self._enter(vote.round)

    def _build(self, effect: e.Build) -> None:
        at = self.get_height()
        place = effect.round
        self._must(effect.height == at.height and at.decided is None, f"asks for {effect}")
        self._must(at.is_validator and at.proposer(place) == self.key, f"{effect}: another's round")
        is_open = place > at.round or (place == at.round and at.accepted is None)
        self._must(is_open and not at.get_own(m.PROPOSAL, place), f"{effect}: has proposed")
        if place == 0:
            self._must(at.is_due, "builds before a block is due")
        else:
            bare = [v for v in at.get_round_changes(strict=False) if v.round == place]
            bare = [vote for vote in bare if vote.prepared_round == m.NO_ROUND]
            self._must(len(get_signers(bare)) >= at.quorum, f"{effect}: not justified")
        at.wanted.add(place)

    def _set_timer(self, effect: e.SetTimer) -> None:
        at = self.get_height()
        self._must(effect.height == at.height, f"{effect} at another height")
        delay_ms = min(self.base_timeout_ms << min(effect.round, 40), TIMEOUT_MAX_MS)
        self._must(effect.delay_ms == delay_ms, f"{effect}, not {delay_ms} ms")
        self._must(effect.round not in self.timers, f"{effect}: that timer ran before")
        self.timers.add(effect.round)
        self.now_timers.append(effect.round)

    def _append(self, effect: e.Append) -> None:
        """UponCommit and UponNewBlock."""
        at = self.get_height()
        block, seals = effect
        self._must(at.decided is None, "a second block at this height")
        self._must(at.is_final(block, seals), "appends a block that is not valid and sealed")
        told = any(
            (seen.block, seen.seals) == (block, seals)
            for seen in at.get_messages(m.NewBlock, strict=False)
        )
        if not told:
            commits = at.valid_commits(seals.round, at.digest(block, seals.round), strict=False)
            mine = set(seals.signatures) <= {vote.signature for vote in commits}
            self._must(mine, "seals that it never received")
            self._must(block in at.get_blocks(), "a block that it never received")
        at.decided = block

    def _lag(self, effect: e.Lagging) -> None:
        """FREEDOM: which votes for a final height are answered."""
        at = self.get_height()
        last = at.height if at.decided is not None else at.height - 1
        self._must(effect.height <= last, f"{effect}: that height is not final")
        if isinstance(self.event, e.Received):
            vote = getattr(self.event.message, "vote", None)
            fits = vote and (vote.signer, vote.height) == (effect.signer, effect.height)
            self._must(fits, f"{effect}: that is not whose vote came")

    def _accuse(self, effect: e.Accuse) -> None:
        at = self.get_height()
        pair = effect.evidence
        self._must(is_conflict(pair.first, pair.second), "accuses without a conflict")
        known = at.get_all_votes()
        self._must(pair.first in known and pair.second in known, "accuses with votes unknown")
        self._must(pair.signer not in self.accused, "accuses twice")
        self.accused.append(pair.signer)


_EXPLAIN: dict[type, Callable[[Permitted, Any], None]] = {
    e.Persist: Permitted._persist,
    e.Broadcast: Permitted._broadcast,
    e.Build: Permitted._build,
    e.SetTimer: Permitted._set_timer,
    e.Append: Permitted._append,
    e.Lagging: Permitted._lag,
    e.Accuse: Permitted._accuse,
}
_SAY: dict[type, Callable[[Permitted, Any], None]] = {
    m.Proposal: Permitted._propose,
    m.Prepare: Permitted._prepare,
    m.Commit: Permitted._commit,
    m.RoundChange: Permitted._change_round,
}
