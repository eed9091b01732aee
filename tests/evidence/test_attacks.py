"""The adversary's list, a test each: what is done to real evidence, what verify says, its code.

The evidence is made by the real recorder. `Whole` says what a lone host cannot know: with the
host's key its root can do all that is called here `this is that host's word`, until a witness has
cosigned the log.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import bundle, domains, hostlog, keys, merkle, receipt, segment
from chainlite.cosignature import encode_witness
from chainlite.errors import SpecError
from chainlite.note import NOTE_LIMIT_BYTES
from docklock.cli.evidence import run_evidence
from docklock.cli.prove import run_prove
from docklock.cli.verify import run_verify
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.keyring import get_fingerprint
from docklock.paths import Paths
from tests.chainlite.samples import (
    WITNESS,
    decode_frames,
    encode_frames,
    encode_sample,
    make_sample,
    read_sample,
)
from tests.evidence.recording import append, begin, cosign_log, make_id, make_paths, record

WORD = "this is that host's word"
KEY = encode_witness(WITNESS)
TAKE_TAIL = "DELETE FROM segments WHERE first_index = (SELECT max(first_index) FROM segments)"
Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with two containers, the first with several segments."""
    paths = make_paths(tmp_path)
    record(paths, make_id(1), app="web", count=2500)
    record(paths, make_id(2), app="db", count=3)
    return paths


@pytest.fixture
def verify(paths: Paths, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Exit code and text of `docklock verify` on that host."""

    def run(*words: str, on: Paths = paths) -> tuple[int, str]:
        capsys.readouterr()
        code = run_verify(list(words), on)
        return code, capsys.readouterr().out

    return run


def export(paths: Paths, name: str, file: Path, *words: str) -> bytes:
    assert run_evidence([name, "-o", str(file), *words], paths) == 0
    return file.read_bytes()


def get_store(paths: Paths, container: str) -> str:
    return f"{paths.evidence}/{container}.db"


def edit(path: str, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def restore(paths: Paths, snapshot: Path) -> None:
    shutil.rmtree(paths.state)
    shutil.copytree(snapshot, paths.state)


def test_truncated_tail(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    file = tmp_path / "web.evidence"
    data = export(paths, "web", file)
    for size in (len(data) - 1, len(data) // 2, len(bundle.MAGIC) + 1):
        file.write_bytes(data[:size])
        code, text = verify(str(file))
        assert (code, "ends" in text) == (3, True)
    frames = decode_frames(data)
    last = max(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    without_tail = [f for n, f in enumerate(frames) if n != last and f[0] != bundle.EXIT]
    file.write_bytes(encode_frames(without_tail)[0])
    code, text = verify(str(file))
    assert (code, "receipts at the end of run 0 are missing" in text) == (3, True)
    edit(get_store(paths, make_id(1)), TAKE_TAIL)
    code, text = verify("web")
    assert (code, "has segments that the container's file has not" in text) == (3, True)


def test_deleted_file(paths: Paths, verify: Verify) -> None:
    os.unlink(get_store(paths, make_id(1)))
    for words in (("--all",), ("web",)):
        code, text = verify(*words)
        assert (code, "the container's evidence file is gone" in text) == (3, True)
    edit(paths.host_db, f"DELETE FROM runs WHERE container = x'{make_id(1)}'")
    code, text = verify("--all")
    assert (code, "run 0 is not in the table of runs as in the leaves" in text) == (3, True)
    assert "it never started on this host" in text


def test_restored_snapshot(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(paths.state, snapshot)
    record(paths, make_id(3), app="later")
    note = cosign_log(paths, tmp_path / "note")
    assert verify("--all", "--checkpoint", note, "--witness-key", KEY)[0] == 0
    restore(paths, snapshot)
    code, text = verify("--all")
    assert (code, WORD in text) == (0, True)
    for words in (("--all",), ("web",)):
        code, text = verify(*words, "--checkpoint", note)
        assert (code, "rolled back, or restored from a snapshot" in text) == (3, True)
    # Grown again beyond the checkpoint, it is another history.
    for number in range(4, 9):
        record(paths, make_id(number), app="other")
    for words in (("--all",), ("web",)):
        code, text = verify(*words, "--checkpoint", note)
        assert (code, "forked or rewritten" in text) == (3, True)


def test_swapped_containers(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    web, db = get_store(paths, make_id(1)), get_store(paths, make_id(2))
    os.rename(web, tmp_path / "web")
    os.rename(db, web)
    os.rename(tmp_path / "web", db)
    for name in ("web", "db"):
        code, text = verify(name)
        assert (code, "the host's log has another header for these receipts" in text) == (3, True)
    assert verify("--all")[0] == 3


def test_replay_between_hosts(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    other = make_paths(tmp_path / "other")
    record(other, make_id(1), app="web", count=2500)
    file = tmp_path / "web.evidence"
    strange = decode_frames(export(other, "web", file))
    code, text = verify(str(file), "--host-key", get_fingerprint(paths))
    assert (code, "a key you did not name" in text) == (4, True)
    own = decode_frames(export(paths, "web", file))
    for number, (kind, _) in enumerate(own):
        theirs = next(frame for frame in strange if frame[0] == kind)
        mixed = [*own[:number], theirs, *own[number + 1 :]]
        file.write_bytes(encode_frames(mixed)[0])
        assert verify(str(file))[0] == 3, f"a frame of kind {kind} of another host passes"
    shutil.copy(get_store(other, make_id(1)), get_store(paths, make_id(1)))
    code, text = verify("web")
    assert (code, "of another host" in text or "another header" in text) == (3, True)


def test_resigning_from_genesis(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    """With another key it is not the host's; with the host's own it is, until a witness saw it."""
    note = cosign_log(paths, tmp_path / "note")
    file = tmp_path / "db.evidence"
    fingerprint = get_fingerprint(paths)
    file.write_bytes(encode_sample(read_sample(export(paths, "db", file)), b"\x09" * 32))
    assert verify(str(file), "--host-key", fingerprint)[0] == 4
    code, text = verify(str(file), "--host-key", fingerprint, "--checkpoint", note)
    assert (code, "the checkpoint is of the log" in text) == (3, True)
    forged = forge_history(paths, tmp_path / "forged")
    code, text = verify("web", on=forged)
    assert (code, WORD in text) == (0, True)
    for words in (("web",), ("--all",)):
        code, text = verify(*words, "--checkpoint", note, on=forged)
        assert (code, "forked or rewritten" in text or "rolled back" in text) == (3, True)
    export(forged, "web", file)
    code, text = verify(str(file), "--host-key", fingerprint, "--checkpoint", note)
    assert (code, "REFUSED" in text) == (3, True)


def forge_history(paths: Paths, directory: Path) -> Paths:
    """What a thief of the host's key makes: the same host and names, other receipts, as many."""
    forged = make_paths(directory)
    shutil.copytree(paths.keys, forged.keys)
    record(forged, make_id(1), app="web", count=2499)
    record(forged, make_id(2), app="db", count=4)
    record(forged, make_id(3), app="more")
    return forged


def test_key_theft_at_noon(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    """What a witness saw before noon stands; after it the thief's word is the host's."""
    noon = cosign_log(paths, tmp_path / "noon")
    witness = ("--checkpoint", noon, "--witness-key", KEY)
    forged = forge_history(paths, tmp_path / "forged")
    for words in (("web",), ("--all",)):
        code, text = verify(*words, *witness, on=forged)
        assert (code, "forked or rewritten" in text) == (3, True)
    # The true log goes on: what noon covers is anchored, what follows is not.
    record(paths, make_id(1), app="web", run=1, count=5)
    code, text = verify("web", *witness)
    assert code == 0
    assert f"anchored through index 2499 by {WITNESS.name} at 2026-" in text
    assert "not anchored: this host's word" in text
    code, text = verify("web", *witness, "--require-anchor")
    assert (code, "receipts 0 to 4 of run 1 are not anchored" in text) == (3, True)
    assert verify("db", *witness, "--require-anchor")[0] == 0
    # A file that the thief seals with noon's checkpoint cannot hold another past.
    file = tmp_path / "web.evidence"
    export(paths, "web", file, "--checkpoint", noon)
    code, text = verify(str(file), "--witness-key", KEY)
    assert (code, "anchored through index 2499" in text) == (0, True)
    frames = decode_frames(file.read_bytes())
    anchor = next(f for f in frames if f[0] == bundle.ANCHOR)
    export(forged, "web", file)
    others = decode_frames(file.read_bytes())
    file.write_bytes(encode_frames([*others[:2], anchor, *others[2:]])[0])
    code, text = verify(str(file), "--witness-key", KEY)
    assert (code, "forked or rewritten" in text) == (3, True)


def test_a_file_is_anchored_through_the_last_receipt_that_the_witness_saw(
    paths: Paths, tmp_path: Path, verify: Verify
) -> None:
    """A live run: the checkpoint lies between two segments."""
    live = begin(paths, make_id(5), app="live")
    try:
        for number in range(7):
            append(live, number)
        wait_for_segments(paths, make_id(5), 1)
        note = cosign_log(paths, tmp_path / "note")
        append(live, 7)
        wait_for_segments(paths, make_id(5), 2)
        words = ("live", "--checkpoint", note, "--witness-key", KEY)
        code, text = verify(*words)
        assert code == 0
        assert "run 0 open: 8 receipts" in text
        assert f"anchored through index 6 by {WITNESS.name} at" in text
        assert text.endswith("; the rest is this host's word\n")
        code, text = verify(*words, "--require-anchor")
        assert (code, "receipts 7 to 7 of run 0 are not anchored" in text) == (3, True)
        file = tmp_path / "live.evidence"
        frames = decode_frames(export(paths, "live", file, "--checkpoint", note))
        place = next(frame for frame in frames if frame[0] == bundle.PLACE)
        moved = [frame for frame in frames if frame != place]
        moved.insert(len(moved) - 1, place)
        file.write_bytes(encode_frames(moved)[0])
        code, text = verify(str(file), "--witness-key", KEY)
        assert (code, "a leaf is not in the host's log" in text) == (3, True)
    finally:
        live.close(0)
    code, text = verify("live", "--checkpoint", note, "--witness-key", KEY)
    assert "run 0 closed" in text
    assert "anchored through index 6" in text


def wait_for_segments(paths: Paths, container: str, count: int) -> None:
    import time

    from docklock.evidence.host_log import HostLog

    deadline = time.monotonic() + 10
    with HostLog(paths, None) as log:
        while log.count_segment_leaves(bytes.fromhex(container), 0) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_index_holes(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    """Nobody leaves one out: not who edits files, and not the host itself with all its keys."""
    file = tmp_path / "web.evidence"
    frames = decode_frames(export(paths, "web", file))
    places = [n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT]
    file.write_bytes(encode_frames(frames[: places[0]] + frames[places[1] :])[0])
    code, text = verify(str(file))
    assert (code, "receipts are missing" in text) == (3, True)
    edit(get_store(paths, make_id(1)), "DELETE FROM segments WHERE first_index = 0")
    code, text = verify("web")
    assert (code, "another header" in text or "missing" in text) == (3, True)
    sample = make_sample(count=9)
    events = tuple(
        event._replace(receipt=event.receipt._replace(event_index=n + (n > 3)))
        for n, event in enumerate(sample.events)
    )
    file.write_bytes(encode_sample(sample._replace(events=events), b"\x01" * 32))
    code, text = verify(str(file))
    assert (code, "receipt 4 of run 0: it is another receipt" in text) == (3, True)


def test_hash_ambiguity(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    """No inner node passes for a leaf, and no signed object for one of another kind."""
    file = tmp_path / "db.evidence"
    frames = decode_frames(export(paths, "db", file))
    at = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.START)
    logged = bundle.decode_logged_leaf(frames[at][1])
    pair = (merkle.compute_leaf_hash(logged.leaf), logged.proof[0])
    for left, right in (pair, pair[::-1]):
        node = logged._replace(
            leaf=left + right, leaf_index=logged.leaf_index // 2, proof=logged.proof[1:]
        )
        forged = [*frames]
        forged[at] = (bundle.START, bundle.encode_logged_leaf(node))
        file.write_bytes(encode_frames(forged)[0])
        code, text = verify(str(file))
        assert (code, "not in the host's log" in text) == (3, True)
    key = keys.make_key_pair(b"\x01" * 32)
    tags = (domains.SIGN_RECEIPT, domains.SIGN_SEGMENT, domains.SIGN_CERTIFICATE, domains.SIGN_SEAL)
    for tag in tags:
        signed = keys.sign(key, tag, b"message")
        assert [
            other for other in tags if keys.is_signed(key.public, other, b"message", signed)
        ] == [tag]
    start = hostlog.decode_leaf(logged.leaf)
    assert isinstance(start, hostlog.Start)
    objects: dict[Callable[[bytes], object], bytes] = {
        segment.decode_genesis: start.genesis,
        segment.decode_certificate: start.certificate,
        segment.decode_header: bundle.decode_segment(
            next(p for kind, p in frames if kind == bundle.SEGMENT)
        )[1].header,
        hostlog.decode_leaf: logged.leaf,
    }
    for decode in objects:
        for other, data in objects.items():
            if other is not decode:
                with pytest.raises(SpecError):
                    decode(data)


def test_oversized_fields(paths: Paths, tmp_path: Path, verify: Verify) -> None:
    """Each size is checked against its limit before memory is taken for it."""
    live = begin(paths, make_id(4), app="big")
    index = live.append(
        "x", decision=0, plane=0, seen=0, values=(("argv", b"a" * (receipt.VALUE_LIMIT_BYTES + 1)),)
    )
    with pytest.raises(SpecError):
        live.append("x" * (receipt.OP_LIMIT + 1), decision=0, plane=0, seen=0)
    live.close(0)
    assert verify("big")[0] == 0
    file = tmp_path / "big.evidence"
    data = export(paths, "big", file)
    assert run_prove(["big", str(index), "--values", "all", "-o", str(tmp_path / "p")], paths) == 0
    assert verify(str(tmp_path / "p"))[0] == 0
    for kind in bundle.SIZE_LIMITS:
        file.write_bytes(bundle.MAGIC + bytes([kind]) + b"\xff\xff\xff\xff" + data[:100])
        code, text = verify(str(file))
        assert (code, "is not evidence" in text) == (3, True)
    frames = decode_frames(data)
    at = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    _, stored = bundle.decode_segment(frames[at][1])
    bomb = stored._replace(body=segment.pack_body(bytes(segment.BODY_LIMIT_BYTES + 1)))
    frames[at] = (bundle.SEGMENT, bundle.encode_segment(bomb))
    file.write_bytes(encode_frames(frames)[0])
    code, text = verify(str(file))
    assert (code, "within its limit" in text) == (3, True)
    note = tmp_path / "note"
    note.write_bytes(b"x" * (NOTE_LIMIT_BYTES + 1))
    with pytest.raises(SpecError, match="above the limit"):
        run_verify(["--all", "--checkpoint", str(note)], paths)


def test_checkpoints_that_the_host_keeps_anchor_without_being_named(
    paths: Paths, tmp_path: Path, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    note = cosign_log(paths, tmp_path / "note")
    store_cosigned(paths, Path(note).read_bytes())
    record(paths, make_id(3), app="later")
    for words in (("web",), ("--all",)):
        code, text = verify(*words, "--witness-key", KEY)
        assert (code, f"anchored through index 2499 by {WITNESS.name}" in text) == (0, True)
    assert "not anchored: this host's word" in text
    file = tmp_path / "web.evidence"
    export(paths, "web", file)
    assert verify(str(file), "--witness-key", KEY, "--require-anchor")[0] == 0
    assert run_prove(["web", "7", "-o", str(file)], paths) == 0
    assert verify(str(file), "--witness-key", KEY, "--require-anchor")[0] == 0
    assert run_prove(["later", "0", "-o", str(file)], paths) == 0
    code, text = verify(str(file), "--witness-key", KEY, "--require-anchor")
    assert (code, "the receipt is not anchored" in text) == (3, True)
    # One that says something else about this log is a refusal, by whoever put it there.
    edit(paths.host_db, "UPDATE cosigned SET note = x'00'")
    assert verify("web")[0] == 3
