"""What is erased is in no file any more, and every proof still holds."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import bundle, hostlog, proof, receipt, redaction, segment
from chainlite.errors import StateError, TamperError
from docklock.cli.evidence import run_evidence
from docklock.cli.prove import run_prove
from docklock.cli.receipts import run_receipts
from docklock.cli.verify import run_verify
from docklock.evidence import container_store, erasing
from docklock.evidence.export import verify_container
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.evidence.recording import begin, make_id, make_paths

ADDRESS = b"\x02\0\x01\xbb\xcb\0\x71\x09SOCKADDR-%d"
CLASSES = frozenset({"argv", "addresses"})


def record_values(paths: Paths, *, run: int = 0, count: int = 40) -> str:
    """Events with a path, an argument vector and an address each, whose bytes can be searched."""
    live = begin(paths, run=run)
    for number in range(count):
        values = (
            ("path", b"/kept/PATH-%d-%d" % (run, number)),
            ("argv", b"run\0--password\0ARGV-%d-%d\0" % (run, number)),
            ("sockaddr", ADDRESS % number),
        )
        live.append("syscall.execve", decision=0, plane=0, seen=0, values=values)
        if number == count // 2:
            live.request_commit(now=True)
    live.close(0)
    return make_id()


def iterate_files(top: str) -> Iterator[tuple[str, bytes]]:
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            yield path, Path(path).read_bytes()


def find(paths: Paths, needles: list[bytes]) -> set[str]:
    """The files under the root that hold any of these, as they lie or in any body in them."""
    found = {
        path
        for path, data in iterate_files(paths.state)
        if any(needle in data for needle in needles)
    }
    for path, data in iterate_files(paths.state):
        start = data.find(b"\x28\xb5\x2f\xfd")
        while start >= 0:
            body = _unpack_prefix(data[start:])
            found |= {path for needle in needles if needle in body}
            start = data.find(b"\x28\xb5\x2f\xfd", start + 1)
    return found


def _unpack_prefix(data: bytes) -> bytes:
    """What unpacks of a zstd frame at the start of these bytes, though pages may cut it."""
    from backports import zstd

    unpacked = b""
    decompressor = zstd.ZstdDecompressor()
    try:
        for at in range(0, len(data), 16):
            unpacked += decompressor.decompress(data[at : at + 16])
            if decompressor.eof:
                break
    except zstd.ZstdError:
        return unpacked
    return unpacked


def read_rows(paths: Paths) -> list[bundle.StoredSegment]:
    db = container_store.open_store(paths, make_id())
    try:
        return [bundle.StoredSegment(*row[5:10]) for row in container_store.iterate_segments(db, 0)]
    finally:
        db.close()


@pytest.mark.parametrize("count", [2, 40, 1100])
def test_erased_values_and_their_secrets_are_in_no_file(tmp_path: Path, count: int) -> None:
    paths = make_paths(tmp_path)
    container = record_values(paths, count=count)
    before = read_rows(paths)
    secrets = [row.secret for row in before]
    values = [b"ARGV-0-%d" % number for number in range(count)] + [b"SOCKADDR-0", b"--password"]
    windows = [row.body[at : at + 48] for row in before for at in range(64, len(row.body) - 48, 31)]
    salts = [
        salt
        for row in before
        for event in redaction.iterate_events(row, segment.unpack_body(row.body))
        for salt in event.salts[1:]
    ][:200]
    # Stored uncompressed where they are few; else their packed bytes are searched.
    for needles in (secrets, windows, values[:1] if count == 2 else windows[:9]):
        assert container_store.get_store_path(paths, container) in find(paths, needles)
    erased = erasing.erase_values(paths, container, CLASSES)
    assert (erased.segments, erased.values) == (len(before), 2 * count)
    bodies = [row.body for row in read_rows(paths)]
    windows = [window for window in windows if not any(window in body for body in bodies)]
    assert len(windows) > 3
    assert find(paths, secrets + values[:50] + values[-2:] + salts + windows[:300]) == set()
    assert count != 2 or find(paths, [b"PATH-0-1"]), "the search sees what was kept"


def test_all_that_was_whole_is_whole_and_kept_values_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_paths(tmp_path)
    container = record_values(paths)
    record_values(paths, run=1)
    first = verify_container(paths, container)
    assert run_evidence(["erase", "web", "--values", "argv,addresses"], paths) == 0
    assert "160 values of this container are gone for good" in capsys.readouterr().out
    with HostLog(paths, None) as log:
        *_, (_, data) = log.iterate_leaves()
    leaf = hostlog.decode_leaf(data)
    assert isinstance(leaf, hostlog.Operation)
    assert (leaf.name, leaf.labels) == ("erase", (("values", "addresses,argv"),))
    report = verify_container(paths, container)
    assert report.first_bad is None
    assert report.redacted == 160
    assert [run.head for run in report.runs] == [run.head for run in first.runs]
    run_receipts(["web", "--json"], paths)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert shown[3]["values"] == {"path": "/kept/PATH-0-3", "argv": None, "sockaddr": None}
    run_receipts(["web"], paths)
    assert "argv=(redacted)" in capsys.readouterr().out
    file = tmp_path / "file"
    assert run_evidence(["web", "-o", str(file)], paths) == 0
    assert run_verify([str(file)], paths) == 0
    assert "80 values redacted" in capsys.readouterr().out
    assert run_prove(["web", "1:7", "--values", "all", "-o", str(file)], paths) == 0
    proven = proof.check_proof(file.read_bytes())
    assert proven.values == (("path", b"/kept/PATH-1-7"), ("argv", None), ("sockaddr", None))


def test_erasing_again_and_more_goes_on_from_there(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    container = record_values(paths)
    assert erasing.erase_values(paths, container, frozenset({"argv"})).values == 40
    again = erasing.erase_values(paths, container, frozenset({"argv"}))
    assert (again.segments, again.values) == (0, 40)
    assert erasing.erase_values(paths, container, redaction.parse_classes("all", "x")).values == 120
    assert all(row.secret == bundle.SALTED for row in read_rows(paths))
    assert verify_container(paths, container).first_bad is None


def test_a_live_container_and_spoilt_evidence_are_left_alone(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    container = record_values(paths)
    live = begin(paths, run=1)
    with pytest.raises(StateError, match="stop it first"):
        erasing.erase_values(paths, container, CLASSES)
    live.close(0)
    db = sqlite3.connect(container_store.get_store_path(paths, container))
    db.execute("UPDATE segments SET leaf_tags = zeroblob(length(leaf_tags))")
    db.commit()
    db.close()
    with pytest.raises(TamperError, match="nothing was erased"):
        erasing.erase_values(paths, container, CLASSES)


def test_a_reader_in_the_way_is_named_and_asking_again_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    container = record_values(paths)
    [secret, *_] = [row.secret for row in read_rows(paths)]
    monkeypatch.setattr(container_store, "BUSY_S", 0.05)
    reader = sqlite3.connect(container_store.get_store_path(paths, container))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM segments").fetchone()
    with pytest.raises(StateError, match="ask again|not erased"):
        erasing.erase_values(paths, container, CLASSES)
    reader.close()
    erasing.erase_values(paths, container, CLASSES)
    assert find(paths, [secret, b"ARGV-0-1"]) == set()
    assert len(secret) == receipt.SECRET_BYTES


def test_a_redacted_file_verifies_without_the_value_and_the_store_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_paths(tmp_path)
    record_values(paths)
    file = tmp_path / "web.evidence"
    words = ["web", "-o", str(file), "--redact", "argv,paths,addresses"]
    assert run_evidence(words, paths) == 0
    assert "120 values redacted" in capsys.readouterr().out
    assert run_verify([str(file), "--json"], paths) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["redacted"], shown["receipts"]) == (True, 120, 40)
    secrets = [row.secret for row in read_rows(paths)]
    data = file.read_bytes()
    assert not any(secret in data for secret in secrets)
    assert run_verify(["web", "--json"], paths) == 0
    assert json.loads(capsys.readouterr().out)["redacted"] == 0
