"""Who chooses a policy: root's file decides, a label may only tighten."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.cli.policy_questions import resolve_name
from docklock.policy.diff import compare_policies, is_looser
from docklock.policy.machines import get_machine
from docklock.policy.selection import (
    CASES_MAX,
    LABEL,
    SELECTION,
    STRICTER,
    Subject,
    choose_policy,
    is_like,
)
from docklock.policy.shipped import list_profiles
from tests.policy.policies import MACHINES

NGINX = "docker.io/library/nginx:1.27"
CAPABILITY_SETS = [(), DEFAULT_CAPABILITIES, CAPABILITIES, *((name,) for name in CAPABILITIES)]


def choose(directory: Path, image_labels: dict | None = None, labels: dict | None = None,
           names: tuple[str, ...] = (NGINX,)) -> str:  # fmt: skip
    given_labels = (tuple((one or {}).items()) for one in (image_labels, labels))
    return choose_policy(str(directory), Subject(names, *given_labels)).policy


def write(directory: Path, *cases: str) -> None:
    text = "select:\n" + "".join(f"  - {case}\n" for case in cases)
    (directory / SELECTION).write_text(text)


def test_without_a_file_and_labels_it_is_default(tmp_path) -> None:
    assert choose(tmp_path) == "default"
    assert choose(tmp_path / "nowhere") == "default"


def test_the_first_case_that_matches_decides(tmp_path) -> None:
    write(tmp_path, '{image: "docker.io/library/nginx:*", policy: network-service}',
          "{label: tier=batch, policy: batch}", "{image-label: trusted, policy: observe}",
          "{policy: strict}")  # fmt: skip
    other = ("registry.example/app:1",)
    assert choose(tmp_path) == "network-service"
    assert choose(tmp_path, labels={"tier": "batch"}) == "network-service"
    assert choose(tmp_path, labels={"tier": "batch"}, names=other) == "batch"
    assert choose(tmp_path, labels={"tier": "web"}, names=other) == "strict"
    assert choose(tmp_path, {"tier": "batch"}, names=other) == "strict", "the image's is another"
    assert choose(tmp_path, {"trusted": ""}, names=other) == "observe"
    assert choose(tmp_path, names=("registry.example/app:1", NGINX)) == "network-service"
    assert choose(tmp_path, names=()) == "strict"


def test_every_pattern_of_a_case_must_match(tmp_path) -> None:
    write(tmp_path, '{image: "registry.example/*", image-label: job, label: a=b, policy: batch}')
    names = ("registry.example/x:1",)
    assert choose(tmp_path, {"job": "1"}, {"a": "b"}, names) == "batch"
    assert choose(tmp_path, {}, {"a": "b"}, names) == "default"
    assert choose(tmp_path, {"job": "1"}, {"a": "c"}, names) == "default"
    assert choose(tmp_path, {"job": "1"}, {"a": "b"}) == "default"


@pytest.mark.parametrize("whose", ["image_labels", "labels"])
def test_a_label_chooses_a_stricter_policy_and_no_other(whose, tmp_path) -> None:
    for chosen, wanted in itertools.product(list_profiles(), (*list_profiles(), "/etc/x.yaml", "")):
        write(tmp_path, f"{{policy: {chosen}}}")
        got = choose(tmp_path, **{whose: {LABEL: wanted}})
        assert got == (wanted if wanted in STRICTER[chosen] else chosen)


def test_a_label_cannot_change_a_policy_file_of_root(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("name: default\nextends: strict\n")
    write(tmp_path, "{policy: ./mine.yaml}")
    assert choose(tmp_path, {LABEL: "batch"}, {LABEL: "strict"}) == str(tmp_path / "mine.yaml")


def test_a_label_that_is_not_followed_is_said(tmp_path) -> None:
    for label in ("observe", "/tmp/x.yaml", "a\nb"):
        choice = choose_policy(str(tmp_path), Subject((), ((LABEL, label),), ()))
        assert choice.policy == "default"
        assert f"the image's label {LABEL}={label!r} is not followed" in choice.note
    assert choose_policy(str(tmp_path), Subject((), ((LABEL, "strict"),), ())).note == ""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("pair", [*itertools.permutations(list_profiles(), 2)], ids="->".join)
def test_the_table_of_stricter_policies_is_what_diff_says(pair, machine) -> None:
    """With no capability, each alone, Docker's and all; what holds is listed, and only that."""
    before, after = (resolve_name(name).model for name in pair)
    loosened = [
        held
        for held in CAPABILITY_SETS
        if is_looser(compare_policies(before, after, get_machine(machine), frozenset(held)))
    ]
    assert (not loosened) == (pair[1] in STRICTER[pair[0]]), loosened[:1]


MISTAKES = {
    "cases: []": "a selection has no key 'cases'", "select: x": "select: and a sequence",
    "[]": "a selection must be a mapping",
    "select:\n  - {image: x}": "2:5: a case needs the key policy",
    "select:\n  - {policy: defualt}": "2:14: no policy is called 'defualt'",
    "select:\n  - {policy: ./no.yaml}": "2:14: policy ./no.yaml: there is no file",
    "select:\n  - {policy: strict, imgae: x}": "2:22: a case has no key 'imgae'",
    "select:\n  - {policy: strict, label: ''}": "must not be empty",
    "select:\n  - {policy: strict, label: '=x'}": "NAME or NAME=VALUE",
    "select:\n  - {policy: strict, label: no}": "YAML 1.1",
    "select: [" + "x," * (CASES_MAX + 1) + "]": "at most 1000",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:40])
def test_a_mistake_in_the_file_stops_the_run(text, tmp_path) -> None:
    (tmp_path / SELECTION).write_text(text)
    with pytest.raises(SpecError) as raised:
        choose(tmp_path)
    assert MISTAKES[text] in str(raised.value)


def test_a_file_that_cannot_be_read_stops_the_run(tmp_path) -> None:
    (tmp_path / SELECTION).symlink_to(tmp_path / "gone")
    with pytest.raises(SpecError, match="cannot be read"):
        choose(tmp_path)


PATTERNS = {
    ("a", "a"): True, ("a", "b"): False, ("a*", "a"): True, ("a*", "ab"): True, ("*", ""): True,
    ("*a", "ba"): True, ("a*a", "a"): False, ("a*a", "aa"): True, ("a*b*c", "a-b-c"): True,
    ("a*b*c", "acb"): False, ("a*bc*c", "abc"): False, ("a.c", "abc"): False, ("[a]", "a"): False,
    ("**", "x"): True, ("a*b*b", "ab"): False,
}  # fmt: skip


@pytest.mark.parametrize("pair", PATTERNS, ids=" ".join)
def test_a_star_is_any_run_of_characters_and_nothing_else_is_special(pair) -> None:
    assert is_like(*pair) == PATTERNS[pair]


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_patterns_agree_with_those_of_the_shell(pattern, text) -> None:
    from fnmatch import fnmatchcase

    assert is_like(pattern, text) == fnmatchcase(text, pattern)
