"""docklock events: the host log in Docker's form, after the fact and as it happens."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import Docklock


def events(dock: Docklock, *words: str) -> list[dict[str, Any]]:
    """What was until now."""
    until = ("--until", f"{time.time():.6f}")
    lines = dock("events", "--since", "1h", *until, "--format", "json", *words).stdout
    return [json.loads(line) for line in lines.splitlines()]


def actions(found: list[dict[str, Any]]) -> list[str]:
    return [str(event["Action"]) for event in found]


def test_a_containers_life_is_told_in_order_by_dockers_words(dock: Docklock) -> None:
    dock("run", "-d", "--name", "life", "busybox", "sleep", "60")
    container_id = str(dock.inspect("life")["Id"])
    dock("exec", "life", "true")
    dock("kill", "life")
    dock("wait", "life")
    dock("rm", "life")
    found = events(dock, "--filter", "container=life")
    assert actions(found) == ["create", "start", "exec_start", "kill", "die", "destroy"]
    assert events(dock, "--filter", f"container={container_id[:12]}") == found
    die = found[4]
    assert die["Actor"]["ID"] == container_id
    assert die["Actor"]["Attributes"]["exitCode"] == "137"
    assert die["Actor"]["Attributes"]["name"] == "life"
    assert die["timeNano"] // 10**9 == die["time"]


def test_a_container_that_never_started_has_its_name(dock: Docklock) -> None:
    dock("create", "--name", "early", "busybox", "true")
    assert actions(events(dock, "--filter", "container=early")) == ["create"]
    dock("rm", "early")


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (("event=die",), {"die"}),
        (("event=die", "event=start"), {"die", "start"}),
        (("type=image",), {"import"}),
        (("type=image", "event=die"), set()),
        (("container=nobody",), set()),
    ],
)
def test_filters(dock: Docklock, filters: tuple[str, ...], wanted: set[str]) -> None:
    dock("run", "--rm", "busybox", "true")
    words = [word for one in filters for word in ("--filter", one)]
    assert set(actions(events(dock, *words))) == wanted


def test_events_are_told_as_they_happen(dock: Docklock) -> None:
    dock("run", "--rm", "busybox", "true")
    since = f"{time.time():.6f}"
    dock("run", "--rm", "--name", "then", "busybox", "true")
    process = dock.start("events", "--since", since, "--filter", "type=container")
    assert process.stdout is not None
    for name in ("then", "now"):  # it has told of the first, so it is there when the second runs
        if name == "now":
            dock("run", "--rm", "--name", name, "busybox", "true")
        lines = [process.stdout.readline() for _ in range(4)]
        assert [line.split()[2] for line in lines] == ["create", "start", "die", "destroy"]
        assert f"name={name}" in lines[1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_until_ends_it_and_before_since_is_not_told(dock: Docklock) -> None:
    dock("run", "--rm", "busybox", "true")
    after = f"{time.time():.6f}"
    assert dock("events", "--since", after, "--until", after).stdout == ""
    began = time.monotonic()
    dock("events", "--until", f"{time.time() + 1:.6f}")
    assert 0.5 < time.monotonic() - began < 10


@pytest.mark.parametrize(
    "words",
    [
        ("--filter", "colour=red"),
        ("--format", "{{.Nope}}"),
        ("--format", "{{"),
        ("--since", "soon"),
    ],
)
def test_what_it_does_not_know_is_refused(dock: Docklock, words: tuple[str, ...]) -> None:
    assert words[1].strip("{}.").partition("=")[0] in dock("events", *words, code=2).stderr


def test_labels_choose_events_and_a_template_shows_them(dock: Docklock) -> None:
    dock("run", "--name", "labelled", "-l", "tier=front", "busybox", "true")
    words = ("--filter", "label=tier=front", "--filter", "event=die")
    (die,) = events(dock, *words)
    assert die["Actor"]["Attributes"]["tier"] == "front"
    form = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}"
    until = ("--until", f"{time.time():.6f}")
    shown = dock("events", "--since", "1h", *until, *words, "--format", form).stdout
    assert shown == "container die labelled 0\n"
    dock("rm", "labelled")
