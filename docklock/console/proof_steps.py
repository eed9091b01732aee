"""The way from a receipt to the checkpoint of its host's log, step by step, checked or not. Pure.

Each step is checked for itself, so that a proof that does not hold says where. Not here: finding
the parts (docklock.evidence.proving), what lies beyond the checkpoint (host_receipt). Invariant: a
checked way is whole only if chainlite.proof.check_proof, which a stranger runs, says so too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import checkpoint, cosignature, domains, hostlog, keys, merkle, note, proof
from chainlite import receipt as receipts
from chainlite import segment as segments
from chainlite.errors import DocklockError, SpecError, TamperError
from chainlite.report import format_time
from docklock.console.facts import ProofStep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from chainlite.note import VerifierKey
    from chainlite.proof import Proof

NS_PER_S = 1_000_000_000
UNNAMED = "no key of this witness is named here (witnesses.toml)"


def describe_receipt(event: receipts.Receipt) -> tuple[tuple[str, str], ...]:
    """All fields of a receipt, as its bytes have them."""
    return list_fields(receipts.describe(event))


def list_fields(described: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A described receipt as names and texts."""
    shown: list[tuple[str, str]] = []
    for name, value in described.items():
        if name == "labels":
            shown += [(f"label {key}", str(text)) for key, text in value.items()]
        elif name == "commitments":
            shown += [(f"sha256(salt {key})", str(digest)) for key, digest in value.items()]
        elif name in ("args", "usage"):
            shown.append((name, " ".join(map(str, value))))
        else:
            shown.append((name, str(value)))
    return tuple(shown)


def make_steps(
    parts: Proof, witnesses: tuple[VerifierKey, ...], why_none: str = UNNAMED, *, is_checked: bool
) -> tuple[ProofStep, ...]:
    """From the receipt to the checkpoint and who cosigned it.

    `why_none` is said of a witness whose key is not among `witnesses`.
    """
    steps = [
        _make(_show_receipt, _check_receipt, parts, is_checked=is_checked),
        _make(_show_segment, _check_segment, parts, is_checked=is_checked),
        _make(_show_log, _check_log, parts, is_checked=is_checked),
        _make(_show_checkpoint, _check_checkpoint, parts, is_checked=is_checked),
    ]
    if is_checked and all(step.is_held for step in steps):
        why = find_fault(parts)
        if why:  # what no step alone shows: keys, certificates, which host
            steps[1] = steps[1]._replace(is_held=False, why=why)
    return (*steps, *make_witness_steps(parts.note, witnesses, why_none, is_checked=is_checked))


def find_fault(parts: Proof) -> str:
    """Why a stranger would refuse the proof; empty if it holds."""
    try:
        proof.check_proof(proof.fit(parts))
    except (SpecError, TamperError) as error:
        return str(error)
    return ""


def _make(
    show: Callable[[Proof], ProofStep],
    check: Callable[[Proof], str],
    parts: Proof,
    *,
    is_checked: bool,
) -> ProofStep:
    try:
        step = show(parts)
        why = check(parts) if is_checked else ""
    except DocklockError as error:
        kind = show.__name__.removeprefix("_show_")
        return ProofStep(kind, kind, is_held=False if is_checked else None, why=str(error))
    return step._replace(is_held=not why, why=why) if is_checked else step


def _show_receipt(parts: Proof) -> ProofStep:
    event = receipts.decode_receipt(parts.receipt)
    opened = sum(one is not None for one in parts.values)
    fields = (
        ("leaf hash", merkle.compute_leaf_hash(parts.receipt).hex()),
        ("bytes", str(len(parts.receipt))),
        ("values", f"{opened} of {len(parts.values)} are here, each committed to with a salt"),
    )
    return ProofStep("receipt", f"receipt {event.run}:{event.event_index} {event.op}", fields)


def _check_receipt(parts: Proof) -> str:
    event = receipts.decode_receipt(parts.receipt)
    if receipts.encode_receipt(event) != parts.receipt:
        return "its bytes are not their canonical form"
    proof.check_values(parts.values, event)
    header = segments.decode_header(parts.header)
    if (event.host, event.container, event.run) != header[:3]:
        return "it is of another host, container or run than its segment"
    return ""


def _show_segment(parts: Proof) -> ProofStep:
    header = segments.decode_header(parts.header)
    last = header.first_index + header.event_count - 1
    mode = "each receipt" if header.mode == segments.SIGN_EACH else "the segment"
    certificate = segments.decode_certificate(parts.certificates[-1][0])
    fields = (
        ("root", header.root.hex()),
        ("receipts", f"{header.first_index} to {last}"),
        ("from", format_time(header.time_first // NS_PER_S)),
        ("to", format_time(header.time_last // NS_PER_S)),
        ("epoch", f"{header.epoch}, since {format_time(certificate.time // NS_PER_S)}"),
        ("epoch's key", certificate.public.hex()),
        ("signed", mode),
        ("signature", parts.signature.hex()),
    )
    title = f"segment of {header.event_count} receipts"
    return ProofStep("segment", title, fields, _format_path(parts.segment_proof))


def _check_segment(parts: Proof) -> str:
    header = segments.decode_header(parts.header)
    event = receipts.decode_receipt(parts.receipt)
    place = (event.event_index - header.first_index, header.event_count)
    leaf_hash = merkle.compute_leaf_hash(parts.receipt)
    if not merkle.is_included(leaf_hash, *place, parts.segment_proof, header.root):
        return "the receipt is not in the segment at its index"
    data = parts.certificates[-1][0]
    if segments.compute_certificate_hash(data) != header.certificate_hash:
        return "its header names another certificate than its epoch's"
    public = segments.decode_certificate(data).public
    if not keys.is_signed(public, domains.SIGN_SEGMENT, parts.header, parts.signature):
        return "its header is not signed by its epoch's key"
    return ""


def _show_log(parts: Proof) -> ProofStep:
    state = checkpoint.parse_claim(parts.note)
    fields = (
        ("leaf", f"{parts.leaf_index} of {state.size}"),
        ("leaf hash", _compute_leaf(parts).hex()),
        ("host", keys.compute_host_id(parts.public).hex()),
    )
    title = f"host log, leaf {parts.leaf_index}"
    return ProofStep("log", title, fields, _format_path(parts.log_proof))


def _compute_leaf(parts: Proof) -> bytes:
    leaf = hostlog.encode_segment(hostlog.Segment(parts.header, parts.signature))
    return merkle.compute_leaf_hash(leaf)


def _check_log(parts: Proof) -> str:
    state = checkpoint.parse_claim(parts.note)
    place = (_compute_leaf(parts), parts.leaf_index, state.size)
    is_included = merkle.is_included(*place, parts.log_proof, state.root)
    return "" if is_included else "the segment is not in the host's log"


def _show_checkpoint(parts: Proof) -> ProofStep:
    state = checkpoint.parse_claim(parts.note)
    fields = (
        ("log", state.origin),
        ("leaves", str(state.size)),
        ("root", state.root.hex()),
        ("host's key", proof.read_keys(parts).public.hex()),
    )
    return ProofStep("checkpoint", f"checkpoint of {state.size} leaves", fields)


def _check_checkpoint(parts: Proof) -> str:
    known = proof.read_keys(parts)
    state = checkpoint.parse_checkpoint(parts.note, known.public)
    if state.origin != checkpoint.get_origin(known.host):
        return "it is of another host's log"
    return ""


def make_witness_steps(
    data: bytes, witnesses: tuple[VerifierKey, ...], why_none: str, *, is_checked: bool
) -> tuple[ProofStep, ...]:
    """A step for each witness that has signed a checkpoint; None of a key that nobody named."""
    try:
        signed = note.parse_note(data)
        origin = checkpoint.parse_claim(data).origin
        held = {one.name: one.time for one in cosignature.get_cosignatures(data, witnesses)}
    except SpecError:
        return ()
    named = {key.name for key in witnesses}
    names = dict.fromkeys(line.name for line in signed.lines if line.name != origin)
    steps = []
    for name in names:
        when = (("cosigned", format_time(held[name])),) if name in held else ()
        is_held, why = None, ""
        if name not in named:
            why = why_none
        elif is_checked:
            is_held = name in held
            why = "" if is_held else "its cosignature does not hold"
        steps.append(ProofStep("witness", f"witness {name}", when, (), is_held, why))
    return tuple(steps)


def _format_path(path: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple([one.hex() for one in path])
