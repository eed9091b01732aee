"""What the gate saw, on its way from the worker that answers calls to the guard that signs them.

One writer (the worker) and one reader (the guard) share this part of the journal's mmap; whoever
comes after a dead worker, or after a dead guard (recovery), reads on from there. A slot holds every
field a receipt needs: the kernel's own struct seccomp_notif, and what the worker adds.

Not here: what becomes of an attempt (ledger), the journal's other records (journal).
Layout, in the machine's byte order (a journal is read on the host that wrote it): README.md.
Invariants: a slot's mark is written last, so a killed writer leaves whole slots and an end
(tests/evidence/test_attempts.py::test_a_slot_without_its_mark_does_not_exist); a half is reused
only when every attempt in it is durable
(tests/evidence/test_attempts.py::test_a_full_ring_waits_and_loses_nothing); the mark is random for
each use of a half, so neither an older slot nor bytes that a container chose pass for a new one;
blocks are allocated before they are written, and given back when all that was in them is durable
(tests/evidence/test_attempts.py::test_a_quiet_ring_stays_small).
That stores become visible in order is x86's promise; elsewhere this module was not run.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from _thread import allocate_lock

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.evidence.full_disk import allocate

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORD, HOLD, DENY, KILL, ABORTED = range(5)
"""What was done with an attempt; ABORTED: its caller was gone before the answer."""

RULES_OFFSET = 4096
CONTROL_OFFSET = 65_536
IN_FLIGHT_OFFSET = CONTROL_OFFSET + 4096
IN_FLIGHT_BYTES = 128
HALVES_OFFSET = 131_072
HALF_BYTES = 6 << 20
STEP_BYTES = 65_536
"""So much of a half is allocated at once."""
RECYCLE_BYTES = 4 * STEP_BYTES
"""After so much of a half the other one is used, if all that was written is durable."""
LISTENERS_MAX = (HALVES_OFFSET - IN_FLIGHT_OFFSET) // IN_FLIGHT_BYTES
END_OFFSET = HALVES_OFFSET + 2 * HALF_BYTES

SLOT = struct.Struct("@QIIiIQ6QQQQIHHIHBxQ")
"""The notification (id, tid, flags, nr, arch, instruction pointer, six arguments), then mono,
time, sequence, pid, errno, listener, size of slot and values, rule, what was done, mark."""
SLOT_BYTES = 128
NOTIFICATION_BYTES = 80
_ADDED = struct.Struct("@QQQIHHIHBxQ")
_HALF_HEAD = struct.Struct("@QQQ")  # first sequence, mark, generation
_HALF_HEAD_BYTES = SLOT_BYTES
_MARK_WORD = SLOT_BYTES // 8 - 1
_SLEEPING, _URGENT, _DURABLE = (CONTROL_OFFSET // 8 + number for number in range(3))
TOTALS_OFFSET = CONTROL_OFFSET + 2048
"""Apart from what writer and reader tell each other: for others to look at (counts)."""
_RECEIPTS, _REFUSED = (TOTALS_OFFSET // 8 + number for number in range(2))
_WAIT_S = 0.0005

assert SLOT.size == SLOT_BYTES
_PACK = _ADDED.pack_into
_time_ns = time.time_ns


class Place(NamedTuple):
    """Where the next slot goes."""

    half: int
    generation: int
    mark: int
    first_sequence: int  # of the half
    position: int
    sequence: int


class RuleText(NamedTuple):
    """What receipts say of a rule: its op, and the names of values that it masks."""

    op: str
    masked: str = ""


if TYPE_CHECKING:
    # The fields of a slot, and the bytes of its values.
    Attempt = tuple[tuple[int, ...], bytes]


def begin_attempts(mapped: mmap.mmap, rules: Iterable[RuleText]) -> Place:
    """Write the rules' texts and open the first half; where the writer begins."""
    found = [
        bytes((len(text),)) + text for rule in rules for text in (word.encode() for word in rule)
    ]
    data = struct.pack("@H", len(found) // 2) + b"".join(found)
    if RULES_OFFSET + len(data) > CONTROL_OFFSET:
        raise ValueError(f"{len(found) // 2} rules take more than the journal has for them")
    mapped[RULES_OFFSET : RULES_OFFSET + len(data)] = data
    mapped[IN_FLIGHT_OFFSET] = 0  # its page now: else the first call waits for the file system
    return _open_half(mapped, 0, 1, 0)


def read_rules(mapped: mmap.mmap | bytes) -> tuple[RuleText, ...]:
    """The texts that begin_attempts wrote."""
    (count,) = struct.unpack_from("@H", mapped, RULES_OFFSET)
    position, words = RULES_OFFSET + 2, []
    for _ in range(2 * count):
        end = position + 1 + mapped[position]
        words.append(mapped[position + 1 : end].decode())
        position = end
    return tuple(RuleText(*pair) for pair in zip(words[::2], words[1::2], strict=True))


def encode_values(values: tuple[tuple[str, bytes], ...]) -> bytes:
    """u8 count, then for each: u8 length of the name, name, u32 length, value."""
    parts = [bytes((len(values),))]
    for name, value in values:
        parts.append(bytes((len(name),)) + name.encode() + len(value).to_bytes(4, "big") + value)
    return b"".join(parts)


def decode_values(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """What encode_values took; bytes after it are padding. StateError if it cannot be."""
    if not data:
        return ()
    values, position, size = [], 1, len(data)
    for _ in range(data[0]):
        start = position + 1 + data[position] if position < size else size
        name = str(data[position + 1 : start], "utf-8", "replace")
        position = start + 4 + int.from_bytes(data[start : start + 4])
        values.append((name, data[start + 4 : position]))
    if position > size:
        raise StateError("the journal holds an attempt whose values do not fit it")
    return tuple(values)


def get_in_flight_offset(listener: int) -> int:
    """Where listener number `listener` receives its notifications."""
    return IN_FLIGHT_OFFSET + listener * IN_FLIGHT_BYTES


def take_in_flight(mapped: mmap.mmap, listener: int) -> bytes:
    """The notification that a dead worker received last, or zeros; it is cleared."""
    start = get_in_flight_offset(listener)
    data = mapped[start : start + NOTIFICATION_BYTES]
    mapped[start : start + NOTIFICATION_BYTES] = bytes(NOTIFICATION_BYTES)
    return data


def _locate_half(half: int) -> int:
    return HALVES_OFFSET + half * HALF_BYTES


def _open_half(mapped: mmap.mmap, half: int, generation: int, sequence: int) -> Place:
    start = _locate_half(half)
    mark = int.from_bytes(os.urandom(8), "little") | 1
    _HALF_HEAD.pack_into(mapped, start, sequence, mark, generation)
    return Place(half, generation, mark, sequence, start + _HALF_HEAD_BYTES, sequence)


class AttemptWriter:
    """The worker's side; its threads, one a listener, may call `write` at once."""

    def __init__(self, mapped: mmap.mmap, fd: int, wake_fd: int, place: Place) -> None:
        """`fd`: the file that `mapped` shows; -1 for memory that needs no allocation."""
        self._map = mapped
        self._fd = fd
        self._words = memoryview(mapped).cast("Q")
        self._wake_fd = wake_fd
        self._lock = allocate_lock()
        self._go_on(place)

    def _go_on(self, place: Place) -> None:
        self._place = place
        self._position, self._sequence, self._mark = place.position, place.sequence, place.mark
        self._start = _locate_half(place.half)
        self._ready = self._position  # allocated until here

    def write(
        self,
        listener: int,
        mono_ns: int,
        pid: int,
        rule: int,
        done: int,
        errno: int = 0,
        values: bytes = b"",
    ) -> None:
        """Record the notification in flight of `listener`; kill -9 loses it no more."""
        size = SLOT_BYTES + (len(values) + SLOT_BYTES - 1) // SLOT_BYTES * SLOT_BYTES
        source = IN_FLIGHT_OFFSET + listener * IN_FLIGHT_BYTES
        mapped = self._map
        with self._lock:
            position = self._position
            if position + size > self._ready:
                self._make_ready(size)
                position = self._position
            if values:
                start = position + SLOT_BYTES
                mapped[start : start + len(values)] = values
            mapped[position : position + 80] = mapped[source : source + 80]
            _PACK(
                mapped,
                position + 80,
                mono_ns,
                _time_ns(),
                self._sequence,
                pid,
                errno,
                listener,
                size,
                rule,
                done,
                self._mark,
            )
            self._sequence += 1
            self._position = position + size

    def touch(self) -> None:
        """Have the pages of the first slots, and those that listeners use, at hand."""
        self._make_ready(SLOT_BYTES)
        for offset in (IN_FLIGHT_OFFSET - 1, IN_FLIGHT_OFFSET, self._position):
            self._map[offset] = self._map[offset]

    def wake_if_asleep(self) -> None:
        """Wake the guard if nothing else will: called after the answer, so nobody waits for it."""
        if self._words[_SLEEPING]:
            self._words[_SLEEPING] = 0
            os.eventfd_write(self._wake_fd, 1)

    def ask_for_commit(self) -> None:
        """Have what was written made durable at once."""
        self._words[_URGENT] = 1
        os.eventfd_write(self._wake_fd, 1)

    def _make_ready(self, size: int) -> None:
        """Have room for a slot of `size`: more of this half, or the other one."""
        used = self._position - self._start
        if used + size > HALF_BYTES:
            self._switch()
        elif used >= RECYCLE_BYTES and self._words[_DURABLE] >= self._sequence:
            self._switch()
            rest = _locate_half(self._place.half ^ 1) + RECYCLE_BYTES
            self._map.madvise(mmap.MADV_REMOVE, rest, HALF_BYTES - RECYCLE_BYTES)
        end = min(self._position + size + STEP_BYTES, self._start + HALF_BYTES)
        self._allocate(self._ready, end)
        self._ready = end

    def _switch(self) -> None:
        """Go on in the other half, when all that it holds is durable."""
        place = self._place
        while self._words[_DURABLE] < place.first_sequence:
            self.ask_for_commit()
            time.sleep(_WAIT_S)
        other = place.half ^ 1
        start = _locate_half(other)
        self._allocate(start, start + _HALF_HEAD_BYTES)
        self._go_on(_open_half(self._map, other, place.generation + 1, self._sequence))

    def _allocate(self, start: int, end: int) -> None:
        if self._fd >= 0:
            allocate(self._fd, start, end)


class AttemptReader:
    """The guard's side, or recovery's: takes attempts in order, each once."""

    def __init__(self, mapped: mmap.mmap | bytes, place: Place) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        self.place = place

    def take(self, count_max: int) -> list[Attempt]:
        """The next attempts, at most `count_max`; an empty list when there is none now."""
        half, generation, mark, first, position, sequence = self.place
        end = _locate_half(half) + HALF_BYTES
        words, mapped = self._words, self._map
        unpack = SLOT.unpack_from
        found: list[Attempt] = []
        while len(found) < count_max:
            if position < end and words[position // 8 + _MARK_WORD] == mark:
                fields = unpack(mapped, position)
                following = position + fields[18]
                if not position + SLOT_BYTES <= following <= end:
                    break  # no worker of ours writes that: it never ends, so the ring fills
                found.append((fields, mapped[position + SLOT_BYTES : following]))
                position = following
                sequence += 1
                continue
            other = _locate_half(half ^ 1)
            head = _HALF_HEAD.unpack_from(mapped, other)
            if head[2] != generation + 1 or head[0] != sequence:
                break
            half, generation, mark, first = half ^ 1, head[2], head[1], sequence
            position, end = other + _HALF_HEAD_BYTES, other + HALF_BYTES
        self.place = Place(half, generation, mark, first, position, sequence)
        return found

    def has_more(self) -> bool:
        """Whether take would find one."""
        place = self.place
        end = _locate_half(place.half) + HALF_BYTES
        if place.position < end and self._words[place.position // 8 + _MARK_WORD] == place.mark:
            return True
        head = _HALF_HEAD.unpack_from(self._map, _locate_half(place.half ^ 1))
        return bool(head[2] == place.generation + 1 and head[0] == place.sequence)

    def close(self) -> None:
        """Let go of the map, which cannot be closed before."""
        self._words.release()

    def set_durable(self, sequence: int) -> None:
        """Every attempt before `sequence` is durable: the writer may use their half again."""
        self._words[_DURABLE] = sequence

    def set_totals(self, receipts: int, refused: int) -> None:
        """What whoever looks at the journal is told of this run."""
        self._words[_RECEIPTS] = receipts
        self._words[_REFUSED] = refused

    def set_asleep(self, *, asleep: bool) -> None:
        """Whether the writer has to wake us. Ask has_more after setting it."""
        self._words[_SLEEPING] = asleep

    def take_urgent(self) -> bool:
        """Whether the writer wants a commit at once; asking clears it."""
        urgent = bool(self._words[_URGENT])
        self._words[_URGENT] = 0
        return urgent


def find_attempts(data: bytes, sequence: int) -> list[Attempt]:
    """Those of a dead run's journal from `sequence` on, in order: for recovery."""
    places = []
    for half in range(2):
        start = _locate_half(half)
        first, mark, generation = _HALF_HEAD.unpack_from(data, start)
        if generation:
            places.append(Place(half, generation, mark, first, start + _HALF_HEAD_BYTES, first))
    if not places:
        return []
    places.sort(key=lambda place: place.generation)
    # A half may be used again before the other is full: what was in that is durable then.
    first = places[-1] if places[-1].sequence <= sequence else places[0]
    found = AttemptReader(data, first).take(END_OFFSET // SLOT_BYTES)
    return [attempt for attempt in found if attempt[0][14] >= sequence]


def clear_eventfd(fd: int) -> None:
    """Read a non-blocking eventfd, whether or not it was written to."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
