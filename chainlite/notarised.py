"""The notary's file: an app's LogBlocks and PoE bundles, and what shows whose they are.

Not here: a LogBlock's own rules (logblock), a bundle's (economy.poe_bundle), what a report is
worth and says (notary_report). Frames are those of an evidence file (bundle), in this order: the
notary's key; for each host its key, later keys and revocations, checkpoint, anchors, each run's
start and certificates, the LogBlocks from height 0 on; the bundles; the notary's seal over all.
There are no receipts in it: header and signature of every segment are, and the certificates that
they need, so the reader checks each segment's signature up to the host's key.
Invariant: what is reported was checked. Layout: README.md of this room, "The notary's file".
"""

from __future__ import annotations

from chainlite import bundle, codec, domains, hostlog, keys, logblock, merkle, segment
from chainlite.codec import Reader
from chainlite.economy import poe_bundle
from chainlite.economy.poe_bundle import ChainPoint, PoeBundle
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.verify import Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from chainlite.checkpoint import Checkpoint

NOTARY_KEY, LOGBLOCK, POE_BUNDLE, SEAL = 12, 13, 14, 15
_SEAL_BYTES = 8 + keys.SIGNATURE_BYTES
SIZE_LIMITS = {
    kind: bundle.SIZE_LIMITS[kind]
    for kind in (
        bundle.HOST_KEY,
        bundle.KEY,
        bundle.CHECKPOINT,
        bundle.ANCHOR,
        bundle.START,
        bundle.CERTIFICATE,
    )
} | {
    NOTARY_KEY: keys.PUBLIC_BYTES,
    LOGBLOCK: logblock.BLOCK_LIMIT_BYTES + logblock.BODY_LIMIT_BYTES + 128,
    POE_BUNDLE: poe_bundle.BUNDLE_LIMIT_BYTES + 128,
    SEAL: _SEAL_BYTES,
}
LAYOUT = bundle.Layout("evidence file of a notary", bundle.NOTARY_MAGIC, SIZE_LIMITS, SEAL)
BLOCKS_MAX = 1 << 22
"""LogBlocks of one host in a file: a verifier keeps half a KiB of each."""


class RunKeys(NamedTuple):
    """A run's app, the leaf of its start, and the certificates of its epochs in order."""

    app: str
    start_leaf: int
    certificates: list[segment.Certificate]


class HostSection:
    """What the file says of one host: its keys and log, the runs' epochs, the chain of blocks."""

    def __init__(self) -> None:
        self.opened = Verification()
        self.runs: dict[logblock.RunKey, RunKeys] = {}
        self.hashes: dict[bytes, segment.Certificate] = {}
        self.chain: logblock.ChainEnd | None = None
        self.blocks: list[ChainPoint] = []
        self.segments = self.events = 0
        self.revoked_runs: set[logblock.RunKey] = set()


class NotaryVerification:
    """Takes the frames of a notary's file in order; TamperError at the first bad one."""

    def __init__(self) -> None:
        self.public = self.notary = b""
        self.hosts: list[HostSection] = []
        self.bundles: list[PoeBundle] = []
        self.sealed_time = 0
        self.where = "the notary's file"

    @property
    def app(self) -> str:
        """The app that the file is of; empty before its first block."""
        chains = [host.chain for host in self.hosts if host.chain is not None]
        return chains[0].app if chains else self.bundles[0].app if self.bundles else ""

    def upon_frame(self, frame: bundle.Frame) -> None:
        """Check one frame against all before it."""
        if self.sealed_time or bool(self.public) == (frame.kind == NOTARY_KEY):
            self.refuse(f"a frame of kind {frame.kind} is out of its order")
        if self.bundles and frame.kind not in (POE_BUNDLE, SEAL):
            self.refuse(f"a frame of kind {frame.kind} follows the PoE bundles")
        try:
            _UPON[frame.kind](self, frame)
        except SpecError as error:
            self.refuse(str(error))
        if not frame.is_intact:
            self.refuse("the file was changed here, in bytes that no signature depends on")

    def refuse(self, why: str) -> NoReturn:
        """Give up: the file contradicts itself."""
        raise TamperError(why)

    def upon_notary_key(self, frame: bundle.Frame) -> None:
        """The key of all that follows; whether it is the right one is the caller's word."""
        if len(frame.payload) != keys.PUBLIC_BYTES:
            self.refuse("the notary's key is not one")
        self.public = frame.payload
        self.notary = logblock.compute_notary_id(frame.payload)

    def upon_host_key(self, frame: bundle.Frame) -> None:
        """The next host begins."""
        section = HostSection()
        section.opened.upon_frame(frame)
        if any(other.opened.host == section.opened.host for other in self.hosts):
            self.refuse("a host is there twice")
        self.hosts.append(section)
        self.where = f"host {section.opened.host.hex()[:16]}"

    def upon_opening(self, frame: bundle.Frame) -> None:
        """A later key of the host, a revocation, its log's checkpoint, one that others cosigned."""
        self._get_section().opened.upon_frame(frame)

    def upon_start(self, frame: bundle.Frame) -> None:
        """A run's start: a leaf of the host's log, its certificate signed by the host's key."""
        section, log = self._get_runs_section()
        logged = bundle.decode_logged_leaf(frame.payload)
        leaf_hash = merkle.compute_leaf_hash(logged.leaf)
        if not merkle.is_included(leaf_hash, logged.leaf_index, log.size, logged.proof, log.root):
            self.refuse("a run's start is not in the host's log")
        start = hostlog.decode_leaf(logged.leaf)
        if not isinstance(start, hostlog.Start):
            self.refuse("the leaf is not a run's start")
        genesis = segment.decode_genesis(start.genesis)
        certificate = segment.decode_certificate(start.certificate)
        host_keys = section.opened.keys
        assert host_keys is not None, "the checkpoint came after the key"
        key = (genesis.container, genesis.run)
        names = (section.opened.host, *key, 0, 0, segment.BY_HOST)
        if genesis.host != section.opened.host or certificate[:6] != names or key in section.runs:
            self.refuse("a run's start is of another host, or there twice")
        issuer = host_keys.get_at(logged.leaf_index).public
        self._check_signed(issuer, start.certificate, start.signature)
        section.runs[key] = RunKeys(genesis.app, logged.leaf_index, [certificate])
        section.hashes[segment.compute_certificate_hash(start.certificate)] = certificate
        if host_keys.is_revoked_at(logged.leaf_index):
            section.revoked_runs.add(key)

    def upon_certificate(self, frame: bundle.Frame) -> None:
        """The next epoch of a run, certified by the one before, or by the host after a crash."""
        section, log = self._get_runs_section()
        data = frame.payload[: segment.CERTIFICATE_BYTES]
        signature = frame.payload[segment.CERTIFICATE_BYTES :]
        certificate = segment.decode_certificate(data)
        key = (certificate.container, certificate.run)
        run = section.runs.get(key)
        if run is None or certificate.host != section.opened.host:
            self.refuse("a certificate belongs to no run")
        old = run.certificates[-1]
        if (
            certificate.epoch != old.epoch + 1
            or certificate.first_index < old.first_index
            or certificate.issuer == segment.BY_HOST
        ):
            self.refuse("a certificate is not the next epoch's")
        if certificate.issuer == segment.BY_EPOCH:
            self._check_signed(old.public, data, signature)
        else:
            host_keys = section.opened.keys
            assert host_keys is not None, "the checkpoint came after the key"
            tag = domains.SIGN_CERTIFICATE
            by = host_keys.find_signer(tag, data, signature, first_index=run.start_leaf)
            if by is None:
                self.refuse("a certificate is not signed by its issuer")
            if by.revoked_from is not None and by.revoked_from <= log.size:
                section.revoked_runs.add(key)
        run.certificates.append(certificate)
        section.hashes[segment.compute_certificate_hash(data)] = certificate

    def upon_block(self, frame: bundle.Frame) -> None:
        """The host's next LogBlock, and every segment in it, up to the host's key."""
        section, log = self._get_logged_section()
        data, signature, body = decode_block_frame(frame.payload)
        chain = section.chain
        if chain is None:
            app = self.app or logblock.decode_block(data).app
            chain = section.chain = logblock.ChainEnd(self.notary, section.opened.host, app)
        host = section.opened.host.hex()[:16]
        self.where = f"LogBlock {chain.height} of host {host}"
        if len(section.blocks) >= BLOCKS_MAX:
            self.refuse(f"more than {BLOCKS_MAX} LogBlocks")
        segments = logblock.decode_segments(body)
        block, headers = chain.take(data, signature, segments, self.public)
        is_other_root = block.log_size == log.size and block.log_root != log.root
        if block.log_size > log.size or is_other_root:
            self.refuse("it names a state of the host's log that the file's checkpoint is not past")
        for signed, header in zip(segments, headers, strict=True):
            self._check_header(section, signed, header, chain.app)
        section.blocks.append(poe_bundle.make_point(data))
        section.segments += block.segment_count
        section.events += block.event_count

    def upon_bundle(self, frame: bundle.Frame) -> None:
        """A PoE bundle: what the blocks of its window come to, all of them and no others."""
        data, signature = decode_signed(frame.payload, poe_bundle.BUNDLE_LIMIT_BYTES)
        made = poe_bundle.decode_bundle(data)
        start = made.window.start
        self.where = f"the PoE bundle of the window at {start}"
        poe_bundle.check_bundle_signature(data, signature, self.public)
        if made.notary != self.notary or made.app != (self.app or made.app):
            self.refuse("it is of another notary or app")
        if made.time < (start + made.window.seconds) * poe_bundle.NS:
            self.refuse("it was made before its window was over")
        if self.bundles and made.window.start <= self.bundles[-1].window.start:
            self.refuse("it is out of its order")
        parts = compute_parts(made.window, {h.opened.host: h.blocks for h in self.hosts})
        if parts != made.parts:
            self.refuse("its usage is not that of the LogBlocks in its window")
        self.bundles.append(made)

    def upon_seal(self, frame: bundle.Frame) -> None:
        """The notary's word on the whole file."""
        self.where = "the seal"
        if len(frame.payload) != _SEAL_BYTES or not self.hosts:
            self.refuse("it is not one, or of nothing")
        message, signature = frame.digest + frame.payload[:8], frame.payload[8:]
        if not keys.is_signed(self.public, domains.SIGN_NOTARY_SEAL, message, signature):
            self.refuse("the file is not the one that its notary sealed")
        self.sealed_time = max(1, int.from_bytes(frame.payload[:8], "big"))

    def _check_signed(self, public: bytes, data: bytes, signature: bytes) -> None:
        if not keys.is_signed(public, domains.SIGN_CERTIFICATE, data, signature):
            self.refuse("a certificate is not signed by its issuer")

    def _check_header(
        self,
        section: HostSection,
        signed: logblock.SignedHeader,
        header: segment.Header,
        app: str,
    ) -> None:
        certificate = section.hashes.get(header.certificate_hash)
        if certificate is None or header[:4] != certificate[:4]:
            self.refuse("a segment's certificate is not there, or of another run or epoch")
        run = section.runs[header.container, header.run]
        following = run.certificates[header.epoch + 1 : header.epoch + 2]
        end = header.first_index + header.event_count
        is_late = bool(following) and end > following[0].first_index
        if header.first_index < certificate.first_index or is_late or run.app != app:
            self.refuse("a segment is of another epoch's receipts, or of another app")
        tag = domains.SIGN_SEGMENT
        if not keys.is_signed(certificate.public, tag, signed.header, signed.signature):
            self.refuse("a segment is not signed by its epoch's key")

    def _get_section(self) -> HostSection:
        if not self.hosts:
            self.refuse("a frame belongs to no host")
        return self.hosts[-1]

    def _get_runs_section(self) -> tuple[HostSection, Checkpoint]:
        """All starts and certificates are known before the first block is judged by them."""
        section, log = self._get_logged_section()
        if section.blocks:
            self.refuse("a run's start or certificate follows the LogBlocks")
        return section, log

    def _get_logged_section(self) -> tuple[HostSection, Checkpoint]:
        section = self._get_section()
        log = section.opened.checkpoint
        if log is None:
            self.refuse("a host's checkpoint is missing")
        return section, log


_UPON: dict[int, Callable[[NotaryVerification, bundle.Frame], None]] = {
    NOTARY_KEY: NotaryVerification.upon_notary_key,
    bundle.HOST_KEY: NotaryVerification.upon_host_key,
    bundle.KEY: NotaryVerification.upon_opening,
    bundle.CHECKPOINT: NotaryVerification.upon_opening,
    bundle.ANCHOR: NotaryVerification.upon_opening,
    bundle.START: NotaryVerification.upon_start,
    bundle.CERTIFICATE: NotaryVerification.upon_certificate,
    LOGBLOCK: NotaryVerification.upon_block,
    POE_BUNDLE: NotaryVerification.upon_bundle,
    SEAL: NotaryVerification.upon_seal,
}


def compute_parts(
    window: poe_bundle.Window, chains: dict[bytes, list[ChainPoint]]
) -> tuple[poe_bundle.Part, ...]:
    """The parts of a window: for each host with blocks in it, the first, the last, the usage."""
    from bisect import bisect_left

    parts = []
    for host in sorted(chains):
        blocks = chains[host]
        first = bisect_left(blocks, window.start * poe_bundle.NS, key=lambda block: block.time)
        end = (window.start + window.seconds) * poe_bundle.NS
        after = bisect_left(blocks, end, key=lambda block: block.time)
        if first < after:
            before = blocks[first - 1] if first else poe_bundle.BEFORE_ALL
            parts.append(poe_bundle.make_part(host, before, blocks[after - 1]))
    return tuple(parts)


def encode_block_frame(block: bytes, signature: bytes, body: bytes) -> bytes:
    """The payload of a LogBlock's frame."""
    return codec.encode_bytes(block) + signature + codec.encode_bytes(body)


def decode_block_frame(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Block, signature and segments of a payload; SpecError if it is not canonical."""
    r = Reader(data, "LogBlock frame")
    block = r.read_bytes(logblock.BLOCK_LIMIT_BYTES)
    signature = r.read_fixed(keys.SIGNATURE_BYTES)
    body = r.read_bytes(logblock.BODY_LIMIT_BYTES)
    r.finish()
    return block, signature, body


def encode_signed(data: bytes, signature: bytes) -> bytes:
    """The payload of a bundle's frame."""
    return codec.encode_bytes(data) + signature


def decode_signed(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Bytes and signature of a payload; SpecError if it is not canonical."""
    r = Reader(data, "signed frame")
    signed = r.read_bytes(limit), r.read_fixed(keys.SIGNATURE_BYTES)
    r.finish()
    return signed


def write_file(
    write: Callable[[bytes], object],
    frames: Iterable[tuple[int, bytes]],
    key: keys.Signer,
    time: int,
) -> NotaryVerification:
    """Write the frames as they pass a verification, then the notary's seal; what was verified.

    TamperError if they do not: a file that would not verify is not written to its end.
    """
    state, digest = NotaryVerification(), bundle.compute_first_digest(LAYOUT)
    write(bundle.NOTARY_MAGIC)
    for kind, payload in frames:
        state.upon_frame(bundle.Frame(kind, payload, digest, is_intact=True))
        data, digest = bundle.encode_frame(kind, payload, digest)
        write(data)
    stamp = codec.encode_u64(time)
    seal = stamp + keys.sign(key, domains.SIGN_NOTARY_SEAL, digest + stamp)
    state.upon_frame(bundle.Frame(SEAL, seal, digest, is_intact=True))
    write(bundle.encode_frame(SEAL, seal, digest)[0])
    return state


def read_file(read: Callable[[int], bytes]) -> tuple[NotaryVerification, str]:
    """Check a notary's file to its first bad frame: what was seen, and why it fails, or nothing.

    SpecError: it is no notary's file.
    """
    state = NotaryVerification()
    try:
        for frame in bundle.iterate_frames(read, LAYOUT):
            state.upon_frame(frame)
    except TamperError as error:
        return state, f"{state.where}: {error}"
    return state, ""
