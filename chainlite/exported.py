"""Verify what a server exports: sealed parts in, what they show out. Pure.

The order of the checks is the order of trust: the server's keys as the part names them, for each
host its own keys and checkpoint, the server's word up to where it holds that host's log (in the
server's log, under its checkpoint, continuing the host's), each run up to the host's key, and the
server's seal over all. Who the server is, is the caller's to judge (export_report).
Not here: one run (ranged), layouts (export_frames). Invariants: what is reported was checked; in
the order of hosts, containers, runs and receipts nothing is there twice; where nothing was asked
to be left out, no run of a container is, nor the start of one.
Source: README.md of this room, "Export".
"""

from __future__ import annotations

from chainlite import bundle, domains, hostlog, keys, merkle, segment
from chainlite.bpci.acknowledgement import Acknowledgement, verify_acknowledgement
from chainlite.errors import SpecError, TamperError
from chainlite.export_frames import (
    GAP,
    HELD,
    LAYOUT,
    NO_LEAF,
    NO_NOTE,
    NOTHING_LATER,
    RUN_ANY,
    SCOPE,
    SEAL,
    Gap,
    Position,
    Scope,
    Seal,
    decode_gap,
    decode_held_frame,
    decode_scope,
    decode_seal,
    encode_seal,
)
from chainlite.lean import TYPE_CHECKING
from chainlite.ranged import FRAMES, GOES_ON, OPEN, RangedRun
from chainlite.verify import Verification

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

PARTS_MAX = 1 << 20


class HostPart:
    """What a part says of one host: its keys and log, the server's word, its runs."""

    def __init__(self) -> None:
        self.opened = Verification()
        self.held: Acknowledgement | None = None
        self.gap: Gap | None = None
        self.runs: list[RangedRun] = []

    @property
    def log_size(self) -> int:
        """Of the host's checkpoint; 0 where there is none."""
        return self.opened.checkpoint.size if self.opened.checkpoint is not None else 0


class Part:
    """Takes the frames of one sealed part in order; TamperError at the first bad one."""

    def __init__(self, before: Part | None = None) -> None:
        """`before` is the part that this one continues, in the same file."""
        self._before = before
        self._scope: Scope | None = None
        self.hosts: list[HostPart] = []
        self.seal: Seal | None = None
        self._is_within = False
        self.where = "the export's scope"

    @property
    def scope(self) -> Scope:
        """What the part is of; there is one after the first frame."""
        assert self._scope is not None, "the order of frames is checked before they are"
        return self._scope

    @property
    def after(self) -> Position | None:
        """Where the next part begins; None where this is the last one."""
        return self.seal.after if self.seal is not None else None

    @property
    def has_runs(self) -> bool:
        """Whether a run is in it."""
        return any(host.runs for host in self.hosts)

    def upon_frame(self, frame: bundle.Frame) -> None:
        """Check one frame against all before it."""
        if self.seal is not None or (self._scope is None) != (frame.kind == SCOPE):
            self.refuse(f"a frame of kind {frame.kind} is out of its order")
        try:
            if frame.kind == bundle.START:
                self._upon_start(frame)
            elif frame.kind in FRAMES:
                self._get_run().upon_frame(frame)
            else:
                _UPON[frame.kind](self, frame)
        except SpecError as error:
            self.refuse(str(error))
        if not frame.is_intact:
            self.refuse("the file was changed here, in bytes that no signature depends on")

    def refuse(self, why: str) -> NoReturn:
        """Give up: the export contradicts itself."""
        raise TamperError(why)

    def describe_place(self) -> str:
        """Where the frame that was refused lies."""
        run = self._find_run()
        if run is None or not self._is_within or not run.runs:
            return self.where
        first, last = run.span
        end = "the end" if last is None else str(last)
        receipts = f"receipt {first}" if first == last else f"receipts {first} to {end}"
        return f"{self.where}, {receipts}"

    def _upon_scope(self, frame: bundle.Frame) -> None:
        """What the part is of; it goes on where the one before ended."""
        self._scope = scope = decode_scope(frame.payload)
        before = self._before
        if before is None:
            return
        assert before.seal is not None, "a part ends with its seal"
        if scope != before.scope._replace(start=before.seal.after) or scope.start is None:
            self.refuse("it does not go on where the part before it ends")

    def _upon_host_key(self, frame: bundle.Frame) -> None:
        """The next host begins."""
        self._end_host()
        host = HostPart()
        host.opened.upon_frame(frame)
        name, scope = host.opened.host, self.scope
        last = self.hosts[-1].opened.host if self.hosts else b""
        if scope.start is not None:
            last = max(last, _get_before(scope.start.host))
        if name <= last or scope.host not in (b"", name):
            self.refuse("a host is out of its order, there twice, or was not asked for")
        self.hosts.append(host)
        self.where = f"host {name.hex()[:16]}"

    def _upon_opening(self, frame: bundle.Frame) -> None:
        """A later key of the host, a revocation, its log's checkpoint."""
        host = self._get_host()
        if host.held is not None:
            self.refuse(f"a frame of kind {frame.kind} is out of its order")
        host.opened.upon_frame(frame)

    def _upon_held(self, frame: bundle.Frame) -> None:
        """Up to where the server holds this host's log, and that this continues the checkpoint."""
        host, found = self._get_host(), decode_held_frame(frame.payload)
        if host.held is not None:
            self.refuse("the server speaks of a host twice")
        name, log_keys = host.opened.host, self.scope.log_keys
        made = verify_acknowledgement(found.acknowledgement, log_keys, name)
        log, held = host.opened.checkpoint, made.held
        if log is None:
            if found.proof or found.continuation:
                self.refuse("there is no checkpoint to prove anything of")
        elif not merkle.is_consistent(log.size, held.size, found.proof, log.root, held.root):
            self.refuse("what the server holds does not continue the host's checkpoint")
        host.held = made
        self._check_continuation(host, found.continuation)

    def _check_continuation(self, host: HostPart, proof: tuple[bytes, ...]) -> None:
        """The host's checkpoint continues that of the part before, which ended within this host."""
        start, before = self.scope.start, self._before
        if start is None or start.host != host.opened.host or not start.log_size:
            if proof:
                self.refuse("there is no part before that this host continues")
            return
        log = host.opened.checkpoint
        if log is None or log.size < start.log_size:
            self.refuse("the host's log is shorter than in the part before")
        old = None
        if before is not None and before.hosts and before.hosts[-1].opened.host == start.host:
            old = before.hosts[-1].opened.checkpoint
        if old is None:
            return  # the file does not begin with its first part, and is refused for that
        if not merkle.is_consistent(old.size, log.size, proof, old.root, log.root):
            self.refuse("the host's checkpoint does not continue that of the part before")

    def _upon_gap(self, frame: bundle.Frame) -> None:
        """What is not here: later receipts of a run, or leaves under no checkpoint."""
        gap, host = decode_gap(frame.payload), self._get_host()
        if gap.kind == NOTHING_LATER:
            self._get_run().upon_nothing_later(gap.first)
            return
        size = host.held.held.size if host.held is not None else -1
        kind = NO_NOTE if size else NO_LEAF
        if host.runs or host.gap is not None or gap != (kind, host.log_size, size):
            self.refuse("what is said to be missing is not")
        host.gap = gap

    def _upon_start(self, frame: bundle.Frame) -> None:
        """The next run begins, after the one before in the order of containers and runs."""
        host, start = self._get_host(), self.scope.start
        self._end_run()
        self._check_told(host)
        last = host.runs[-1] if host.runs else self._find_continued(host)
        genesis = _get_genesis(frame)
        key = (host.opened.host, genesis.container, genesis.run)
        self.where = f"{_name_host(key[0])}, run {key[2]} of container {key[1].hex()[:12]}"
        is_first = start is not None and key == start[:3] and not host.runs
        self._check_asked(genesis)
        self._check_order(key, last, is_first=is_first)
        is_resumed = is_first and start is not None and start.event_index > 0
        run = RangedRun(host.opened, self.scope, is_resumed=is_resumed)
        if last is not None and last.end != GOES_ON and _get_key(last) == _get_run_before(key):
            run.continue_run(last)
        self._is_within = True
        host.runs.append(run)
        run.upon_frame(frame)
        if is_resumed and last is not None and _get_key(last) == key:
            run.run.recovered_by, run.run.is_revoked = last.run.recovered_by, last.run.is_revoked

    def _check_asked(self, genesis: segment.Genesis) -> None:
        scope = self.scope
        is_asked = scope.container in (b"", genesis.container)
        is_asked = is_asked and scope.app in ("", genesis.app)
        if not is_asked or scope.run not in (RUN_ANY, genesis.run):
            self.refuse("the run was not asked for")

    def _check_order(
        self, key: tuple[bytes, bytes, int], last: RangedRun | None, *, is_first: bool
    ) -> None:
        """`last` is the run before it of this host; `is_first`: with it the part has to begin."""
        start, whole = self.scope.start, self.scope.is_all
        if start is not None and key < start[:3]:
            self.refuse("a run comes before the part begins")
        if start is not None and start.event_index and not self.has_runs and not is_first:
            self.refuse("the rest of the run with which the part begins is missing")
        if last is None:
            is_next = not whole or not key[2] or is_first
        elif _get_key(last)[1] == key[1]:
            is_next = key[2] == _get_key(last)[2] + 1 or (is_first and key == _get_key(last))
        else:
            is_next = key[1] > _get_key(last)[1] and (not whole or not key[2])
        if not is_next:
            self.refuse("a run before it is missing, or it is out of its order")

    def _check_begin(self, run: RangedRun) -> None:
        """A run that goes on does so where the part before ended."""
        start = self.scope.start
        if start is None or not run.is_resumed:
            return
        last = self._find_continued(self.hosts[-1])
        is_other = last is not None and last.run.chain_hash != run.begin_hash
        if run.begin != start.event_index or is_other:
            self.refuse("the run does not go on where the part before ended")

    def _find_continued(self, host: HostPart) -> RangedRun | None:
        """The last run of this host in the part before."""
        before = self._before
        if before is None or not before.hosts or not before.hosts[-1].runs:
            return None
        last = before.hosts[-1]
        return last.runs[-1] if last.opened.host == host.opened.host else None

    def _upon_seal(self, frame: bundle.Frame) -> None:
        """The server's word on the part, and where the next one begins."""
        seal, signature = decode_seal(frame.payload)
        after, run = seal.after, self._find_run()
        if after is not None and self._is_within and run is not None and run.end == OPEN:
            run.check_cut()
            log_size = self.hosts[-1].log_size
            if after != (*_get_key(run), run.run.event_count, log_size):
                self.refuse("it does not say where the run goes on")
            self._check_begin(run)
        else:
            self._end_run()
            self._check_after(after)
        if self.hosts:
            self._check_told(self.hosts[-1])
        if self.scope.start is not None and self.scope.start.event_index and not self.has_runs:
            self.refuse("the rest of the run with which the part begins is missing")
        self.where, self._is_within = "the seal", False
        signed = frame.digest + encode_seal(seal)
        if not keys.is_signed(self.scope.public, domains.SIGN_EXPORT, signed, signature):
            self.refuse("the part is not the one that its server sealed")
        self.seal, self._before = seal, None  # not one more part in memory for each

    def _check_after(self, after: Position | None) -> None:
        """Where the next part begins is behind all that is here."""
        if after is None:
            return
        run, start = self._find_run(), self.scope.start
        last = _get_key(run) if run is not None and run.runs else (b"", b"", 0)
        host = self.hosts[-1].opened.host if self.hosts else b""
        known = self.hosts[-1].log_size if self.hosts and after.host == host else 0
        is_behind = last < after[:3] and host <= after.host
        if not is_behind or after.log_size != known or (start is not None and after <= start):
            self.refuse("the next part begins within this one")

    def _end_run(self) -> None:
        if not self._is_within:
            return
        run = self._find_run()
        assert run is not None, "one began"
        if run.end == OPEN:
            run.check_cut()
            self.refuse("how the run goes on is not told")
        self._check_begin(run)
        self._is_within = False

    def _end_host(self) -> None:
        self._end_run()
        if self.hosts:
            self._check_told(self.hosts[-1])

    def _check_told(self, host: HostPart) -> None:
        """The server has said what it holds, and what of that is not under the checkpoint."""
        if host.held is None:
            self.refuse("up to where the server holds the host's log is not told")
        size = host.held.held.size
        if (size > host.log_size or not size) != (host.gap is not None):
            self.refuse("what of the host's log is not here is not told")

    def _get_host(self) -> HostPart:
        if not self.hosts:
            self.refuse("a frame belongs to no host")
        return self.hosts[-1]

    def _find_run(self) -> RangedRun | None:
        return self.hosts[-1].runs[-1] if self.hosts and self.hosts[-1].runs else None

    def _get_run(self) -> RangedRun:
        run = self._find_run()
        if run is None or not self._is_within:
            self.refuse("a frame belongs to no run")
        return run


def _get_key(run: RangedRun) -> tuple[bytes, bytes, int]:
    return run.run.genesis[:3]


def _get_run_before(key: tuple[bytes, bytes, int]) -> tuple[bytes, bytes, int]:
    return (key[0], key[1], key[2] - 1)


def _get_genesis(frame: bundle.Frame) -> segment.Genesis:
    leaf = hostlog.decode_leaf(bundle.decode_logged_leaf(frame.payload).leaf)
    if not isinstance(leaf, hostlog.Start):
        raise SpecError("the leaf is not a run's start")
    return segment.decode_genesis(leaf.genesis)


def _get_before(host: bytes) -> bytes:
    """What sorts just before a host's id."""
    return (int.from_bytes(host, "big") - 1).to_bytes(32, "big") if any(host) else b""


def _name_host(host: bytes) -> str:
    return f"host {host.hex()[:16]}"


_UPON: dict[int, Callable[[Part, bundle.Frame], None]] = {
    SCOPE: Part._upon_scope,
    bundle.HOST_KEY: Part._upon_host_key,
    bundle.KEY: Part._upon_opening,
    bundle.CHECKPOINT: Part._upon_opening,
    HELD: Part._upon_held,
    GAP: Part._upon_gap,
    SEAL: Part._upon_seal,
}


def read_parts(read: Callable[[int], bytes], before: Part | None = None) -> tuple[list[Part], str]:
    """Check a file of parts to its first bad frame: what was seen, and why it fails, or nothing.

    `before` is the part that they continue, if that came by itself. SpecError: it is no export.
    """
    parts: list[Part] = []
    while start := read(1):
        part = Part(parts[-1] if parts else before)
        number = len(parts)
        parts.append(part)
        try:
            if number >= PARTS_MAX:
                part.refuse(f"more than {PARTS_MAX} parts")
            for frame in bundle.iterate_frames(bundle.Rewound(start, read).read, LAYOUT):
                part.upon_frame(frame)
                if frame.kind == SEAL:
                    break  # what follows is the next part, not bytes too many
        except SpecError as error:
            if not number:
                raise
            return parts, f"part {number + 1}: {error}"
        except TamperError as error:
            named = f"part {number + 1}, " if number else ""
            return parts, f"{named}{part.describe_place()}: {error}"
    if not parts:
        raise SpecError("not an export: it is empty")
    return parts, ""
