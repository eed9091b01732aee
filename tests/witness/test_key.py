"""A witness's keys: made once, under one name, and never a log's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chainlite import cosignature, note
from chainlite.errors import SpecError, StateError
from docklock.evidence import key_file
from docklock.evidence.keyring import ensure_host_key, get_key_path
from docklock.paths import Paths, get_paths
from docklock.witness.key import ensure_witness, load_cosigner, read_vkeys
from tests.chainlite.trees import make_tree

TREE = make_tree()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return get_paths(str(tmp_path / "root"))


def test_a_witness_has_two_keys_under_one_name_for_good(paths: Paths) -> None:
    made = ensure_witness(paths, "w.example/1")
    assert [(key.name, key.kind) for key in made] == [("w.example/1", 4), ("w.example/1", 6)]
    assert ensure_witness(paths) == made == read_vkeys(paths)
    with pytest.raises(StateError, match=r"is called w\.example/1"):
        ensure_witness(paths, "another")
    assert os.stat(f"{paths.keys}/witness.key").st_mode & 0o777 == 0o600


def test_without_a_name_it_is_called_by_its_key(paths: Paths) -> None:
    assert ensure_witness(paths)[0].name.startswith("docklock/witness/")


def test_a_name_that_is_none_makes_nothing(paths: Paths) -> None:
    with pytest.raises(SpecError, match="no spaces"):
        ensure_witness(paths, "a b")
    with pytest.raises(StateError, match="docklock witness key"):
        read_vkeys(paths)


def test_what_it_signs_holds_under_both_keys(paths: Paths) -> None:
    vkeys = ensure_witness(paths, "w")
    cosigner = load_cosigner(paths)
    signed = TREE.note(7) + cosigner.cosign(TREE.note(7), 5)
    assert cosignature.get_cosignatures(signed, vkeys) == (cosignature.Cosignature("w", 5),)
    cosigner.erase()
    with pytest.raises(StateError):
        cosigner.cosign(TREE.note(7), 5)


def test_a_logs_key_is_no_witnesss(paths: Paths) -> None:
    """Neither file is taken for the other, whoever copies it."""
    ensure_witness(paths, "w")
    ensure_host_key(paths)
    shutil.copy(get_key_path(paths), f"{paths.keys}/witness.key")
    with pytest.raises(SpecError, match="a log's key is no witness's"):
        load_cosigner(paths)


def test_a_witnesss_key_is_no_logs(paths: Paths) -> None:
    ensure_witness(paths, "w")
    host = ensure_host_key(paths)
    shutil.copy(f"{paths.keys}/witness.key", get_key_path(paths))
    with pytest.raises(StateError, match="which is not here"):
        host.hold(0)


def test_files_that_do_not_go_together_are_refused(paths: Paths, tmp_path: Path) -> None:
    ensure_witness(paths, "w")
    other = get_paths(str(tmp_path / "other"))
    ensure_witness(other, "w")
    shutil.copy(f"{other.keys}/witness.pub", f"{paths.keys}/witness.pub")
    with pytest.raises(SpecError, match="not the key of w"):
        load_cosigner(paths)


def test_a_making_that_was_killed_is_made_again(paths: Paths) -> None:
    os.makedirs(paths.keys)
    key_file.write_new_key(f"{paths.keys}/witness.key", number=0xFFFFFFFF, enrolled=bytes(32))
    vkeys = ensure_witness(paths, "w")
    assert load_cosigner(paths).vkeys == vkeys
    assert note.encode_vkey(vkeys[0]).startswith("w+")
