"""One receipt at a server: what it says, and the range that proves it.

Not here: the checks (chainlite.exported), calls (server_line). What is read is the server's word.
Checked, the range of this receipt is fetched with all proofs and verified as `docklock verify`
does, with the server's keys: whether the host's key is the one that it should be, who compares its
fingerprint knows. A reader gets no proof.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from chainlite.bpci.asking import narrow_range
from chainlite.errors import StateError, TamperError
from chainlite.export_frames import Scope
from chainlite.export_report import judge_parts
from chainlite.exported import read_parts
from chainlite.report import Trust, format_time
from docklock.auditor.exports import fetch_export
from docklock.console.facts import ProofStep, ReceiptFacts
from docklock.console.proof_steps import list_fields
from docklock.console.server_feed import UNPROVEN, find_receipts, make_event
from docklock.console.server_line import reading

if TYPE_CHECKING:
    from chainlite.export_report import Exported, HostSummary
    from docklock.console.facts import ContainerRow
    from docklock.console.server_line import Line

UNNAMED = "the key came from the server: compare the fingerprint with the host's own"


def read_receipt(line: Line, row: ContainerRow, run: int, index: int) -> ReceiptFacts:
    """As the server says. StateError: there is none, or the server is away."""
    found = find_receipts(line, row, (run, index), (run, index + 1), 1)
    if not found:
        raise StateError(f"the server has no receipt {index} of run {run} of {row.name}")
    [shown] = found
    with reading("/v1/search"):
        event, fields = make_event(shown), list_fields(shown["receipt"])
        leaf, address = str(shown["leaf_index"]), str(shown["range"])
    steps = (
        ProofStep("receipt", f"receipt {run}:{index} {event.op}", (), (), None, UNPROVEN),
        ProofStep("log", f"host log, leaf {leaf}", (("host", row.host),), (), None, UNPROVEN),
        ProofStep("server", f"server {line.url}", (("proof", address),), (), None, UNPROVEN),
    )
    return ReceiptFacts(event, fields, steps)


def check_receipt(line: Line, row: ContainerRow, run: int, index: int) -> ReceiptFacts:
    """The same with its proof fetched and verified."""
    facts = read_receipt(line, row, run, index)
    query = {"host": row.host, "run": str(run), "first": str(index), "last": str(index)}
    scope: Scope = Scope(line.log_keys[0].public, line.log_keys[1].public, "")
    wanted, file = narrow_range(scope, row.id, query), io.BytesIO()
    path = f"/v1/audit/{row.id}/range"
    try:
        line.run(lambda calls: fetch_export(calls, path, query, wanted, file))
        file.seek(0)
        parts, why = read_parts(file.read)
    except TamperError as error:
        return facts._replace(is_whole=False, why=str(error))
    except StateError as error:  # also a reader's: a proof has values
        return facts._replace(why=f"no proof to be had: {error}")
    if why or not parts:
        return facts._replace(is_whole=False, why=why or "an empty range")
    found = judge_parts(parts, Trust(log_keys=line.log_keys))
    host = next((one for one in found.hosts if one.host == row.host), None)
    if host is None:
        return facts._replace(is_whole=False, why="the range has nothing of this host")
    return _judge(facts, found, host, run, index)


def _judge(
    facts: ReceiptFacts, found: Exported, host: HostSummary, run: int, index: int
) -> ReceiptFacts:
    refusal = found.refusal or host.refusal
    runs = [one for one in host.runs if one.run == run and one.first <= index < one.end]
    if not refusal and not runs:
        why = next((one.why for one in found.missing), "it is not in the range")
        return facts._replace(is_whole=None, why=f"not proven yet: {why}")
    is_held = not refusal and found.is_server_trusted
    why = refusal or ("" if found.is_server_trusted else "sealed by another server's keys")
    key = (("fingerprint", host.host),)
    held = (
        ("holds", f"{host.held_size} leaves of the host's log"),
        ("said", format_time(host.held_ms // 1000)),
        ("server's log", f"{host.server_size} leaves"),
        ("sealed", format_time(found.sealed_ms // 1000)),
    )
    receipt, log, server = facts.steps
    steps = (
        receipt._replace(is_held=is_held, why=why),
        ProofStep("segment", "its segment, certificates and signatures", is_held=is_held, why=why),
        log._replace(is_held=is_held, why=why),
        ProofStep(
            "checkpoint", f"checkpoint of {host.log_size} leaves", key, (),
            is_held if not is_held else None, why or UNNAMED,
        ),
        server._replace(is_held=is_held, why=why, fields=(*server.fields, *held)),
    )  # fmt: skip
    return facts._replace(steps=steps, is_whole=is_held, why=why)
