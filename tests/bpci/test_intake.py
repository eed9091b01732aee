"""A server keeps what hosts send, once and whole, and says no more than it holds."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from chainlite import hostlog, keys, merkle
from chainlite.bpci import at_rest, batch, intake
from chainlite.bpci.alert import decode_evidence
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.batch import encode_batch
from chainlite.bpci.intake import BROKEN, KNOWN, REFUSED, TAKEN, Request
from chainlite.bpci.store import Alert
from chainlite.errors import StateError
from chainlite.fork import check_fork
from docklock.evidence import keyring
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.servers import KEY, Server, check
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, resign, spoil_body
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path / "server"


def get_root(paths: Paths, size: int) -> bytes:
    with HostLog(paths, None) as log:
        return log.compute_root(size)


def open_evidence(server: Server, alert: Alert, tenant: str = "acme") -> tuple[object, bytes]:
    row = server.store.find_tenant(tenant)
    assert row is not None
    key = Vault(KEY).open_tenant_key(tenant, row.sealed_key)
    label = at_rest.label_alert(tenant, *alert[:4])
    return decode_evidence(at_rest.unseal(alert.box, key, label))


def test_what_a_host_sends_is_kept_and_acknowledged(paths: Paths, top: Path) -> None:
    data, size = make_data(paths), get_size(paths)
    with Server(top) as server:
        host = server.enrol(paths)
        answer = server.take(host, data)[0]
        assert (answer.kind, answer.receipts, answer.why, answer.alert) == (TAKEN, 16, "", "")
        assert check(answer.acknowledgement, host).held == (host, size, get_root(paths, size))
        assert server.audit() == []
    with Server(top) as server:
        row = server.store.find_host(host)
        assert row is not None and (row.size, row.receipts, row.open_runs) == (size, 16, 0)
        again = server.take(host, data)[0]
        assert again[0] == KNOWN and again[2:5] == (0, "", "")
        assert check(again.acknowledgement, host)[:2] == check(answer.acknowledgement, host)[:2]
        key = Vault(KEY).open_tenant_key("acme", server.store.read_tenants()[0].sealed_key)
        items = make_batch(paths).items
        for one in server.store.read_segments(host, 0, 99):
            label = at_rest.Label(at_rest.SEGMENT, "acme", host, one.leaf_index)
            assert at_rest.unseal(one.box, key, label) == items[one.leaf_index].body
    on_disk = b"".join(path.read_bytes() for path in top.iterdir())
    assert b"/tmp/1" not in on_disk and b"ls\0-l" not in on_disk


def test_any_pieces_in_any_order_and_number_come_to_the_same(
    paths: Paths, top: Path, seed: int
) -> None:
    rng, size = random.Random(seed), get_size(paths)
    cuts = [0, *sorted(rng.sample(range(1, size), 6)), size]
    pieces = [make_data(paths, *cuts[at : at + 2]) for at in range(len(cuts) - 1)]
    pieces += [make_data(paths, 0, 9), make_data(paths, 5), make_data(paths, 3, 8)]
    with Server(top) as server:
        host = server.enrol(paths)
        receipts, rounds = 0, 0
        while (row := server.store.find_host(host)) is not None and row.size < size:
            rng.shuffle(pieces)
            at = rng.randrange(1, 4)
            asked = [make_data(paths, row.size, row.size + 1)]
            for group in (pieces[:at], asked, pieces[at:]):
                for answer in server.take(host, *group):
                    assert answer.kind in (TAKEN, KNOWN)
                    receipts += answer.receipts
                    check(answer.acknowledgement, host)
            rounds += 1
            assert rounds < 99
        assert receipts == 16
        assert server.audit() == []
        last = server.take(host, pieces[0])[0]
        assert check(last.acknowledgement, host).held == (host, size, get_root(paths, size))


def test_batches_of_one_group_follow_each_other_under_one_commit(paths: Paths, top: Path) -> None:
    with Server(top) as server:
        host = server.enrol(paths)
        commits = server.store._db.total_changes
        answers = server.take(host, *[make_data(paths, n, n + 1) for n in range(5)])
        held = [check(answer.acknowledgement, host).held for answer in answers]
        assert held == [(host, n + 1, get_root(paths, n + 1)) for n in range(5)]
        assert [answer.kind for answer in answers] == [TAKEN] * 5
        assert server.store.find_log()[0] == 6
        assert server.store._db.total_changes > commits
        assert server.audit() == []


def test_a_row_that_somebody_wrote_makes_no_host_and_moves_none(
    paths: Paths, tmp_path: Path, top: Path
) -> None:
    """Else what a host sends from then on could be read by who reads for another tenant."""
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(1), count=2)
    with Server(top) as server:
        host = server.enrol(paths)
        server.sync(paths, host, 3)
        own = server.enrol(other, "other")
    edit(top, "UPDATE hosts SET tenant = 'other' WHERE tenant = 'acme'")
    with Server(top) as server:
        answer = server.sync(paths, host)
        assert (answer.kind, server.get_size(host)) == (BROKEN, 3)
        assert server.sync(other, own).kind == TAKEN
    edit(top, f"UPDATE hosts SET tenant = 'acme' WHERE host = x'{host.hex()}'")
    stranger = get_paths(str(tmp_path / "stranger"))
    record(stranger, make_id(1), count=2)
    name = keys.compute_host_id(keyring.ensure_host_key(stranger).enrolled)
    edit(top, f"INSERT INTO hosts SELECT x'{name.hex()}', tenant, enrolment, 0, 0, 0, 0, x'', x'',"
         f" log_leaf, root, 0 FROM hosts WHERE host = x'{host.hex()}'")  # fmt: skip
    with Server(top) as server:
        assert server.take(name, make_data(stranger))[0].kind == BROKEN
        assert server.sync(paths, host).kind == TAKEN


def test_hosts_of_many_tenants_share_a_server(tmp_path: Path, top: Path) -> None:
    with Server(top) as server:
        names = ("acme", "'; DROP TABLE hosts; --", "b\0c", "ä\u202e")
        sent = []
        for number, tenant in enumerate(names):
            own = get_paths(str(tmp_path / f"host-{number}"))
            record(own, make_id(number), count=5)
            sent.append((server.enrol(own, tenant), own))
        requests = [Request(host, batch.compress(make_data(own)), True) for host, own in sent]
        for (host, own), answer in zip(sent, server.intake.take(requests), strict=True):
            assert (answer.kind, answer.receipts) == (TAKEN, 5)
            size = get_size(own)
            assert check(answer.acknowledgement, host).held == (host, size, get_root(own, size))
        assert server.audit() == []
        assert sorted(one.tenant for one in server.store.read_hosts(b"", 9)) == sorted(names)


def test_who_is_not_enrolled_or_sends_anothers_is_refused(paths: Paths, top: Path) -> None:
    data = make_data(paths)
    with Server(top) as server:
        stranger = server.take(make_batch(paths).host, data)[0]
        assert stranger.kind == REFUSED and "not enrolled" in stranger.why
        assert stranger.acknowledgement == b""
        host = server.enrol(paths)
        other = server.take(b"\x01" * 32, data)[0]
        assert other.kind == REFUSED and "another host" in other.why
        for bad in (b"", data[:-1], b"x" + data[1:]):
            assert server.take(host, bad)[0].kind == REFUSED
        packed = server.intake.take([Request(host, data, True)])[0]
        assert packed.kind == REFUSED and "does not decompress" in packed.why
        assert server.store.find_log()[0] == 1
        assert server.take(host, data)[0].kind == TAKEN


def test_enrolment_is_once_and_of_one_tenant(paths: Paths, top: Path) -> None:
    with Server(top) as server:
        with pytest.raises(StateError, match="no tenant"):
            server.intake.enrol("acme", bytes(32))
        host = server.enrol(paths)
        assert server.enrol(paths) == host and server.store.find_log()[0] == 1
        with pytest.raises(StateError, match="enrolled already"):
            server.enrol(paths, "other")
        with pytest.raises(StateError, match="this name already"):
            server.intake.add_tenant("acme")


def test_the_honest_part_before_a_bad_receipt_is_acknowledged(paths: Paths, top: Path) -> None:
    whole = make_batch(paths)
    number = find_kind(whole, hostlog.Segment)[3]
    items = list(whole.items)
    items[number] = spoil_body(items[number])
    bad = encode_batch(whole._replace(items=tuple(items)))
    with Server(top) as server:
        host = server.enrol(paths)
        answer = server.take(host, bad)[0]
        assert (answer.kind, answer.alert) == (REFUSED, "receipt")
        assert f"leaf {number}:" in answer.why
        assert check(answer.acknowledgement, host).held[1:] == (number, get_root(paths, number))
        # again and again it changes nothing and is one alert
        for _ in range(3):
            again = server.take(host, bad)[0]
            held = check(again.acknowledgement, host).held
            assert (again.kind, held[1:]) == (KNOWN, (number, get_root(paths, number)))
            rest = encode_batch(make_batch(paths, number)._replace(items=tuple(items[number:])))
            assert server.take(host, rest)[0].alert == "receipt"
        alert = server.store.find_alert(host, "receipt", number)
        assert alert is not None and len(server.store.read_alerts(host, 0, 9)) == 1
        trouble, proof = open_evidence(server, alert)
        assert proof == bad and trouble.leaf_index == number  # type: ignore[attr-defined]
        assert server.audit() == []
        # the host's true log goes on from there
        assert server.sync(paths, host).kind == TAKEN
        assert server.audit() == []


def test_a_gap_a_forgery_and_a_fork_are_set_aside_with_their_proof(
    paths: Paths, top: Path, tmp_path: Path
) -> None:
    whole, size = make_batch(paths), get_size(paths)
    missing = find_kind(whole, hostlog.Segment)[1]
    gap = resign(paths, whole, [one for n, one in enumerate(whole.items) if n != missing])
    shutil.copytree(paths.state, tmp_path / "fork")
    forked = paths._replace(state=str(tmp_path / "fork"))
    record(paths, make_id(5), count=1)
    record(forked, make_id(6), count=2)
    record(forked, make_id(7), count=2)
    with Server(top) as server:
        host = server.enrol(paths)
        answer = server.take(host, encode_batch(gap))[0]
        assert answer.alert == "gap" and server.audit() == []
    shutil.rmtree(top)
    with Server(top) as server:
        host = server.enrol(paths)
        assert server.take(host, make_data(paths))[0].kind == TAKEN
        for data in (make_data(forked, 0), make_data(forked, size)):
            answer = server.take(host, data)[0]
            assert (answer.kind, answer.alert) == (REFUSED, "fork")
        alerts = server.store.read_alerts(host, 0, 9)
        assert len(alerts) == 1
        trouble, _ = open_evidence(server, alerts[0])
        assert check_fork(trouble.proof).host == host.hex()  # type: ignore[attr-defined]
        held = check(answer.acknowledgement, host).held
        assert held.root == get_root(paths, get_size(paths))
        assert server.audit() == []


def test_alerts_of_one_host_are_bounded(
    paths: Paths, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ALERTS_MAX", 3)
    with Server(top) as server:
        host = server.enrol(paths)
        for number in find_kind(make_batch(paths), hostlog.Segment)[:5]:
            row = server.store.find_host(host)
            assert row is not None
            part = make_batch(paths, row.size)
            items = list(part.items)
            items[number - row.size] = spoil_body(items[number - row.size])
            bad = encode_batch(part._replace(items=tuple(items)))
            assert server.take(host, bad)[0].alert == "receipt"
            assert server.take(host, make_data(paths, number, number + 1))[0].kind == TAKEN
        assert len(server.store.read_alerts(host, 0, 9)) == 3
        assert server.audit() == []


def test_times_that_are_still_to_come_are_kept_with_an_alert(paths: Paths, top: Path) -> None:
    with Server(top, now_ms=1000) as server:
        host = server.enrol(paths)
        answer = server.take(host, make_data(paths))[0]
        assert (answer.kind, answer.alert, answer.receipts) == (TAKEN, "future", 16)
        assert len(server.store.read_alerts(host, 0, 9)) == 1
        assert server.audit() == []


def test_what_begins_beyond_the_end_changes_nothing(paths: Paths, top: Path) -> None:
    with Server(top) as server:
        host = server.enrol(paths)
        for start in (1, 5, get_size(paths) - 1):
            answer = server.take(host, make_data(paths, start))[0]
            assert answer.kind == KNOWN
            assert check(answer.acknowledgement, host).held == (host, 0, merkle.EMPTY_ROOT)
        assert server.store.find_log()[0] == 1


def test_a_full_disk_acknowledges_nothing_and_passes(paths: Paths, top: Path) -> None:
    with Server(top) as server:
        host = server.enrol(paths)
        assert server.sync(paths, host, 8).kind == TAKEN
        note = (top / "checkpoint").read_bytes()
        pages = server.store._db.execute("PRAGMA page_count").fetchone()[0]
        server.store._db.execute(f"PRAGMA max_page_count = {pages}")
        rest = make_data(paths, 8)
        for _ in range(3):
            with pytest.raises(StateError, match="the disk is full"):
                server.take(host, rest)
        assert (top / "checkpoint").read_bytes() == note
        row = server.store.find_host(host)
        assert row is not None and row.size == 8 and server.store.find_log()[0] == 2
        server.store._db.execute("PRAGMA max_page_count = 1000000")
        assert server.take(host, rest)[0].kind == TAKEN
        assert server.audit() == []


def test_a_damaged_store_is_the_servers_trouble_and_not_the_hosts(paths: Paths, top: Path) -> None:
    with Server(top) as server:
        host = server.enrol(paths)
        assert server.sync(paths, host, 8).kind == TAKEN
    edit(top, "UPDATE runs SET state = x'00'")
    with Server(top) as server:
        answer = server.take(host, make_data(paths, 8))[0]
        assert answer.kind == BROKEN and answer.alert == ""
        assert server.store.read_alerts(host, 0, 9) == []
