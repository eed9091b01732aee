"""Verify evidence: frames in, a report out. `python -m chainlite.verify FILE` does it alone.

Not here: reading stores and host logs (docklock.evidence). Nothing in here does I/O but `main`.
The order of the checks is the order of trust: the host's key, its checkpoint, the leaf that starts
a run and the certificate in it, each further certificate by the key before it, each segment by its
epoch's key, each receipt by root and chain, the exit leaf, the seal over the whole file.
Invariants: nothing is reported whole that was not checked; whoever named no key is told `trusted`
is false. Source: README.md of this room; RFC 6962.
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, domains, hostlog, keys, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.events import BadEvent, check_events
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

EXIT_WHOLE, EXIT_NOT_EVIDENCE, EXIT_TAMPERED, EXIT_UNTRUSTED = 0, 2, 3, 4


class FirstBad(NamedTuple):
    """Where evidence first fails: receipts `first` to `last` of a run (None: no end known)."""

    run: int | None
    first: int
    last: int | None
    why: str


class RunReport(NamedTuple):
    """What was checked of one run; `state` is open, closed or cut."""

    run: int
    state: str
    receipts: int
    segments: int
    head: str


class Report(NamedTuple):
    """What verification found; `host` is the fingerprint of the key that signed."""

    host: str
    container: str
    app: str
    receipts: int
    segments: int
    runs: tuple[RunReport, ...]
    first_bad: FirstBad | None


class Run:
    """One run while its frames pass by."""

    def __init__(self, start: hostlog.Start) -> None:
        self.genesis = segment.decode_genesis(start.genesis)
        self.certificate = segment.decode_certificate(start.certificate)
        self.chain_hash = segment.compute_genesis_hash(start.genesis)
        self.event_count = 0
        self.segments = 0
        self.state = bundle.OPEN

    def get_state(self) -> bundle.RunState:
        """How far this run goes, as a seal says it."""
        return bundle.RunState(self.genesis.run, self.state, self.event_count, self.chain_hash)


class Verification:
    """Takes the frames of one container's evidence in order; TamperError at the first bad one."""

    def __init__(self) -> None:
        self.public = b""
        self.host = b""
        self.checkpoint: checkpoint.Checkpoint | None = None
        self.runs: list[Run] = []
        self.is_sealed = False
        self.span: tuple[int, int | None] = (0, None)

    def upon_frame(self, frame: bundle.Frame) -> None:
        """Check one frame against all before it."""
        kind = frame.kind
        late = self.is_sealed or (kind <= bundle.CHECKPOINT and self.checkpoint is not None)
        early = kind > bundle.CHECKPOINT and self.checkpoint is None
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
        if self.public or len(frame.payload) != keys.PUBLIC_BYTES:
            self.refuse("the host's key is not one")
        self.public = frame.payload
        self.host = keys.compute_host_id(self.public)

    def upon_checkpoint(self, frame: bundle.Frame) -> None:
        """The signed size and root of the host's log."""
        self.checkpoint = checkpoint.parse_checkpoint(frame.payload, self.public)
        if self.checkpoint.origin != checkpoint.get_origin(self.host):
            self.refuse("the checkpoint is of another log")

    def upon_start(self, frame: bundle.Frame) -> None:
        """A run's start leaf: in the log, next in number, on top of the run before."""
        start = self._check_logged(frame.payload)
        if not isinstance(start, hostlog.Start):
            self.refuse("the leaf is not a run's start")
        run = Run(start)
        genesis, before = run.genesis, self.runs[-1] if self.runs else None
        self.runs.append(run)
        self.span = (0, None)
        if genesis.host != self.host or genesis.run != len(self.runs) - 1:
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
        self._check_certificate(run, start.certificate, start.signature, self.public)
        if run.certificate.issuer != segment.BY_HOST or run.certificate.epoch != 0:
            self.refuse("the first certificate is not the host's")

    def upon_certificate(self, frame: bundle.Frame) -> None:
        """The next epoch's key, certified by the last one, or by the host after a crash."""
        run = self._get_open_run()
        data = frame.payload[: segment.CERTIFICATE_BYTES]
        old, run.certificate = run.certificate, segment.decode_certificate(data)
        if run.certificate.epoch != old.epoch + 1 or run.certificate.issuer == segment.BY_HOST:
            self.refuse("the certificate is not the next epoch's")
        by_epoch = run.certificate.issuer == segment.BY_EPOCH
        issuer = old.public if by_epoch else self.public
        self._check_certificate(run, data, frame.payload[len(data) :], issuer)

    def upon_segment(self, frame: bundle.Frame) -> None:
        """A segment: next in index, signed by its epoch, its receipts under root and chain."""
        run = self._get_open_run()
        header, stored = bundle.decode_segment(frame.payload)
        last = header.first_index + header.event_count - 1
        if header.first_index == run.event_count:
            self.span = (header.first_index, last)
        genesis, certificate = run.genesis, run.certificate
        names = (genesis.host, genesis.container, genesis.run, certificate.epoch)
        if header[:4] != names or header.mode != genesis.sign_each:
            self.refuse("the segment is of another host, container, run, epoch or mode")
        tag = domains.SIGN_SEGMENT
        if not keys.is_signed(certificate.public, tag, stored.header, stored.signature):
            self.refuse("the segment's header is not signed by its epoch's key")
        if header.first_index != run.event_count:
            self._refuse_hole(run, header.first_index)
        try:
            check_events(header, stored, genesis, run.chain_hash, certificate.public)
        except BadEvent as error:
            if error.index is not None:
                self.span = (error.index, error.index)
            self.refuse(str(error))
        run.chain_hash = header.head
        run.event_count = last + 1
        run.segments += 1

    def upon_exit(self, frame: bundle.Frame) -> None:
        """The exit leaf: in the log, and equal to what was counted."""
        run = self._get_open_run()
        leaf = self._check_logged(frame.payload)
        if not isinstance(leaf, hostlog.Exit):
            self.refuse("the leaf is not a run's exit")
        genesis = run.genesis
        if leaf[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the exit is of another run")
        if leaf.event_count != run.event_count:
            self._refuse_hole(run, leaf.event_count)
        if leaf.head != run.chain_hash:
            self.refuse("the exit names another head")
        run.state = bundle.CUT if leaf.cut else bundle.CLOSED

    def upon_seal(self, frame: bundle.Frame) -> None:
        """The host's word on the whole file: nothing was left out since it was written."""
        seal, signature = bundle.decode_seal(frame.payload)
        self.span = (0, None)
        data = bundle.encode_seal(seal)
        if not keys.is_signed(self.public, domains.SIGN_SEAL, data, signature):
            self.refuse("the seal is not signed by the host's key")
        states = tuple(run.get_state() for run in self.runs)
        container = self.runs[0].genesis.container if self.runs else b""
        log = self.checkpoint
        assert log is not None
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

    def _check_logged(self, payload: bytes) -> object:
        logged, log = bundle.decode_logged_leaf(payload), self.checkpoint
        assert log is not None
        leaf_hash = merkle.compute_leaf_hash(logged.leaf)
        if not merkle.is_included(leaf_hash, logged.leaf_index, log.size, logged.proof, log.root):
            self.refuse("a leaf is not in the host's log")
        return hostlog.decode_leaf(logged.leaf)

    def _check_certificate(self, run: Run, data: bytes, signature: bytes, issuer: bytes) -> None:
        certificate, genesis = run.certificate, run.genesis
        if certificate[:3] != (genesis.host, genesis.container, genesis.run):
            self.refuse("the certificate is of another run")
        if certificate.first_index != run.event_count:
            self.refuse("the certificate starts at another receipt")
        if not keys.is_signed(issuer, domains.SIGN_CERTIFICATE, data, signature):
            self.refuse("the certificate is not signed by its issuer")


_UPON: dict[int, Callable[[Verification, bundle.Frame], None]] = {
    bundle.HOST_KEY: Verification.upon_host_key,
    bundle.CHECKPOINT: Verification.upon_checkpoint,
    bundle.START: Verification.upon_start,
    bundle.CERTIFICATE: Verification.upon_certificate,
    bundle.SEGMENT: Verification.upon_segment,
    bundle.EXIT: Verification.upon_exit,
    bundle.SEAL: Verification.upon_seal,
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
        )
        for run in state.runs
    )
    last = state.runs[-1].genesis if state.runs else None
    return Report(
        state.host.hex(),
        last.container.hex() if last else "",
        last.app if last else "",
        sum(run.receipts for run in runs),
        sum(run.segments for run in runs),
        runs,
        FirstBad(last.run if last else None, *state.span, why) if why else None,
    )


def compute_exit_code(report: Report, *, trusted: bool) -> int:
    """0 whole and trusted, 3 tampered, 4 whole but of a key that was not named."""
    if report.first_bad is not None:
        return EXIT_TAMPERED
    return EXIT_WHOLE if trusted else EXIT_UNTRUSTED


def describe_report(report: Report, *, trusted: bool) -> dict[str, Any]:
    """The report as JSON shows it."""
    bad = report.first_bad
    first_bad: dict[str, Any] | None = None
    if bad is not None:
        place = {"index": bad.first} if bad.first == bad.last else {"range": [bad.first, bad.last]}
        first_bad = {"run": bad.run, **place, "why": bad.why}
    return {
        "ok": bad is None,
        "trusted": trusted,
        "anchored_to": None,
        "host": report.host,
        "container": report.container,
        "app": report.app,
        "receipts": report.receipts,
        "segments": report.segments,
        "first_bad": first_bad,
        "runs": [run._asdict() for run in report.runs],
    }


def describe_bad(bad: FirstBad) -> str:
    """One line: which receipts, and why."""
    run = "" if bad.run is None else f" of run {bad.run}"
    if bad.first == bad.last:
        return f"receipt {bad.first}{run}: {bad.why}"
    end = "the end" if bad.last is None else str(bad.last)
    return f"receipts {bad.first} to {end}{run}: {bad.why}"


def main(argv: list[str] | None = None) -> int:
    """Verify one file on its own: `python -m chainlite.verify FILE [--host-key KEY]`."""
    import argparse
    import json
    import os
    import sys

    parser = argparse.ArgumentParser(prog="python -m chainlite.verify", description=main.__doc__)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--host-key", metavar="FILE|FINGERPRINT", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        named = options.host_key
        if named and os.path.exists(named):
            with open(named, encoding="ascii", errors="replace") as file:
                named = file.read(4096)
        fingerprint = keys.parse_fingerprint(named) if named else ""
        with open(options.file, "rb") as file:
            report = verify_file(file.read)
    except (OSError, SpecError) as error:
        sys.stderr.write(f"verify: {error}\n")
        return EXIT_NOT_EVIDENCE
    trusted = fingerprint == report.host
    if options.json:
        sys.stdout.write(json.dumps(describe_report(report, trusted=trusted)) + "\n")
    else:
        sys.stdout.write(render_report(report, trusted=trusted))
    return compute_exit_code(report, trusted=trusted)


def render_report(report: Report, *, trusted: bool) -> str:
    """The report for people: a few lines, the verdict first."""
    if report.first_bad is not None:
        return f"TAMPERED: {describe_bad(report.first_bad)}\n"
    signer = f"host {report.host[:16]}"
    verdict = f"whole: signed by {signer}"
    if not trusted:
        verdict = f"UNTRUSTED: whole, but signed by {signer}, a key you did not name"
    lines = [f"{verdict}; container {report.container[:12]} ({report.app})"]
    lines += [
        f"  run {run.run} {run.state}: {run.receipts} receipts in {run.segments} segments"
        for run in report.runs
    ]
    lines.append("  anchored by nobody else yet: this is that host's word")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
