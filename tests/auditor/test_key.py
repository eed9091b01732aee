"""A member's key is made once, shown as it is granted, and is nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from chainlite.keys import compute_host_id, parse_verifier
from docklock.auditor.key import load_key, make_key, show_key
from docklock.evidence import keyring
from tests.evidence.recording import make_paths


def test_a_key_signs_for_the_id_that_it_shows(tmp_path: Path) -> None:
    path = str(tmp_path / "member.key")
    with pytest.raises(StateError, match="there is no key"):
        show_key(path)
    text = make_key(path)
    assert text == show_key(path)
    assert (tmp_path / "member.key").stat().st_mode & 0o777 == 0o600
    name, public = parse_verifier(text, "key")
    assert name == f"docklock/member/{compute_host_id(public).hex()}"
    key = load_key(path)
    assert key.public == public
    key.erase()
    with pytest.raises(StateError, match="a file already"):
        make_key(path)
    assert show_key(path) == text


def test_a_hosts_key_is_no_members(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    keyring.ensure_host_key(paths)
    path = keyring.get_key_path(paths)
    for take in (show_key, load_key):
        with pytest.raises(SpecError, match="not a member's key"):
            take(path)
    with pytest.raises(StateError, match="there is no key"):
        load_key(str(tmp_path / "none"))
