"""`docklock sync receipts`, `docklock bpci receipts`: calls to a server, as either side kept them.

Both list them, write one as a file, and compare one with a file of the other side's. Who denies a
call is shown wrong: a caller by its own signature on the request, a server by its own on the
answer. Not here: what is kept (docklock.outbox.calls, chainlite.cage.kept_receipts), what a file
proves by itself (`verify`). Exit codes: 0; `--compare` 0 both have the same, 1 this side has it no
more, 3 somebody contradicts themselves; `bpci receipts` 3 too where its own chain does not hold.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from docklock.cli.options import Command, text

if TYPE_CHECKING:
    from chainlite.cage.call_record import CallRecord, CheckedCall
    from chainlite.cage.kept_receipts import KeptReceipts
    from docklock.paths import Paths

LIMIT_DEFAULT, LIMIT_MAX = 20, 10_000
OPTIONS = (
    text("--limit", help=f"so many at most ({LIMIT_DEFAULT})", metavar="N"),
    text("--format", help="json: one object", metavar="json"),
    text("--compare", help="with this file, which the other side has written", metavar="FILE"),
    text("-o", "--output", help="write the call of AUDIT-ID to this file", metavar="FILE"),
)
OF_SERVER = Command(
    "bpci receipts",
    "[OPTIONS] DIRECTORY [AUDIT-ID]",
    "List the calls that were answered, newest first; write one as a file for `verify FILE "
    "--host-key KEY`; compare with a caller's.",
    OPTIONS,
    examples=("docklock bpci receipts --limit 50 /srv/bpci",),
)
HEADERS = ["TIME", "AUDIT ID", "STATUS", "CREDITS", "NUMBER", "CALLER", "CALL"]
EXIT_GONE, EXIT_CONTRADICTED = 1, 3


def show_host_calls(
    values: dict[str, Any], words: list[str], paths: Paths, server: str | None
) -> int:
    """What this host has kept of its calls, to one server or to all."""
    from chainlite.cage.call_record import decode_call_record
    from chainlite.errors import StateError
    from docklock.outbox.calls import CallFile, has_calls

    limit = _read_options(values, words)
    if not has_calls(paths):
        if words or values["compare"]:
            raise StateError("no server has answered this host yet")
        return _list([], values)
    with CallFile(paths) as calls:
        if values["compare"]:
            mine = [decode_call_record(one.record) for one in calls.list_newest(None, LIMIT_MAX)]
            return _compare_at_host(paths, values["compare"], mine)
        if words:
            found = calls.find(_read_audit_id(words[0]))
            return _write(values, words[0], decode_call_record(found.record) if found else None)
        kept = calls.list_newest(server, limit)
    return _list([decode_call_record(one.record) for one in kept], values)


def show_server_calls(values: dict[str, Any], words: list[str]) -> int:
    """What a server in a directory has kept of the calls that it answered."""
    from pathlib import Path

    from chainlite.bpci.serving import CAGE_FILE, load_server_key
    from chainlite.cage.kept_receipts import KeptReceipts

    directory, wanted = words[0], words[1:]
    limit, key = _read_options(values, wanted), load_server_key(directory)
    with KeptReceipts(Path(directory) / CAGE_FILE) as kept:
        if values["compare"]:
            return _compare_at_server(kept, key.pair.public, values["compare"])
        if wanted:
            found = kept.find(_read_audit_id(wanted[0]))
            return _write(values, wanted[0], found.record if found else None)
        _list([one.record for one in kept.list_newest(limit)], values)
        damage = kept.find_damage()
    if damage:
        print(f"docklock: the receipts that are kept are not those that were written: {damage}",
              file=sys.stderr)  # fmt: skip
    return EXIT_CONTRADICTED if damage else 0


def _read_options(values: dict[str, Any], words: list[str]) -> int:
    """How many to list; SpecError where the options do not go together."""
    from chainlite.errors import SpecError

    limit = values["limit"] or str(LIMIT_DEFAULT)
    if not limit.isascii() or not limit.isdigit() or not 0 < int(limit) <= LIMIT_MAX:
        raise SpecError(f"--limit takes 1 to {LIMIT_MAX}")
    if values["format"] not in (None, "json", "text"):
        raise SpecError("--format takes json or text")
    if bool(words) != bool(values["output"]) or (words and values["compare"]):
        raise SpecError("AUDIT-ID and -o FILE go together, and without --compare")
    return int(limit)


def _read_audit_id(text: str) -> bytes:
    from chainlite.errors import SpecError

    try:
        return bytes.fromhex(text)
    except ValueError:
        raise SpecError(f"{text}: not an audit id: want 32 hex digits") from None


def _list(records: list[CallRecord], values: dict[str, Any]) -> int:
    from chainlite.bpci.call_report import check_record, describe_call
    from chainlite.report import escape, format_time
    from docklock.image.listing import show_table
    from docklock.json_text import encode_json

    found = [describe_call(check_record(record)) for record in records]
    if values["format"] == "json":
        sys.stdout.write(encode_json({"calls": found}) + "\n")
    elif found:
        rows = [
            [
                format_time(one["time_ms"] // 1000), one["audit_id"], str(one["status"]),
                f"{one['cost']:g}", str(one["number"]), one["caller"][:12],
                escape(f"{one['method']} {one['authority']}{one['target']}"),
            ]
            for one in found
        ]  # fmt: skip
        sys.stdout.write(show_table(HEADERS, rows))
    return 0


def _write(values: dict[str, Any], audit_id: str, record: CallRecord | None) -> int:
    from chainlite.cage.call_record import encode_call_record
    from chainlite.errors import StateError
    from docklock.cli.prove import write_proof

    if record is None:
        raise StateError(f"{audit_id}: no such call is kept")
    write_proof(values["output"], encode_call_record(record))
    return 0


def _read_other(path: str) -> tuple[CallRecord, CheckedCall]:
    """The other side's file; TamperError where it does not hold, whoever wrote it."""
    from chainlite.bpci.call_report import check_record
    from chainlite.cage.call_record import RECORD_BYTES_MAX, decode_call_record
    from docklock.chain.directory import read_bounded

    record = decode_call_record(read_bounded(path, RECORD_BYTES_MAX))
    return record, check_record(record)


def _compare_at_host(paths: Paths, path: str, mine: list[CallRecord]) -> int:
    from chainlite.bpci.actor import parse_keyid
    from chainlite.errors import SpecError, TamperError
    from docklock.evidence import keyring
    from docklock.evidence.host_log import HostLog

    record, call = _read_other(path)
    host, public = parse_keyid(call.keyid)
    with HostLog(paths, None) as log:
        if host != log.read_host():
            raise SpecError(f"{path}: the call of another host")
        if public not in log.read_keys(keyring.get_public_key(paths)).publics:
            raise TamperError(f"{path}: signed by a key that this host never had: it asked nothing")
    for one in mine:
        if one.request != record.request:
            continue
        if one.receipt == record.receipt:
            print("both sides have the same receipt")
            return 0
        raise TamperError(f"{path}: the server has signed another receipt for this very request")
    print("this host has signed the request, and has kept no answer to it")
    return EXIT_GONE


def _compare_at_server(kept: KeptReceipts, public: bytes, path: str) -> int:
    from chainlite.cage.kept_receipts import Found
    from chainlite.errors import SpecError

    record, call = _read_other(path)
    if call.receipt.server != public:
        raise SpecError(f"{path}: of another server")
    if not call.is_answered:
        raise SpecError(f"{path}: a server's own: a caller's has the answer that was signed")
    found = kept.compare(record)
    print(found.value)
    if found is Found.UNKNOWN:
        return EXIT_GONE
    return 0 if found is Found.SAME else EXIT_CONTRADICTED
