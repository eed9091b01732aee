"""A proof of one event: its receipt, a path to its segment's root, a path to the host's log.

Not here: who finds the parts (docklock.evidence.proving), whom to trust and what is said (proven).
What is proven: this host logged this receipt, in an epoch that began as its certificate says, under
the checkpoint that the proof carries. The segment's header names the certificate, and is a leaf of
the log; the certificates from the host's key on are there too where they fit in PROOF_TARGET_BYTES.
Invariant: no bit of a proof can be changed without the host's key, but in cosignatures of
witnesses that the verifier does not name. Layout: README.md of this room, "Proof of one event".
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, codec, domains, hostlog, keys, merkle, receipt, segment
from chainlite.codec import Reader
from chainlite.errors import SpecError, TamperError
from chainlite.hostkeys import KEYS_MAX, HostKeys
from chainlite.lean import NamedTuple
from chainlite.note import NOTE_LIMIT_BYTES
from chainlite.proven import Proven
from chainlite.report import SeenLog
from chainlite.sha2 import sha256

MAGIC = b"DOCKLOCK-PROOF\x00\x00\x01"
"""The name, and the version in the last two bytes."""
PROOF_TARGET_BYTES = 4096
CERTIFICATES_MAX = 16
KEY_RECORDS_MAX = 2 * KEYS_MAX
KEY_RECORD_LIMIT_BYTES = 256
PROOF_LIMIT_BYTES = (
    NOTE_LIMIT_BYTES
    + receipt.RECEIPT_LIMIT_BYTES
    + receipt.VALUES_MAX * (receipt.VALUE_LIMIT_BYTES + 64)
    + KEY_RECORDS_MAX * KEY_RECORD_LIMIT_BYTES
    + 32768
)


class Opened(NamedTuple):
    """A value of the receipt and the salt that its commitment was made with."""

    salt: bytes
    value: bytes


class Proof(NamedTuple):
    """The parts of a proof; `values` has one entry for each commitment (None: not told).

    `certificates` are (certificate, signature) from one that the host signed to the epoch's own;
    where the list is left out, the epoch's own alone with no signature. `key_records` are the
    leaves of the host's later keys and revocations; each is signed by the key before it.
    """

    public: bytes
    note: bytes
    header: bytes
    signature: bytes
    certificates: tuple[tuple[bytes, bytes], ...]
    leaf_index: int
    log_proof: tuple[bytes, ...]
    segment_proof: tuple[bytes, ...]
    receipt: bytes
    values: tuple[Opened | None, ...]
    key_records: tuple[bytes, ...] = ()

    @property
    def is_certified(self) -> bool:
        """Whether the list is there, and not the epoch's own certificate alone."""
        return bool(self.certificates[-1][1])


def encode_proof(proof: Proof) -> bytes:
    """The bytes of a proof's file."""
    parts = [
        MAGIC,
        proof.public,
        codec.encode_u32(len(proof.key_records)),
        *[codec.encode_bytes(leaf) for leaf in proof.key_records],
        codec.encode_bytes(proof.note),
        proof.header,
        proof.signature,
        codec.encode_u8(len(proof.certificates) if proof.is_certified else 0),
        *[certificate + signature for certificate, signature in proof.certificates],
        codec.encode_u64(proof.leaf_index),
        bundle.encode_proof(proof.log_proof),
        bundle.encode_proof(proof.segment_proof),
        codec.encode_bytes(proof.receipt),
    ]
    return b"".join([*parts, *map(encode_opened, proof.values)])


def encode_opened(opened: Opened | None) -> bytes:
    """What a proof tells of one value."""
    if opened is None:
        return codec.encode_u8(0)
    return codec.encode_u8(1) + opened.salt + codec.encode_bytes(opened.value)


def fit(proof: Proof) -> bytes:
    """The bytes of a proof, with all its certificates if it is small then, values not counted."""
    certificates = proof.certificates
    if len(certificates) > 1:
        bare = proof._replace(values=tuple(None for _ in proof.values))
        if len(certificates) > CERTIFICATES_MAX or len(encode_proof(bare)) > PROOF_TARGET_BYTES:
            proof = proof._replace(certificates=((certificates[-1][0], b""),))
    return encode_proof(proof)


def decode_proof(data: bytes) -> Proof:
    """The proof of these bytes; SpecError if they are not one in canonical form."""
    if data[: len(MAGIC) - 2] != MAGIC[:-2]:
        raise SpecError("not a proof: it does not start with DOCKLOCK-PROOF")
    if not data.startswith(MAGIC):
        raise SpecError(f"proof version {data[len(MAGIC) - 2 : len(MAGIC)].hex()} is not known")
    r = Reader(data[len(MAGIC) :], "proof")
    public = r.read_fixed(keys.PUBLIC_BYTES)
    records = tuple(
        r.read_bytes(KEY_RECORD_LIMIT_BYTES) for _ in range(r.read_u32(limit=KEY_RECORDS_MAX))
    )
    note = r.read_bytes(NOTE_LIMIT_BYTES)
    header, signature = r.read_fixed(segment.HEADER_BYTES), r.read_fixed(keys.SIGNATURE_BYTES)
    certificates = _read_certificates(r)
    paths = (r.read_u64(), bundle.read_proof(r), bundle.read_proof(r))
    event = r.read_bytes(receipt.RECEIPT_LIMIT_BYTES)
    values = tuple(read_opened(r) for _ in receipt.decode_receipt(event).commitments)
    r.finish()
    signed = (public, note, header, signature, certificates)
    return Proof(*signed, *paths, event, values, records)


def _read_certificates(r: Reader) -> tuple[tuple[bytes, bytes], ...]:
    count = r.read_u8(limit=CERTIFICATES_MAX)
    if not count:
        return ((r.read_fixed(segment.CERTIFICATE_BYTES), b""),)
    return tuple(
        (r.read_fixed(segment.CERTIFICATE_BYTES), r.read_fixed(keys.SIGNATURE_BYTES))
        for _ in range(count)
    )


def read_opened(r: Reader) -> Opened | None:
    """The value that comes next; None if it is not told."""
    if not r.read_u8(limit=1):
        return None
    return Opened(r.read_fixed(receipt.SALT_BYTES), r.read_bytes(receipt.VALUE_LIMIT_BYTES))


def check_proof(data: bytes) -> Proven:
    """What the proof shows; TamperError where it contradicts itself, SpecError: it is no proof."""
    if not data.startswith(MAGIC):
        decode_proof(data)
    try:
        proof = decode_proof(data)
        header = segment.decode_header(proof.header)
        event = receipt.decode_receipt(proof.receipt)
        known = read_keys(proof)
        log = checkpoint.parse_checkpoint(proof.note, known.public)
        is_revoked = _check_certificates(proof, header, known)
        certificate = _check_epoch(proof, header)
    except SpecError as error:
        raise TamperError(str(error)) from None
    host = known.host
    if known.last_index >= log.size:
        raise TamperError("a key record is of a later log than the checkpoint's")
    if header.host != host or log.origin != checkpoint.get_origin(host):
        raise TamperError("the segment or the checkpoint is of another host")
    if not keys.is_signed(certificate.public, domains.SIGN_SEGMENT, proof.header, proof.signature):
        raise TamperError("the segment's header is not signed by its epoch's key")
    leaf = hostlog.encode_segment(hostlog.Segment(proof.header, proof.signature))
    place = (merkle.compute_leaf_hash(leaf), proof.leaf_index, log.size)
    if not merkle.is_included(*place, proof.log_proof, log.root):
        raise TamperError("the segment is not in the host's log")
    _check_receipt(proof, header, event)
    return Proven(
        host.hex(),
        known.publics,
        event,
        check_values(proof.values, event),
        proof.leaf_index,
        SeenLog(log.size, log.root, proof.note),
        certificate,
        proof.is_certified,
        is_revoked,
    )


def read_keys(proof: Proof) -> HostKeys:
    """The host's keys, as the proof's own records lead to them; errors as those of check_proof."""
    known = HostKeys(proof.public)
    for data in proof.key_records:
        leaf = hostlog.decode_leaf(data)
        if not isinstance(leaf, hostlog.Key | hostlog.Revocation):
            raise TamperError("a leaf is not a key record")
        known.take(leaf)
    return known


def _check_certificates(proof: Proof, header: segment.Header, known: HostKeys) -> bool:
    """Whether the host has revoked the key that the certificates begin with.

    Without the list the host's key that took the segment into the log speaks for it.
    TamperError unless each is signed by the one before, the first by the host.
    """
    if not proof.is_certified:
        return known.is_revoked_at(proof.leaf_index)
    tag = domains.SIGN_CERTIFICATE
    signer = known.find_signer(tag, *proof.certificates[0], first_index=0)
    issuer, last = proof.public if signer is None else signer.public, None
    for data, signature in proof.certificates:
        certificate = segment.decode_certificate(data)
        by_host = certificate.issuer != segment.BY_EPOCH
        follows = last is not None and certificate.epoch == last.epoch + 1
        if by_host if last is None else not by_host and follows:
            last = certificate
        else:
            raise TamperError("the certificates do not lead from the host's key on")
        if certificate[:3] != header[:3] or certificate.first_index > header.first_index:
            raise TamperError("a certificate is of another run, or of later receipts")
        if not keys.is_signed(issuer, domains.SIGN_CERTIFICATE, data, signature):
            raise TamperError("a certificate is not signed by its issuer")
        issuer = certificate.public
    revoked_from = signer.revoked_from if signer is not None else None
    return revoked_from is not None and revoked_from <= proof.leaf_index


def _check_epoch(proof: Proof, header: segment.Header) -> segment.Certificate:
    """The certificate of the header's epoch; TamperError if the header names another.

    One that the host signed is a whole list: nobody needs to leave its signature out.
    """
    data = proof.certificates[-1][0]
    if segment.compute_certificate_hash(data) != header.certificate_hash:
        raise TamperError("the segment's header names another certificate than its epoch's")
    certificate = segment.decode_certificate(data)
    if certificate[:4] != header[:4] or certificate.first_index > header.first_index:
        raise TamperError(
            "the epoch's certificate is of another run or epoch, or of later receipts"
        )
    if not proof.is_certified and certificate.issuer != segment.BY_EPOCH:
        raise TamperError("the host's signature of the epoch's certificate is missing")
    return certificate


def _check_receipt(proof: Proof, header: segment.Header, event: receipt.Receipt) -> None:
    if (event.host, event.container, event.run) != header[:3]:
        raise TamperError("the receipt is of another host, container or run")
    at = event.event_index - header.first_index
    leaf_hash = merkle.compute_leaf_hash(proof.receipt)
    path = proof.segment_proof
    if not merkle.is_included(leaf_hash, at, header.event_count, path, header.root):
        raise TamperError("the receipt is not in the segment at its index")


def check_values(
    values: tuple[Opened | None, ...], event: receipt.Receipt
) -> tuple[tuple[str, bytes | None], ...]:
    """Each value's name and what is told of it; TamperError if it is not what was committed to."""
    shown = []
    for (name, digest), opened in zip(event.commitments, values, strict=True):
        if opened is not None and sha256(opened.salt + opened.value).digest() != digest:
            raise TamperError(f"the value of {name} is not the one committed to")
        shown.append((name, None if opened is None else opened.value))
    return tuple(shown)
