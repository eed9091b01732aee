"""Mutants: QBFT with one rule broken each, by name. The simulator must tell them from the real one.

Not here: how a mutant is loaded (universe) and run (test_mutants). Each replaces one piece of text
that its module has exactly once; one that does not apply any more is an error, so the list follows
the code. EQUIVALENT has those that nobody can tell apart from outside, each with the reason.
"""

from __future__ import annotations

from typing import NamedTuple

from chainlite.errors import DocklockError
from tests.sim import universe


class Mutant(NamedTuple):
    """One broken rule: what stands in the module, and what stands there instead."""

    name: str
    module: str
    old: str
    new: str


def make_source(mutant: Mutant) -> str:
    """The module's source with the rule broken."""
    source = universe.get_path(mutant.module).read_text()
    count = source.count(mutant.old)
    assert count == 1, f"{mutant.name}: its text is {count} times in {mutant.module}"
    return source.replace(mutant.old, mutant.new)


def _in(module: str, *rules: tuple[str, str, str]) -> tuple[Mutant, ...]:
    return tuple(Mutant(name, module, old, new) for name, old, new in rules)


VALIDATORS = _in(
    "chainlite.consensus.validators",
    ("quorum one less", "return (2 * size + 2) // 3", "return (2 * size + 2) // 3 - 1"),
    ("quorum one more", "return (2 * size + 2) // 3", "return (2 * size + 2) // 3 + 1"),
    ("quorum 2f + 1", "return (2 * size + 2) // 3", "return 2 * compute_faults(size) + 1"),
    ("quorum of all", "return (2 * size + 2) // 3", "return size"),
    ("f where f + 1 is meant", "compute_faults(self.size) + 1", "compute_faults(self.size)"),
    (
        "f + 2 where f + 1 is meant",
        "compute_faults(self.size) + 1",
        "compute_faults(self.size) + 2",
    ),
    ("faults n / 3", "return (size - 1) // 3", "return size // 3"),
    ("one leader for all rounds", "previous) + round) %", "previous)) %"),
    ("leaders from the first on", "bisect_right(self.keys, previous) + round", "round"),
    (
        "the last proposer leads again",
        "bisect_right(self.keys, previous) +",
        "bisect_right(self.keys, previous) - 1 +",
    ),
    ("a set is not ordered", "ordered = tuple(sorted(keys))", "ordered = tuple(keys)"),
    ("bits from the other end", "bits >> place & 1", "bits >> (self.size - 1 - place) & 1"),
)

HEADER = _in(
    "chainlite.ledger.header",
    (
        "round not in the seal digest",
        "block_hash + encode_u32(round)).digest()",
        "block_hash + encode_u32(0)).digest()",
    ),
    (
        "chain not in the seal digest",
        "domains.SEAL_DIGEST + chain_id + block_hash",
        "domains.SEAL_DIGEST + bytes(32) + block_hash",
    ),
    (
        "chain not signed",
        'return chain_id + height.to_bytes(8, "big")',
        'return bytes(32) + height.to_bytes(8, "big")',
    ),
    (
        "height not signed",
        'return chain_id + height.to_bytes(8, "big")',
        "return chain_id + bytes(8)",
    ),
    ("round not signed", "encode_u32(round) + seal_digest", "encode_u32(0) + seal_digest"),
    (
        "f + 1 seals are enough",
        "if len(signers) < validators.quorum or",
        "if len(signers) < validators.weak_quorum or",
    ),
    (
        "one seal less than a quorum",
        "if len(signers) < validators.quorum or",
        "if len(signers) < validators.quorum - 1 or",
    ),
    (
        "seals are not checked",
        "    return all(\n        keys.is_signed",
        "    return True or all(\n        keys.is_signed",
    ),
    (
        "one good seal is enough",
        "    return all(\n        keys.is_signed",
        "    return any(\n        keys.is_signed",
    ),
    (
        "prepares count as seals",
        "keys.is_signed(key, domains.SIGN_COMMIT, message",
        "any(keys.is_signed(key, tag, message, signature) for tag in (domains.SIGN_COMMIT, domains.SIGN_PREPARE)) or keys.is_signed(key, domains.SIGN_COMMIT, message",
    ),
)

MESSAGES = _in(
    "chainlite.consensus.messages",
    ("a commit signed as a prepare", "    domains.SIGN_COMMIT,\n", "    domains.SIGN_PREPARE,\n"),
    (
        "embedded votes are not checked",
        "for vote in get_votes(message):",
        "for vote in list(get_votes(message))[:1]:",
    ),
    (
        "no vote is checked",
        "return check(vote.signer, _SIGN_TAGS[vote.kind], _encode_signed(vote, chain_id), vote.signature)",
        "return True",
    ),
    (
        "prepared round not signed",
        "if vote.kind == ROUND_CHANGE else signed",
        "if False else signed",
    ),
    (
        "prepares of a proposal are not checked",
        "if isinstance(message, Proposal | RoundChange):\n        yield",
        "if isinstance(message, RoundChange):\n        yield",
    ),
    (
        "prepares of a round change are not checked",
        "if isinstance(message, Proposal | RoundChange):\n        yield",
        "if isinstance(message, Proposal):\n        yield",
    ),
    (
        "round changes of a proposal are not checked",
        "    if isinstance(message, Proposal):\n        yield from message.round_changes\n",
        "",
    ),
)

JUSTIFICATION = _in(
    "chainlite.consensus.justification",
    (
        "anyone may lead",
        "if vote.signer != place.get_proposer(vote.round):\n        return False",
        "if False:\n        return False",
    ),
    (
        "a proposal's digest is not checked",
        "if vote.digest != place.compute_digest(block, vote.round):\n        return False\n    if block.header",
        "if block.header",
    ),
    (
        "blocks from the future",
        "if block.header.timestamp_ms > now_ms + CLOCK_AHEAD_MS:",
        "if False:",
    ),
    ("clocks may be an hour off", "CLOCK_AHEAD_MS = 2_000", "CLOCK_AHEAD_MS = 5_000_000"),
    (
        "a proposal need not follow",
        "return _continues(place, block) and _is_justified",
        "return _is_justified",
    ),
    (
        "a proposal need not be justified",
        "and _is_justified(place, proposal) and is_valid_block(block)",
        "and is_valid_block(block)",
    ),
    (
        "a proposal need not be valid",
        "_is_justified(place, proposal) and is_valid_block(block)",
        "_is_justified(place, proposal)",
    ),
    ("any height", "header.height == place.height\n        and ", ""),
    ("any previous block", "header.previous == place.parent_hash\n        and ", ""),
    (
        "time may stand still",
        "header.timestamp_ms > place.parent.timestamp_ms",
        "header.timestamp_ms >= place.parent.timestamp_ms",
    ),
    ("time may go back", "header.timestamp_ms > place.parent.timestamp_ms\n        and ", ""),
    ("strangers' blocks", "\n        and header.proposer in place.validators", ""),
    (
        "round 0 may re-propose",
        "return fresh and not proposal.round_changes and not proposal.prepares",
        "return not proposal.round_changes and not proposal.prepares",
    ),
    (
        "round 0 may carry anything",
        "return fresh and not proposal.round_changes and not proposal.prepares",
        "return fresh",
    ),
    (
        "no quorum for a round",
        "if not _is_quorum(place, changes, ROUND_CHANGE, vote.round):",
        "if False:",
    ),
    (
        "a fresh block may be another's",
        "return fresh and not proposal.prepares\n",
        "return not proposal.prepares\n",
    ),
    (
        "prepared is forgotten",
        "if not prepared:\n        return fresh",
        "if not prepared or fresh:\n        return fresh",
    ),
    (
        "the lowest prepared block is taken",
        "highest = max(prepared, key=lambda change: change.prepared_round)",
        "highest = min(prepared, key=lambda change: change.prepared_round)",
    ),
    (
        "the first prepared block is taken",
        "highest = max(prepared, key=lambda change: change.prepared_round)",
        "highest = prepared[0]",
    ),
    (
        "prepared blocks are compared by this round's digest",
        "digest = place.compute_digest(block, highest.prepared_round)",
        "digest = place.compute_digest(block, vote.round)",
    ),
    (
        "any prepared block will do",
        "return highest.digest == digest and _is_prepared(\n        place, proposal.prepares, highest.prepared_round, digest\n    )",
        "return True",
    ),
    (
        "prepared without prepares",
        "return highest.digest == digest and _is_prepared(\n        place, proposal.prepares, highest.prepared_round, digest\n    )",
        "return highest.digest == digest",
    ),
    (
        "prepares of another block",
        "return _is_quorum(place, prepares, PREPARE, round) and all(\n        vote.digest == digest for vote in prepares\n    )",
        "return _is_quorum(place, prepares, PREPARE, round)",
    ),
    (
        "signers may come twice",
        "len(signers) == len(votes) >= place.validators.quorum",
        "len(votes) >= place.validators.quorum",
    ),
    (
        "f + 1 is a quorum",
        "len(signers) == len(votes) >= place.validators.quorum",
        "len(signers) == len(votes) >= place.validators.weak_quorum",
    ),
    (
        "strangers have a vote",
        "\n        and all(signer in place.validators for signer in signers)",
        "",
    ),
    (
        "votes of any round",
        "(vote.kind, vote.height, vote.round) == (kind, place.height, round) for",
        "(vote.kind, vote.height) == (kind, place.height) for",
    ),
    (
        "votes of any height",
        "(vote.kind, vote.height, vote.round) == (kind, place.height, round) for",
        "(vote.kind, vote.round) == (kind, round) for",
    ),
    (
        "a round change is believed",
        "    vote, block = message.vote, message.block\n    if vote.prepared_round == NO_ROUND:",
        "    vote, block = message.vote, message.block\n    if True:\n        return True\n    if vote.prepared_round == NO_ROUND:",
    ),
    (
        "nothing prepared, but a block",
        "return block is None and not message.prepares",
        "return True",
    ),
    (
        "prepared later than now",
        "if block is None or vote.prepared_round >= vote.round:",
        "if block is None:",
    ),
    (
        "prepared another block",
        "if vote.digest != place.compute_digest(block, vote.prepared_round):\n        return False",
        "if False:\n        return False",
    ),
    (
        "prepared in a round change without prepares",
        "        and _is_prepared(place, message.prepares, vote.prepared_round, vote.digest)\n",
        "",
    ),
    (
        "f + 1 let a leader propose",
        "if len(received) < place.validators.quorum:\n        return None",
        "if len(received) < place.validators.weak_quorum:\n        return None",
    ),
    (
        "a leader takes the lowest",
        "highest = max(ordered, key=_get_prepared_round)",
        "highest = min(ordered, key=_get_prepared_round)",
    ),
    (
        "a leader may leave out the highest",
        "chosen = [highest, *(message for message in ordered if message is not highest)]",
        "chosen = ordered",
    ),
    (
        "nothing is as good as round 0",
        "return -1 if message.vote.prepared_round == NO_ROUND",
        "return 0 if message.vote.prepared_round == NO_ROUND",
    ),
    (
        "a leader sends too many",
        "votes = tuple(message.vote for message in chosen[: place.validators.quorum])",
        "votes = tuple(message.vote for message in chosen[: place.validators.quorum - 1])",
    ),
)

QBFT = _in(
    "chainlite.consensus.qbft",
    (
        "votes are sent before they are written",
        "    turn.effects.append(record)\n    turn.effects.extend(Broadcast(message) for message in messages)",
        "    turn.effects.extend(Broadcast(message) for message in messages)\n    turn.effects.append(record)",
    ),
    (
        "votes are not written",
        "    turn.effects.append(record)\n    turn.effects.extend",
        "    turn.effects.extend",
    ),
    ("a leader's prepare is not written", "Persist((proposal, prepare)))", "Persist((proposal,)))"),
    (
        "a commit is written without its block",
        "Persist((Commit(vote),), state.prepared_block, state.prepares)",
        "Persist((Commit(vote),), None, state.prepares)",
    ),
    (
        "a commit is written without its prepares",
        "Persist((Commit(vote),), state.prepared_block, state.prepares)",
        "Persist((Commit(vote),), state.prepared_block, ())",
    ),
    (
        "round changes are not written",
        "_utter(turn, (change,), Persist((change,)))",
        "_utter(turn, (change,), Persist(()))",
    ),
    (
        "a restart forgets its votes",
        "own = tuple(message for message in recorded.messages if not isinstance(message, NewBlock))",
        "own = ()",
    ),
    ("a restart begins in round 0", "round=max(message.vote.round for message in own)", "round=0"),
    (
        "a restart begins in its first round",
        "round=max(message.vote.round for message in own)",
        "round=own[0].vote.round",
    ),
    (
        "a restart forgets what it prepared",
        "        prepared_block=event.recorded.block,\n        prepares=prepares,\n    )\n    _set_timer",
        "    )\n    _set_timer",
    ),
    (
        "a restart forgets the prepared round",
        "prepared_round=prepares[0].round if prepares else NO_ROUND",
        "prepared_round=NO_ROUND",
    ),
    (
        "a restart sets no timer",
        "        prepares=prepares,\n    )\n    _set_timer(turn)",
        "        prepares=prepares,\n    )",
    ),
    (
        "a restart does not repeat itself",
        "        turn.set(accepted=mine)\n    _upon_resend(turn)",
        "        turn.set(accepted=mine)",
    ),
    ("timers do not double", "base_timeout_ms << min(round, 16)", "base_timeout_ms"),
    (
        "timers do not start when a block is due",
        "    turn.set(timer_runs=True)\n    _set_timer(turn)\n    if turn.is_mine(0):",
        "    turn.set(timer_runs=True)\n    if turn.is_mine(0):",
    ),
    ("a leader never builds", "    if turn.is_mine(0):\n        _build(turn, 0)", ""),
    (
        "everybody builds in round 0",
        "    if turn.is_mine(0):\n        _build",
        "    if True:\n        _build",
    ),
    (
        "no round timeout",
        "        _change_round(turn, turn.state.round + 1)\n        _advance(turn)",
        "        pass",
    ),
    (
        "a timeout goes on by two",
        "_change_round(turn, turn.state.round + 1)",
        "_change_round(turn, turn.state.round + 2)",
    ),
    (
        "a built block instead of the prepared one",
        "block = justification.block or event.block",
        "block = event.block",
    ),
    (
        "nothing is repeated",
        "    turn.effects.extend(\n        Broadcast(message) for message in state.own if message.vote.round == state.round\n    )",
        "",
    ),
    (
        "a commit of an earlier round is not repeated",
        "    if commits and commits[-1].vote.round != state.round:\n        turn.effects.append(Broadcast(commits[-1]))\n",
        "",
    ),
    (
        "new blocks of any height",
        "if not state.decided and message.block.header.height == height:",
        "if not state.decided:",
    ),
    (
        "new blocks are not looked at",
        "if not state.decided and message.block.header.height == height:\n            upon_new_block(turn, message)",
        "if False:\n            upon_new_block(turn, message)",
    ),
    (
        "strangers are listened to",
        "if vote.signer not in turn.place.validators or vote.signer == _get_me(turn):",
        "if vote.signer == _get_me(turn):",
    ),
    (
        "laggards are not led",
        "        turn.effects.append(Lagging(vote.signer, vote.height))",
        "        pass",
    ),
    ("votes for the next height are dropped", "        _keep_ahead(turn, message)", "        pass"),
    (
        "votes for the next height are not replayed",
        "    for message in before.ahead:",
        "    for message in ():",
    ),
    (
        "votes for the next height are hoarded",
        "if len(theirs) < AHEAD_KEPT and _get_key",
        "if _get_key",
    ),
    (
        "liars are not accused",
        "            turn.effects.append(Accuse(make_equivocation(known.vote, vote)))",
        "            pass",
    ),
    (
        "liars are accused again and again",
        "            turn.set(accused=(*state.accused, vote.signer))\n",
        "",
    ),
    ("a repetition is an accusation", "if is_conflict(known.vote, vote) and", "if"),
    (
        "any proposal is taken",
        "        if not is_valid_proposal(turn.place, message, turn.now_ms, turn.is_valid):",
        "        if False:",
    ),
    (
        "the second vote counts",
        "            turn.effects.append(Accuse(make_equivocation(known.vote, vote)))\n        return False",
        "            turn.effects.append(Accuse(make_equivocation(known.vote, vote)))",
    ),
    ("rounds are hoarded", "if len(theirs) >= ROUNDS_KEPT:", "if False:"),
    (
        "a proposal of a round that is left",
        "lowest = state.round + 1 if state.accepted else state.round",
        "lowest = 0",
    ),
    (
        "a second proposal in a round",
        "lowest = state.round + 1 if state.accepted else state.round",
        "lowest = state.round",
    ),
    (
        "later proposals are not taken",
        "if key[0] == PROPOSAL and key[1] >= lowest]",
        "if key[0] == PROPOSAL and key[1] == state.round >= lowest]",
    ),
    (
        "a prepare is said again after a restart",
        "    if said is None:\n        _say(turn, PREPARE, vote.digest)",
        "    _say(turn, PREPARE, vote.digest)",
    ),
    (
        "nothing is prepared",
        "    if said is None:\n        _say(turn, PREPARE, vote.digest)",
        "    pass",
    ),
    (
        "another proposal after a restart",
        "    if said is not None and said.vote.digest != vote.digest:\n        return False",
        "    if False:\n        return False",
    ),
    (
        "a later proposal does not move the round",
        "turn.set(round=vote.round, timer_runs=True, building=NO_ROUND)",
        "turn.set(timer_runs=True, building=NO_ROUND)",
    ),
    (
        "a later proposal sets no timer",
        "turn.set(round=vote.round, timer_runs=True, building=NO_ROUND)\n        _set_timer(turn)",
        "turn.set(round=vote.round, timer_runs=True, building=NO_ROUND)",
    ),
    (
        "commit without prepares",
        "    if len(votes) < quorum:\n        return False",
        "    if False:\n        return False",
    ),
    (
        "commit to one prepare less",
        "    if len(votes) < quorum:\n        return False",
        "    if len(votes) < quorum - 1:\n        return False",
    ),
    (
        "prepares of other blocks count",
        "votes = [m.vote for m in turn.get(PREPARE, state.round) if m.vote.digest == digest]",
        "votes = [m.vote for m in turn.get(PREPARE, state.round)]",
    ),
    (
        "what was prepared first is kept",
        "        prepared_round=state.round,\n        prepared_block=state.accepted.block,\n        prepares=tuple(votes[:quorum]),\n    )",
        "        prepared_round=state.round,\n        prepared_block=state.prepared_block or state.accepted.block,\n        prepares=state.prepares or tuple(votes[:quorum]),\n    )",
    ),
    (
        "nothing is ever prepared",
        "        prepared_block=state.accepted.block,\n        prepares=tuple(votes[:quorum]),\n",
        "",
    ),
    (
        "too few prepares are kept",
        "prepares=tuple(votes[:quorum])",
        "prepares=tuple(votes[: quorum - 1])",
    ),
    (
        "a commit is said again after a restart",
        "    if _get_said(turn, COMMIT, state.round) is None:\n        _say",
        "    if True:\n        _say",
    ),
    (
        "final with one commit less",
        "if len(votes) >= turn.place.validators.quorum:\n        chosen",
        "if len(votes) >= turn.place.validators.quorum - 1:\n        chosen",
    ),
    (
        "commits of other blocks count",
        "votes = [message.vote for message in commits if message.vote.digest == digest]",
        "votes = [message.vote for message in commits]",
    ),
    (
        "commits of this round only",
        "if state.decided or len(commits)",
        "if state.decided or round != state.round or len(commits)",
    ),
    (
        "a commit is not looked at when it comes",
        "        _advance(turn)\n        upon_commit(turn, vote.round)",
        "        _advance(turn)",
    ),
    ("new blocks need no seals", "if sealed and turn.is_valid(block):", "if turn.is_valid(block):"),
    ("new blocks need not be valid", "if sealed and turn.is_valid(block):", "if sealed:"),
    (
        "no jump after f + 1",
        "if len({signer for _, _, signer in later}) >= turn.place.validators.weak_quorum:",
        "if False:",
    ),
    (
        "a jump after a quorum only",
        ">= turn.place.validators.weak_quorum:",
        ">= turn.place.validators.quorum:",
    ),
    ("a jump after one", ">= turn.place.validators.weak_quorum:", ">= 1:"),
    (
        "one signer may make all jump",
        "if len({signer for _, _, signer in later}) >=",
        "if len(later) >=",
    ),
    (
        "a jump to the highest round",
        "_change_round(turn, min(number for _, number, _ in later))",
        "_change_round(turn, max(number for _, number, _ in later))",
    ),
    (
        "a leader's round change is lost",
        "    if not turn.is_mine(state.round) or _get_said(turn, PROPOSAL, state.round):\n        return False",
        "    return False",
    ),
    (
        "everybody leads",
        "    if not turn.is_mine(state.round) or _get_said(turn, PROPOSAL, state.round):",
        "    if _get_said(turn, PROPOSAL, state.round):",
    ),
    (
        "a leader always builds",
        "    if justification.block is None:\n        _build",
        "    if True:\n        _build",
    ),
    (
        "a round change sets no timer",
        "accepted=None, building=NO_ROUND)\n    _set_timer(turn)",
        "accepted=None, building=NO_ROUND)",
    ),
    (
        "a round change keeps the proposal",
        "turn.set(round=round, timer_runs=True, accepted=None, building=NO_ROUND)",
        "turn.set(round=round, timer_runs=True, building=NO_ROUND)",
    ),
    ("a round change is not said", "    _say(turn, ROUND_CHANGE, digest)", "    pass"),
    (
        "a round change forgets what was prepared",
        "    digest = NO_DIGEST\n    if state.prepared_block is not None:",
        "    digest = NO_DIGEST\n    turn.set(prepared_round=NO_ROUND, prepared_block=None, prepares=())\n    state = turn.state\n    if state.prepared_block is not None:",
    ),
    (
        "a round change hides what was prepared",
        "change = RoundChange(vote, state.prepared_block, state.prepares)",
        "change = RoundChange(vote, None, ())",
    ),
    (
        "a prepared block by its new round's digest",
        "digest = turn.place.compute_digest(state.prepared_block, state.prepared_round)",
        "digest = turn.place.compute_digest(state.prepared_block, state.round)",
    ),
    (
        "observers vote",
        "    if state.key is None or state.key.public not in turn.place.validators:\n        return\n    assert",
        "    if state.key is None:\n        return\n    assert",
    ),
    ("a block is final twice", "    turn.set(decided=True)\n", ""),
)

CRASHES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, DocklockError)
"""What broken code may raise; an AssertionError is its own, or a Violation."""


class Death(NamedTuple):
    """What killed a mutant: the seed, and what was seen."""

    seed: int
    what: str


def hunt(mutant: Mutant, seeds: range) -> Death | None:
    """Run a mutant through these seeds until an invariant fails; None if it survives."""
    world = universe.load(mutant.module, make_source(mutant))
    for seed in seeds:
        try:
            world.simulate(world.make_plan(seed), world.protocol)
        except AssertionError as error:
            name = getattr(error, "name", "assertion")
            return Death(seed, name)
        except CRASHES as error:
            return Death(seed, type(error).__name__)
    return None


MUTANTS = (*VALIDATORS, *HEADER, *MESSAGES, *JUSTIFICATION, *QBFT)
EQUIVALENT: dict[str, str] = {}
