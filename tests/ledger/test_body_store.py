"""What was answered is held: over kills, torn ends, damage, full disks; and what is read back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chainlite import merkle
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger import body_file, body_store
from chainlite.ledger.bodies import HostBodies, verify_items, verify_offer
from chainlite.ledger.body_file import MAGIC
from chainlite.ledger.body_repair import find_damage, repair
from chainlite.ledger.body_store import BodyStore
from chainlite.ledger.offer import Ack, Item, decode_ack, decode_offer, encode_ack
from docklock.paths import Paths
from tests.evidence.recording import ROOT, make_id, make_paths, record
from tests.ledger.offered import get_size, make_host, offer_range


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def make_offers(paths: Paths, step: int = 1) -> list[bytes]:
    return [
        offer_range(paths, start, start + step).data for start in range(0, get_size(paths), step)
    ]


def get_host(offers: list[bytes]) -> bytes:
    return decode_offer(offers[0]).host


def get_items(offers: list[bytes]) -> list[Item]:
    return [item for data in offers for item in decode_offer(data).items]


def read_all(store: BodyStore, host: bytes, start: int = 0) -> list[Item]:
    return store.reader.read(host, start, store.get_size_root(host)[0], 1 << 30)


def list_paths(directory: str, host: bytes) -> list[Path]:
    return sorted(Path(directory, host.hex()).glob("*.bodies"))


def test_what_was_taken_is_there_in_the_next_process(paths: Paths, tmp_path: Path) -> None:
    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    host = get_host(offers)
    with BodyStore(directory) as store:
        assert store.get_size_root(host) == (0, merkle.EMPTY_ROOT)
        assert store.reader.get_hosts() == ()
    for number, data in enumerate(offers):
        with BodyStore(directory) as store:
            ack = store.take(data)
            assert (ack.host, ack.size) == (host, number + 1)
    with BodyStore(directory) as store:
        assert store.reader.get_hosts() == (host,)
        assert store.get_size_root(host) == ack[1:3]
        assert read_all(store, host) == get_items(offers)
        held = store.get_held(host)
        assert held.note == decode_offer(offers[-1]).note and len(held.key_leaves) == 2
        assert not store.lost


def test_an_offer_that_begins_elsewhere_says_where_the_host_stands(
    paths: Paths, tmp_path: Path
) -> None:
    offers = make_offers(paths)
    with BodyStore(str(tmp_path / "bodies")) as store:
        first = store.take(offers[0])
        assert store.take(offers[0]) == store.take(offers[2]) == first._replace(receipts=0)
        assert store.take(offers[1]).size == 2
        assert decode_ack(encode_ack(first)) == first


def test_an_offer_that_does_not_hold_leaves_nothing(paths: Paths, tmp_path: Path) -> None:
    data = offer_range(paths).data
    with BodyStore(str(tmp_path / "bodies")) as store:
        bad = bytearray(data)
        bad[-1] ^= 1
        with pytest.raises((SpecError, TamperError)):
            store.take(bytes(bad))
        assert store.reader.get_hosts() == () and not os.listdir(tmp_path / "bodies")


def test_what_is_read_can_be_taken_by_who_stands_anywhere(paths: Paths, tmp_path: Path) -> None:
    offers, size = make_offers(paths, 4), get_size(paths)
    host = get_host(offers)
    with BodyStore(str(tmp_path / "bodies")) as store:
        for data in offers:
            store.take(data)
        for start in range(size):
            known = HostBodies(host)
            for one in make_offers(paths)[:start]:
                known.apply(verify_offer(known, decode_offer(one)))
            known.apply(verify_items(known, read_all(store, host, start)))
            assert known.progress.size == size
        items = get_items(offers)
        assert store.reader.read(host, 3, 7, 1 << 30) == items[3:7]
        assert store.reader.read(host, 3, 7, 0) == items[3:4]
        room = sum(len(item.leaf) + len(item.body) for item in items[3:5])
        assert store.reader.read(host, 3, 7, room) == items[3:5]


def test_items_are_appended_where_the_host_stands_and_only_if_they_hold(
    paths: Paths, tmp_path: Path
) -> None:
    offers = make_offers(paths, 5)
    host, items = get_host(offers), get_items(offers)
    note = decode_offer(offers[-1]).note
    with BodyStore(str(tmp_path / "bodies")) as store:
        assert store.append_unsynced(host, 0, items[:6], b"").size == 6
        assert store.append_unsynced(host, 3, items[3:], b"").size == 6
        bad = items[7]._replace(body=items[7].body[:-1] + b"\0")
        with pytest.raises((SpecError, TamperError)):
            store.append_unsynced(host, 6, [items[6], bad, *items[8:]], note)
        assert store.get_held(host).note == b""
        store.append_unsynced(host, 6, items[6:], note)
        assert store.get_held(host).note == note
        assert read_all(store, host) == items


def test_every_hash_of_the_log_can_be_read(paths: Paths, tmp_path: Path) -> None:
    directory, offers = str(tmp_path / "bodies"), make_offers(paths, 3)
    host = get_host(offers)
    hashes = [merkle.compute_leaf_hash(item.leaf) for item in get_items(offers)]
    for data in offers:
        with BodyStore(directory) as store:
            store.take(data)
        Path(directory, host.hex(), "nodes").write_bytes(b"")  # no sync has kept it
    with BodyStore(directory) as store:
        store.get_held(host)
        for level in range(len(hashes).bit_length()):
            for number in range(len(hashes) >> level):
                wanted = merkle.compute_root(hashes[number << level : (number + 1) << level])
                assert store.reader.get_hash(host, level, number) == wanted


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    with BodyStore(str(tmp_path)), pytest.raises(StateError, match="another process"):
        BodyStore(str(tmp_path))


def test_files_rotate_and_old_ones_can_be_forgotten(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_store, "FILE_BYTES_MAX", 4000)
    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    host = get_host(offers)
    with BodyStore(directory) as store:
        for data in offers:
            store.take(data)
        firsts, _ = store.reader.list_files(host)
        assert len(firsts) > 4
        assert read_all(store, host) == get_items(offers)
        assert store.forget(host, firsts[2]) == 2
        assert store.forget(host, firsts[2]) == 0
        with pytest.raises(StateError, match="are gone"):
            read_all(store, host)
        assert read_all(store, host, firsts[2]) == get_items(offers)[firsts[2] :]
    with BodyStore(directory) as store:
        assert store.get_size_root(host)[0] == len(offers)


def test_hosts_above_those_kept_open_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_store, "HOSTS_OPEN_MAX", 2)
    with BodyStore(str(tmp_path / "bodies")) as store:
        acks = []
        for number in range(5):
            paths = make_paths(tmp_path / str(number))
            record(paths, count=2)
            acks.append(store.take(offer_range(paths).data))
        for ack in acks:
            assert store.get_size_root(ack.host) == (ack.size, ack.root)
        assert len([fd for fd in os.listdir("/proc/self/fd") if is_bodies(fd)]) <= 3


def is_bodies(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").endswith(".bodies")
    except FileNotFoundError:
        return False


def test_every_cut_of_the_newest_file_stands_at_its_last_whole_range(
    paths: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    host, ends = get_host(offers), []
    with BodyStore(directory) as store:
        for data in offers:
            store.take(data)
            [path] = list_paths(directory, host)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    cuts = range(ends[0], len(whole))
    for cut in cuts if full else random.Random(seed).sample(cuts, 40):
        torn = whole[:cut] + bytes((cut % 3) * 50)
        path.write_bytes(torn)
        with BodyStore(directory) as store:
            # By its bytes, not by the cut: zeros after it may be those that were cut off.
            stands = sum(torn.startswith(whole[:end]) for end in ends)
            assert store.get_size_root(host)[0] == stands
            assert path.stat().st_size == ends[stands - 1]
            assert bool(store.lost) == (len(torn) > ends[stands - 1])
            for data in offers[stands:]:
                store.take(data)
            assert read_all(store, host) == get_items(offers)
        assert path.read_bytes() == whole


def test_a_damaged_byte_of_the_newest_file_is_named_and_taken_again(
    paths: Paths, tmp_path: Path, seed: int
) -> None:
    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    host = get_host(offers)
    with BodyStore(directory) as store:
        for data in offers:
            store.take(data)
    [path] = list_paths(directory, host)
    whole, chance = path.read_bytes(), random.Random(seed)
    for _ in range(40):
        at = chance.randrange(0, len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with BodyStore(directory) as store:
            size, _ = store.get_size_root(host)
            [lost] = store.lost
            assert lost.host == host and lost.start == size < len(offers)
            assert lost.end is None or size < lost.end <= len(offers)
            for data in offers[size:]:
                store.take(data)
            assert read_all(store, host) == get_items(offers)


def test_a_frame_counts_in_its_own_place_only(paths: Paths, tmp_path: Path) -> None:
    directory, offers, ends = str(tmp_path / "bodies"), make_offers(paths), []
    host = get_host(offers)
    with BodyStore(directory) as store:
        for data in offers:
            store.take(data)
            [path] = list_paths(directory, host)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[ends[3] : ends[4]])
    with BodyStore(directory) as store:
        assert store.get_size_root(host)[0] == len(offers) and store.lost
    assert path.read_bytes() == whole


def test_the_newest_checkpoint_that_was_reached_is_kept(paths: Paths, tmp_path: Path) -> None:
    directory, offer = str(tmp_path / "bodies"), decode_offer(offer_range(paths).data)
    old = decode_offer(offer_range(paths).data)
    record(paths, make_id(8), count=3)
    new = decode_offer(offer_range(paths, old.end).data)
    with BodyStore(directory) as store:
        store.take(offer_range(paths, 0, 5).data)
        assert store.get_held(offer.host).note == b""
        store.append_unsynced(offer.host, 5, old.items[5:], old.note)
        store.append_unsynced(offer.host, old.end, new.items[:2], b"")
        assert store.get_held(offer.host).note == old.note
    with BodyStore(directory) as store:
        assert store.get_held(offer.host).note == old.note
        store.append_unsynced(offer.host, old.end + 2, new.items[2:], new.note)
        assert store.get_held(offer.host).note == new.note


def test_damage_in_an_older_file_is_named_and_repaired_from_a_copy(
    paths: Paths, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_store, "FILE_BYTES_MAX", 6000)
    offers, directories = make_offers(paths), [str(tmp_path / "one"), str(tmp_path / "two")]
    host, chance = get_host(offers), random.Random(seed)
    for directory, step in zip(directories, (1, 3), strict=True):
        with BodyStore(directory) as store:
            for data in make_offers(paths, step):
                store.take(data)
    old = list_paths(directories[0], host)[:-1]
    wholes = {path: path.read_bytes() for path in old}
    for number in range(30):
        path = old[number % len(old)]
        whole = wholes[path]
        head = len(MAGIC) + 20 + int.from_bytes(whole[len(MAGIC) : len(MAGIC) + 4], "big")
        at = chance.randrange(head, len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with BodyStore(directories[0]) as store, BodyStore(directories[1]) as peer:
            assert not store.lost
            with pytest.raises(TamperError, match="damaged at leaf"):
                read_all(store, host)
            for lost in list(find_damage(store, host)):
                assert lost.end is not None
                repair(store, lost, peer.reader.read(host, lost.start, lost.end, 1 << 30))
            assert not list(find_damage(store, host))
            assert read_all(store, host) == get_items(offers)
        path.write_bytes(whole)


def test_a_copy_from_a_fork_repairs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(body_store, "FILE_BYTES_MAX", 3000)
    paths = make_paths(tmp_path / "host")
    record(paths, make_id(1), count=2)
    size = get_size(paths)
    shutil.copytree(paths.state, tmp_path / "fork")
    forked = paths._replace(state=str(tmp_path / "fork"))
    for one, count in ((paths, 3), (forked, 4)):
        record(one, make_id(2), count=count)
    for number in range(3, 6):
        record(paths, make_id(number), count=3)
    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    with BodyStore(directory) as store:
        for data in offers:
            store.take(data)
        host = get_host(offers)
        _, names = store.reader.list_files(host)
        for path in map(Path, names[:-1]):
            data = path.read_bytes()
            at = len(data) - 3
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        lost = next(one for one in find_damage(store, host) if one.start >= size)
        assert lost.end is not None
        fork = decode_offer(offer_range(forked, lost.start, lost.end).data)
        with pytest.raises((TamperError, SpecError)):
            repair(store, lost, fork.items)
        for one in list(find_damage(store, host)):
            assert one.end is not None
            with pytest.raises(SpecError):
                repair(store, one, get_items(offers)[one.start : one.end + 1])
            repair(store, one, get_items(offers)[one.start : one.end])
        assert read_all(store, host) == get_items(offers)


def test_a_full_disk_is_an_error_and_changes_nothing(paths: Paths, tmp_path: Path) -> None:
    """As the kernel says it: RLIMIT_FSIZE, since SIGXFSZ is ignored by Python."""
    import resource

    directory, offers = str(tmp_path / "bodies"), make_offers(paths)
    with BodyStore(directory) as store:
        store.take(offers[0])
        [path] = list_paths(directory, get_host(offers))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
        try:
            with pytest.raises(StateError, match="cannot be written"):
                store.take(offers[1])
            assert path.stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        for data in offers[1:]:
            store.take(data)
        assert read_all(store, get_host(offers)) == get_items(offers)


WRITER = """
    import os, sys
    from chainlite.ledger.body_store import BodyStore
    directory, *names = sys.argv[1:]
    store = BodyStore(directory)
    print(*[one.start for one in store.lost], flush=True)
    for name in names:
        ack = store.take(open(name, "rb").read())
        print(ack.size, ack.root.hex(), flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(
    paths: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    offers, names = make_offers(paths), []
    for number, data in enumerate(offers):
        names.append(str(tmp_path / f"{number:03}"))
        Path(names[-1]).write_bytes(data)
    chance, directory = random.Random(seed), str(tmp_path / "bodies")
    argv = [sys.executable, "-c", textwrap.dedent(WRITER), directory]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    size, root = 0, ""
    for _ in range(60 if full else 8):
        process = subprocess.Popen(
            [*argv, *names[size:]], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout is not None
        process.stdout.readline()
        for line in process.stdout:
            size, root = int(line.split()[0]), line.split()[1]
            if chance.random() < 0.3:
                process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with BodyStore(directory) as store:
            found, found_root = store.get_size_root(get_host(offers))
            assert found >= size
            assert found > size or found_root.hex() == root
            size = found
            if size:
                assert read_all(store, get_host(offers)) == get_items(offers)[:size]
        if size == len(offers):
            size = 0
            for path in list_paths(directory, get_host(offers)):
                path.unlink()


def test_each_range_costs_one_sync(paths: Paths, tmp_path: Path) -> None:
    """Counted by the kernel's tracer of ours: os.fdatasync is what the store calls."""
    calls: list[int] = []
    real = os.fdatasync

    def count(fd: int) -> None:
        calls.append(fd)
        real(fd)

    offers = make_offers(paths)
    with BodyStore(str(tmp_path / "bodies")) as store:
        store.take(offers[0])
        body_file.os.fdatasync = count  # type: ignore[attr-defined]
        try:
            for data in offers[1:4]:
                store.take(data)
            assert len(calls) == 3
            for data in offers[4:7]:
                store.take_unsynced(data)
            store.sync()
            assert len(calls) == 4
        finally:
            body_file.os.fdatasync = real  # type: ignore[attr-defined]


def test_an_answer_has_one_encoding() -> None:
    ack = Ack(b"\1" * 32, 5, b"\2" * 32, 9)
    assert decode_ack(encode_ack(ack)) == ack
    with pytest.raises(SpecError, match="too many"):
        decode_ack(encode_ack(ack) + b"\0")
