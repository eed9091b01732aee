"""What is older than a tenant keeps is erased to the last byte; the log and its audit stand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite import hostlog
from chainlite.bpci import act_log, retention, sqlite_store
from chainlite.bpci.alert import decode_evidence
from chainlite.bpci.at_rest import Vault, label_alert, label_segment, unseal
from chainlite.bpci.audit import audit
from chainlite.bpci.batch import decode_body, encode_batch
from chainlite.bpci.orders import SetRetention
from chainlite.bpci.quota import DAY_MS
from chainlite.bpci.retention import Erased
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.bpci.store import Alert, Segment
from chainlite.cage.refusal import Refusal
from chainlite.errors import StateError
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.joined import make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, spoil_body
from tests.evidence.recording import append_durably, begin, make_id, record
from tests.ledger.offered import get_size, make_host

DAYS = 30
WINDOW = 24
"""Bytes of a sealed box that are found nowhere else by chance."""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def keep(server: Server, days: int, tenant: str = "acme") -> None:
    make_office(server).set_retention(SetRetention(tenant, days), NOW_MS)


def erase(server: Server, before_ns: int, tenant: str = "acme") -> Erased:
    """What is from before this time, or at most a millisecond younger, under a rule of DAYS."""
    now_ms = -(-before_ns // 10**6) + DAYS * DAY_MS
    *_, last = make_office(server).erase(tenant, now_ms)
    return last


def erase_all(server: Server, tenant: str = "acme") -> Erased:
    return erase(server, NOW_MS * 10**6, tenant)


def read_segments(server: Server, host: bytes) -> list[Segment]:
    return server.store.read_segments(host, 0, 999)


def open_key(server: Server, tenant: str = "acme") -> bytes:
    row = server.store.find_tenant(tenant)
    assert row is not None
    return Vault(KEY).open_tenant_key(tenant, row.sealed_key)


def count_left(directory: Path, boxes: list[bytes]) -> int:
    """How many boxes have a piece anywhere in the store's files."""
    data = b"\n".join(path.read_bytes() for path in sorted(directory.glob("bpci.db*")))
    pieces = {data[at : at + WINDOW] for at in range(len(data) - WINDOW)}
    return sum(
        any(box[at : at + WINDOW] in pieces for at in range(0, len(box) - WINDOW, WINDOW))
        for box in boxes
    )


def test_of_what_is_erased_no_byte_is_left_and_the_audit_is_silent(
    paths: Paths, tmp_path: Path
) -> None:
    top = tmp_path / "server"
    record(paths, make_id(7), count=700)
    with Server(top) as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        keep(server, DAYS)
        before = read_segments(server, host)
        leaves = server.store.read_leaves(host, 0, 9999)
        boxes = [one.box for one in before]
        assert count_left(top, boxes) == len(boxes) > 5
        done = erase_all(server)
        assert done == Erased("acme", len(before), 0, 0, is_done=True)
        assert count_left(top, boxes) == 0
        assert server.store.read_leaves(host, 0, 9999) == leaves
        after = read_segments(server, host)
        for old, new in zip(before, after, strict=True):
            assert new.erased == 1 and new[:8] == old[:8]
            label = label_segment("acme", host, new.leaf_index, 1)
            left = decode_body(unseal(new.box, open_key(server), label))
            assert left[1:4] == (b"", b"", b"")
        assert server.audit() == []
        # it goes on from there, and what is new is there
        record(paths, make_id(8), count=5)
        assert server.sync(paths, host).receipts == 5 and server.audit() == []
    with Server(top) as server:
        assert server.audit() == []
        row, total = server.store.find_host(host), server.intake.tally.get("acme")
        assert row is not None and row.receipts == total.receipts == 16 + 700 + 5
        stored = sum(len(one.data) for one in server.store.read_leaves(host, 0, 9999))
        stored += sum(len(one.box) for one in read_segments(server, host))
        assert row.stored_bytes == total.bytes == stored


def test_what_is_younger_is_kept_and_what_is_of_another_tenant(tmp_path: Path) -> None:
    hosts = [get_paths(str(tmp_path / name)) for name in ("a", "b")]
    for paths in hosts:
        for number in range(4):
            record(paths, make_id(number + 1), count=5)
    with Server(tmp_path / "server") as server:
        names = [server.enrol(hosts[0]), server.enrol(hosts[1], "other")]
        for paths, name in zip(hosts, names, strict=True):
            server.sync(paths, name)
        keep(server, DAYS)
        times = sorted(one.time_last for one in read_segments(server, names[0]))
        assert erase(server, times[0] - 10**6).segments == 0, "it is not older than that"
        assert server.intake.acts.state.size == 1, "nothing was done, and nothing is said"
        count = erase(server, times[1] + 1).segments
        cutoff_ns = server.intake.access.get_cutoff_ns("acme")
        assert count == sum(time < cutoff_ns for time in times) >= 2
        found = {one.time_last: one.erased for one in read_segments(server, names[0])}
        assert found == {time: int(time < cutoff_ns) for time in times}
        assert erase(server, times[1] + 1).segments == 0
        assert erase(server, times[0]).segments == 0, "a clock that is put back"
        assert erase_all(server, "other").segments == 0, "it has no rule"
        assert erase_all(server).segments == len(times) - count
        assert not any(one.erased for one in read_segments(server, names[1]))
        erasure = server.intake.access.erasures["acme"]
        assert erasure.is_done and (erasure.segments, erasure.days) == (len(times) - count, DAYS)
        assert server.audit() == []


def test_certificates_stay_so_that_what_follows_verifies(tmp_path: Path) -> None:
    """A run that goes on after its first segments were erased."""
    paths = get_paths(str(tmp_path / "host"))
    recorder = begin(paths, make_id(1))
    for number in range(5):
        append_durably(recorder, number)
    recorder.close(0)
    size = get_size(paths)
    with Server(tmp_path / "server") as server:
        host, erased = server.enrol(paths), 0
        keep(server, DAYS)
        for end in range(3, size + 1):
            assert server.sync(paths, host, end).kind == "taken"
            assert server.audit() == []
            erased += erase_all(server).segments
            assert server.audit() == []
        assert erased == 5 == len(read_segments(server, host))


def test_an_alert_keeps_what_was_wrong_and_loses_its_batch(paths: Paths, tmp_path: Path) -> None:
    batch = make_batch(paths)
    number = find_kind(batch, hostlog.Segment)[-1]
    items = list(batch.items)
    items[number] = spoil_body(items[number])
    top = tmp_path / "server"
    with Server(top) as server:
        host = server.enrol(paths)
        server.take(host, encode_batch(batch._replace(items=tuple(items))))
        (alert,) = server.store.read_alerts(host, 0, 9)
        evidence = open_alert(server, alert)
        keep(server, DAYS)
        assert erase(server, alert.time_ms * 10**6).alerts == 0
        assert erase(server, (alert.time_ms + 1) * 10**6).alerts == 1
        (left,) = server.store.read_alerts(host, 0, 9)
        assert open_alert(server, left) == (evidence[0], b"")
        assert count_left(top, [alert.box]) == 0
        assert server.audit() == []
    for value in (0, 2):
        edit(top, f"UPDATE alerts SET erased = {value}")
        with Server(top) as server:
            assert [one.table for one in server.audit()] == ["alerts"]


def open_alert(server: Server, alert: Alert) -> tuple[object, bytes]:
    label = label_alert("acme", *alert[:4], alert.erased)
    return decode_evidence(unseal(alert.box, open_key(server), label))


def test_what_is_missing_is_not_what_was_erased(paths: Paths, tmp_path: Path, seed: int) -> None:
    """A body that is gone, or called erased, is named unless an act of retention says so."""
    rng, top = random.Random(seed), tmp_path / "server"
    record(paths, make_id(7), count=50)
    with Server(top) as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        keep(server, DAYS)
        times = sorted(one.time_last for one in read_segments(server, host))
        assert erase(server, times[3]).segments >= 3
        young = [one for one in read_segments(server, host) if not one.erased]
        old = [one for one in read_segments(server, host) if one.erased]
    for one, statement in (
        (rng.choice(young), "UPDATE segments SET erased = 1"),
        (rng.choice(young), "UPDATE segments SET box = x''"),
        (rng.choice(young), f"UPDATE segments SET erased = 1, box = x'{old[0].box.hex()}'"),
        (rng.choice(young), "DELETE FROM segments"),
        (rng.choice(old), "DELETE FROM segments"),
        (rng.choice(old), "UPDATE segments SET erased = 0"),
        (rng.choice(old), "UPDATE segments SET erased = 2"),
        (rng.choice(old), "UPDATE segments SET box = zeroblob(99)"),
    ):
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in top.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        edit(copy, f"{statement} WHERE leaf_index = {one.leaf_index}")
        with SqliteStore(str(copy), is_writer=False) as store:
            found = list(audit(store, KEY, str(copy / act_log.FILE)))
        assert (found[0].table, found[0].place) == ("segments", one.leaf_index), statement
        for path in copy.iterdir():
            path.unlink()
        copy.rmdir()


def test_rows_that_no_act_speaks_of_are_named(paths: Paths, tmp_path: Path) -> None:
    """Even if all acts are gone with the file that counts them."""
    batch, top = make_batch(paths), tmp_path / "server"
    items = list(batch.items)
    number = find_kind(batch, hostlog.Segment)[-1]
    items[number] = spoil_body(items[number])
    with Server(top) as server:
        host = server.enrol(paths)
        server.take(host, encode_batch(batch._replace(items=tuple(items))))
        keep(server, DAYS)
        done = erase(server, (NOW_MS + 1) * 10**6)
        assert done.segments > 0 and done.alerts == 1 and server.audit() == []
    edit(top, "DELETE FROM acts")
    (top / act_log.FILE).unlink()
    with Server(top) as server:
        found = [one.table for one in server.audit() if "no act of retention" in one.why]
    assert sorted(found) == ["alerts", *["segments"] * done.segments]


def test_a_damaged_row_stays_to_be_named_and_holds_up_no_other(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 2)
    top = tmp_path / "server"
    record(paths, make_id(7), count=50)
    with Server(top) as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        keep(server, DAYS)
        segments = sorted(read_segments(server, host), key=lambda one: one.time_last)
    for one in segments[:3]:
        edit(top, f"UPDATE segments SET box = zeroblob(99) WHERE leaf_index = {one.leaf_index}")
    with Server(top) as server:
        done = erase_all(server)
        assert (done.segments, done.damaged) == (len(segments) - 3, 3)
        named = {one.place for one in server.audit() if one.table == "segments"}
        assert named == {one.leaf_index for one in segments[:3]}


def test_what_was_begun_before_a_kill_is_ended_afterwards(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 1)
    top = tmp_path / "server"
    with Server(top) as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        keep(server, DAYS)
        steps = make_office(server).erase("", NOW_MS)
        assert next(steps).segments == 1
        assert not server.intake.access.erasures["acme"].is_done
        assert server.audit() == []
    with Server(top) as server:
        left = sum(not one.erased for one in read_segments(server, host))
        assert erase_all(server).segments == left > 0
        assert server.intake.access.erasures["acme"].is_done and server.audit() == []
        # killed after the last row, before the act that ends it
        steps = make_office(server).erase("", NOW_MS)
        assert [one.is_done for one in steps] == [True]


def test_what_somebody_still_reads_is_gone_after_the_next_run(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "PURGE_S", 0.1)
    top = tmp_path / "server"
    with Server(top) as server, SqliteStore(str(top), is_writer=False) as reader:
        host = server.enrol(paths)
        server.sync(paths, host)
        keep(server, DAYS)
        boxes = [one.box for one in read_segments(server, host)]
        with reader.moment():
            assert [one.box for one in reader.read_segments(host, 0, 99)] == boxes
            with pytest.raises(StateError, match="while it is read"):
                erase_all(server)
            assert count_left(top, boxes) > 0
        erasure = server.intake.access.erasures["acme"]
        assert (erasure.segments, erasure.is_done) == (len(boxes), True)
        assert erase_all(server).segments == 0
        assert count_left(top, boxes) == 0 and server.audit() == []


def test_a_host_that_is_asked_again_sends_nothing_that_was_erased(
    paths: Paths, tmp_path: Path
) -> None:
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        data = make_data(paths)
        server.take(host, data)
        keep(server, DAYS)
        erase_all(server)
        assert server.take(host, data)[0].kind == "known"
        assert server.get_size(host) == get_size(paths)
        assert all(one.erased for one in read_segments(server, host))
        assert server.audit() == []


def test_fewer_days_than_hosts_keep_bodies_have_to_be_forced(tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        office = make_office(server)
        with pytest.raises(Refusal, match="want 14 or more"):
            office.set_retention(SetRetention("acme", 13), NOW_MS)
        shown = office.set_retention(SetRetention("acme", 13, is_forced=True), NOW_MS)
        assert shown["days"] == 13
        assert office.set_retention(SetRetention("acme", 0), NOW_MS)["days"] is None
        assert server.intake.acts.state.size == 2
