from __future__ import annotations

from docklock.console.facts import ContainerRow, Done, Progress, Verdict
from docklock.console.source import DESTRUCTIVE, VERBS
from tui.view.acts import (
    WORDS,
    describe_done,
    describe_verdicts,
    draw_progress,
    get_verb,
    make_evidence_name,
    make_question,
)

ROW = ContainerRow("c" * 64, "we\x1bb", status="running", image="busybox")


def test_every_destructive_act_says_what_it_will_do() -> None:
    for verb in DESTRUCTIVE:
        question = make_question(verb, ROW)
        assert question.words == f"{verb.capitalize()} we␛b?"
        assert len(question.effects) >= 4
        assert "cccccccccccc" in question.effects[0]
    assert {command.word for command in WORDS} >= set(VERBS)


def test_a_key_goes_both_ways() -> None:
    assert get_verb("pause", ROW) == "pause"
    assert get_verb("pause", ROW._replace(status="paused")) == "unpause"
    assert get_verb("quarantine", ROW._replace(status="quarantined")) == "release"


def test_a_files_name_is_no_path_whatever_the_container_is_called() -> None:
    for name in ("../../etc/passwd", "/x", "..", "", "a b", "-rf"):
        made = make_evidence_name(ROW._replace(name=name))
        assert "/" not in made
        assert not made.startswith((".", "-"))
        assert made.endswith(".evidence")


def test_what_an_act_came_to_is_one_harmless_line() -> None:
    assert describe_done("stop web", Done(True, "a\nb\x1b")) == "stop web: done: a b␛"
    assert describe_done("stop web", Done(False)) == "stop web: not done"


def test_progress_is_a_bar_and_numbers() -> None:
    assert draw_progress(Progress(5, 20, "web"), 8) == "[##......] 25 %\n5 of 20  web"
    assert draw_progress(Progress(5, 0)) == "5 so far"
    assert draw_progress(Progress(0, 0, "stop")) == "under way  stop"
    assert "100 %" in draw_progress(Progress(30, 20))


def test_verdicts_are_told_with_their_place() -> None:
    broken = Verdict(False, "receipt 3", "changed")
    assert describe_verdicts((Verdict(True),))[0]
    is_whole, lines = describe_verdicts((Verdict(True), broken))
    assert not is_whole
    assert lines == ("NOT WHOLE, in 1 place", "receipt 3: changed")
    assert len(describe_verdicts((broken,) * 50)[1]) == 14
