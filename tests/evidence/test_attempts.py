"""The ring between worker and guard: whole slots in order, across halves, processes and deaths."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.evidence import attempts, journal
from docklock.evidence.export import verify_container
from docklock.evidence.recorder import RunRecorder
from docklock.kernel.seccomp import NOTIF
from tests.evidence.recording import append, begin, make_id, make_paths
from tests.evidence.test_recorder import read_all, wait_for_flush

RULES = (attempts.RuleText("syscall.getppid"), attempts.RuleText("syscall.openat", "path1"))


def make_map() -> mmap.mmap:
    return mmap.mmap(-1, attempts.END_OFFSET)


def write(mapped: mmap.mmap, writer: attempts.AttemptWriter, number: int, *, done: int = 0) -> None:
    """One attempt of listener 3, whose every field tells its number."""
    start = attempts.get_in_flight_offset(3)
    NOTIF.pack_into(mapped, start, number + 1, 100, 0, 7, 0xC000003E, 0, *range(number, number + 6))
    values = attempts.encode_values((("path", b"/tmp/%d" % number),)) if number % 2 else b""
    writer.write(3, number, 99, number % 2, done, number % 4096, values)


def open_ring(mapped: mmap.mmap) -> tuple[attempts.AttemptWriter, attempts.AttemptReader, int]:
    place = attempts.begin_attempts(mapped, RULES)
    wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
    writer = attempts.AttemptWriter(mapped, -1, wake_fd, place)
    return writer, attempts.AttemptReader(mapped, place), wake_fd


def open_ring_of(live: RunRecorder) -> tuple[mmap.mmap, attempts.AttemptWriter]:
    """What a worker makes of the descriptors it is given."""
    place, journal_fd, wake_fd = live.get_ring()
    mapped = mmap.mmap(journal_fd, journal.JOURNAL_BYTES)
    return mapped, attempts.AttemptWriter(mapped, journal_fd, wake_fd, place)


def test_what_was_written_is_read_in_order_and_once() -> None:
    mapped = make_map()
    writer, reader, wake_fd = open_ring(mapped)
    for number in range(100):
        write(mapped, writer, number)
    found = [*reader.take(30), *reader.take(1000)]
    assert [fields[14] for fields, _ in found] == list(range(100))
    assert [fields[0] for fields, _ in found] == list(range(1, 101))
    assert [fields[6:12] for fields, _ in found] == [tuple(range(n, n + 6)) for n in range(100)]
    assert attempts.decode_values(found[7][1]) == (("path", b"/tmp/7"),)
    assert attempts.decode_values(found[8][1]) == ()
    assert reader.take(1000) == []
    assert not reader.has_more()
    assert attempts.read_rules(mapped) == RULES
    os.close(wake_fd)


def test_a_slot_without_its_mark_does_not_exist() -> None:
    """Cut after every byte of a slot: only the whole one is read."""
    mapped = make_map()
    writer, reader, wake_fd = open_ring(mapped)
    place = reader.place
    write(mapped, writer, 0)
    whole = mapped[place.position : place.position + attempts.SLOT_BYTES]
    for length in range(attempts.SLOT_BYTES):
        torn = whole[:length].ljust(attempts.SLOT_BYTES, b"\0")
        mapped[place.position : place.position + attempts.SLOT_BYTES] = torn
        assert attempts.AttemptReader(mapped, place).take(1) == [], length
    os.close(wake_fd)


def test_a_full_ring_waits_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "HALF_BYTES", 64 * attempts.SLOT_BYTES)
    mapped = make_map()
    writer, reader, wake_fd = open_ring(mapped)
    count = 2000
    thread = threading.Thread(
        target=lambda: [write(mapped, writer, number) for number in range(count)]
    )
    thread.start()
    found: list[int] = []
    while len(found) < count:
        taken = [fields[14] for fields, _ in reader.take(10)]
        found += taken
        if taken:
            time.sleep(0.0001)
            reader.set_durable(found[-1] + 1)
    thread.join()
    assert found == list(range(count))
    os.close(wake_fd)


def test_the_writer_stops_while_nothing_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "HALF_BYTES", 64 * attempts.SLOT_BYTES)
    mapped = make_map()
    writer, reader, wake_fd = open_ring(mapped)
    said: list[int] = []

    def fill() -> None:
        for number in range(300):
            write(mapped, writer, number)
            said.append(number)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    time.sleep(0.3)
    held = len(said)
    assert held < 130
    assert len(reader.take(1000)) == held
    reader.set_durable(10**6)
    thread.join(10)
    assert len(said) == 300
    os.close(wake_fd)


def test_attempts_become_receipts_that_verify(tmp_path: Path) -> None:
    paths, count = make_paths(tmp_path), 3000
    live = begin(paths, rules=RULES)
    append(live, 0)
    mapped, writer = open_ring_of(live)
    for number in range(count):
        write(mapped, writer, number)
        writer.wake_if_asleep()
    live.take_attempts()
    append(live, 1)
    live.close(0)
    report = verify_container(paths, make_id())
    assert (report.first_bad, report.receipts) == (None, count + 2)
    shown = read_all(paths, make_id())
    assert [item.receipt.event_index for item in shown] == list(range(count + 2))
    seventh = shown[8].receipt
    assert (seventh.op, seventh.pid, seventh.tid, seventh.nr) == ("syscall.openat", 99, 100, 7)
    assert (seventh.mono, seventh.errno, seventh.args) == (7, 7, tuple(range(7, 13)))
    assert seventh.labels == (("masked", "path1"),)
    assert shown[8].values == (("path", b"/tmp/7"),)


def test_a_held_attempt_is_released_once_durable(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths, rules=RULES)
    released: list[tuple[int, int, bool]] = []
    live.release = lambda held: (
        not released.append((held.notification, live.durable_count, held.is_killed))
    )
    append(live, 0)
    mapped, writer = open_ring_of(live)
    write(mapped, writer, 0, done=attempts.HOLD)
    write(mapped, writer, 1, done=attempts.KILL)
    writer.ask_for_commit()
    deadline = time.monotonic() + 10
    while len(released) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    assert [(held[0], held[2]) for held in released] == [(1, False), (2, True)]
    assert all(held[1] == 3 for held in released)
    live.close(0)
    decisions = [item.receipt.decision for item in read_all(paths, make_id())]
    assert decisions == [0, 0, 2]


def test_a_slot_that_no_worker_writes_ends_the_run(tmp_path: Path) -> None:
    """A worker that a container has taken over can at worst stop the container's own record."""
    paths = make_paths(tmp_path)
    live = begin(paths, rules=RULES)
    append(live, 0)
    mapped, writer = open_ring_of(live)
    write(mapped, writer, 0, done=77)
    with pytest.raises(StateError, match="done 77"):
        live.take_attempts()
    with pytest.raises(StateError, match="done 77"):
        append(live, 1)
    with pytest.raises(StateError):
        live.close(0)


def test_a_killed_writer_leaves_whole_slots(seed: int) -> None:
    """kill -9 a process that writes as fast as it can: what is read is whole and in order."""
    for attempt in range(5):
        mapped = make_map()
        place = attempts.begin_attempts(mapped, RULES)
        pid = os.fork()
        if pid == 0:
            writer = attempts.AttemptWriter(mapped, -1, os.eventfd(0, os.EFD_NONBLOCK), place)
            for number in range(10**9):
                write(mapped, writer, number)
        time.sleep(0.05 + 0.003 * ((seed + attempt) % 7))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = attempts.AttemptReader(mapped, place).take(10**6)
        assert len(found) > 100
        for number, (fields, stored) in enumerate(found):
            assert fields[14] == number
            assert fields[0] == number + 1
            values = ((("path", b"/tmp/%d" % number),)) if number % 2 else ()
            assert attempts.decode_values(stored) == values


@pytest.fixture
def journal_fd() -> Iterator[int]:
    """A file of a journal's size in memory, without blocks."""
    fd = os.memfd_create("journal")
    os.ftruncate(fd, journal.JOURNAL_BYTES)
    yield fd
    os.close(fd)


def count_bytes(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def test_a_quiet_ring_stays_small(journal_fd: int) -> None:
    """What is durable is overwritten early; after a burst the blocks go back."""
    mapped = mmap.mmap(journal_fd, journal.JOURNAL_BYTES)
    place = attempts.begin_attempts(mapped, RULES)
    writer = attempts.AttemptWriter(mapped, journal_fd, os.eventfd(0), place)
    reader = attempts.AttemptReader(mapped, place)
    written = [0]

    def write_some(count: int, *, durable: bool) -> list[int]:
        for _ in range(count):
            write(mapped, writer, written[0])
            written[0] += 1
            if durable:
                found.extend(fields[14] for fields, _ in reader.take(10**5))
                reader.set_durable(written[0])
        return found

    found: list[int] = []
    write_some(20_000, durable=True)
    small = count_bytes(journal_fd)
    assert small < 2 * (attempts.RECYCLE_BYTES + 2 * attempts.STEP_BYTES) + attempts.HALVES_OFFSET
    write_some(20_000, durable=False)
    assert count_bytes(journal_fd) > 4 * small
    write_some(10_000, durable=True)
    assert count_bytes(journal_fd) <= small + attempts.STEP_BYTES
    found += [fields[14] for fields, _ in reader.take(10**6)]
    assert found == list(range(50_000))
    kept = attempts.find_attempts(mapped[:], 49_990)
    assert [fields[14] for fields, _ in kept] == list(range(49_990, 50_000))


def test_a_quiet_runs_own_events_stay_in_few_blocks(tmp_path: Path) -> None:
    live = begin(make_paths(tmp_path))
    _, fd, _ = live.get_ring()
    sizes = []
    for number in range(6000):
        append(live, number)
        if number % 100 == 99:
            durable = threading.Event()
            live.add_flush(durable.set)
            wait_for_flush(live, durable)
            sizes.append(count_bytes(fd))
    live.close(0)
    assert sizes[-1] <= sizes[len(sizes) // 2] <= 2 << 20
    assert verify_container(make_paths(tmp_path), make_id()).first_bad is None
