"""Send this host's log to servers, range by range, from where each of them stands.

A pass hands one server batch after batch until it has all, is busy, away, refuses, or says what
cannot be true. Not here: the way to a server (door), what its answers are worth (checking), what is
kept of them (sent, calls), whether a server's own log goes on (auditing), when the next pass is due
(following, backoff). Invariants: nothing counts as acknowledged before it was checked and is
durable here; one batch for each server is under way, so memory does not grow with what waits; no
server waits for another; after an alert (a leaf does not hold) what was taken before it counts, and
that leaf alone is sent again; who holds less than it did is sent again from there, and otherwise no
leaf is sent twice, but the first one, which asks a server where it stands.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.acknowledgement import decode_acknowledgement, verify_acknowledgement
from chainlite.errors import DocklockError, PeerError, SpecError, StateError, TamperError
from docklock.evidence.database import sqlite3
from docklock.evidence.kept_log import KeptLog
from docklock.evidence.keyring import ensure_host_key
from docklock.evidence.offering import BATCH, MadeOffer, make_range
from docklock.evidence.operations import record_operation
from docklock.outbox.auditing import audit_log
from docklock.outbox.backoff import DOUBLINGS_MAX, note_failure
from docklock.outbox.calls import Alert, CallFile
from docklock.outbox.checking import Checked, Contradicted, check_answer
from docklock.outbox.door import Alerted, Busy, Elsewhere, Restoring, Unknown
from docklock.outbox.handing import hand_over
from docklock.outbox.placed import Placed
from docklock.outbox.sent import ALERTED, WELL, Contradiction, Sent, Standing
from docklock.outbox.turns import take_turn
from docklock.witness.forks import keep_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docklock.evidence.host_log import HostLog
    from docklock.outbox.door import Door
    from docklock.outbox.settings import Server
    from docklock.paths import Paths

BATCHES_OF_PASS_MAX = 256
"""To one server; the next pass goes on."""
ASK_S = 240.0
"""A server that has all is asked so often whether it still has: one that is restored waits for all
its hosts, and is to be in step in five minutes."""
AUDIT_S = 600.0
"""How often it is checked that a server's own log goes on from what was seen of it."""
FILL_MIN_BYTES = 64 << 10
"""What a batch is filled to on the slowest line: a server gives a body 30 s, so 17 kbit/s."""
FILL_GROWTH = 8
"""A batch that arrived lets the next be an eighth larger; one that did not, half as large."""


class Outcome(NamedTuple):
    """What a pass came to: where the server stands, out of how many leaves; what it stopped at."""

    server: Server
    standing: Standing
    size: int
    error: DocklockError | None = None

    @property
    def is_due(self) -> bool:
        """Whether the server has not all that there was."""
        return self.error is not None or self.standing.size < self.size


class Outbox:
    """Passes over this host's log, for each server by itself."""

    def __init__(
        self, paths: Paths, servers: Sequence[Server], make_door: Callable[[Server], Door]
    ) -> None:
        self._paths, self.servers = paths, tuple(servers)
        self._doors = {server.origin: make_door(server) for server in servers}
        self._kept, self._sent, self._placed = KeptLog(paths), Sent(paths), Placed(paths)
        self._restoring: set[str] = set()
        self._made: MadeOffer | None = None
        self._asked: set[str] = set()
        self._fills: dict[str, int] = {}
        self._passes = 0
        self._audited: dict[str, float] = {}
        self._audit_troubles: dict[str, str] = {}

    def close(self) -> None:
        """Close the log, the file of what was sent, and connections."""
        for door in self._doors.values():
            door.close()
        self._kept.end()
        self._sent.close()
        self._placed.close()

    def get_standing(self, server: Server) -> Standing:
        """How far a server is, as it is written down."""
        return self._sent.get_standing(server.origin)

    def get_size(self) -> int:
        """How many leaves there are to be sent."""
        log = self._kept.open()
        return log.get_size() if log is not None else 0

    async def enrol(self, server: Server, grant: bytes) -> None:
        """Hand a server its own grant for this host, which may have no log yet."""
        async with take_turn(self._paths, server.origin):
            self._placed.put_enrolment(server.origin, grant)  # a server in restore asks for it
            answer = await self._doors[server.origin].enrol(grant)
            self._placed.put_enrolment(server.origin, grant, answer)
            if self.get_size():
                self._take(server, answer)
            else:
                verify_acknowledgement(answer, server.keys, ensure_host_key(self._paths).host)
                self._placed.put(server.origin, answer)

    async def run_pass(self, server: Server) -> Outcome:
        """Send one server what it has not; each error is written down and told, none is raised."""
        outcome = Outcome(server, Standing(), 0)
        self._passes += 1
        try:
            async with take_turn(self._paths, server.origin):
                outcome = outcome._replace(size=self.get_size())
                error = await self._send_all(server)
            return outcome._replace(error=error, standing=self.get_standing(server))
        except (DocklockError, OSError, sqlite3.Error) as why:  # no log, or nowhere to write
            return outcome._replace(error=_as_error(server, why))
        finally:
            self._passes -= 1
            if not self._passes:
                self._made = None

    async def _send_all(self, server: Server) -> DocklockError | None:
        """Until there is nothing left; what it stopped at, which is written down."""
        try:
            trouble = await self._send_ranges(server) or await self._audit(server)
        except (DocklockError, OSError, sqlite3.Error) as why:
            error = _as_error(server, why)
            if isinstance(error, Contradicted):
                self._keep(server, error)
            before = self.get_standing(server)
            self._sent.put_standing(server.origin, note_failure(before, error, get_now_ms()))
            return error
        standing = self.get_standing(server)
        well = standing._replace(next_ms=0, failures=0, trouble=trouble, state=WELL)
        if well != standing:
            self._sent.put_standing(server.origin, well._replace(tried_ms=get_now_ms()))
        return None

    async def _send_ranges(self, server: Server) -> str:
        """What is to be said though all went well."""
        log = self._kept.open()
        if log is None or not log.get_size():
            return ""
        start = self._check_own(log, server)
        has_fallen, trouble = False, ""
        is_alerted = self.get_standing(server).state == ALERTED
        for _ in range(BATCHES_OF_PASS_MAX):
            made = self._make_next(start) if is_alerted else self._make(server, start)
            if made is None:
                return trouble
            try:
                answer = await self._send_or_ask(server, made)
            except Alerted as alert:
                is_alerted, start = True, self._take_part(server, alert, made)
                continue
            is_alerted = False
            self._asked.add(server.origin)
            checked = self._take(server, answer)
            is_refused = checked.size == start == made.start
            if is_refused or (checked.size < start and has_fallen):
                raise StateError(f"{server.name} took nothing from leaf {checked.size} on")
            if checked.size < start:
                has_fallen = True
                trouble = f"it had {start} leaves, and stood at {checked.size}: sent again"
            start = checked.size
        return trouble

    async def _send_or_ask(self, server: Server, made: MadeOffer) -> bytes:
        """The answer to a batch, or to the first leaf where the server stands elsewhere."""
        try:
            return await self._send(server, made)
        except Elsewhere:
            if not made.start:
                raise
            return await self._send(server, self._make_first())

    async def _send(self, server: Server, made: MadeOffer) -> bytes:
        """The answer to a batch; how much the next holds follows from how this one fared."""
        fill = self._get_fill(server)
        self._placed.put_unsure(server.origin, made.end)
        try:
            answer = await self._hand_in(server, made)
        except StateError as error:
            if not isinstance(error, Busy | Elsewhere):
                self._fills[server.origin] = _bound_fill(fill // 2)
            raise
        self._fills[server.origin] = _bound_fill(fill + fill // FILL_GROWTH)
        return answer

    async def _hand_in(self, server: Server, made: MadeOffer) -> bytes:
        """The answer; a server that lost its disk, and perhaps this host with it, is helped."""
        door, newest = self._doors[server.origin], self._sent.get_largest_checkpoint(server.origin)
        seen = newest.size if newest else 0
        if server.origin not in self._restoring:
            try:
                return await door.send(made.data, seen)
            except Restoring:
                self._restoring.add(server.origin)
            except Unknown:
                if not seen:
                    raise
        kind = BATCH._replace(fill_bytes=self._get_fill(server))
        await hand_over(
            door, server, self._placed, self._sent,
            lambda start: make_range(self._paths, self._open_log(), kind, start),
        )  # fmt: skip
        self._restoring.discard(server.origin)
        return await door.send(made.data, seen)

    def _get_fill(self, server: Server) -> int:
        """What a batch to this server is filled to; a new process learns from the failures."""
        known = self._fills.get(server.origin)
        if known is not None:
            return known
        failures = min(self.get_standing(server).failures, DOUBLINGS_MAX)
        return _bound_fill(BATCH.fill_bytes >> failures)

    async def _audit(self, server: Server) -> str:
        """Check now and then that the server's own log only grows; what keeps that from being."""
        now = time.monotonic()
        if now - self._audited.get(server.origin, -AUDIT_S) >= AUDIT_S:
            self._audited[server.origin] = now
            self._audit_troubles.pop(server.origin, None)
            try:
                await audit_log(self._doors[server.origin], server, self._sent)
            except (StateError, PeerError) as error:
                self._audit_troubles[server.origin] = str(error)
        return self._audit_troubles.get(server.origin, "")

    def _check_own(self, log: HostLog, server: Server) -> int:
        """Where the server stands; TamperError where this log does not continue that."""
        standing = self.get_standing(server)
        size = log.get_size()
        if standing.size > size or (
            standing.size and log.compute_root(standing.size) != standing.root
        ):
            raise TamperError(
                f"{server.name} has acknowledged {standing.size} leaves that this host's log of "
                f"{size} does not continue: it was cut, restored or rewritten"
            )
        return standing.size

    def _make(self, server: Server, start: int) -> MadeOffer | None:
        """The range from there on; where nobody knows whether the server stands there, the first
        leaf alone, which is small: the answer says where that is."""
        if not start and server.origin not in self._asked:
            return self._make_first()
        kind = BATCH._replace(fill_bytes=self._get_fill(server))
        is_too_large = self._made is not None and len(self._made.data) > kind.fill_bytes
        if self._made is None or self._made.start != start or is_too_large:
            self._made = None  # before the next is made: there is one at a time
            self._made = make_range(self._paths, self._open_log(), kind, start)
        if self._made is None and self.is_asking_due(server):
            return self._make_first()
        return self._made

    def _make_next(self, start: int) -> MadeOffer | None:
        """One leaf, where the server has said that the next one does not hold."""
        return make_range(self._paths, self._open_log(), BATCH, start, start + 1)

    def _make_first(self) -> MadeOffer:
        """The first leaf alone."""
        made = make_range(self._paths, self._open_log(), BATCH, 0, 1)
        if made is None:
            raise StateError("the host's log is empty")
        return made

    def _open_log(self) -> HostLog:
        """The log, which was there when the pass began."""
        log = self._kept.open()
        if log is None:
            raise StateError("the host's log is gone")
        return log

    def is_asking_due(self, server: Server) -> bool:
        """Whether a server that has all is to be asked if it still has: first, and now and then."""
        age_s = (get_now_ms() - self.get_standing(server).acknowledged_ms) / 1000
        return server.origin not in self._asked or not 0 <= age_s < ASK_S

    def _take(self, server: Server, answer: bytes) -> Checked:
        """Check an answer and write it down; only then is it one."""
        checked = check_answer(answer, server, self._open_log(), self._sent)
        now_ms, before = get_now_ms(), self.get_standing(server)
        most = max(before.most, checked.size)
        standing = Standing(checked.size, checked.root, most, now_ms, now_ms)
        self._placed.put(server.origin, answer)
        self._sent.put_acknowledgement(server.origin, standing, answer, checked.seen)
        return checked

    def _take_part(self, server: Server, alert: Alerted, made: MadeOffer) -> int:
        """Keep an alert and what was taken before it; from where to go on. Alerted: from nowhere.

        What does not hold is told once in this host's log, and in its standing until it does.
        """
        try:
            leaf = decode_acknowledgement(alert.acknowledgement).held.size
        except SpecError as error:
            raise PeerError(f"{server.name}: its alert: {error}") from None
        found = Alert(alert.kind, leaf, get_now_ms(), alert.why, alert.answer, alert.record)
        with CallFile(self._paths) as calls:
            is_new = calls.add_alert(server.origin, found)
        if is_new:
            labels = ("server", server.origin), ("kind", alert.kind), ("leaf", str(leaf))
            record_operation(self._paths, "alert", labels=labels)
        checked = self._take(server, alert.acknowledgement)
        self._asked.add(server.origin)
        if checked.size <= made.start:
            raise alert
        return checked.size

    def _keep(self, server: Server, error: Contradicted) -> None:
        """Keep what a server has signed and cannot be true, and a fork so that others can check."""
        found = Contradiction(get_now_ms(), str(error), error.answer, error.other)
        self._sent.put_contradiction(server.origin, found)
        if error.proven is not None:
            keep_fork(self._paths, error.proven)


def _bound_fill(fill_bytes: int) -> int:
    return min(max(fill_bytes, FILL_MIN_BYTES), BATCH.fill_bytes)


def _as_error(server: Server, why: Exception) -> DocklockError:
    return why if isinstance(why, DocklockError) else StateError(f"{server.name}: {why}")


def get_now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000
