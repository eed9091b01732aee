"""A run's start: its genesis and its first epoch, certified by the host's key.

Not here: the transaction around it (host_log) and what follows (recorder).
"""

from __future__ import annotations

import time

from chainlite import hostlog, segment
from chainlite.lean import TYPE_CHECKING
from docklock.evidence import boot, sealing
from docklock.evidence.keyring import make_epoch_key

if TYPE_CHECKING:
    from chainlite.keys import Signer
    from docklock.evidence.journal import Journal


class RunStart:
    """A run's start in the making: its number is known only inside the log's transaction."""

    def __init__(self, file: Journal, key: Signer, genesis: segment.Genesis) -> None:
        self._journal, self._key = file, key
        self.genesis = genesis
        self.epoch: sealing.Epoch

    def make_leaf(self, number: int, previous: bytes, checkpoint: bytes) -> bytes:
        """The start's leaf; the journal names the run before the log does.

        `checkpoint` is the hash of the newest cosigned one: the run is not older than that.
        """
        g = self.genesis = self.genesis._replace(
            number=number, previous=previous, checkpoint=checkpoint
        )
        certificate = segment.Certificate(
            host=g.host,
            container=g.container,
            run=g.run,
            epoch=0,
            first_index=0,
            issuer=segment.BY_HOST,
            public=b"",
            boot=g.boot,
            boottime=g.boottime,
            time=g.time,
            checkpoint=g.checkpoint,
        )
        self.epoch = sealing.make_epoch(certificate, make_epoch_key(), self._key)
        self._journal.begin(g.container, g.run, g.boot)
        data = segment.encode_certificate(self.epoch.certificate)
        leaf = hostlog.Start(segment.encode_genesis(g), data, self.epoch.signature)
        return hostlog.encode_start(leaf)


def make_genesis(
    host: bytes, container: bytes, run: int, policy: bytes, image: str, app: str
) -> segment.Genesis:
    """A genesis of now and this boot; what the log knows (make_leaf) is not in it yet."""
    return segment.Genesis(
        host=host,
        container=container,
        run=run,
        number=0,
        policy=policy,
        previous=segment.ZERO_HASH,
        boot=boot.get_boot_id(),
        boottime=boot.get_boottime_ns(),
        time=time.time_ns(),
        checkpoint=segment.ZERO_HASH,
        sign_each=0,
        image=image,
        app=app,
        closed=(),
    )
