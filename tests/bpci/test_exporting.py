"""What is exported proves itself, names what is not in it, and covers every byte."""

from __future__ import annotations

import io
import itertools
import random
import time
from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import bundle, export_frames, keys, segment
from chainlite.bpci import exporting
from chainlite.bpci.asking import parse_search
from chainlite.bpci.exporting import BadCursor, write_export, write_part
from chainlite.bpci.orders import SetRetention
from chainlite.bpci.quota import DAY_MS
from chainlite.bpci.searching import search
from chainlite.bpci.store import StoreDamage
from chainlite.codec import U64_MAX
from chainlite.errors import SpecError, StateError
from chainlite.export_frames import Position
from chainlite.exported import Part, read_parts
from docklock.evidence import recovery, rotation
from docklock.paths import Paths, get_paths
from tests.bpci.exports import (
    SCOPE,
    TENANT,
    Frames,
    check,
    export,
    get_host,
    make_server,
    render,
    seal,
    split,
    trust,
)
from tests.bpci.joined import make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.bpci.test_sqlite_store import edit
from tests.chainlite.samples import WITNESS, WITNESS_KEY
from tests.evidence.recording import (
    append_durably,
    begin,
    cosign_log,
    make_id,
    make_paths,
    record,
    record_and_die,
)
from tests.ledger.offered import get_size, make_host

GOLDEN = [
    "e4da812dc844b442", "b92ed031265ed9fb", "db9dc3c4a38a84da",
    "f3a9f6032799ca5d", "283e9afb3d3340b2",
]  # fmt: skip
FIRST, SECOND = bytes.fromhex(make_id(1)), bytes.fromhex(make_id(2))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Ten receipts, each a segment under a certificate of its own; a second run of one segment."""
    monkeypatch.setattr(segment, "EPOCH_NS", 1)
    paths = make_paths(tmp_path)
    recorder = begin(paths, make_id(1))
    for number in range(10):
        append_durably(recorder, number)
    recorder.close(0)
    record(paths, make_id(1), run=1, count=5)
    return paths


def wait_for_leaf(paths: Paths, size: int) -> None:
    """The log has a segment a moment after the container's file."""
    deadline = time.monotonic() + 10
    while get_size(paths) == size and time.monotonic() < deadline:
        time.sleep(0.002)


def get_times(server: Server, paths: Paths, run: int = 0) -> list[tuple[int, int]]:
    found = server.store.find_segments(get_host(paths), FIRST, run, 0, 99)
    return [(one.time_first, one.time_last) for one in found]


def get_shown(data: bytes, paths: Paths) -> list[tuple[int, str, str, str]]:
    """Of each run: number, state, first receipt, end."""
    found, code = check(data, trust(get_host(paths)))
    assert code == 0, found
    runs = found["hosts"][0]["runs"]
    return [(run["run"], run["state"], run["first"], run["end"]) for run in runs]


def test_an_export_is_whole_for_who_has_only_public_keys(paths: Paths, tmp_path: Path) -> None:
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(7), count=3, app="db")
    with make_server(tmp_path / "server", paths, other) as server:
        data = export(server)
    hosts = (get_host(paths), get_host(other))
    found, code = check(data, trust(*hosts))
    assert (code, found["trusted"], found["receipts"], found["missing"]) == (0, True, "19", [])
    assert {one["host"] for one in found["hosts"]} == {host.hex() for host in hosts}
    shown = {run["app"] for one in found["hosts"] for run in one["runs"]}
    assert shown == {"web", "db"}
    assert {one["held"]["server_log_size"] for one in found["hosts"]} == {"4"}
    text, _ = render(data, trust(*hosts))
    assert text.startswith("whole: sealed by server ") and "19" not in text.splitlines()[0]
    for known, said in (
        (trust(hosts[0]), "UNTRUSTED, a key you did not name: host"),
        (trust(*hosts, log_keys=()), "UNTRUSTED: whole, but sealed by server"),
    ):
        text, code = render(data, known)
        assert code == 4 and said in text


def test_parts_say_the_same_as_one_and_none_can_be_left_out(paths: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", paths) as server:
        whole = check(export(server), trust(get_host(paths)))[0]
        data = export(server, fill_bytes=1)
    found, code = check(data, trust(get_host(paths)))
    assert code == 0 and found["parts"] > 5
    assert found["hosts"] == whole["hosts"] and found["scope"] == whole["scope"]
    parts = data.split(bundle.EXPORT_MAGIC)[1:]
    for left_out in range(len(parts)):
        rest = [one for number, one in enumerate(parts) if number != left_out]
        cut = b"".join(bundle.EXPORT_MAGIC + one for one in rest)
        found, code = check(cut, trust(get_host(paths)))
        assert code == 3, left_out
        if left_out == 0:
            assert found["refused"].startswith("the parts before are not here")
        elif left_out == len(parts) - 1:
            assert found["refused"].startswith("the parts that follow are not here")
        else:
            assert "does not go on where the part before it ends" in found["first_bad"]["why"]
    for swapped in range(len(parts) - 1):
        order = [*parts[:swapped], parts[swapped + 1], parts[swapped], *parts[swapped + 2 :]]
        cut = b"".join(bundle.EXPORT_MAGIC + one for one in order)
        assert check(cut, trust(get_host(paths)))[1] == 3


def test_every_flipped_byte_is_noticed_and_its_place_named(
    paths: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    with make_server(tmp_path / "server", paths) as server:
        data = export(server)
        parts = export(server, fill_bytes=4096)
    rng, size = random.Random(seed), len(bundle.EXPORT_MAGIC)
    for file, step in ((data, 1 if full else 29), (parts, 7 if full else 307)):
        for at in range(rng.randrange(step), len(file), step):
            spoilt = bytearray(file)
            spoilt[at] ^= 1 << rng.randrange(8)
            try:
                found, code = check(bytes(spoilt), trust(get_host(paths)))
            except SpecError:
                assert at < size  # not an export any more
                continue
            assert code == 3, at
            where = found["first_bad"]["why"]
            assert where.startswith(("host ", "the export's scope", "the seal", "part ")), where


def test_truncations_and_insertions_are_noticed(paths: Paths, tmp_path: Path, seed: int) -> None:
    with make_server(tmp_path / "server", paths) as server:
        data = export(server)
    rng = random.Random(seed)
    for at in rng.sample(range(len(data)), 60):
        for spoilt in (data[:at], data[:at] + b"\x00" + data[at:]):
            try:
                assert check(spoilt, trust(get_host(paths)))[1] == 3, at
            except SpecError:
                assert at <= len(bundle.EXPORT_MAGIC)
    assert check(data + b"x", trust(get_host(paths)))[1] == 3


def test_a_server_that_seals_another_story_is_found_out(paths: Paths, tmp_path: Path) -> None:
    """No frame can be dropped, doubled or swapped, but for whole runs at an end of a container."""
    with make_server(tmp_path / "server", paths) as server:
        frames = split(export(server))
    assert read_parts(io.BytesIO(seal(frames)).read)[1] == ""
    kinds = [kind for kind, _ in frames]
    for number, kind in enumerate(kinds):
        dropped = frames[:number] + frames[number + 1 :]
        doubled = [*frames[: number + 1], *frames[number:]]
        for changed in (dropped, doubled):
            assert is_refused(changed), (number, kind)
        if number + 1 < len(kinds) and frames[number] != frames[number + 1]:
            swapped = [*frames[:number], frames[number + 1], frames[number], *frames[number + 2 :]]
            assert is_refused(swapped), (number, kind)
    runs = [n for n, kind in enumerate(kinds) if kind == bundle.START] + [len(frames)]
    for first, end in itertools.pairwise(runs):
        without = frames[:first] + frames[end:]
        assert is_refused(without) == (first == runs[0]), "of a container only the last runs"


def is_refused(frames: Frames) -> bool:
    try:
        return bool(read_parts(io.BytesIO(seal(frames)).read)[1])
    except SpecError:
        return True


def test_whatever_a_hostile_server_seals_shows_nothing_that_was_not(
    long_run: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    rng, host = random.Random(seed), get_host(long_run)
    narrow = SCOPE._replace(container=FIRST, run=0, first=2, last=6)
    with make_server(tmp_path / "server", long_run) as server:
        frames = split(export(server, narrow))
    whole, _ = check(seal(frames), trust(host))
    for _ in range(5_000 if full else 400):
        number = rng.randrange(1, len(frames))
        kind, payload = frames[number]
        spoilt = bytearray(payload or b"x")
        for _ in range(rng.choice((1, 1, 1, 4))):
            at = rng.randrange(len(spoilt))
            cut = rng.choice((b"", bytes([rng.randrange(256)]), rng.randbytes(4)))
            spoilt[at : at + rng.choice((1, len(cut)))] = cut or b"\0"
        if rng.random() < 0.1:
            kind = rng.choice(list(export_frames.SIZE_LIMITS))
        changed = [*frames[:number], (kind, bytes(spoilt)), *frames[number + 1 :]]
        found, code = check(seal(changed), trust(host))
        if code == 0:
            assert found["hosts"] == whole["hosts"] and found["missing"] == whole["missing"]
        else:
            assert code == 3 and found["first_bad"]["why"]


def test_who_has_not_the_servers_key_cannot_seal(paths: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", paths) as server:
        frames = split(export(server))
    scope = export_frames.decode_scope(frames[0][1])
    frames[0] = (export_frames.SCOPE, export_frames.encode_scope(scope._replace(tenant="other")))
    data = seal(frames)
    assert check(data, trust(get_host(paths)))[0]["scope"]["tenant"] == "other"  # the server did
    at = data.rindex(b"other")
    found, code = check(data[:at] + b"acme2" + data[at + 5 :], trust(get_host(paths)))
    assert code == 3 and "changed here" in found["first_bad"]["why"]
    forged = seal(frames, key=keys.make_key_pair(b"\x05" * 32))
    found, code = check(forged, trust(get_host(paths)))
    assert code == 3 and found["first_bad"]["why"].startswith("the seal: ")


def test_the_end_of_a_run_that_is_open_is_missed(tmp_path: Path) -> None:
    """Nothing in the log says that there was more; the row of the run does."""
    paths = make_paths(tmp_path)
    recorder = begin(paths, make_id(1))
    size = get_size(paths)
    for number in range(3):
        append_durably(recorder, number)
        wait_for_leaf(paths, size + number)
    with make_server(tmp_path / "server", paths) as server:
        recorder.close(0)
        assert get_shown(export(server), paths) == [(0, "nothing later", "0", "3")]
        edit(tmp_path / "server", "DELETE FROM segments WHERE first_index = 2")
        with pytest.raises(StoreDamage, match="receipts are missing"):
            export(server)


def test_a_range_of_receipts_or_times_is_shown_with_what_is_around(
    long_run: Paths, tmp_path: Path
) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        times = get_times(server, long_run)
        scope = SCOPE._replace(container=FIRST)
        for narrow, wanted in (
            (scope._replace(run=0, first=3, last=5), [(0, "goes on", "3", "6")]),
            (scope._replace(run=0, first=0, last=0), [(0, "goes on", "0", "1")]),
            (scope._replace(run=0, first=9, last=U64_MAX), [(0, "closed", "9", "10")]),
            (scope._replace(run=1), [(1, "closed", "0", "5")]),
            (scope._replace(time_from=times[4][0], time_to=times[7][1]),
             [(0, "goes on", "4", "8")]),
            (scope._replace(time_from=times[8][0]),
             [(0, "closed", "8", "10"), (1, "closed", "0", "5")]),
            (scope._replace(time_to=times[1][1]), [(0, "goes on", "0", "2")]),
            (scope._replace(time_from=times[4][1] + 1, time_to=times[5][0] - 1),
             [(0, "goes on", "5", "5")]),
            (scope._replace(time_from=times[-1][1] + 10**18), []),
            (scope._replace(app="web"), [(0, "closed", "0", "10"), (1, "closed", "0", "5")]),
            (scope._replace(app="db"), []),
            (scope._replace(container=SECOND), []),
        ):  # fmt: skip
            for fill_bytes in (1 << 20, 1):
                data = export(server, narrow, fill_bytes)
                assert get_shown(data, long_run) == wanted, (narrow, fill_bytes)


def test_a_page_begins_in_any_epoch_and_the_log_holds_its_certificate(
    long_run: Paths, tmp_path: Path
) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        for first in range(10):
            narrow = SCOPE._replace(container=FIRST, run=0, first=first)
            frames = split(export(server, narrow))
            named = [payload for kind, payload in frames if kind == export_frames.NAMED]
            assert len(named) == (1 if first else 0)
            if not first:
                continue
            assert segment.decode_certificate(named[0]).epoch == first + 1
            number = [kind for kind, _ in frames].index(export_frames.NAMED)
            other = bytearray(named[0])
            other[-1] ^= 1
            for changed in ([], [(export_frames.NAMED, bytes(other))]):
                assert is_refused([*frames[:number], *changed, *frames[number + 1 :]])


def test_what_is_in_the_range_cannot_be_said_to_be_outside(long_run: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        frames = split(export(server, SCOPE._replace(container=FIRST, run=0, first=3, last=5)))
    scope = export_frames.decode_scope(frames[0][1])
    for wider in (scope._replace(first=2), scope._replace(last=6), scope._replace(last=U64_MAX)):
        changed = [(export_frames.SCOPE, export_frames.encode_scope(wider)), *frames[1:]]
        assert is_refused(changed), wider
    other = scope._replace(container=SECOND)
    assert is_refused([(export_frames.SCOPE, export_frames.encode_scope(other)), *frames[1:]])


def test_what_is_missing_is_said_and_by_whom(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "append(recorder, 0)")
    recovery.recover_runs(paths, lambda _: False)
    recorder = begin(paths, make_id(2))
    size = get_size(paths)
    append_durably(recorder, 1)
    wait_for_leaf(paths, size)
    idle = get_paths(str(tmp_path / "idle"))
    record(idle, make_id(3), count=1)
    with make_server(tmp_path / "server", paths) as server:
        recorder.close(0)
        server.enrol(idle)
        found, code = check(export(server), trust(get_host(paths), get_host(idle)))
    assert code == 0
    said = [(one["container"], one["first"], one["last"], one["why"]) for one in found["missing"]]
    assert sorted(said, key=str) == sorted(
        [
            (make_id(1), "1", "1", "the host's own gap: unknown before it"),
            (make_id(2), "1", None, "not held"),
            (None, "0", None, "nothing held"),
        ],
        key=str,
    )
    states = {run["container"]: run["state"] for one in found["hosts"] for run in one["runs"]}
    assert states == {make_id(1): "cut", make_id(2): "nothing later"}


def erase_old(server: Server, cutoff_ns: int) -> None:
    """What ended before this time, or at most a millisecond later."""
    office = make_office(server)
    office.set_retention(SetRetention(TENANT, 30), NOW_MS)
    for _ in office.erase(TENANT, -(-cutoff_ns // 10**6) + 30 * DAY_MS):
        pass


def test_what_retention_erased_is_named_and_the_rest_proves_itself(
    long_run: Paths, tmp_path: Path
) -> None:
    host = get_host(long_run)
    with make_server(tmp_path / "server", long_run) as server:
        erase_old(server, get_times(server, long_run)[3][1] + 1)
        assert server.audit() == []
        rows = server.store.find_segments(host, FIRST, 0, 0, 99)
        gone = sum(row.erased for row in rows)
        assert 4 <= gone < 10
        for fill_bytes in (1 << 20, 1):
            data = export(server, fill_bytes=fill_bytes)
            found, code = check(data, trust(host))
            assert (code, found["receipts"]) == (0, str(15 - gone))
            erased = [(one["first"], one["last"], one["why"]) for one in found["missing"]]
            assert erased == [(str(n), str(n), "erased") for n in range(gone)]
            assert get_shown(data, long_run) == [(0, "closed", "0", "10"), (1, "closed", "0", "5")]
        frames = split(export(server))
        number = [kind for kind, _ in frames].index(export_frames.LEAF)
        assert is_refused(frames[:number] + frames[number + 1 :])
        for first in range(gone + 1):
            data = export(server, SCOPE._replace(container=FIRST, run=0, first=first))
            assert get_shown(data, long_run) == [(0, "closed", str(first), "10")]
        looked = search(server.store, KEY, TENANT, parse_search({}), with_values=True)
        assert (len(looked.receipts), looked.erased, looked.damaged) == (15 - gone, gone, [])
        edit(tmp_path / "server", "UPDATE segments SET erased = 0")
        with pytest.raises(StoreDamage):
            export(server)


def test_leaves_under_no_checkpoint_are_named_and_not_shown(paths: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", paths) as server:
        record(paths, make_id(5), count=4)
        old, new = server.get_size(get_host(paths)), get_size(paths)
        server.sync(paths, get_host(paths), old + 2)
        found, code = check(export(server), trust(get_host(paths)))
        assert code == 0 and found["hosts"][0]["log_size"] == str(old)
        assert found["missing"] == [
            {"host": get_host(paths).hex(), "container": None, "run": None, "what": "leaves",
             "first": str(old), "last": str(old + 1), "why": "without a checkpoint"}
        ]  # fmt: skip
        server.sync(paths, get_host(paths))
        found, code = check(export(server), trust(get_host(paths)))
        assert found["hosts"][0]["log_size"] == str(new) and found["missing"] == []


def test_pages_of_a_log_that_grows_are_shown_to_continue(long_run: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        parts = [io.BytesIO()]
        scope = SCOPE
        while True:
            done = export_one(server, scope, parts[-1])
            if done is None:
                break
            scope = scope._replace(start=done)
            if len(parts) < 5:
                rotation.rotate_host_key(long_run)
                record(long_run, make_id(9), run=len(parts) - 1, count=2)
                server.sync(long_run, get_host(long_run))
            parts.append(io.BytesIO())
            assert len(parts) < 60
            if len(parts) == 6:
                record(long_run, make_id(1), run=2, count=1)
                server.sync(long_run, get_host(long_run))
    data = [one.getvalue() for one in parts]
    found, code = check(b"".join(data), trust(get_host(long_run)))
    assert code == 0, found
    assert (2, "closed") in [(run["run"], run["state"]) for run in found["hosts"][0]["runs"]]
    frames = split(data[3])
    number = [kind for kind, _ in frames].index(export_frames.HELD)
    held = export_frames.decode_held_frame(frames[number][1])
    assert held.continuation
    bad = export_frames.encode_held_frame(held._replace(continuation=held.continuation[:-1]))
    [part] = read_parts(io.BytesIO(data[3]).read)[0]
    assert part.seal is not None
    spoilt = seal([*frames[:number], (export_frames.HELD, bad), *frames[number + 1 :]],
                  part.seal.after)  # fmt: skip
    found, code = check(b"".join([*data[:3], spoilt, *data[4:]]), trust(get_host(long_run)))
    assert code == 3 and "does not continue that of the part before" in found["first_bad"]["why"]


def export_one(server: Server, scope: export_frames.Scope, file: io.BytesIO) -> Position | None:
    return write_part(server.store, KEY, scope, file.write, NOW_MS, 1).after


def test_what_is_looked_at_for_a_part_is_bounded_and_comes_to_its_end(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SCANNED_MAX", 1)
    record(paths, make_id(9), count=3, app="db")
    with make_server(tmp_path / "server", paths) as server:
        for app, receipts, parts in (("db", "3", 3), ("nothing", "0", 3), ("", "19", 3)):
            found, code = check(export(server, SCOPE._replace(app=app)), trust(get_host(paths)))
            assert (code, found["receipts"]) == (0, receipts) and found["parts"] >= parts, app


def test_a_cursor_that_nothing_begins_at_is_refused(long_run: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        host = get_host(long_run)
        for start in (
            Position(host, FIRST, 0, 99, 0),
            Position(host, FIRST, 9, 1, 0),
            Position(host, SECOND, 0, 1, 0),
            Position(host, FIRST, 0, 2, 10**6),
            Position(b"\xff" * 32, FIRST, 0, 2, 0),
            Position(host, FIRST, 1, 3, 0),
        ):
            with pytest.raises(BadCursor):
                export(server, SCOPE._replace(start=start))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE segments SET box = zeroblob(99) WHERE leaf_index = {at}",
        "UPDATE segments SET run = 9 WHERE leaf_index = {at}",
        "DELETE FROM segments WHERE leaf_index = {at}",
        "UPDATE segments SET time_first = 0 WHERE leaf_index = {at}",
        "UPDATE segments SET leaf_index = {at} + 100 WHERE leaf_index = {at}",
        "UPDATE leaves SET data = CAST(x'00' || substr(data, 2) AS BLOB)"
        " WHERE leaf_index = {at} AND host <> x''",
        "UPDATE leaves SET data = CAST(substr(data, 1, 200) || CASE substr(data, 201, 1)"
        " WHEN x'00' THEN x'01' ELSE x'00' END || substr(data, 202) AS BLOB)"
        " WHERE leaf_index = {at} AND host <> x''",
        "UPDATE leaves SET hashes = zeroblob(32) WHERE leaf_index = {at} AND host <> x''",
        "UPDATE hosts SET root = zeroblob(32)",
        "UPDATE hosts SET size = size - 1",
        "UPDATE log SET note = zeroblob(200)",
        "UPDATE tenants SET sealed_key = zeroblob(72)",
        "UPDATE runs SET state = x'00'",
        "DELETE FROM leaves WHERE kind = 34",
        "DELETE FROM leaves WHERE kind = 36",
        "DELETE FROM leaves WHERE host = x''",
    ],
)
def test_a_row_that_was_changed_is_never_shown_as_good(
    long_run: Paths, tmp_path: Path, change: str
) -> None:
    with make_server(tmp_path / "server", long_run) as server:
        at = server.store.find_segments(get_host(long_run), FIRST, 0, 4, 1)[0].leaf_index
        edit(tmp_path / "server", change.format(at=at))
        with pytest.raises(StoreDamage):
            export(server)


def test_a_witness_counts_as_in_evidence(paths: Paths, tmp_path: Path) -> None:
    host = get_host(paths)
    with make_server(tmp_path / "server", paths) as server:
        data = export(server)
    note = Path(cosign_log(paths, tmp_path / "note")).read_bytes()
    named = trust(host, witnesses=(WITNESS,), note=note, is_anchor_required=True)
    found, code = check(data, named)
    assert code == 0, found
    assert found["hosts"][0]["anchored_to"]["by"][0]["name"] == WITNESS.name
    assert check(data, named._replace(note=b""))[1] == 3
    record(paths, make_id(8), count=1)
    later = Path(cosign_log(paths, tmp_path / "note")).read_bytes()
    assert check(data, named._replace(note=later))[1] == 3
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(7), count=3)
    stranger = Path(cosign_log(other, tmp_path / "note")).read_bytes()
    found, code = check(data, named._replace(note=stranger))
    assert code == 3 and "not in it" in found["refused"]
    assert WITNESS_KEY


def test_a_frame_that_claims_much_takes_no_memory(paths: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", paths) as server:
        data = export(server)
    for kind in (*export_frames.SIZE_LIMITS, 7, 8, 12, 99):
        head = bytes([kind]) + (0xFFFFFFFF).to_bytes(4, "big")
        asked = list[int]()
        source = io.BytesIO(bundle.EXPORT_MAGIC + head + data)

        def read(size: int, asked: list[int] = asked, source: io.BytesIO = source) -> bytes:
            asked.append(size)
            return source.read(size)

        assert read_parts(read)[1]
        assert max(asked) < 100


def test_frames_decode_to_what_encodes_to_the_same(paths: Paths, tmp_path: Path) -> None:
    with make_server(tmp_path / "server", paths) as server:
        narrow = SCOPE._replace(container=FIRST, run=0, first=2, last=2, host=get_host(paths))
        frames = split(export(server, narrow))
    for kind, payload in frames:
        if kind == export_frames.SCOPE:
            assert export_frames.encode_scope(export_frames.decode_scope(payload)) == payload
            assert export_frames.decode_scope(payload) == narrow
        if kind == export_frames.HELD:
            held = export_frames.decode_held_frame(payload)
            assert export_frames.encode_held_frame(held) == payload
        if kind == export_frames.LEAF:
            leaf = export_frames.decode_leaf_frame(payload)
            assert export_frames.encode_leaf_frame(leaf) == payload
    start = Position(FIRST, SECOND, 3, 4, 5)
    assert export_frames.decode_position(export_frames.encode_position(start)) == start
    assert Part().hosts == []


def test_formats_still_have_their_golden_bytes() -> None:
    start = Position(FIRST, SECOND, 3, 4, 5)
    scope = export_frames.Scope(
        b"\x01" * 32, b"\x02" * 1312, "acme", FIRST, SECOND, "web", 1, 2, 3, 4, 5, start
    )
    logged = bundle.LoggedLeaf(7, b"leaf", (b"\x03" * 32,))
    held = export_frames.HeldFrame(b"said", (b"\x04" * 32,), ())
    made = (
        export_frames.encode_scope(scope),
        export_frames.encode_held_frame(held),
        export_frames.encode_leaf_frame(export_frames.LeafFrame(export_frames.ERASED, logged)),
        export_frames.encode_gap(export_frames.Gap(export_frames.NO_NOTE, 8, 9)),
        export_frames.sign_seal(KEY.pair, bytes(32), export_frames.Seal(10, start)),
    )
    digests = [sha256(one).hexdigest()[:16] for one in made]
    assert digests == GOLDEN


def test_another_tenants_hosts_are_in_no_export(paths: Paths, tmp_path: Path) -> None:
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(1), count=3)
    with make_server(tmp_path / "server", paths) as server:
        server.enrol(other, "rival")
        server.sync(other, get_host(other))
        found, _ = check(export(server), trust(get_host(paths)))
        assert [one["host"] for one in found["hosts"]] == [get_host(paths).hex()]
        narrow = SCOPE._replace(host=get_host(other))
        assert check(export(server, narrow), trust(get_host(paths)))[0]["hosts"] == []
        with pytest.raises(StateError, match="no tenant"):
            write_export(server.store, KEY, SCOPE._replace(tenant="x"), io.BytesIO().write, 1)
