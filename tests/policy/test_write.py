"""What is written is read as the same model, and shipped policies survive it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docklock.cli.policy_questions import resolve_name
from docklock.policy.inherit import parse_policy
from docklock.policy.model import Model
from docklock.policy.parse_rules import MUST_ALLOW
from docklock.policy.shipped import list_profiles
from docklock.policy.write import format_policy
from tests.policy.policies import readable_models


@given(readable_models(), st.text(max_size=30))
def test_what_is_written_means_the_same(model: Model, text: str) -> None:
    description = "".join(letter for letter in text if letter.isprintable()).strip()
    model = model._replace(name="no", description=description)
    notes = tuple(f"rule {i}" for i in range(len(model.rules)))
    for written in (format_policy(model), format_policy(model, head=("A", ""), notes=notes)):
        assert parse_policy(written.encode(), "w.yaml") == model


@pytest.mark.parametrize("name", list_profiles())
def test_a_resolved_policy_is_one_document_that_means_the_same(name) -> None:
    model = resolve_name(name).model
    text = format_policy(model)
    assert parse_policy(text.encode(), name) == model
    assert max(map(len, text.splitlines())) <= 200
    assert all(call in text for call in MUST_ALLOW) or model.default_action == "allow"
