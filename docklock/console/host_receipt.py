"""One receipt of this host with its way up: to the log's checkpoint, a block, a server's word.

Not here: the steps to the checkpoint (proof_steps), making proofs (docklock.evidence.proving). What
is read is unchecked; what is checked is checked as a stranger would, with the host's public key,
the chain's genesis, the keys of witnesses and servers that are named in this host's settings.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, keys, tlogproof
from chainlite import receipt as receipts
from chainlite.bpci.acknowledgement import decode_acknowledgement, verify_acknowledgement
from chainlite.errors import DocklockError, SpecError, StateError, TamperError
from chainlite.proofs.light import check_light
from chainlite.proofs.light_format import decode_light
from chainlite.proofs.trusted import trust_genesis
from chainlite.quorum_file import parse_quorum
from chainlite.redaction import ALL
from chainlite.report import format_time
from docklock.agent.config import POLICY_DEFAULT
from docklock.agent.config_file import read_config
from docklock.chain.directory import get_directory, read_bounded, read_chain
from docklock.chain.reading import query
from docklock.console.facts import ProofStep, ReceiptFacts
from docklock.console.proof_steps import UNNAMED, describe_receipt, make_steps
from docklock.evidence.database import sqlite3
from docklock.evidence.final_proving import make_final_proof
from docklock.evidence.host_log import HostLog
from docklock.evidence.proving import collect_proof
from docklock.outbox.sent import Sent, has_sent
from docklock.outbox.status import find_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.note import VerifierKey
    from chainlite.proof import Proof
    from chainlite.proofs.light_format import LightProof
    from docklock.chain.directory import Chain
    from docklock.console.facts import Event
    from docklock.outbox.settings import Server
    from docklock.paths import Paths

POLICY_BYTES_MAX = 1 << 20
SHOWN_CHARS = 16
CLASSES = frozenset((ALL,))


class Place(NamedTuple):
    """Which receipt."""

    container: str
    run: int
    event_index: int


class HostReceipts:
    """Receipts of this host; `config` is the file that names servers, else the usual."""

    def __init__(
        self, paths: Paths, config: str | None = None, get_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._paths, self._config, self._get_ns = paths, config, get_ns

    def read(self, event: Event, place: Place, *, is_checked: bool) -> ReceiptFacts:
        """Fields and way of a receipt, which a list shows as `event`.

        StateError: there is no such receipt. That it does not hold is no error but what is told.
        """
        try:
            parts = collect_proof(self._paths, *place, classes=CLASSES, note=b"")
        except TamperError as error:
            return ReceiptFacts(event, is_whole=False if is_checked else None, why=str(error))
        except sqlite3.Error as error:
            return ReceiptFacts(event, why=f"its store cannot be read: {error}")
        try:
            fields = describe_receipt(receipts.decode_receipt(parts.receipt))
        except SpecError as error:
            return ReceiptFacts(event, is_whole=False if is_checked else None, why=str(error))
        witnesses, why_none = self._read_witnesses()
        steps = (
            *make_steps(parts, witnesses, why_none, is_checked=is_checked),
            self._make_block_step(place, is_checked=is_checked),
            *self._make_server_steps(parts, is_checked=is_checked),
        )
        if not is_checked:
            return ReceiptFacts(event, fields, steps)
        broken = [step for step in steps if step.is_held is False]
        why = f"{broken[0].title}: {broken[0].why}" if broken else ""
        return ReceiptFacts(event, fields, steps, not broken, why)

    def _read_witnesses(self) -> tuple[tuple[VerifierKey, ...], str]:
        """The keys of this host's policy, and why there are none if it cannot be read."""
        try:
            path = read_config(self._config).witnesses or POLICY_DEFAULT
            if not os.path.exists(path):
                return (), UNNAMED
            return parse_quorum(read_bounded(path, POLICY_BYTES_MAX), path).keys, UNNAMED
        except (DocklockError, OSError) as error:
            return (), str(error)

    def _make_block_step(self, place: Place, *, is_checked: bool) -> ProofStep:
        """The block in which the log that has the receipt is final."""
        directory = get_directory(self._paths, None)
        try:
            chain = read_chain(directory)
        except StateError:
            return ProofStep("block", "no chain", why="this host has no node of a chain")
        except TamperError as error:
            return ProofStep("block", "block", why=str(error))

        def find(host: bytes, leaf_index: int) -> LightProof:
            answer = query(directory, f"/finality/{host.hex()}/{leaf_index}/0")
            return decode_light(bytes.fromhex(answer["proof"]), chain.id)

        try:
            data, made = make_final_proof(self._paths, *place, classes=CLASSES, find=find)
        except TamperError as error:
            return ProofStep(
                "block", "block", is_held=False if is_checked else None, why=str(error)
            )
        except (DocklockError, OSError, sqlite3.Error) as error:
            return ProofStep("block", "not final yet", why=str(error))
        step = _describe_block(chain, made)
        return self._check_block(step, chain, data) if is_checked else step

    def _check_block(self, step: ProofStep, chain: Chain, data: bytes) -> ProofStep:
        try:
            shown = check_light(data, trust_genesis(chain.genesis), self._get_ns() // 1_000_000)
        except TamperError as error:
            return step._replace(is_held=False, why=str(error))
        except SpecError as error:  # what is trusted is stale: nobody can say
            return step._replace(why=str(error))
        signers = ", ".join(key.hex()[:SHOWN_CHARS] for key in shown.final.signers)
        return step._replace(is_held=True, fields=(*step.fields, ("sealed by", signers)))

    def _make_server_steps(self, parts: Proof, *, is_checked: bool) -> tuple[ProofStep, ...]:
        """What each server has acknowledged of the log."""
        try:
            servers = find_servers(self._paths, self._config)
            if not servers or not has_sent(self._paths):
                return ()
            with Sent(self._paths) as sent:
                newest = [sent.get_acknowledgements(server.origin, 1) for server in servers]
        except (DocklockError, OSError, sqlite3.Error) as error:
            return (ProofStep("server", "servers", why=str(error)),)
        return tuple(
            self._make_server_step(server, found, parts, is_checked=is_checked)
            for server, found in zip(servers, newest, strict=True)
        )

    def _make_server_step(
        self, server: Server, found: list[bytes], parts: Proof, *, is_checked: bool
    ) -> ProofStep:
        title = f"server {server.name}"
        if not found:
            return ProofStep("server", title, why="it has acknowledged nothing yet")
        try:
            made = decode_acknowledgement(found[0])
            grown = tlogproof.parse_log_proof(made.proof)
            state = checkpoint.parse_claim(grown.note)
        except SpecError as error:
            return ProofStep("server", title, is_held=False if is_checked else None, why=str(error))
        fields = (
            ("url", server.url),
            ("holds", f"{made.held.size} leaves of this host's log"),
            ("root", made.held.root.hex()),
            ("acknowledged", format_time(made.time_ms // 1000)),
            ("server's log", f"leaf {grown.leaf_index} of {state.size}, root {state.root.hex()}"),
        )
        path = tuple([one.hex() for one in grown.path])
        step = ProofStep("server", title, fields, path)
        if made.held.size <= parts.leaf_index:
            return step._replace(why="what it acknowledged does not reach this receipt yet")
        return self._check_server(step, server, found[0]) if is_checked else step

    def _check_server(self, step: ProofStep, server: Server, data: bytes) -> ProofStep:
        """Its signatures, its own log's proof, and that what it holds is this host's log."""
        try:
            with HostLog(self._paths, None) as log, log.read():
                made = verify_acknowledgement(data, server.keys, log.read_host())
                is_there = made.held.size <= log.get_size()
                root = log.compute_root(made.held.size) if is_there else b""
        except DocklockError as error:
            return step._replace(is_held=False, why=str(error))
        if root != made.held.root:
            return step._replace(is_held=False, why="it holds another history of this host's log")
        return step._replace(is_held=True)


def _describe_block(chain: Chain, made: LightProof) -> ProofStep:
    header = made.header
    seals = len(made.seals.signatures) if made.seals is not None else 0
    sealed = made.newer or header
    fields = (
        ("chain", f"{chain.genesis.name} ({chain.short_id})"),
        ("block", str(header.height)),
        ("time", format_time(header.timestamp_ms // 1000)),
        ("proposer", header.proposer.hex()),
        ("state root", header.state_root.hex()),
        ("anchored", f"{made.log_size} leaves of the host's log, root {made.log_root.hex()}"),
        ("sent by", keys.compute_host_id(made.anchoring.key).hex()),
        ("seals", f"{seals} validators' over block {sealed.height}"),
    )
    path = made.event.log_path if made.event is not None else ()
    title = f"block {header.height} of {chain.genesis.name}"
    return ProofStep("block", title, fields, tuple([one.hex() for one in path]))
