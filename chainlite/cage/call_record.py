"""One side's record of a call, as a file: what was asked, under the caller's signature, and what
was answered, under the server's.

A caller keeps both signatures, so its file stands by itself; a server keeps the request's, and its
own receipt, which the caller has signed by the server. So who denies a call is shown wrong with the
public key of whoever denies it. Not here: where records are kept (store; docklock.outbox.calls),
what people are told of one (record_report). Invariants: a receipt belongs to the very request that
is beside it; an answer names that request's signature. Source: README.md, section Record of a call.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from chainlite import sodium
from chainlite.cage.base import make_signature_base
from chainlite.cage.call_receipt import (
    BASE_BYTES_MAX,
    FIELD,
    RECEIPT_BYTES_MAX,
    CallReceipt,
    SignedReceipt,
    check_signed_receipt,
    decode_call_receipt,
    decode_signed_receipt,
    encode_signed_receipt,
    read_base,
)
from chainlite.cage.digest import encode_content_digest
from chainlite.cage.fields import encode_bytes, parse_bytes, parse_dictionary
from chainlite.cage.signature import LABEL, REQUEST_COVERS
from chainlite.codec import Reader
from chainlite.codec import encode_bytes as encode_sized
from chainlite.errors import PeerError, SpecError, TamperError

if TYPE_CHECKING:
    from chainlite.cage.base import Request

MAGIC = b"DOCKLOCK-CALL\0\0\x01"
RECORD_BYTES_MAX = 3 * BASE_BYTES_MAX
CALLERS, SERVERS = 0, 1
SIGNATURE_BYTES = 64
_OF_REQUEST = tuple(f'"{name}"' for name in REQUEST_COVERS)
_NAMED = f'"signature";req;key="{LABEL}"'


class CallRecord(NamedTuple):
    """What one side has kept of a call; `answer` is None in a server's own record.

    `request` and `answer` are signature bases with their signatures.
    """

    request: SignedReceipt
    receipt: bytes
    answer: SignedReceipt | None = None


class CheckedCall(NamedTuple):
    """A record that holds: its receipt, and the key id, time and nonce that the caller signed.

    `is_answered`: the server has signed the receipt; else the record is the server's own.
    """

    receipt: CallReceipt
    keyid: str
    created_s: int
    nonce: str
    is_answered: bool


def make_caller_record(request: Request, signed_receipt: bytes) -> CallRecord:
    """Of a request as it was sent, and the receipt of its answer as `client.Answer` has it."""
    member = parse_dictionary(request.fields["signature-input"], "signature-input")[LABEL]
    base = make_signature_base(member.inner, member.parameters, request)
    bare = parse_dictionary(request.fields["signature"], "signature")[LABEL].bare
    answer = decode_signed_receipt(signed_receipt)
    asked = SignedReceipt(base, parse_bytes(bare, "signature"))
    return CallRecord(asked, _get_receipt(answer), answer)


def encode_call_record(record: CallRecord) -> bytes:
    """The file."""
    request, receipt, answer = record
    head = MAGIC + bytes([CALLERS if answer else SERVERS])
    asked = encode_sized(request.base) + request.signature
    if answer is None:
        return head + asked + encode_sized(receipt)
    return head + asked + encode_sized(answer.base) + answer.signature


def decode_call_record(data: bytes) -> CallRecord:
    """What `encode_call_record` wrote; SpecError. Nothing is verified."""
    reader = Reader(data, "record of a call")
    if reader.read_fixed(len(MAGIC)) != MAGIC:
        raise SpecError("record of a call: not one")
    side = reader.read_u8()
    request = SignedReceipt(reader.read_bytes(BASE_BYTES_MAX), reader.read_fixed(SIGNATURE_BYTES))
    if side == SERVERS:
        receipt, answer = reader.read_bytes(RECEIPT_BYTES_MAX), None
    elif side == CALLERS:
        base = reader.read_bytes(BASE_BYTES_MAX)
        answer = SignedReceipt(base, reader.read_fixed(SIGNATURE_BYTES))
    else:
        raise SpecError("record of a call: of no side that is known")
    reader.finish()
    return CallRecord(request, receipt if answer is None else _get_receipt(answer), answer)


def read_keyid(record: CallRecord) -> str:
    """The key id that the request names; SpecError. Nothing is verified."""
    try:
        _, said = read_base(record.request.base)
    except TamperError as error:
        raise SpecError(str(error)) from None
    return str(said.get("keyid", ""))


def check_call_record(record: CallRecord, caller: bytes) -> CheckedCall:
    """The call that a record shows; TamperError where it contradicts itself.

    `caller` is the public key that the request's key id stands for. The server's key is the one
    that the receipt names: whose that is, is the reader's to know.
    """
    request, data, answer = record
    if not sodium.is_signed(caller, *request):
        raise TamperError("record of a call: the request is not signed by the key that it names")
    asked, said = read_base(request.base)
    keyid, created_s, nonce = said.get("keyid"), said.get("created"), said.get("nonce")
    is_said = isinstance(keyid, str) and type(created_s) is int and isinstance(nonce, str)
    if not is_said or not asked.keys() >= set(_OF_REQUEST):
        raise TamperError("record of a call: the request covers too little")
    assert isinstance(keyid, str) and isinstance(created_s, int) and isinstance(nonce, str)
    try:
        receipt = decode_call_receipt(data)
    except SpecError as error:
        raise TamperError(f"record of a call: {error}") from None
    if answer is not None:
        receipt = check_signed_receipt(encode_signed_receipt(answer), receipt.server)
        if read_base(answer.base)[0].get(_NAMED) != encode_bytes(request.signature):
            raise TamperError("record of a call: the answer is to another request")
    try:
        is_of_it = _is_of(receipt, asked)
    except PeerError as error:
        raise TamperError(f"record of a call: {error}") from None
    if not is_of_it:
        raise TamperError("record of a call: the receipt is of another request")
    return CheckedCall(receipt, keyid, created_s, nonce, answer is not None)


def _is_of(receipt: CallReceipt, asked: dict[str, str]) -> bool:
    """Whether a receipt says what the request does. A call that was refused before its body was
    read says the digest of nothing; a digest of another kind says nothing here."""
    query = asked['"@query"']
    target = asked['"@path"'] + (query if query != "?" else "")
    said = (receipt.method, receipt.authority, receipt.target)
    if said != (asked['"@method"'], asked['"@authority"'], target):
        return False
    digests = parse_dictionary(asked['"content-digest"'], "content-digest")
    if "sha-256" not in digests:
        return True
    is_unread = receipt.status >= 400 and receipt.request_digest == sha256().digest()
    own = f"sha-256={digests['sha-256'].bare}"
    return is_unread or own == encode_content_digest(receipt.request_digest)


def _get_receipt(answer: SignedReceipt) -> bytes:
    """The receipt's bytes that an answer carries; SpecError where there are none."""
    try:
        lines, _ = read_base(answer.base)
        return parse_bytes(lines.get(f'"{FIELD}"', ""), FIELD)
    except (TamperError, PeerError) as error:
        raise SpecError(f"record of a call: {error}") from None
