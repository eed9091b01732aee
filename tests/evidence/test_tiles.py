"""Publication: both signatures, tiles first, never smaller, never another history."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, note
from chainlite.errors import SpecError, TamperError
from docklock.evidence import audit, rotation
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.tiles import make_log_proof, publish, read_log_keys, read_published
from tests.evidence.logs import check_served, get_files, grow
from tests.evidence.recording import make_paths


def test_what_is_served_is_the_log_at_every_size(tmp_path: Path) -> None:
    paths, rng = make_paths(tmp_path), random.Random(5)
    for _ in range(12):
        size = grow(paths, rng.choice([1, 2, 100, 255, 256, 300, 700]))
        publish(paths)
        assert check_served(paths).size in (size, size + 1)  # the first names the ML-DSA key
    assert audit.audit_log(paths).problems == ()


def test_full_tiles_never_change_and_partial_ones_go_with_them(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 300)
    publish(paths)
    before = get_files(paths)
    assert any("tile/0/001.p/" in name for name in before)
    grow(paths, 300)
    publish(paths)
    after = get_files(paths)
    for name, data in before.items():
        if ".p/" not in name and name != "checkpoint":
            assert after[name] == data
    assert not any(name.startswith(("tile/0/001.p/", "tile/entries/001.p/")) for name in after)


def test_publishing_again_without_new_leaves_changes_nothing(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    first = publish(paths)
    files = get_files(paths)
    assert publish(paths) == first
    assert get_files(paths) == files


def test_the_checkpoint_is_signed_by_both_keys_of_the_log(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    data = publish(paths)
    both = read_log_keys(paths)
    assert [key.kind for key in both] == [note.ED25519, note.COSIGNED_MLDSA44]
    signed = note.parse_note(data)
    for kept in (0, 1):
        half = note.encode_note(signed.text, signed.lines[kept : kept + 1])
        with pytest.raises(SpecError, match="no signature by the log's key"):
            cosignature.check_checkpoint(half, both)


def test_a_rotation_changes_both_keys_and_the_old_ones_sign_no_more(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    first, before = publish(paths), read_log_keys(paths)
    rotation.rotate_host_key(paths)
    second, after = publish(paths), read_log_keys(paths)
    assert all(old.public != new.public for old, new in zip(before, after, strict=True))
    assert cosignature.check_checkpoint(first, before).size < check_served(paths).size
    for data, wrong in ((first, after), (second, before)):
        with pytest.raises(SpecError):
            cosignature.check_checkpoint(data, wrong)
    rotation.rotate_host_key(paths)
    grow(paths, 3)
    publish(paths)
    check_served(paths)
    assert audit.audit_log(paths).problems == ()


def test_an_ml_dsa_key_that_the_one_before_did_not_sign_is_reported(tmp_path: Path) -> None:
    """Who can sign with Ed25519 alone (a quantum computer) brings no ML-DSA key of their own."""
    from chainlite import hostlog, logkeys, mldsa

    paths = make_paths(tmp_path)
    grow(paths, 5)
    publish(paths)
    rotation.rotate_host_key(paths)
    key, forger = ensure_host_key(paths), mldsa.Signer(b"\x66" * 32)
    with HostLog(paths, key) as log, log.write():
        leaf = hostlog.MldsaKey(key.host, 1, log.get_size(), forger.public, 1, b"", b"")
        log.append(hostlog.encode_mldsa_key(logkeys.sign_mldsa_key(leaf, key, forger.sign)))
    problems = audit.audit_log(paths).problems
    assert any("ML-DSA key" in why for why in problems)
    with pytest.raises(TamperError, match="another ML-DSA key"):
        publish(paths)


def test_nothing_is_signed_below_a_published_checkpoint(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    publish(paths)
    old = tmp_path / "old.db"
    shutil.copy(paths.host_db, old)
    grow(paths, 5)
    published = publish(paths)
    for name in ("host.db", "host.db-wal", "host.db-shm"):
        if os.path.exists(f"{paths.state}/{name}"):
            os.unlink(f"{paths.state}/{name}")
    shutil.copy(old, paths.host_db)
    with pytest.raises(TamperError, match="was published"):
        publish(paths)
    with pytest.raises(TamperError, match="was published"):
        grow(paths, 1)
    os.unlink(paths.host_db)
    with pytest.raises(TamperError, match="was published"):
        grow(paths, 1)
    assert read_published(paths) == published


def test_another_history_of_the_same_size_is_not_published(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 5)
    publish(paths)
    old = tmp_path / "old.db"
    shutil.copy(paths.host_db, old)
    grow(paths, 5)
    publish(paths)
    for suffix in ("-wal", "-shm"):
        Path(paths.host_db + suffix).unlink(missing_ok=True)
    shutil.copy(old, paths.host_db)
    hidden = Path(paths.log, "checkpoint").rename(tmp_path / "hidden")
    grow(paths, 7)
    hidden.rename(Path(paths.log, "checkpoint"))
    with pytest.raises(TamperError, match="a fork"):
        publish(paths)


def test_a_leaf_that_was_changed_in_the_database_is_not_published(tmp_path: Path) -> None:
    import sqlite3

    paths = make_paths(tmp_path)
    grow(paths, 300)
    for statement in (
        "UPDATE leaves SET bytes = x'00' WHERE leaf_index = 7",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND number = 9",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 8 AND number = 0",
    ):
        shutil.copy(paths.host_db, tmp_path / "kept.db")
        db = sqlite3.connect(paths.host_db)
        db.execute(statement)
        db.commit()
        db.close()
        with pytest.raises(TamperError, match=r"host\.db"):
            publish(paths)
        assert read_published(paths) == b""
        shutil.copy(tmp_path / "kept.db", paths.host_db)
        Path(paths.host_db + "-wal").unlink(missing_ok=True)
    publish(paths)


def test_a_proof_is_made_of_the_tiles_and_verifies(tmp_path: Path) -> None:
    from chainlite.tlogproof import check_log_proof, encode_log_proof

    paths = make_paths(tmp_path)
    size = grow(paths, 600)
    publish(paths)
    for index in (0, 255, 256, 511, size):
        data = encode_log_proof(make_log_proof(paths, index))
        assert check_log_proof(data, read_log_keys(paths)).leaf_index == index
    for index in (-1, size + 1):
        with pytest.raises(SpecError, match="leaves"):
            make_log_proof(paths, index)


def test_the_order_of_writing_is_tiles_then_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    grow(paths, 600)
    done: list[str] = []
    rename, fsync = os.rename, os.fsync

    def note_rename(old: str, new: str) -> None:
        done.append(new)
        rename(old, new)

    def note_fsync(fd: int) -> None:
        done.append("sync " + os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "fsync", note_fsync)
    publish(paths)
    last = done.index(f"{paths.log}/checkpoint")
    tiles = [at for at, what in enumerate(done) if what.startswith(f"{paths.log}/tile/")]
    assert tiles and max(tiles) < last
    for at in tiles:
        assert done.index(f"sync {done[at]}.part") < at
    for directory in {os.path.dirname(done[at]) for at in tiles}:
        assert max(tiles) < done.index(f"sync {directory}") < last
    assert done[-1] == f"sync {paths.log}"
    assert done[last - 1] == f"sync {paths.log}/checkpoint.part"


def test_a_bundle_has_no_value_and_no_key(tmp_path: Path) -> None:
    from tests.evidence.recording import append_durably, begin

    paths = make_paths(tmp_path)
    recorder = begin(paths)
    append_durably(recorder, 7)
    recorder.close(0, oom=False)
    publish(paths)
    seed = Path(paths.keys, "host.key").read_bytes()[89:121]
    for data in get_files(paths).values():
        assert b"/tmp/7" not in data and seed not in data
    assert check_served(paths).size == checkpoint.parse_claim(read_published(paths)).size


def test_the_commands_print_what_a_stranger_needs_and_verify_takes_it(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from docklock.cli.log import run_log
    from docklock.cli.verify import run_verify

    paths, proof, keys = make_paths(tmp_path), tmp_path / "proof", tmp_path / "keys"
    grow(paths, 300)
    assert run_log(["checkpoint"], paths) == 0
    assert capfdbinary.readouterr().out == read_published(paths)
    assert run_log(["keys"], paths) == 0
    keys.write_bytes(capfdbinary.readouterr().out)
    assert [line.count("+") > 1 for line in keys.read_text().splitlines()] == [True, True]
    assert run_log(["proof", "299", "-o", str(proof)], paths) == 0
    assert run_verify([str(proof)], paths) == 0
    elsewhere = make_paths(tmp_path / "elsewhere")
    assert run_verify([str(proof), "--log-key", str(keys)], elsewhere) == 0
    assert b"whole: Operation is leaf 299 of 303 in docklock/host/" in capfdbinary.readouterr().out
    with pytest.raises(SpecError, match="--log-key"):
        run_verify([str(proof)], elsewhere)
    assert run_log(["proof", "299"], paths) == 0
    assert capfdbinary.readouterr().out == proof.read_bytes()
