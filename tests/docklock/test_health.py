"""Health checks: Docker's durations, Docker's verdicts."""

from __future__ import annotations

import random

import pytest

from chainlite.errors import SpecError
from docklock.cli.health import choose_check
from docklock.document import parse_document
from docklock.health import (
    HEALTHY,
    NS_PER_S,
    RESULTS_KEPT,
    STARTING,
    TIMED_OUT,
    UNHEALTHY,
    Check,
    Health,
    Result,
    decode_check,
    encode_image_check,
    judge,
    parse_duration_ns,
    read_image_check,
)
from docklock.image.changes import apply_changes
from docklock.image.store import ImageConfig

NOTHING = dict.fromkeys(
    ("health_cmd", "health_interval", "health_timeout", "health_start_period", "health_retries")
) | {"no_healthcheck": False}


@pytest.mark.parametrize(
    ("word", "ns"),
    [
        ("0", 0), ("30s", 30 * NS_PER_S), ("1m30s", 90 * NS_PER_S), ("500ms", 500_000_000),
        ("1.5h", 5400 * NS_PER_S), ("1us", 1000), ("1µs", 1000), ("+2s", 2 * NS_PER_S),
        (".5s", 500_000_000), ("1h2m3s4ms", 3723 * NS_PER_S + 4_000_000),
    ],
)  # fmt: skip
def test_times_are_gos(word: str, ns: int) -> None:
    assert parse_duration_ns("--x", word) == ns


@pytest.mark.parametrize(
    "word", ["", "3", "s", "1d", "-1s", "1.s.2", "1..2s", "1 s", "²s", "9" * 40 + "s"]
)
def test_what_is_no_time_is_refused_by_its_option(word: str) -> None:
    with pytest.raises(SpecError, match="--x"):
        parse_duration_ns("--x", word)


def run(check: Check, codes: list[int], seconds_each: int = 1) -> list[str]:
    """The status after each result of checks made one after the other."""
    health, said = Health(), []
    for number, code in enumerate(codes):
        at = number * seconds_each * NS_PER_S
        health = judge(check, health, Result(at, at + 1, code, ""), started_ns=0)
        said.append(health.status)
    return said


def test_failures_in_a_row_make_it_unhealthy_and_a_success_healthy() -> None:
    check = Check(("CMD", "x"), retries=2)
    assert run(check, [1, 1, 0, 1, 0, 1, TIMED_OUT]) == [
        STARTING, UNHEALTHY, HEALTHY, HEALTHY, HEALTHY, HEALTHY, UNHEALTHY,
    ]  # fmt: skip
    assert run(check._replace(retries=0), [1, 1, 1])[-2:] == [STARTING, UNHEALTHY]


def test_a_failure_in_the_start_period_counts_for_nothing_until_it_was_healthy() -> None:
    check = Check(("CMD", "x"), retries=1, start_period_ns=3 * NS_PER_S)
    assert run(check, [1, 1, 1, 1]) == [STARTING, STARTING, STARTING, UNHEALTHY]
    assert run(check, [0, 1]) == [HEALTHY, UNHEALTHY]


def test_every_sequence_is_judged_as_docker_judges_it(seed: int) -> None:
    """moby's handleProbeResult, transcribed."""
    chance = random.Random(seed)
    for _ in range(300):
        period = chance.choice((0, 5))
        check = Check(
            ("CMD", "x"), retries=chance.choice((1, 3)), start_period_ns=period * NS_PER_S
        )
        status, streak, said, codes = STARTING, 0, [], []
        for second in range(12):
            code = chance.choice((0, 1, 1))
            codes.append(code)
            if code == 0:
                streak, status = 0, HEALTHY
            elif not (status == STARTING and second < period):
                streak += 1
                if streak >= check.retries:
                    status = UNHEALTHY
            said.append(status)
        assert run(check, codes) == said


def test_only_the_newest_results_are_kept() -> None:
    health = Health()
    for number in range(9):
        health = judge(Check(), health, Result(number, number, 0, ""), started_ns=0)
    assert [result.began_ns for result in health.results] == list(range(9 - RESULTS_KEPT, 9))


def test_options_lie_over_the_image() -> None:
    image = Check(("CMD", "a", "b"), 5, 6, 7, 8)
    assert choose_check(dict(NOTHING), image) == image
    changed = choose_check(NOTHING | {"health_interval": "2s", "health_retries": "1"}, image)
    assert changed == image._replace(interval_ns=2 * NS_PER_S, retries=1)
    shell = choose_check(NOTHING | {"health_cmd": "exit 1"}, image)
    assert shell.get_words() == ("/bin/sh", "-c", "exit 1")
    assert not choose_check(NOTHING | {"no_healthcheck": True}, image).is_wanted
    assert not choose_check(NOTHING | {"health_interval": "2s"}, Check()).is_wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"no_healthcheck": True, "health_cmd": "x"}, "conflicts with --health-"),
        ({"health_interval": "1us"}, "--health-interval 1us: cannot be less than 1ms"),
        ({"health_start_period": "soon"}, "--health-start-period soon: give a time"),
        ({"health_retries": "-1"}, "--health-retries -1"),
    ],
)
def test_bad_options_are_refused_by_name(given: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        choose_check(NOTHING | given, Check())


def test_an_images_check_comes_through_its_configuration_and_the_record() -> None:
    line = "HEALTHCHECK --interval=5s --timeout=1m --start-period=1ms --retries=4 CMD test -e /x"
    config = apply_changes(ImageConfig(), [line])
    check = decode_check(config.health)
    assert check == Check(("CMD-SHELL", "test -e /x"), 5 * NS_PER_S, 60 * NS_PER_S, 1_000_000, 4)
    import json

    again = parse_document(json.dumps(encode_image_check(check)).encode(), "x")
    assert read_image_check(again) == check
    assert decode_check(json.loads(json.dumps(check))) == check
    words = apply_changes(ImageConfig(), ['HEALTHCHECK CMD ["a", "b"]']).health
    assert decode_check(words).get_words() == ("a", "b")
    assert not decode_check(apply_changes(config, ["HEALTHCHECK NONE"]).health).is_wanted


@pytest.mark.parametrize("rest", ["--often=1s CMD x", "CMD", "--retries=x CMD a", "x", "NONE x"])
def test_bad_healthcheck_instructions_are_refused(rest: str) -> None:
    with pytest.raises(SpecError, match="HEALTHCHECK"):
        apply_changes(ImageConfig(), [f"HEALTHCHECK {rest}"])
