"""Verify evidence: frames in, a report out. `python -m chainlite.verify FILE` does it alone.

Not here: reading stores and host logs (docklock.evidence), what a report is worth and says
(report), proofs of one event (proof, proven). Nothing in here does I/O but `main`.
The order of the checks is the order of trust: the host's key, each later one by the key before
it, its checkpoint by the newest, the earlier checkpoints that it continues, the leaf that starts a
run and the certificate in it, each further certificate by the key before it, each segment by its
epoch's key and under its epoch's certificate, each receipt by root and chain, the exit leaf, the
seal over the whole file.
Invariant: nothing is reported whole that was not checked.
Source: README.md of this room; RFC 6962.
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, domains, hostlog, keys, merkle, proof, segment, tlogproof
from chainlite.errors import SpecError, TamperError
from chainlite.events import BadEvent, check_events
from chainlite.fork import FORK_LIMIT_BYTES, is_fork, show_fork
from chainlite.hostkeys import HostKeyRecord, HostKeys
from chainlite.lean import TYPE_CHECKING
from chainlite.proven import describe_proof, judge_proof, render_proof
from chainlite.report import (
    EXIT_NOT_EVIDENCE,
    EXIT_TAMPERED,
    EXIT_UNTRUSTED,
    EXIT_WHOLE,
    FirstBad,
    Logged,
    Report,
    RunReport,
    SeenLog,
    Trust,
    compute_exit_code,
    describe_report,
    escape,
    judge,
    render_report,
)
from chainlite.trust import add_trust_options, read_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn


class Run:
    """One run while its frames pass by."""

    def __init__(self, start: hostlog.Start) -> None:
        self.genesis = segment.decode_genesis(start.genesis)
        self.certificate = segment.decode_certificate(start.certificate)
        self.certificate_hash = segment.compute_certificate_hash(start.certificate)
        self.chain_hash = segment.compute_genesis_hash(start.genesis)
        self.event_count = 0
        self.segments = 0
        self.redacted = 0
        self.state = bundle.OPEN
        self.logged: list[Logged] = []
        self.last_leaf = b""
        self.recovered_by: HostKeyRecord | None = None
        self.is_revoked = False

    def get_state(self) -> bundle.RunState:
        """How far this run goes, as a seal says it."""
        return bundle.RunState(self.genesis.run, self.state, self.event_count, self.chain_hash)


class Verification:
    """Takes the frames of one container's evidence in order; TamperError at the first bad one."""

    def __init__(self) -> None:
        self.keys: HostKeys | None = None
        self.host = b""
        self._key_leaves: list[bundle.LoggedLeaf] = []
        self.checkpoint: checkpoint.Checkpoint | None = None
        self.logs: list[SeenLog] = []
        self.runs: list[Run] = []
        self.is_sealed = False
        self.runs_before = 0  # verified before: then `runs` begins with the last of them
        self.span: tuple[int, int | None] = (0, None)

    def upon_frame(self, frame: bundle.Frame) -> None:
        """Check one frame against all before it."""
        kind = frame.kind
        is_opening, is_open = kind in bundle.OPENING, self.checkpoint is not None
        late = self.is_sealed or (is_opening and is_open)
        early = not is_opening and not is_open
        if late or early:
            self.refuse(f"a frame of kind {kind} is out of its order")
        try:
            _UPON[kind](self, frame)
        except SpecError as error:
            self.refuse(str(error))
        if not frame.is_intact:
            self.refuse("the file was changed here, in bytes that no receipt depends on")
        self.span = (self.runs[-1].event_count if self.runs else 0, None)

    def refuse(self, why: str) -> NoReturn:
        """Give up: the evidence contradicts itself."""
        raise TamperError(why)

    def upon_host_key(self, frame: bundle.Frame) -> None:
        """The key that everything rests on; whether it is the right one is the caller's word."""
        if self.keys is not None or len(frame.payload) != keys.PUBLIC_BYTES:
            self.refuse("the host's key is not one")
        self.keys = HostKeys(frame.payload)
        self.host = self.keys.host

    def upon_key(self, frame: bundle.Frame) -> None:
        """The host's next key, or a revocation, by the key before; `upon_checkpoint` finds it."""
        logged = bundle.decode_logged_leaf(frame.payload)
        leaf = hostlog.decode_leaf(logged.leaf)
        if not isinstance(leaf, hostlog.Key | hostlog.Revocation):
            self.refuse("the leaf is not a key record")
        if leaf.leaf_index != logged.leaf_index:
            self.refuse("the key record is of another leaf")
        self._get_keys().take(leaf)
        self._key_leaves.append(logged)

    def upon_checkpoint(self, frame: bundle.Frame) -> None:
        """The signed size and root of the host's log; the log has each key record."""
        self.checkpoint = checkpoint.parse_checkpoint(frame.payload, self._get_keys().public)
        if self.checkpoint.origin != checkpoint.get_origin(self.host):
            self.refuse("the checkpoint is of another log")
        for logged in self._key_leaves:
            self._check_included(logged.leaf, logged.leaf_index, logged.proof)
        self.logs.append(SeenLog(self.checkpoint.size, self.checkpoint.root, frame.payload))

    def upon_anchor(self, frame: bundle.Frame) -> None:
        """An earlier state of the host's log, which the log continues: who cosigned it is asked
        when the report is judged."""
        if self.runs or len(self.logs) > bundle.ANCHORS_MAX:
            self.refuse("an anchor is out of its order, or one too many")
        anchor, log = bundle.decode_anchor(frame.payload), self._get_log()
        old = checkpoint.parse_checkpoint(anchor.note, *self._get_keys().publics)
        if old.origin != log.origin:
            self.refuse("an anchor is of another log")
        if not merkle.is_consistent(old.size, log.size, anchor.proof, old.root, log.root):
            self.refuse(
                f"the host's log of {log.size} leaves does not continue the checkpoint of "
                f"{old.size}: it was forked or rewritten"
            )
        self.logs.append(SeenLog(old.size, old.root, anchor.note))

    def upon_start(self, frame: bundle.Frame) -> None:
        """A run's start leaf: in the log, next in number, on top of the run before."""
        leaf_index, start = self._check_logged(frame.payload)
        if not isinstance(start, hostlog.Start):
            self.refuse("the leaf is not a run's start")
        run = Run(start)
        genesis, before = run.genesis, self.runs[-1] if self.runs else None
        self.runs.append(run)
        self.span = (0, None)
        if genesis.host != self.host or genesis.run != self.runs_before + len(self.runs) - 1:
            self.refuse("the run is of another host, or a run before it is missing")
        if before is None:
            if genesis.previous != segment.ZERO_HASH:
                self.refuse("the first run names a run before it")
        elif (
            before.state == bundle.OPEN
            or genesis.previous != before.chain_hash
            or genesis.container != before.genesis.container
            or genesis.number != before.genesis.number
        ):
            self.refuse("the run does not continue the one before it")
        self._add_logged(run, leaf_index, is_end=False)
        issuer = self._get_keys().get_at(leaf_index).public
        run.is_revoked = self._get_keys().is_revoked_at(leaf_index)
        self._check_certificate(run, start.certificate, start.signature, issuer)
        if run.certificate.issuer != segment.BY_HOST or run.certificate.epoch != 0:
            self.refuse("the first certificate is not the host's")

    def upon_certificate(self, frame: bundle.Frame) -> None:
        """The next epoch's key, certified by the last one, or by the host after a crash."""
        run = self._get_open_run()
        data = frame.payload[: segment.CERTIFICATE_BYTES]
        old, run.certificate = run.certificate, segment.decode_certificate(data)
        run.certificate_hash = segment.compute_certificate_hash(data)
        if run.certificate.epoch != old.epoch + 1 or run.certificate.issuer == segment.BY_HOST:
            self.refuse("the certificate is not the next epoch's")
        signature, issuer = frame.payload[len(data) :], old.public
        if run.certificate.issuer == segment.BY_RECOVERY:
            issuer = self._find_recoverer(run, data, signature)
        self._check_certificate(run, data, signature, issuer)

    def upon_segment(self, frame: bundle.Frame) -> None:
        """A segment: next in index, signed by its epoch, its receipts under root and chain."""
        self.take_segment(*bundle.decode_segment(frame.payload, frame.kind))

    def take_segment(
        self, header: segment.Header, stored: bundle.StoredSegment, *, has_receipts: bool = True
    ) -> None:
        """A segment that is decoded already; without receipts only what is signed is checked."""
        run = self._get_open_run()
        genesis, certificate = run.genesis, run.certificate
        last = header.first_index + header.event_count - 1
        if header.first_index == run.event_count:
            self.span = (header.first_index, last)
        names = (genesis.host, genesis.container, genesis.run, certificate.epoch)
        if header[:4] != names or header.mode != genesis.sign_each:
            self.refuse("the segment is of another host, container, run, epoch or mode")
        tag = domains.SIGN_SEGMENT
        if not keys.is_signed(certificate.public, tag, stored.header, stored.signature):
            self.refuse("the segment's header is not signed by its epoch's key")
        if header.certificate_hash != run.certificate_hash:
            self.refuse("the segment's header names another certificate than its epoch's")
        if header.first_index != run.event_count:
            self._refuse_hole(run, header.first_index)
        try:
            public = certificate.public
            if has_receipts:
                run.redacted += check_events(header, stored, genesis, run.chain_hash, public)
        except BadEvent as error:
            if error.index is not None:
                self.span = (error.index, error.index)
            self.refuse(str(error))
        run.chain_hash = header.head
        run.event_count = last + 1
        run.segments += 1
        run.last_leaf = hostlog.encode_segment(hostlog.Segment(stored.header, stored.signature))

    def upon_place(self, frame: bundle.Frame) -> None:
        """Where the segment just seen lies in the host's log."""
        run = self._get_open_run()
        if not run.segments:
            self.refuse("a place belongs to no segment")
        place = bundle.decode_place(frame.payload)
        self._check_included(run.last_leaf, place.leaf_index, place.proof)
        self._add_logged(run, place.leaf_index, is_end=False)

    def upon_exit(self, frame: bundle.Frame) -> None:
        """The exit leaf: in the log, and equal to what was counted."""
        run = self._get_open_run()
        leaf_index, leaf = self._check_logged(frame.payload)
        if not isinstance(leaf, hostlog.Exit):
            self.refuse("the leaf is not a run's exit")
        genesis = run.genesis
        if leaf[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the exit is of another run")
        if leaf.event_count != run.event_count:
            self._refuse_hole(run, leaf.event_count)
        if leaf.head != run.chain_hash:
            self.refuse("the exit names another head")
        self._add_logged(run, leaf_index, is_end=True)
        run.is_revoked = run.is_revoked or _is_revoked_by(run.recovered_by, leaf_index)
        run.state = bundle.CUT if leaf.cut else bundle.CLOSED

    def upon_seal(self, frame: bundle.Frame) -> None:
        """The host's word on the whole file: nothing was left out since it was written."""
        seal, signature = bundle.decode_seal(frame.payload)
        self.span = (0, None)
        data = bundle.encode_seal(seal)
        if not keys.is_signed(self._get_keys().public, domains.SIGN_SEAL, data, signature):
            self.refuse("the seal is not signed by the host's key")
        states = tuple(run.get_state() for run in self.runs)
        container = self.runs[0].genesis.container if self.runs else b""
        log = self._get_log()
        if seal.runs != states or (seal.host, seal.container) != (self.host, container):
            self._refuse_seal(seal, states)
        if (seal.log_size, seal.log_root) != (log.size, log.root) or seal.digest != frame.digest:
            self.refuse("the file is not the one that was sealed")
        self.is_sealed = True

    def _refuse_seal(self, seal: bundle.Seal, states: tuple[bundle.RunState, ...]) -> NoReturn:
        for said, found in zip(seal.runs, states, strict=False):
            if said.event_count > found.event_count:
                self.span = (found.event_count, said.event_count - 1)
                self.refuse(f"receipts at the end of run {said.run} are missing")
        self.refuse("the seal names other runs, or other ends of them")

    def _refuse_hole(self, run: Run, index: int) -> NoReturn:
        count = run.event_count
        if index > count:
            self.span = (count, index - 1)
            self.refuse("receipts are missing")
        self.span = (index, count - 1)
        self.refuse("receipts are repeated or out of order")

    def _get_open_run(self) -> Run:
        if not self.runs or self.runs[-1].state != bundle.OPEN:
            self.refuse("a frame belongs to no run")
        return self.runs[-1]

    def _get_keys(self) -> HostKeys:
        if self.keys is None:
            self.refuse("the host's key is missing")
        return self.keys

    def _find_recoverer(self, run: Run, data: bytes, signature: bytes) -> bytes:
        """The key of the host that took the run over: one from its start on."""
        start, tag = run.logged[0].leaf_index, domains.SIGN_CERTIFICATE
        record = self._get_keys().find_signer(tag, data, signature, first_index=start)
        if record is None:
            self.refuse("the certificate is not signed by its issuer")
        run.recovered_by = record
        return record.public

    def _get_log(self) -> checkpoint.Checkpoint:
        assert self.checkpoint is not None, "the order of frames is checked before they are"
        return self.checkpoint

    def _add_logged(self, run: Run, leaf_index: int, *, is_end: bool) -> None:
        before = run.logged or (self.runs[-2].logged if len(self.runs) > 1 else ())
        if before and leaf_index <= before[-1].leaf_index:
            self.refuse("the leaves of the host's log are in another order")
        run.logged.append(Logged(leaf_index, run.event_count, is_end))

    def _check_logged(self, payload: bytes) -> tuple[int, object]:
        logged = bundle.decode_logged_leaf(payload)
        self._check_included(logged.leaf, logged.leaf_index, logged.proof)
        return logged.leaf_index, hostlog.decode_leaf(logged.leaf)

    def _check_included(self, leaf: bytes, leaf_index: int, proof: tuple[bytes, ...]) -> None:
        log, leaf_hash = self._get_log(), merkle.compute_leaf_hash(leaf)
        if not merkle.is_included(leaf_hash, leaf_index, log.size, proof, log.root):
            self.refuse("a leaf is not in the host's log")

    def _check_certificate(self, run: Run, data: bytes, signature: bytes, issuer: bytes) -> None:
        certificate, genesis = run.certificate, run.genesis
        if certificate[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the certificate is of another run")
        if certificate.first_index != run.event_count:
            self.refuse("the certificate starts at another receipt")
        if not keys.is_signed(issuer, domains.SIGN_CERTIFICATE, data, signature):
            self.refuse("the certificate is not signed by its issuer")


def _is_revoked_by(record: HostKeyRecord | None, leaf_index: int) -> bool:
    """Whether what this key signed shortly before the leaf is not to be trusted."""
    return (
        record is not None and record.revoked_from is not None and record.revoked_from <= leaf_index
    )


_UPON: dict[int, Callable[[Verification, bundle.Frame], None]] = {
    bundle.HOST_KEY: Verification.upon_host_key,
    bundle.KEY: Verification.upon_key,
    bundle.CHECKPOINT: Verification.upon_checkpoint,
    bundle.START: Verification.upon_start,
    bundle.CERTIFICATE: Verification.upon_certificate,
    bundle.SEGMENT: Verification.upon_segment,
    bundle.EXIT: Verification.upon_exit,
    bundle.SEAL: Verification.upon_seal,
    bundle.ANCHOR: Verification.upon_anchor,
    bundle.PLACE: Verification.upon_place,
    bundle.REDACTED: Verification.upon_segment,
}


def verify_frames(frames: Iterable[bundle.Frame]) -> Report:
    """Check frames, sealed or not, to the first bad one. SpecError: this is no evidence."""
    state = Verification()
    try:
        for frame in frames:
            state.upon_frame(frame)
        if not state.runs:
            state.refuse("there is no run in it")
    except TamperError as error:
        return make_report(state, str(error))
    return make_report(state, "")


def verify_file(read: Callable[[int], bytes]) -> Report:
    """Check an evidence file, which must be sealed. SpecError: this is no evidence file."""
    return verify_frames(bundle.iterate_frames(read))


def make_report(state: Verification, why: str) -> Report:
    """The report of a verification that ended, with `why` it failed, or nothing."""
    runs = tuple(
        RunReport(
            run.genesis.run,
            bundle.STATES[run.state],
            run.event_count,
            run.segments,
            run.chain_hash.hex(),
            run.redacted,
            tuple(run.logged),
        )
        for run in state.runs
    )
    last = state.runs[-1].genesis if state.runs else None
    return Report(
        state.host.hex(),
        state.keys.publics if state.keys is not None else (),
        last.container.hex() if last else "",
        last.app if last else "",
        sum(run.receipts for run in runs),
        sum(run.segments for run in runs),
        sum(run.redacted for run in runs),
        runs,
        tuple(state.logs),
        FirstBad(last.run if last else None, *state.span, why) if why else None,
        tuple(run.genesis.run for run in state.runs if is_revoked(state, run)),
    )


def is_revoked(state: Verification, run: Run) -> bool:
    """Whether a key that speaks for the run is not to be trusted there, says the host."""
    size = state.checkpoint.size if state.checkpoint is not None else 0
    return run.is_revoked or (run.state == bundle.OPEN and _is_revoked_by(run.recovered_by, size))


def check_file(read: Callable[[int], bytes], trust: Trust, *, as_json: bool) -> tuple[str, int]:
    """What to print about evidence, a proof, a fork, a notary's file, an export; exit code.

    SpecError: it is none of them, or the trust's checkpoint is not signed by its host.
    """
    start = read(len(proof.MAGIC))
    if start == proof.MAGIC:
        return check_proof_file(start + read(proof.PROOF_LIMIT_BYTES), trust, as_json=as_json)
    if start[:14] == b"DOCKLOCK-FINAL":
        from chainlite.proofs.light_program import LIGHT_READ_BYTES, check_light_file

        return check_light_file(start + read(LIGHT_READ_BYTES), trust, as_json=as_json)
    if start == bundle.NOTARY_MAGIC[: len(proof.MAGIC)]:
        from chainlite.notary_report import check_notary_file

        return check_notary_file(bundle.Rewound(start, read).read, trust, as_json=as_json)
    if start == bundle.EXPORT_MAGIC[: len(proof.MAGIC)]:
        from chainlite.export_report import check_export_file

        return check_export_file(bundle.Rewound(start, read).read, trust, as_json=as_json)
    if start == tlogproof.MAGIC[: len(start)] != b"":
        data = start + read(tlogproof.PROOF_LIMIT_BYTES)
        return tlogproof.check_log_proof_file(data, trust, as_json=as_json)
    if is_fork(start):
        return show_fork(start + read(FORK_LIMIT_BYTES), trust, as_json=as_json)
    return show_report(verify_file(bundle.Rewound(start, read).read), trust, as_json=as_json)


def show_report(report: Report, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    """What to print about a report, and the exit code."""
    import json

    verdict = judge(report, trust)
    code = compute_exit_code(report, verdict)
    text, described = render_report(report, verdict), describe_report(report, verdict)
    if trust.finals:
        from chainlite.proofs.light_report import add_finals

        text, code = add_finals(report, trust.finals, text, described, code)
    return json.dumps(described) + "\n" if as_json else text, code


def check_proof_file(data: bytes, trust: Trust, *, as_json: bool) -> tuple[str, int]:
    """As check_file, for the bytes of a proof."""
    import json

    try:
        proven = proof.check_proof(data)
    except TamperError as error:
        bad = {"ok": False, "first_bad": {"why": str(error)}}
        shown = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(str(error))}\n"
        return shown, EXIT_TAMPERED
    verdict = judge_proof(proven, trust)
    trusted_code = EXIT_WHOLE if verdict.is_trusted else EXIT_UNTRUSTED
    code = EXIT_TAMPERED if verdict.refusal else trusted_code
    if as_json:
        return json.dumps(describe_proof(proven, verdict)) + "\n", code
    return render_proof(proven, verdict), code


def main(argv: list[str] | None = None) -> int:
    """Verify one file on its own: `python -m chainlite.verify FILE [--host-key KEY]`."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog="python -m chainlite.verify", description=main.__doc__)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    add_trust_options(parser)
    options = parser.parse_args(argv)
    try:
        trust = read_trust(options)
        with open(options.file, "rb") as file:
            text, code = check_file(file.read, trust, as_json=options.json)
    except (OSError, SpecError) as error:
        sys.stderr.write(f"verify: {error}\n")
        return EXIT_NOT_EVIDENCE
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
