"""Whether what an implementation of QBFT did is what the specification lets and makes it do.

node.dfy, NodeNext: the next state and the messages sent are the composition of as many sub-steps
as possible, until none but stuttering is left. So each effect must be one that a predicate of the
model gives, in order, the model's state following it (loose); after the last, the state must be the
model's, and no predicate may still be enabled (strict). Not here: the predicates (model).
A freedom is where the two differ or where the model takes over what the implementation chose:
FREEDOM.

    lockstep = Lockstep(chain_id, key.public)        # None: an observer
    state, effects = qbft.step(state, event, now_ms, is_valid)
    lockstep.check(event, now_ms, is_valid, state, effects)

    (world.simulate(plan, qbft, lockstep=True) does that for every honest node)

is_valid must give at `check` what it gave in the step. A node that restarts with an empty state
gets a new Lockstep. AssertionError names the height, the event and the difference.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from chainlite.consensus import events as e
from chainlite.consensus import messages as m
from tests.sim.model import IsValid, get_signers, is_conflicting
from tests.sim.permitted import ROUNDS_CERTAIN, Permitted
from tests.sim.words import View, read_view, short, tell


class Lockstep(Permitted):
    """One node's model and what must still be said about the event at hand."""

    def check(
        self,
        event: e.Event,
        now_ms: int,
        is_valid: IsValid,
        state_after: Any,
        effects: tuple[e.Effect, ...],
    ) -> None:
        """AssertionError if the specification does not let, or make, a node do this."""
        self.event = event
        self.is_timed_out = False
        self.now_timers, self.voted, self.offered = [], [], None
        if isinstance(event, e.Start):
            self._start(event, now_ms, is_valid)
        at = self.at
        if at is None:
            self._must(not effects, f"effects before the first Start: {effects}")
            return
        at.now_ms, at.is_valid = now_ms, is_valid
        self.round_before = at.round
        self.entered = {at.round}
        self._take(event)
        for effect in effects:
            self.explain(effect)
        self._settle()
        view = read_view(state_after)
        self._must(view is not None, "a state without a height after a Start")
        assert view is not None
        self._adopt(view)
        self._compare(view)
        self._check_all_done(effects)

    # After the last effect

    def _compare(self, view: View) -> None:
        at = self.get_height()
        self._must(view.height == at.height, f"is at height {view.height}")
        self._must(view.decided == (at.decided is not None), f"decided is {view.decided}")
        if view.decided or not at.is_validator:
            return
        self._must(view.round == at.round, f"is in round {view.round}")
        accepted = at.accepted.hash if at.accepted else None
        self._must(
            view.accepted == accepted, f"accepted {short(view.accepted)}, not {short(accepted)}"
        )
        prepared = None
        if at.prepared_block is not None and at.prepared_round is not None:
            prepared = (at.prepared_round, at.prepared_block.hash)
        self._must(view.prepared == prepared, f"prepared {view.prepared}, not {prepared}")

    def _check_all_done(self, effects: tuple[e.Effect, ...]) -> None:
        at = self.get_height()
        said = [effect.message for effect in effects if isinstance(effect, e.Broadcast)]
        self._must(all(vote in said for vote in self.voted), "persisted a vote and did not send it")
        if isinstance(self.event, e.Resend) and at.decided is None and at.is_validator:
            own = [message for message in at.sent if message.vote.round == at.round]
            self._must(all(vote in said for vote in own), "did not resend all it said in its round")
        self._check_new_block()
        if at.decided is None:
            final = at.get_finals()
            self._must(not final, f"a quorum committed in round {final and final[0][0]}: no Append")
        if at.decided is not None or not at.is_validator:
            return
        self._check_timer()
        self._check_proposal()
        self._check_leader()
        self._must(not (self.is_timed_out and at.round == self.round_before), "stays after timeout")
        if at.accepted is not None and not at.get_own(m.COMMIT, at.round):
            digest = at.digest(at.accepted, at.round)
            count = len(get_signers(at.valid_prepares(at.round, digest, strict=True)))
            self._must(count < at.quorum, f"{count} prepares of what it accepted, and no COMMIT")
        pulls = at.get_pulls(strict=True)
        self._must(not pulls, f"f + 1 round changes pull to {pulls}: stays")
        guilty = self._get_guilty() - set(self.accused)
        self._must(not guilty, f"does not accuse {[short(key) for key in guilty]}")

    def _get_guilty(self) -> set[bytes]:
        """Whom two votes of this height convict that came by themselves, both kept for sure.

        FREEDOM: a message that is refused convicts too, but need not be kept to see it; of what
        came before its height one of each kind is enough. At one height one conviction is enough.
        """
        at = self.get_height()
        votes = []
        for seen in at.received:
            message = seen.message
            if isinstance(message, m.NewBlock) or not seen.certain or seen.early:
                continue
            if isinstance(message, m.Proposal) and not at.is_good_proposal(message, strict=True):
                continue
            if isinstance(message, m.RoundChange) and not at.is_justified(message):
                continue
            if message.vote.signer in at.validators and message.vote.round >= at.round:
                votes.append(message.vote)
        return {one.signer for one, other in combinations(votes, 2) if is_conflicting(one, other)}

    def _check_new_block(self) -> None:
        """FREEDOM: a NEW-BLOCK that came before its height did need not have been kept."""
        at = self.get_height()
        if at.decided is None and isinstance(self.offered, m.NewBlock):
            sealed = at.is_final(self.offered.block, self.offered.seals)
            self._must(not sealed, "a NEW-BLOCK of this height: no Append")

    def _check_timer(self) -> None:
        at = self.get_height()
        runs = at.round > 0 or at.is_due or at.accepted is not None
        self._must(not runs or at.round in self.timers, "no timer of this round was started")
        astray = set(self.now_timers) - self.entered
        self._must(not astray, f"started timers of rounds {astray}")
        if self.now_timers:
            self._must(self.now_timers[-1] == at.round, "the last timer started is another round's")

    def _check_proposal(self) -> None:
        """FREEDOM: a proposal that was not valid when it came need not have been kept."""
        at = self.get_height()
        if isinstance(self.event, e.Received):
            new = [self.offered] if self.offered is not None else []
        elif isinstance(self.event, e.Start):
            new = list(at.get_messages(m.Proposal, strict=True))
        else:
            return
        for message in new:
            if (
                not isinstance(message, m.Proposal)
                or message.vote.round > at.round + ROUNDS_CERTAIN
            ):
                continue
            said = {v.digest for v in at.get_own(m.PREPARE, message.vote.round)}
            if said - {message.vote.digest} or self._is_doubtful(message):
                continue
            valid = at.is_valid_proposal(message, strict=True)
            self._must(not valid, f"did not accept the {tell(message)}")

    def _is_doubtful(self, message: m.Proposal) -> bool:
        """FREEDOM: of two proposals of one signer and round either or none may be taken."""
        at = self.get_height()
        return any(is_conflicting(message.vote, vote) for vote in at.get_all_votes())

    def _check_leader(self) -> None:
        """UponBlockTimeout and UponRoundChange's first branch: a proposal, or a block asked for.

        FREEDOM: where a prepared block and a quorum without one are both there, either is right.
        """
        at = self.get_height()
        changes = at.get_round_changes(strict=True)
        for place in {at.round, *(vote.round for vote in changes)}:
            if place < at.round or at.proposer(place) != self.key:
                continue
            if at.get_own(m.PROPOSAL, place) or (place == at.round and at.accepted is not None):
                continue
            here = [vote for vote in changes if vote.round == place]
            asked = at.is_due if place == 0 else len(get_signers(here)) >= at.quorum
            done = place in at.wanted
            if done and all(vote.prepared_round == m.NO_ROUND for vote in here):
                built = isinstance(self.event, e.Built) and self.event.round == at.round == place
                if built and at.validate_fresh_block(self.event.block, place, strict=True):
                    self._must(False, f"does not propose what was built for round {place}")
            self._must(done or not asked, f"leads round {place} and neither proposes nor builds")
