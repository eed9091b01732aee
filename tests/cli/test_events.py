"""docklock events: filters and forms. Which leaf is which event: tests/e2e/test_events.py."""

from __future__ import annotations

import json

import pytest

from chainlite.errors import SpecError
from docklock.cli.events import KEYS, Event, choose_form, fits
from docklock.cli.filters import Filters

START = Event(
    "container", "start", "ab12" * 16, {"name": "web", "image": "sha256:1", "tier": "front"}, 5
)
PULL = Event("image", "pull", "sha256:1", {"name": "busybox"}, 1_700_000_000_123_456_789)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), (True, True)),
        (("type=image",), (False, True)),
        (("type=image", "type=container"), (True, True)),
        (("event=start",), (True, False)),
        (("container=web",), (True, False)),
        (("container=ab12ab",), (True, False)),
        (("container=", "image=sha256:1"), (False, False)),
        (("image=sha256:1",), (True, True)),
        (("label=tier",), (True, False)),
        (("label=tier=front", "label=name=web"), (True, False)),
        (("label=tier=back",), (False, False)),
        (("label=tier", "label=none"), (False, False)),
    ],
)
def test_of_one_key_any_value_fits_of_labels_each(
    words: tuple[str, ...], wanted: tuple[bool, bool]
) -> None:
    filters = Filters("events", words, KEYS)
    assert (fits(filters, START), fits(filters, PULL)) == wanted


def test_an_unknown_filter_is_told_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"docklock events: --filter: invalid filter 'even'.*event"):
        Filters("events", ["even=start"], KEYS)


def test_json_is_dockers_object_a_line() -> None:
    for form in ("json", "{{json .}}"):
        assert json.loads(choose_form(form)(PULL)) == {
            "Type": "image",
            "Action": "pull",
            "Actor": {"ID": "sha256:1", "Attributes": {"name": "busybox"}},
            "scope": "local",
            "time": 1_700_000_000,
            "timeNano": 1_700_000_000_123_456_789,
        }


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("{{.Type}} {{.Action}} {{.Time}}", "image pull 1700000000\n"),
        ("{{.Status}}:{{.ID}}:{{.From}}:{{.Scope}}", "pull:sha256:1::local\n"),
        ("{{.Actor.Attributes.name}}/{{.Actor.Attributes.tier}}", "busybox/\n"),
        ("{{if .Actor.Attributes.tier}}x{{else}}y{{end}}{{.TimeNano}}", "y1700000000123456789\n"),
        ("{{json .Actor}}", '{"Attributes":{"name":"busybox"},"ID":"sha256:1"}\n'),
    ],
)
def test_a_template_has_dockers_fields(form: str, shown: str) -> None:
    assert choose_form(form)(PULL) == shown


@pytest.mark.parametrize("form", ["{{.Nope}}", "{{.Actor.Nope}}", "{{", "{{.Time | nope}}"])
def test_a_template_is_refused_before_there_is_any_event(form: str) -> None:
    with pytest.raises(SpecError):
        choose_form(form)
