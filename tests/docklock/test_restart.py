"""Restart policies: Docker's words, Docker's decisions, Docker's back-off."""

from __future__ import annotations

import random

import pytest

from chainlite.errors import SpecError
from docklock.restart import (
    ALWAYS,
    DELAY_MAX_MS,
    NAMES,
    NO,
    ON_FAILURE,
    STEADY_MS,
    UNLESS_STOPPED,
    Decision,
    Ended,
    Policy,
    decide,
    is_due,
    is_ending_signal,
    parse_policy,
)

FAILED = Ended(exit_code=1, ran_ms=5)


@pytest.mark.parametrize(
    ("word", "policy"),
    [
        ("no", Policy(NO)),
        ("", Policy(NO)),
        ("no:", Policy(NO)),
        ("no:0", Policy(NO)),
        ("always", Policy(ALWAYS)),
        ("unless-stopped", Policy(UNLESS_STOPPED)),
        ("on-failure", Policy(ON_FAILURE)),
        ("on-failure:", Policy(ON_FAILURE)),
        ("on-failure:0", Policy(ON_FAILURE)),
        ("on-failure:+7", Policy(ON_FAILURE, 7)),
        ("on-failure:2147483647", Policy(ON_FAILURE, 2147483647)),
    ],
)
def test_policies_are_read_as_docker_reads_them(word: str, policy: Policy) -> None:
    assert parse_policy(word) == policy
    assert parse_policy(policy.text) == policy


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (":3", "no policy provided before colon"),
        (":", "no policy provided before colon"),
        ("on-failure:x", "maximum retry count must be an integer"),
        ("on-failure:-", "maximum retry count must be an integer"),
        ("on-failure:1:2", "maximum retry count must be an integer"),
        ("on-failure:1.5", "maximum retry count must be an integer"),
        ("on-failure:²", "maximum retry count must be an integer"),
        ("on-failure:99999999999999999999", "maximum retry count must be an integer"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
        ("always:1", "can only be used with 'on-failure'"),
        ("no:-1", "can only be used with 'on-failure' and cannot be negative"),
        ("sometimes", "unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or"),
        ("Always", "unknown policy 'Always'"),
    ],
)
def test_bad_policies_are_refused_in_dockers_words(word: str, said: str) -> None:
    with pytest.raises(SpecError, match="--restart: ") as caught:
        parse_policy(word)
    assert said in str(caught.value)


class Docker:
    """Docker's restartmanager.go, transcribed: its state and its one decision."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.timeout_ms, self.count = policy, 0, 0

    def should_restart(self, exit_code: int, stopped: bool, ran_ms: int) -> Decision:
        if ran_ms >= 10_000:
            self.timeout_ms = 0
        if self.timeout_ms == 0:
            self.timeout_ms = 100
        elif self.timeout_ms < 60_000:
            self.timeout_ms *= 2
        self.timeout_ms = min(self.timeout_ms, 60_000)
        restart = False
        if stopped:  # the manager was cancelled
            restart = False
        elif self.policy.name in (ALWAYS, UNLESS_STOPPED):
            restart = True
        elif self.policy.name == ON_FAILURE and (
            self.policy.retries_max == 0 or self.count < self.policy.retries_max
        ):
            restart = exit_code != 0
        self.count += restart
        return Decision(restart, self.timeout_ms if restart else 0)


def test_every_sequence_of_exits_is_judged_as_docker_judges_it(seed: int, full: bool) -> None:
    chance = random.Random(seed)
    for _ in range(5000 if full else 300):
        policy = Policy(chance.choice(NAMES))
        if policy.name == ON_FAILURE:
            policy = Policy(ON_FAILURE, chance.choice((0, 1, 2, 20)))
        docker, attempts, delay_ms = Docker(policy), 0, 0
        for _ in range(25):
            exit_code = chance.choice((0, 1, 137))
            stopped = chance.random() < 0.05
            ran_ms = chance.choice((0, 7, STEADY_MS - 1, STEADY_MS, 10**6))
            ended = Ended(exit_code, ran_ms, attempts, delay_ms, stopped)
            decision = decide(policy, ended)
            assert decision == docker.should_restart(exit_code, stopped, ran_ms), (policy, ended)
            if not decision.is_restarted:
                break
            attempts, delay_ms = attempts + 1, decision.delay_ms


def test_the_delay_doubles_to_a_minute_and_begins_anew_after_a_steady_run() -> None:
    delays, ended = [], FAILED
    for _ in range(12):
        delay_ms = decide(Policy(ALWAYS), ended).delay_ms
        delays.append(delay_ms)
        ended = ended._replace(delay_ms=delay_ms)
    assert delays[:4] == [100, 200, 400, 800]
    assert delays[-2:] == [DELAY_MAX_MS, DELAY_MAX_MS]
    assert decide(Policy(ALWAYS), ended._replace(ran_ms=STEADY_MS)).delay_ms == 100


@pytest.mark.parametrize(
    ("name", "stopped", "is_cut", "is_new_boot", "due"),
    [
        (NO, False, True, True, False),
        (ALWAYS, False, True, False, True),
        (ALWAYS, True, True, False, False),
        (ALWAYS, True, False, True, True),  # Docker: "restarted only when the daemon restarts"
        (ALWAYS, False, False, False, False),  # it could not start: nobody tries for ever
        (UNLESS_STOPPED, False, True, False, True),
        (UNLESS_STOPPED, False, False, True, True),
        (UNLESS_STOPPED, True, True, True, False),
        (ON_FAILURE, False, True, True, True),
        (ON_FAILURE, True, True, True, False),
        (ON_FAILURE, False, False, True, False),  # it had its say while its supervisor lived
    ],
)
def test_what_is_due_without_a_supervisor(
    name: str, stopped: bool, is_cut: bool, is_new_boot: bool, due: bool
) -> None:
    ended = Ended(137, 5, is_stopped_by_user=stopped)
    assert is_due(Policy(name), ended, is_cut=is_cut, is_new_boot=is_new_boot) == due


def test_a_cut_run_counts_as_a_failed_attempt() -> None:
    policy = Policy(ON_FAILURE, 2)
    assert is_due(policy, Ended(137, 5, attempts=1), is_cut=True, is_new_boot=False)
    assert not is_due(policy, Ended(137, 5, attempts=2), is_cut=True, is_new_boot=False)


def test_signals_that_ask_to_end_are_a_stop_and_others_are_not() -> None:
    assert all(is_ending_signal(number, 15) for number in (2, 3, 9, 15))
    assert not any(is_ending_signal(number, 15) for number in (1, 10, 12, 18, 19, 28))
    assert is_ending_signal(28, 28)  # a stop signal of the image's own
