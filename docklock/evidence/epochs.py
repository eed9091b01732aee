"""The keys of a run that lives: each is certified by the one before, and used for 60 s.

Not here: how a segment is signed (sealing), where certificates are stored (container_store).
Invariant: at most one key of the run is in memory
(tests/evidence/test_epoch_memory.py::test_no_earlier_key_is_in_memory_or_in_a_file).
"""

from __future__ import annotations

import time

from chainlite import segment
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import boot, sealing
from docklock.evidence.keyring import make_epoch_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.evidence.container_store import EpochRow


class Epochs:
    """The key in use, and the next one when its time is over."""

    def __init__(self, first: sealing.Epoch) -> None:
        self.current = first
        self._began = time.monotonic_ns()

    def renew(self, first_index: int, get_checkpoint: Callable[[], bytes]) -> list[EpochRow]:
        """Go on to a new key from `first_index` on if it is time; the rows to store with it.

        `get_checkpoint` gives the hash of the newest cosigned checkpoint (32 bytes).
        """
        now = time.monotonic_ns()
        if now - self._began < segment.EPOCH_NS:
            return []
        old = self.current
        certificate = old.certificate._replace(
            epoch=old.certificate.epoch + 1,
            first_index=first_index,
            issuer=segment.BY_EPOCH,
            boottime=boot.get_boottime_ns(),
            time=time.time_ns(),
            checkpoint=get_checkpoint(),
        )
        self.current = sealing.make_epoch(certificate, make_epoch_key(), old.key)
        old.key.erase()
        self._began = now
        return [sealing.get_epoch_row(self.current)]
