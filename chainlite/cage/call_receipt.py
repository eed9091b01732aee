"""A receipt of one call: what was asked, what was answered, what it cost; chained per server.

The server signs it with the response: its bytes are the field X-Receipt, which the response's
signature covers. So the signed receipt is the response's signature base and its signature, and
one signature serves for both. Not here: where receipts are kept (store), who compares a receipt
with its call (client). Invariants: receipts of one server and epoch are numbered without a gap,
and each names the hash of the one before; two with one number are two answers that the server
cannot both have given. Source: README.md, section Call receipt.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from chainlite import domains, sodium
from chainlite.cage.digest import encode_content_digest
from chainlite.cage.fields import encode_bytes, parse_bytes, parse_dictionary, parse_parameters
from chainlite.cage.signature import LABEL, TAG
from chainlite.codec import Reader, encode_head, encode_text
from chainlite.codec import encode_bytes as encode_sized
from chainlite.errors import PeerError, SpecError, TamperError

if TYPE_CHECKING:
    from chainlite.cage.fields import Value

VERSION = 1
ACTOR_BYTES_MAX = 128
METHOD_BYTES_MAX = 32
AUTHORITY_BYTES_MAX = 256
TARGET_BYTES_MAX = 4096
RECEIPT_BYTES_MAX = 8192
BASE_BYTES_MAX = 65_536
FIELD = "x-receipt"

_FIXED = struct.Struct(">QQ32sQ16s32s32s32sIQ")
_HEAD = encode_head(domains.CALL_RECEIPT, VERSION)


class CallReceipt(NamedTuple):
    """One call; `target` is its path, with `?` and the query where there is one."""

    epoch_ms: int
    number: int
    previous: bytes
    time_ms: int
    audit_id: bytes
    server: bytes
    request_digest: bytes
    response_digest: bytes
    status: int
    cost_m: int
    actor: str
    method: str
    authority: str
    target: str


class SignedReceipt(NamedTuple):
    """A signature base that covers a receipt, and the server's signature."""

    base: bytes
    signature: bytes


def encode_call_receipt(receipt: CallReceipt) -> bytes:
    """Its canonical bytes."""
    return b"".join((_HEAD, _FIXED.pack(*receipt[:10]), *map(encode_text, receipt[10:])))


def decode_call_receipt(data: bytes) -> CallReceipt:
    """The receipt; SpecError where the bytes are not one."""
    reader = Reader(data, "call receipt")
    reader.read_head(domains.CALL_RECEIPT, VERSION)
    fixed = _FIXED.unpack(reader.read_fixed(_FIXED.size))
    limits = (ACTOR_BYTES_MAX, METHOD_BYTES_MAX, AUTHORITY_BYTES_MAX, TARGET_BYTES_MAX)
    texts = [reader.read_text(limit) for limit in limits]
    reader.finish()
    return CallReceipt(*fixed, *texts)


def compute_receipt_hash(data: bytes) -> bytes:
    """By which the next receipt names this one."""
    return sha256(domains.CALL_RECEIPT_HASH + data).digest()


def encode_signed_receipt(signed: SignedReceipt) -> bytes:
    """As it is kept in a file."""
    head = encode_head(domains.SIGNED_CALL_RECEIPT, VERSION)
    return head + encode_sized(signed.base) + signed.signature


def decode_signed_receipt(data: bytes) -> SignedReceipt:
    """What `encode_signed_receipt` wrote; SpecError."""
    reader = Reader(data, "signed call receipt")
    reader.read_head(domains.SIGNED_CALL_RECEIPT, VERSION)
    signed = SignedReceipt(reader.read_bytes(BASE_BYTES_MAX), reader.read_fixed(64))
    reader.finish()
    return signed


def check_signed_receipt(data: bytes, server: bytes) -> CallReceipt:
    """The receipt that this server has signed; TamperError where it has not.

    Its status and response digest are those that the same signature covers.
    """
    base, signature = decode_signed_receipt(data)
    if not sodium.is_signed(server, base, signature):
        raise TamperError("call receipt: not signed by this server")
    lines, _ = read_base(base)
    value = lines.get('"x-receipt"', "")
    try:
        receipt = decode_call_receipt(parse_bytes(value, FIELD))
    except (PeerError, SpecError) as error:
        raise TamperError(f"call receipt: {error}") from None
    agrees = (
        receipt.server == server
        and lines.get('"@status"') == str(receipt.status)
        and lines.get('"content-digest"') == encode_content_digest(receipt.response_digest)
        and lines.get('"@method";req') == receipt.method
        and lines.get('"@path";req') == receipt.target.partition("?")[0]
    )
    if not agrees:
        raise TamperError("call receipt: it says something else than the response that carried it")
    return receipt


def encode_field(data: bytes) -> str:
    """The value of X-Receipt."""
    return encode_bytes(data)


def read_base(base: bytes) -> tuple[dict[str, str], dict[str, Value]]:
    """The lines of a signature base of the cage's own, and its parameters; TamperError."""
    try:
        lines = [line.partition(": ") for line in base.decode("ascii").split("\n")]
    except UnicodeDecodeError:
        raise TamperError("call receipt: the signature base is not ASCII") from None
    values = {name: value for name, _, value in lines}
    name, _, last = lines[-1]
    try:
        member = parse_dictionary(f"{LABEL}={last}", "signature base").get(LABEL)
        if name != '"@signature-params"' or len(values) != len(lines) or member is None:
            raise TamperError("call receipt: not a signature base")
        said = parse_parameters(member.parameters, "signature base")
    except PeerError as error:
        raise TamperError(f"call receipt: {error}") from None
    if said.get("tag") != TAG:
        raise TamperError("call receipt: not a signature of a cage")
    return values, said
