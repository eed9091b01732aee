"""What the host's log says besides runs: operations, boots, checkpoints of others; any clock."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import checkpoint, hostlog, keys, segment
from chainlite.errors import SpecError, StateError, TamperError
from docklock.cli.keys import run_keys
from docklock.cli.receipts import run_receipts
from docklock.evidence import boot, cosigned, keyring, rotation
from docklock.evidence.audit import audit_log
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.evidence.operations import OPERATIONS, record_operation
from docklock.paths import Paths
from tests.evidence.recording import append, begin, make_id, make_paths, record


def read_leaves(paths: Paths) -> list[hostlog.Leaf]:
    with HostLog(paths, None) as log:
        return [hostlog.decode_leaf(data) for _, data in log.iterate_leaves()]


def get_kinds(paths: Paths) -> list[str]:
    return [type(leaf).__name__.lower() for leaf in read_leaves(paths)]


def read_genesis(paths: Paths, container: str) -> tuple[segment.Genesis, segment.Certificate]:
    with HostLog(paths, None) as log:
        start = hostlog.decode_leaf(log.get_leaf(log.get_runs(container)[-1].start_leaf))
    assert isinstance(start, hostlog.Start)
    return segment.decode_genesis(start.genesis), segment.decode_certificate(start.certificate)


def test_every_operation_is_a_leaf_before_it_is_done(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for name in OPERATIONS:
        record_operation(paths, name, make_id(1), (("signal", "15"),))
    found = [leaf for leaf in read_leaves(paths) if isinstance(leaf, hostlog.Operation)]
    assert [leaf.name for leaf in found] == list(OPERATIONS)
    assert {leaf.container for leaf in found} == {bytes.fromhex(make_id(1))}
    assert {leaf.labels for leaf in found} == {(("signal", "15"),)}
    assert audit_log(paths).why == ""
    with pytest.raises(AssertionError):
        record_operation(paths, "something else")
    with pytest.raises(SpecError):
        record_operation(paths, "import", labels=(("name", "x" * 2000),))


def test_what_cannot_be_recorded_is_an_error(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_operation(paths, "import")
    os.rename(paths.host_db, f"{paths.host_db}.aside")
    os.mkdir(paths.host_db)
    with pytest.raises(StateError, match="cannot be opened"):
        record_operation(paths, "import")


def test_a_first_start_says_create_once_in_its_own_transaction(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    begin(paths, make_id(1)).close(0)
    begin(paths, make_id(1), run=1).close(0)
    record_operation(paths, "create", make_id(2))
    begin(paths, make_id(2)).close(0)
    assert get_kinds(paths) == (
        ["key", "boot", "operation", "start", "exit", "start", "exit"]
        + ["operation", "start", "exit"]
    )
    with HostLog(paths, None) as log:
        leaf = hostlog.decode_leaf(log.get_leaf(2))
    assert isinstance(leaf, hostlog.Operation)
    assert (leaf.name, leaf.container.hex()) == ("create", make_id(1))


def test_an_operation_of_another_container_is_no_create(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_operation(paths, "create", make_id(9))
    record_operation(paths, "signal", make_id(1))
    record(paths, make_id(1), count=1)
    names = [leaf.name for leaf in read_leaves(paths) if isinstance(leaf, hostlog.Operation)]
    assert names == ["create", "signal", "create"]


# Boots and clocks.


def test_each_boot_says_how_long_the_log_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    size = len(read_leaves(paths))
    monkeypatch.setattr(boot, "get_boot_id", lambda: b"\x07" * 16)
    monkeypatch.setattr(boot, "get_boottime_ns", lambda: 5)
    record(paths, make_id(2))
    record(paths, make_id(3))
    boots = [leaf for leaf in read_leaves(paths) if isinstance(leaf, hostlog.Boot)]
    assert [leaf.previous_size for leaf in boots] == [1, size]
    assert boots[1][1:3] == (b"\x07" * 16, 5)
    genesis, certificate = read_genesis(paths, make_id(3))
    assert (genesis.boot, genesis.boottime) == (b"\x07" * 16, 5)
    assert (certificate.boot, certificate.boottime) == (b"\x07" * 16, 5)
    assert audit_log(paths).why == ""


@pytest.mark.parametrize("start_ns", [0, 10**9, 4 * 10**18])
def test_a_clock_set_back_or_forward_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_ns: int
) -> None:
    """Order is the log's and the chain's; wall time is only said."""
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    monkeypatch.setattr(time, "time_ns", lambda: start_ns)
    record_operation(paths, "import")
    live = begin(paths, make_id(2))
    append(live, 0)
    rotation.rotate_host_key(paths)
    monkeypatch.undo()
    append(live, 1)
    rotation.revoke_host_key(paths, 0, None)
    live.close(0)
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    record(paths, make_id(2), run=1)
    with HostLog(paths, None) as log:
        keys_found = log.read_keys(keyring.get_public_key(paths))
        times = [getattr(hostlog.decode_leaf(data), "time", 0) for _, data in log.iterate_leaves()]
    assert keys_found.number == 1
    assert times != sorted(times)


# Checkpoints that others have signed.


def cosign(note: bytes, name: str = "witness") -> bytes:
    """A line of somebody else, which the caller of store_cosigned has checked."""
    return note + f"— {name} {'AAAA' * 18}\n".encode()


def get_note(paths: Paths) -> bytes:
    with HostLog(paths, None) as log:
        return log.get_note()


def test_later_runs_name_the_newest_checkpoint_that_others_signed(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    first = cosign(get_note(paths))
    record(paths, make_id(2))
    second = cosign(get_note(paths))
    rotation.rotate_host_key(paths)
    for note in (second, first):
        cosigned.store_cosigned(paths, note)
    record(paths, make_id(3))
    expected = sha256(second).digest()
    for container, wanted in ((make_id(2), bytes(32)), (make_id(3), expected)):
        genesis, certificate = read_genesis(paths, container)
        assert (genesis.checkpoint, certificate.checkpoint) == (wanted, wanted)


def test_a_checkpoint_of_another_history_is_refused(tmp_path: Path) -> None:
    paths, other = make_paths(tmp_path), make_paths(tmp_path / "other")
    record(paths)
    with pytest.raises(SpecError, match="nobody but this host"):
        cosigned.store_cosigned(paths, get_note(paths))
    record(other)
    with pytest.raises(SpecError, match="checkpoint"):
        cosigned.store_cosigned(paths, cosign(get_note(other)))
    key = keyring.ensure_host_key(paths)
    origin = checkpoint.get_origin(key.host)
    for size, match in ((3, "a fork"), (10**6, "it was cut")):
        state = checkpoint.Checkpoint(origin, size, b"\x01" * 32)
        with pytest.raises(TamperError, match=match):
            cosigned.store_cosigned(paths, cosign(checkpoint.sign_checkpoint(state, key)))
    assert get_kinds(paths)[-1] == "exit"


# As commands.


def show(
    capsys: pytest.CaptureFixture[str], words: list[str], paths: Paths
) -> list[dict[str, str]]:
    assert run_receipts([*words, "--host", "--json"], paths) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_receipts_of_the_host_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    record_operation(paths, "signal", make_id(1), (("signal", "\x1b[2J"),))
    record_operation(paths, "rmi", labels=(("name", "busybox"),))
    run_keys(["revoke"], paths)
    capsys.readouterr()
    shown = show(capsys, [], paths)
    assert [line["op"] for line in shown] == (
        ["key", "boot", "create", "start", "exit", "signal", "rmi", "key", "revoke"]
    )
    assert show(capsys, ["web"], paths) == [
        line for line in shown if line["container"] == make_id(1)
    ]
    assert [line["op"] for line in show(capsys, ["--op", "segment"], paths)] == ["segment"]
    assert show(capsys, ["--since", "2200-01-01T00:00:00+00:00"], paths) == []
    assert run_receipts(["--host"], paths) == 0
    table = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in table)
    assert len(table) == 1 + len(shown)


def test_receipts_of_a_removed_container_stay_by_name_id_and_prefix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evidence has no container.json beside it here: as after `docklock rm`."""
    paths = make_paths(tmp_path)
    record(paths, make_id(7), app="gone")
    record_operation(paths, "remove", make_id(7))
    for reference in ("gone", make_id(7), make_id(7)[:60]):
        assert run_receipts([reference, "--json"], paths) == 0
        assert len(capsys.readouterr().out.splitlines()) == 10
        assert show(capsys, [reference], paths)[-1]["op"] == "remove"
    assert verify_container(paths, make_id(7)).first_bad is None


def test_keys_are_rotated_revoked_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_paths(tmp_path)
    run_keys(["init"], paths)
    capsys.readouterr()
    shown = []
    for words in (["show"], ["rotate"], ["revoke", "0"], ["revoke"]):
        assert run_keys([*words, "--format", "json"], paths) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert [value["number"] for value in shown] == [0, 1, 1, 2]
    assert len({value["fingerprint"] for value in shown}) == 1
    revoked = [key["revoked_from"] is not None for key in shown[-1]["keys"]]
    assert revoked == [True, True, False]
    name, public = keys.parse_verifier(shown[-1]["keys"][2]["verifier"], "keys show")
    assert name == f"docklock/host/{shown[0]['fingerprint']}"
    assert public == keyring.ensure_host_key(paths).public
    run_keys(["show"], paths)
    assert "revoked from leaf" in capsys.readouterr().out
    with pytest.raises(SpecError, match="are for revoke"):
        run_keys(["rotate", "3"], paths)
