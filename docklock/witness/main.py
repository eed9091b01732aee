"""`docklock witness serve`: the composition root of a witness, one asyncio loop, until SIGTERM.

Not here: settings (config.py), decisions (witness.py), sockets (server.py), peers (gossip.py).
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from chainlite import note
from chainlite.errors import SpecError, StateError
from docklock.agent.metrics import format_samples
from docklock.evidence.keyring import get_public_key, has_host_key
from docklock.witness.config import split_listen
from docklock.witness.gossip import Gossip
from docklock.witness.key import ensure_witness, load_cosigner
from docklock.witness.server import Server, describe_error
from docklock.witness.store import Store
from docklock.witness.witness import Door, Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.agent.journal import Log
    from docklock.paths import Paths
    from docklock.witness.config import Settings

HELP = {
    "witness_logs": ("gauge", "Logs of which a checkpoint was cosigned."),
    "witness_cosigned_total": ("counter", "Checkpoints cosigned."),
    "witness_refused_total": ("counter", "Submissions refused, by status."),
    "witness_unsettled": ("gauge", "Checkpoints of peers that nothing here shows to agree."),
    "witness_ready": ("gauge", "1 if it cosigns: a peer has said what it knows."),
    "witness_peer_failures_total": ("counter", "Questions that peers did not answer."),
    "forks": ("gauge", "Forks that are kept as proof."),
}


def run_witness(paths: Paths, settings: Settings, log: Log, say: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT. `say` is told where. StateError, SpecError."""
    ensure_witness(paths)
    with Store(paths) as store:
        cosigner = load_cosigner(paths)
        try:
            own = get_public_key(paths) if has_host_key(paths) else b""
            logs = {key.public for one in settings.logs for key in one.keys}
            if {key.public for key in cosigner.vkeys} & {own, *logs}:
                raise SpecError("the witness's key is a log's: it must have one of its own")
            root = _Root(paths, store, settings, log)
            asyncio.run(root.run(Witness(paths, store, cosigner, settings, root.door), say))
        finally:
            cosigner.erase()
    return 0


class _Root:
    """Everything that one witness holds."""

    def __init__(self, paths: Paths, store: Store, settings: Settings, log: Log) -> None:
        self._paths, self._store, self._settings, self._log = paths, store, settings, log
        self._gossip: Gossip | None = None
        self.door = Door(log.error, self._upon_cosigned, lambda: int(time.time()))

    async def run(self, witness: Witness, say: Callable[[str], None]) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        gossip = self._gossip = Gossip(witness, self._settings, self._log.error)
        server = Server(witness, lambda: format_page(witness, gossip.failures))
        try:
            address, port = await server.open(*split_listen(self._settings.listen))
        except OSError as error:
            raise StateError(describe_error(error, self._settings.listen)) from None
        host = f"[{address}]" if ":" in address else address
        say(f"http://{host}:{port}")
        if self._settings.peers or any(one.url for one in self._settings.logs):
            gossip.start()
        await stopping.wait()
        gossip.close()
        server.close()

    def _upon_cosigned(self, origin: str, data: bytes) -> None:
        if self._gossip is not None:
            self._gossip.tell(origin, data)


def format_page(witness: Witness, failures: int) -> str:
    """The witness's /metrics."""
    values = witness.describe() | {"witness_peer_failures_total": failures}
    lines = [line for name in HELP for line in format_samples(name, *HELP[name], values[name])]
    return "\n".join(lines) + "\n"


def describe_witness(paths: Paths) -> str:
    """The public keys, a line each."""
    return "".join(f"{note.encode_vkey(key)}\n" for key in ensure_witness(paths))
