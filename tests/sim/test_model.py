"""The implementation walks in lock-step with the model; the model refuses what is not QBFT."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from chainlite.consensus import events as e
from chainlite.consensus import messages as m
from chainlite.consensus import qbft
from tests.conftest import FULL, get_seed
from tests.sim import model
from tests.sim.permitted import TIMEOUT_MAX_MS
from tests.sim.walk import Walk

WALKS = 1500 if FULL else 12
STEPS = 600


def make_seeds(name: str) -> list[int]:
    return [random.Random(f"{name} {get_seed()} {n}").randrange(2**32) for n in range(WALKS)]


def say_repeat(seed: int, size: int, lies: float) -> str:
    return f"repeat: Walk(qbft, {seed}, size={size}, lies={lies}).run({STEPS})"


@pytest.mark.parametrize(("size", "lies"), [(4, 0.0), (4, 0.1), (4, 0.02), (7, 0.05), (1, 0.0)])
def test_every_walk_is_in_lockstep_with_the_specification(size: int, lies: float) -> None:
    heights = 0
    for seed in make_seeds(f"{size} {lies}"):
        walk = Walk(qbft, seed, size, lies)
        try:
            walk.run(STEPS)
        except AssertionError as wrong:
            raise AssertionError(f"{say_repeat(seed, size, lies)}\n{wrong}") from wrong
        heights += len(walk.final)
    assert heights >= WALKS // 4, "walks that decide nothing show nothing"


def test_quorums_are_those_of_the_specification() -> None:
    from chainlite.consensus.validators import compute_faults, compute_quorum

    for size in range(1, 129):
        assert (model.f(size), model.quorum(size)) == (compute_faults(size), compute_quorum(size))
        assert 2 * model.quorum(size) - size > model.f(size), "two quorums share an honest one"


def test_the_model_knows_the_implementations_limit_of_time() -> None:
    assert qbft.TIMEOUT_MAX_MS == TIMEOUT_MAX_MS


def run_walks(implementation: Any, lies: float) -> None:
    for seed in range(20):
        Walk(implementation, seed, lies=lies).run(STEPS)


Lie = Callable[[Any, Any], Any]


def drop(kind: type) -> Lie:
    return lambda _, effects: tuple(did for did in effects if not isinstance(did, kind))


def drop_said(kind: type) -> Lie:
    def change(event: e.Event, effects: tuple[e.Effect, ...]) -> tuple[e.Effect, ...]:
        return tuple(
            did
            for did in effects
            if not (isinstance(did, e.Broadcast) and isinstance(did.message, kind))
        )

    return change


def say_before_disk(event: e.Event, effects: tuple[e.Effect, ...]) -> tuple[e.Effect, ...]:
    return tuple(sorted(effects, key=lambda did: isinstance(did, e.Persist)))


def seal_less(event: e.Event, effects: tuple[e.Effect, ...]) -> tuple[e.Effect, ...]:
    def change(did: e.Effect) -> e.Effect:
        if not isinstance(did, e.Append):
            return did
        return did._replace(seals=did.seals._replace(signatures=did.seals.signatures[:-1]))

    return tuple(map(change, effects))


def halve_timers(event: e.Event, effects: tuple[e.Effect, ...]) -> tuple[e.Effect, ...]:
    return tuple(
        did._replace(delay_ms=did.delay_ms // 2) if isinstance(did, e.SetTimer) else did
        for did in effects
    )


def commit_without_proof(event: e.Event, effects: tuple[e.Effect, ...]) -> tuple[e.Effect, ...]:
    return tuple(
        did._replace(prepares=did.prepares[:-1]) if isinstance(did, e.Persist) else did
        for did in effects
    )


@pytest.mark.parametrize(
    "lie",
    [
        drop(e.Persist),
        drop(e.SetTimer),
        drop(e.Build),
        drop(e.Append),
        drop(e.Accuse),
        drop_said(m.Proposal),
        drop_said(m.Prepare),
        drop_said(m.Commit),
        drop_said(m.RoundChange),
        say_before_disk,
        seal_less,
        halve_timers,
        commit_without_proof,
    ],
)
def test_a_step_that_tells_of_other_effects_is_caught(lie: Lie) -> None:
    def step(state: Any, event: e.Event, now_ms: int, is_valid: model.IsValid) -> Any:
        after, effects = qbft.step(state, event, now_ms, is_valid)
        return after, lie(event, effects)

    liar = SimpleNamespace(step=step, make_state=qbft.make_state)
    with pytest.raises(AssertionError, match="height "):
        run_walks(liar, lies=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("round", 1), ("accepted", None), ("prepared_block", None), ("decided", False)],
)
def test_a_state_that_is_not_the_specifications_is_caught(field: str, value: object) -> None:
    def step(state: Any, event: e.Event, now_ms: int, is_valid: model.IsValid) -> Any:
        after, effects = qbft.step(state, event, now_ms, is_valid)
        return after._replace(**{field: value}), effects

    liar = SimpleNamespace(step=step, make_state=qbft.make_state)
    with pytest.raises(AssertionError, match="height "):
        run_walks(liar, lies=0.0)
