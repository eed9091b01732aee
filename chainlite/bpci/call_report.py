"""What people are told of a record of a call at a server: whose it is, and whether it holds.

Not here: the record (chainlite.cage.call_record), whom to trust (chainlite.trust). A caller's
record shows what the server has answered, to whoever trusts the server's key; a server's shows what
the caller has asked, to whoever trusts the caller's. Exit codes are those of `verify`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import keys, note
from chainlite.bpci.acknowledgement import get_server_origin
from chainlite.bpci.actor import parse_keyid
from chainlite.cage.call_record import check_call_record, decode_call_record, read_keyid
from chainlite.errors import TamperError
from chainlite.report import EXIT_TAMPERED, EXIT_UNTRUSTED, EXIT_WHOLE, escape, format_time

if TYPE_CHECKING:
    from typing import Any

    from chainlite.cage.call_record import CallRecord, CheckedCall
    from chainlite.report import Trust

MS_PER_S = 1000
COST_M = 1000


def check_record(record: CallRecord) -> CheckedCall:
    """The call that a record shows, of whichever caller; TamperError, SpecError."""
    _, public = parse_keyid(read_keyid(record))
    return check_call_record(record, public)


def show_call_record(data: bytes, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    """What to print about a record's file, and the exit code; SpecError if it is none."""
    import json

    record = decode_call_record(data)
    try:
        call = check_record(record)
    except TamperError as error:
        bad = {"ok": False, "first_bad": {"why": str(error)}}
        shown = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(str(error))}\n"
        return shown, EXIT_TAMPERED
    is_trusted = is_signer_trusted(call, trust)
    shown = render_call(call, is_trusted=is_trusted)
    if as_json:
        described = {"ok": True, "trusted": is_trusted, "first_bad": None, **describe_call(call)}
        shown = json.dumps(described) + "\n"
    return shown, EXIT_WHOLE if is_trusted else EXIT_UNTRUSTED


def is_signer_trusted(call: CheckedCall, trust: Trust) -> bool:
    """Whether the one whose signature makes it a proof is named: the server of an answer, else the
    host that asked, by its enrolled key."""
    if call.is_answered:
        named = [key.public for key in trust.log_keys if key.kind == note.ED25519]
        return call.receipt.server in named
    host, public = parse_keyid(call.keyid)
    return keys.compute_host_id(public) == host and host.hex() == trust.fingerprint


def describe_call(call: CheckedCall) -> dict[str, Any]:
    """A call as JSON has it; times are Unix ms, `cost` is in credits."""
    receipt, (name, public) = call.receipt, parse_keyid(call.keyid)
    return {
        "side": "caller" if call.is_answered else "server",
        "audit_id": receipt.audit_id.hex(),
        "epoch_ms": receipt.epoch_ms,
        "number": receipt.number,
        "time_ms": receipt.time_ms,
        "signed_ms": call.created_s * MS_PER_S,
        "method": receipt.method,
        "authority": receipt.authority,
        "target": receipt.target,
        "status": receipt.status,
        "cost": receipt.cost_m / COST_M,
        "request_sha256": receipt.request_digest.hex(),
        "answer_sha256": receipt.response_digest.hex(),
        "actor": receipt.actor,
        "caller": name.hex(),
        "key": public.hex(),
        "server": get_server_origin(receipt.server),
    }


def render_call(call: CheckedCall, *, is_trusted: bool) -> str:
    """For the eye."""
    receipt, said = call.receipt, describe_call(call)
    whose = "the server" if call.is_answered else "the caller"
    how = "whose key you named" if is_trusted else "whose key you have not named"
    who, other = said["server"], f"the caller {said['caller'][:16]}"
    if not call.is_answered:
        who, other = said["caller"], str(said["server"])
    shows = "answered so" if call.is_answered else "asked so, and the rest is the server's word"
    when = format_time(receipt.time_ms // MS_PER_S)
    return (
        f"call {said['audit_id']}: {receipt.method} {escape(receipt.authority)}"
        f"{escape(receipt.target)}, {when}, status {receipt.status}, {said['cost']:g} credits\n"
        f"{whose} {who}, {how}, has signed it: it {shows}; the other side is {other}\n"
        f"request sha256 {said['request_sha256']}, answer sha256 {said['answer_sha256']}\n"
        f"number {receipt.number} of epoch {receipt.epoch_ms}\n"
    )
