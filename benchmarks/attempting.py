"""What a worker writes: attempts of calls, from a process of its own, for benchmarks."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from docklock.evidence import attempts, journal
from docklock.evidence.recorder import RunRecorder
from docklock.kernel.seccomp import NOTIF

RULES = (attempts.RuleText("syscall.connect"),)


def write_attempts(recorder: RunRecorder, turns: Iterable[range], *, value_every: int) -> None:
    """Attempts of these numbers, as fast as turns come; each `value_every`th has a path (0: none).

    To be called in a process that was forked from the recorder's.
    """
    place, journal_fd, wake_fd = recorder.get_ring()
    mapped = mmap.mmap(journal_fd, journal.JOURNAL_BYTES)
    writer = attempts.AttemptWriter(mapped, journal_fd, wake_fd, place)
    names = [b"/usr/lib/x86_64-linux-gnu/lib%d.so" % number for number in range(100)]
    stored = [attempts.encode_values((("path", name),)) for name in names]
    start = attempts.get_in_flight_offset(0)
    for numbers in turns:
        for number in numbers:
            NOTIF.pack_into(
                mapped, start, number + 1, 100, 0, 42, 0xC000003E, 0, *(number & 0xFFFFFFFF,) * 6
            )
            has_value = value_every and not number % value_every
            found = stored[number % 100] if has_value else b""
            writer.write(0, number, 100, 0, attempts.RECORD, 0, found)
            writer.wake_if_asleep()
