"""What every store of a server does: one suite, which each store's test runs over itself.

A subclass says how a store is opened (`open_writer`, `open_reader`); the directory is a test's own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite import hostlog
from chainlite.bpci.store import (
    ActRow,
    Alert,
    Bundle,
    Changes,
    Host,
    Leaf,
    LogBlock,
    Notarised,
    Place,
    Ranges,
    Run,
    Segment,
    Store,
    Tenant,
    TenantTotals,
)
from chainlite.errors import StateError

HOSTS = [bytes([number]) * 32 for number in range(1, 6)]
BOX = b"\x01" * 32
ODD_NAMES = (
    "'; DROP TABLE hosts; --", '" OR ""="', "x'00'", "a\0b", "%_%", "--", ";", "ä" * 20, "\\", "?1",
    ":name", "$1", "1); DELETE FROM leaves; --", "\u202e", "NULL",
)  # fmt: skip


def make_host(number: int, **changes: object) -> Host:
    host = Host(HOSTS[number], "acme", bytes(32), 3, 10, 1, 0, b"progress", b"note", 7, BOX)
    return host._replace(**changes)  # type: ignore[arg-type]


def make_leaf(host: bytes, index: int, container: bytes = b"", kind: int = 0x20) -> Leaf:
    return Leaf(host, index, kind, container, b"leaf %d" % index, bytes([index]) * 32)


def make_segment(host: bytes, index: int, container: bytes, run: int, first: int) -> Segment:
    return Segment(host, index, container, run, first, 10, 5 + first, 9 + first, BOX + bytes([run]))


class StoreConformance:
    """The suite."""

    def open_writer(self, directory: Path) -> Store:
        raise NotImplementedError

    def open_reader(self, directory: Path) -> Store:
        raise NotImplementedError

    def close(self, store: Store) -> None:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.open_writer(tmp_path)

    def test_nothing_is_there_at_first(self, store: Store) -> None:
        assert store.find_tenant("acme") is store.find_host(HOSTS[0]) is None
        assert store.find_run(HOSTS[0], BOX) is store.find_alert(HOSTS[0], "fork", 1) is None
        assert store.find_hashes(HOSTS[0], 0) == b""
        assert store.read_leaves(b"", 0, 9) == store.read_segments(b"", 0, 9) == []
        assert store.read_tenants() == store.read_hosts(b"", 9) == []
        assert store.read_acts(0, 9) == store.read_totals() == []
        assert store.read_old_segments(HOSTS[0], 2**62, 0, 9) == []
        assert store.find_log() == (0, b"")
        store.commit(Changes())
        assert store.find_log() == (0, b"")

    def test_what_is_committed_is_there_and_is_there_when_opened_again(
        self, store: Store, tmp_path: Path
    ) -> None:
        changes = Changes(
            tenants=[Tenant("acme", b"sealed")],
            hosts=[make_host(0), make_host(2)],
            leaves=[make_leaf(HOSTS[0], 0), make_leaf(HOSTS[0], 1, BOX), make_leaf(b"", 0)],
            segments=[make_segment(HOSTS[0], 1, BOX, 0, 0)],
            runs=[Run(HOSTS[0], BOX, b"state")], alerts=[Alert(HOSTS[0], "gap", 4, 5, b"box")],
            acts=[ActRow(0, b"box")], note=b"note",
        )  # fmt: skip
        store.commit(changes)
        for _ in range(2):
            assert store.find_tenant("acme") == changes.tenants[0] == store.read_tenants()[0]
            assert store.read_hosts(b"", 9) == changes.hosts
            assert store.find_host(HOSTS[2]) == make_host(2)
            assert store.read_leaves(HOSTS[0], 0, 9) == changes.leaves[:2]
            assert store.find_hashes(HOSTS[0], 1) == bytes([1]) * 32
            assert store.read_segments(HOSTS[0], 0, 9) == changes.segments
            assert store.find_run(HOSTS[0], BOX) == changes.runs[0]
            assert store.read_runs(HOSTS[0], b"", 9) == changes.runs
            assert store.find_alert(HOSTS[0], "gap", 4) == changes.alerts[0]
            assert store.read_acts(0, 9) == changes.acts
            assert store.find_log() == (1, b"note")
            self.close(store)
            store = self.open_writer(tmp_path)

    def test_a_commit_is_whole_or_not_there(self, store: Store, tmp_path: Path) -> None:
        store.commit(Changes(leaves=[make_leaf(HOSTS[0], 0)]))
        bad = Changes(
            tenants=[Tenant("acme", b"x")], hosts=[make_host(0)],
            leaves=[make_leaf(HOSTS[0], 1), make_leaf(HOSTS[0], 0)], note=b"note",
        )  # fmt: skip
        with pytest.raises(StateError):
            store.commit(bad)
        self.close(store)
        store = self.open_writer(tmp_path)
        assert store.find_tenant("acme") is None and store.find_host(HOSTS[0]) is None
        assert store.read_leaves(HOSTS[0], 0, 9) == [make_leaf(HOSTS[0], 0)]
        assert store.find_log() == (0, b"")
        store.commit(Changes(leaves=[make_leaf(HOSTS[0], 1)]))

    def test_hosts_and_runs_are_replaced_leaves_never(self, store: Store) -> None:
        store.commit(Changes(hosts=[make_host(0)], runs=[Run(HOSTS[0], BOX, b"a")]))
        store.commit(Changes(hosts=[make_host(0, size=9)], runs=[Run(HOSTS[0], BOX, b"b")]))
        found = store.find_host(HOSTS[0])
        assert found is not None and found.size == 9
        assert store.read_runs(HOSTS[0], b"", 9) == [Run(HOSTS[0], BOX, b"b")]
        store.commit(Changes(alerts=[Alert(HOSTS[0], "gap", 4, 5, b"first")]))
        store.commit(Changes(alerts=[Alert(HOSTS[0], "gap", 4, 6, b"second")]))
        assert store.read_alerts(HOSTS[0], 0, 9) == [Alert(HOSTS[0], "gap", 4, 5, b"first")]

    def test_ranges_are_in_order_within_their_limits(self, store: Store) -> None:
        other = bytes(32)
        leaves = [make_leaf(HOSTS[0], n, BOX if n % 2 else other) for n in range(20)]
        segments = [make_segment(HOSTS[0], n, BOX, n // 10, 5 * n) for n in range(1, 20, 2)]
        kept = [
            leaf._replace(kind=hostlog.SEGMENT_KIND) if leaf.leaf_index % 4 == 1 else leaf
            for leaf in leaves
        ]
        store.commit(
            Changes(
                hosts=[make_host(n) for n in (3, 0, 2)],
                leaves=[*reversed(kept), make_leaf(HOSTS[1], 0, BOX)], segments=segments,
                runs=[Run(HOSTS[0], one, b"") for one in (BOX, other)],
                alerts=[Alert(HOSTS[0], kind, n, 0, b"") for n in (3, 1) for kind in ("b", "a")],
            )
        )  # fmt: skip
        assert [one.host for one in store.read_hosts(HOSTS[0], 9)] == [HOSTS[2], HOSTS[3]]
        assert store.read_hosts(b"", 1) == [make_host(0)]
        assert store.read_leaves(HOSTS[0], 5, 3) == kept[5:8]
        assert store.read_leaves(HOSTS[0], 20, 3) == []
        assert store.read_segments(HOSTS[0], 6, 2) == segments[3:5]
        assert store.find_segments(HOSTS[0], BOX, 0, 0, 9) == segments[:5]
        assert store.find_segments(HOSTS[0], BOX, 0, 25, 1) == [segments[2]]
        assert store.find_segments(HOSTS[0], BOX, 1, 0, 2) == segments[5:7]
        assert store.find_segments(HOSTS[0], BOX, 0, 54, 9) == segments[4:5]
        assert store.find_segments(HOSTS[0], BOX, 0, 55, 9) == []
        assert store.find_segments(HOSTS[0], BOX, 0, 2**64 - 1, 9) == []
        places = [Place(*one[:8]) for one in segments]
        assert store.read_places(HOSTS[0], 0, -1, 99) == places  # their times rise with them
        after = places[3]
        assert store.read_places(HOSTS[0], after.time_first, after.leaf_index, 2) == places[4:6]
        assert store.read_places(HOSTS[0], after.time_first, after.leaf_index - 1, 1) == [after]
        assert store.read_container_places(HOSTS[0], BOX, 0, 0, 99) == places
        assert store.read_container_places(HOSTS[0], BOX, 0, 40, 3) == places[4:7]
        assert store.read_container_places(HOSTS[0], other, 0, 0, 9) == []
        for size, ranges, wanted in (
            (99, (0, 2**64 - 1, 0, 2**64 - 1), (5, 45, 55)),
            (6, (0, 2**64 - 1, 0, 2**64 - 1), (5, 25, 35)),
            (99, (20, 30, 0, 2**64 - 1), (15, 25, 55)),
            (99, (0, 99, 31, 41), (25, 35, 55)),
            (99, (0, 99, 1000, 2000), (-1, 45, 55)),
            (99, (0, 4, 0, 2**64 - 1), (5, -1, 55)),
            (1, (0, 99, 0, 99), (-1, -1, 0)),
        ):
            found_now = store.find_touched(HOSTS[0], BOX, 0, size, Ranges(*ranges))
            assert found_now == wanted, (size, ranges)
        found = store.read_container_leaves(HOSTS[0], BOX, 9)
        assert [one.leaf_index for one in found] == [3, 7, 11, 15, 19]
        assert [one.container for one in store.read_runs(HOSTS[0], b"", 9)] == [other, BOX]
        assert len(store.read_runs(HOSTS[0], other, 9)) == 1
        found_alerts = store.read_alerts(HOSTS[0], 1, 3)
        assert [(one.leaf_index, one.kind) for one in found_alerts] == [
            (1, "a"), (1, "b"), (3, "a"),
        ]  # fmt: skip

    def test_logblocks_are_found_by_their_chain_and_never_replaced(
        self, store: Store, tmp_path: Path
    ) -> None:
        chains = [(HOSTS[0], key, app) for key in (BOX, HOSTS[1]) for app in ("a", "b")]
        blocks = [LogBlock(*chain, n, b"%d" % n, BOX, b"") for chain in chains for n in range(3)]
        runs = [Notarised(*chain, HOSTS[2], n, n) for chain in chains for n in range(2)]
        elsewhere = blocks[0]._replace(host=HOSTS[3])
        store.commit(Changes(blocks=[*reversed(blocks), elsewhere], notarised=runs))
        for _ in range(2):
            assert store.find_newest_block(*chains[1]) == blocks[5]
            assert store.find_block(*chains[2], 1) == blocks[7]
            assert store.find_block(*chains[2], 3) is None
            assert store.find_newest_block(HOSTS[4], BOX, "a") is None
            assert store.read_blocks(HOSTS[0], b"", "", -1, 99) == blocks
            assert store.read_blocks(HOSTS[0], *chains[0][1:], 1, 3) == blocks[2:5]
            assert store.find_notarised(*chains[3], HOSTS[2], 1) == runs[7]
            assert store.find_notarised(*chains[3], HOSTS[2], 2) is None
            first = Notarised(HOSTS[0], b"", "", b"", -1, 0)
            assert store.read_notarised(first, 99) == runs
            assert store.read_notarised(runs[2], 2) == runs[3:5]
            self.close(store)
            store = self.open_writer(tmp_path)
        store.commit(Changes(notarised=[runs[0]._replace(leaf_index=7)]))
        assert store.find_notarised(*runs[0][:5]) == runs[0]._replace(leaf_index=7)
        with pytest.raises(StateError):
            store.commit(Changes(blocks=[blocks[0]._replace(block=b"other")]))

    def test_bundles_are_found_by_their_window_and_never_replaced(
        self, store: Store, tmp_path: Path
    ) -> None:
        chains = [(HOSTS[0], key, app) for key in (BOX, HOSTS[1]) for app in ("a", "b")]
        starts = (0, 3600, 2**40)
        rows = [Bundle(*chain, start, b"%d" % start, BOX) for chain in chains for start in starts]
        elsewhere = rows[0]._replace(host=HOSTS[3])
        store.commit(Changes(bundles=[*reversed(rows), elsewhere]))
        for _ in range(2):
            assert store.find_newest_bundle(*chains[1]) == rows[5]
            assert store.find_newest_bundle(HOSTS[4], BOX, "a") is None
            assert store.find_bundle(*chains[2], 3600) == rows[7]
            assert store.find_bundle(*chains[2], 7200) is None
            assert store.find_bundle(*chains[2], 2**64 - 1) is None
            assert store.read_bundles(HOSTS[0], b"", "", -1, 99) == rows
            assert store.read_bundles(HOSTS[0], *chains[0][1:], 0, 3) == rows[1:4]
            self.close(store)
            store = self.open_writer(tmp_path)
        with pytest.raises(StateError):
            store.commit(Changes(bundles=[rows[0]._replace(bundle=b"other")]))

    def test_acts_are_never_replaced_and_are_read_in_order(self, store: Store) -> None:
        acts = [ActRow(number, b"box %d" % number) for number in range(5)]
        store.commit(Changes(acts=[*reversed(acts[1:])]))
        store.commit(Changes(acts=acts[:1]))
        assert store.read_acts(0, 9) == acts and store.read_acts(2, 2) == acts[2:4]
        with pytest.raises(StateError):
            store.commit(Changes(acts=[ActRow(2, b"other")]))
        assert store.read_acts(2, 1) == acts[2:3]

    def test_a_log_begins_anew_with_all_else_in_place(self, store: Store) -> None:
        tenants = [Tenant("acme", b"old"), Tenant("b", b"stays")]
        leaves = [make_leaf(HOSTS[0], 0), make_leaf(b"", 0), make_leaf(b"", 1)]
        hosts, acts = [make_host(0), make_host(1)], [ActRow(0, b"first"), ActRow(1, b"second")]
        store.commit(
            Changes(tenants=tenants, hosts=hosts, leaves=leaves, acts=acts, note=b"checkpoint")
        )
        store.begin_log([Tenant("acme", b"new")], [ActRow(1, b"anew")], -1)
        assert store.find_log() == (0, b"") and store.read_leaves(b"", 0, 9) == []
        assert store.read_leaves(HOSTS[0], 0, 9) == leaves[:1]
        assert store.read_tenants() == [Tenant("acme", b"new"), tenants[1]]
        assert store.read_acts(0, 9) == [acts[0], ActRow(1, b"anew")]
        assert store.read_hosts(b"", 9) == [one._replace(log_leaf=-1) for one in hosts]

    def test_what_tenants_have_is_the_sum_of_their_hosts(self, store: Store) -> None:
        rows = [make_host(n, tenant="b" if n == 2 else "a", stored_bytes=10 * n) for n in range(4)]
        store.commit(Changes(hosts=rows))
        assert store.read_totals() == [TenantTotals("a", 3, 30, 40), TenantTotals("b", 1, 10, 20)]

    def test_erased_rows_take_the_place_of_older_ones(self, store: Store, tmp_path: Path) -> None:
        whole = [make_segment(HOSTS[0], n, BOX, 0, 10 * n) for n in range(6)]
        marks = [(b"SECRET-%d-" % n) * 700 for n in range(6)]
        filled = [one._replace(box=mark) for one, mark in zip(whole, marks, strict=True)]
        alert = Alert(HOSTS[0], "gap", 4, 5, b"SECRET-ALERT" * 99)
        store.commit(Changes(segments=filled, alerts=[alert]))
        assert store.read_old_segments(HOSTS[0], filled[3].time_last, 0, 9) == filled[:3]
        assert store.read_old_segments(HOSTS[0], filled[3].time_last, 1, 1) == filled[1:2]
        assert store.read_old_segments(HOSTS[1], 2**62, 0, 9) == []
        left = [one._replace(box=b"left", erased=1) for one in filled[:3]]
        less = alert._replace(box=b"less", erased=1)
        store.commit(Changes(erased_segments=left, erased_alerts=[less]))
        store.purge()
        assert store.read_segments(HOSTS[0], 0, 9) == [*left, *filled[3:]]
        assert store.read_alerts(HOSTS[0], 0, 9) == [less]
        assert store.read_old_segments(HOSTS[0], 2**62, 0, 9) == filled[3:]
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        for mark in (*marks[:3], alert.box):
            assert mark[:11] not in on_disk
        assert all(mark[:11] in on_disk for mark in marks[3:])

    def test_names_are_data_whatever_is_in_them(self, store: Store) -> None:
        for number, name in enumerate(ODD_NAMES):
            host = make_host(0, host=bytes([50 + number]) * 32, tenant=name)
            alert = Alert(host.host, name, 0, 0, b"")
            store.commit(Changes(tenants=[Tenant(name, b"k")], hosts=[host], alerts=[alert]))
            assert store.find_tenant(name) == Tenant(name, b"k")
            assert store.find_host(host.host) == host
            assert store.find_alert(host.host, name, 0) == alert
        assert sorted(one.name for one in store.read_tenants()) == sorted(ODD_NAMES)
        assert len(store.read_hosts(b"", 99)) == len(ODD_NAMES)

    def test_a_reader_sees_what_was_committed_and_writes_nothing(
        self, store: Store, tmp_path: Path
    ) -> None:
        reader = self.open_reader(tmp_path)
        assert reader.find_log() == (0, b"")
        store.commit(Changes(leaves=[make_leaf(b"", 0)], note=b"note"))
        assert reader.find_log() == (1, b"note")
        with pytest.raises((AssertionError, StateError)):
            reader.commit(Changes(note=b"other"))
        assert store.find_log() == (1, b"note")
        self.close(reader)

    def test_what_is_read_in_a_moment_is_of_one(self, store: Store, tmp_path: Path) -> None:
        reader = self.open_reader(tmp_path)
        with reader.moment():
            assert reader.find_log() == (0, b"")
            store.commit(Changes(hosts=[make_host(0)], leaves=[make_leaf(b"", 0)], note=b"note"))
            assert reader.find_log() == (0, b"") and reader.find_host(HOSTS[0]) is None
        assert reader.find_log() == (1, b"note") and reader.find_host(HOSTS[0]) is not None
        self.close(reader)

    def test_there_is_one_writer(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StateError):
            self.open_writer(tmp_path)
        self.close(store)
        self.close(self.open_writer(tmp_path))
