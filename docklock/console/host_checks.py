"""Whether this host's evidence is whole: a little of it checked at each look, or all when asked.

`read_verdicts` walks over the leaves of the host's log and checks what each stands for
(docklock.evidence.spot_check): first those that came since the last look, then all others in turn,
from a random one on. It spends at most SHARE of one core, so how long a round takes depends on how
much there is. What was found is looked at again at each call and told for as long as it is true.
Besides: the log's own signature and continuity at each call, files that are gone, and what the
agent's notary has set aside. Not here: what is shown of it (tui).
Invariants: nothing is written; what cannot be read now is no finding
(tests/console/test_host_checks.py).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import keys
from chainlite.errors import DocklockError, SpecError, StateError, TamperError
from chainlite.report import describe_place
from docklock.client import flush
from docklock.console.facts import Progress, Verdict
from docklock.evidence.audit import audit_log
from docklock.evidence.container_store import get_store_path
from docklock.evidence.database import sqlite3
from docklock.evidence.export import verify_container
from docklock.evidence.kept_log import KeptLog
from docklock.evidence.keyring import get_public_key
from docklock.evidence.spot_check import (
    ITS_FILE,
    THE_LOG,
    Continued,
    Moment,
    Problem,
    find_missing_files,
)
from docklock.notary import get_directory
from enc.notary.source import RunName
from enc.notary.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from docklock.evidence.host_log import HostLog
    from docklock.paths import Paths
    from enc.notary.store import AsideRow

SHARE = 0.01
"""Of one core, at most, over time. A look may take more; the next ones then take less."""
SAVED_NS = 20_000_000
"""The most that is saved up while nobody looks."""
BEHIND_MAX = 256
"""New leaves beyond these are left to the walk over all: a busy host makes more than is checked."""
AGAIN_MAX = 16
FOUND_MAX = 1000
SELDOM = 10
"""Files and notary are looked at in every so manieth look."""
TELL_NS = 50_000_000


class StoppedError(DocklockError):
    """Whoever asked for a verification has stopped it: no finding, so no StateError."""


class Known(NamedTuple):
    """A finding; `leaf` is what shows whether it is still true, -1 where that is another's."""

    verdict: Verdict
    leaf: int


Key = tuple[str, str]  # who found it, and where


class HostChecks:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(
        self,
        paths: Paths,
        *,
        share: float = SHARE,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._paths, self._share, self._clock_ns = paths, share, clock_ns
        self._kept = KeptLog(paths)
        self._known: dict[Key, Known] = {}
        self._continued = Continued(0, b"")
        self._newest = self._oldest = -1
        self._looks = 0
        self._credit_ns, self._at_ns = SAVED_NS, clock_ns()

    def read_verdicts(self) -> tuple[Verdict, ...]:
        """What is broken, the oldest first. Goes on a little with checking."""
        now_ns = self._clock_ns()
        earned_ns = int((now_ns - self._at_ns) * self._share)
        self._credit_ns, self._at_ns = min(SAVED_NS, self._credit_ns + earned_ns), now_ns
        began_ns = time.thread_time_ns()
        if self._credit_ns > 0:
            try:
                self._look(began_ns)
            except (StateError, OSError):
                pass  # it cannot be read now: no finding, and asked again
        self._credit_ns -= time.thread_time_ns() - began_ns
        found = [one.verdict for one in self._known.values()]
        return tuple(sorted(found, key=lambda one: one.since_ns))

    def close(self) -> None:
        """Close the log; it is opened again when it is looked at."""
        self._kept.end()

    def verify(self, container: str, tell: Callable[[Progress], bool]) -> tuple[Verdict, ...]:
        """Verify one container, or the log and all; what is broken is also told from now on.

        StoppedError if `tell` returns False. StateError where there is nothing to verify.
        """
        if container:
            return tuple(self._verify([container], tell, 0, 1))
        _tell(tell, Progress(0, 0, THE_LOG))
        log = audit_log(self._paths)
        self._clear("audit", keep=log.problems)
        found = [self._note(("audit", why), Problem("", THE_LOG, why)) for why in log.problems]
        return (*found, *self._verify(list(log.containers), tell, 1, 1 + len(log.containers)))

    def _verify(
        self, containers: list[str], tell: Callable[[Progress], bool], done: int, total: int
    ) -> Iterator[Verdict]:
        for at, container in enumerate(containers, done):
            meter = _Meter(tell, at, total, container[:12])
            meter.tell()
            flush(self._paths, container)
            report = verify_container(self._paths, container, upon_frame=meter.upon_frame)
            key = ("verify", container)
            if report.first_bad is None:
                self._known.pop(key, None)
            else:
                where = describe_place(report.first_bad)
                yield self._note(key, Problem(container, where, report.first_bad.why))
        _tell(tell, Progress(total, total))

    def _look(self, began_ns: int) -> None:
        self._looks += 1
        log = self._kept.open()
        if log is None:
            return
        log.forget()
        try:
            with log.read():
                self._look_at_log(log, began_ns)
                self._look_at_files(log)
        except sqlite3.Error:
            return
        except (AttributeError, TypeError, ValueError, SpecError) as error:
            why = f"a row of it has another type than was written: {error}"
            self._note(("rows", ""), Problem("", THE_LOG, why))
            return
        self._known.pop(("rows", ""), None)
        if self._looks % SELDOM == 1:
            self._look_at_notary()

    def _look_at_log(self, log: HostLog, began_ns: int) -> None:
        try:
            moment = Moment(self._paths, log, get_public_key(self._paths))
            moment.check_log(self._continued)
        except TamperError as error:
            self._note(("log", ""), Problem("", THE_LOG, str(error)))
            return
        self._known.pop(("log", ""), None)
        self._continued = Continued(moment.size, moment.root)
        for _, one in self._list_again():
            self._check(moment, one.leaf)
        for index in self._walk(moment.size):
            if time.thread_time_ns() - began_ns >= self._credit_ns:
                return
            self._check(moment, index)
            self._advance(index)

    def _list_again(self) -> list[tuple[Key, Known]]:
        """What is to be looked at again, the one that was longest ago first."""
        found = [one for one in self._known.items() if one[1].leaf >= 0]
        return sorted(found, key=lambda one: one[1].verdict.checked_ns)[:AGAIN_MAX]

    def _walk(self, size: int) -> Iterator[int]:
        """New leaves, then each old one once."""
        if self._newest < 0:
            self._newest = max(0, size - BEHIND_MAX)
            self._oldest = int.from_bytes(os.urandom(8), "big") % size
        self._newest = max(self._newest, size - BEHIND_MAX)
        while self._newest < size:
            yield self._newest
        for _ in range(size):
            yield self._oldest % size

    def _advance(self, index: int) -> None:
        if index == self._newest:
            self._newest += 1
        else:
            self._oldest = index + 1

    def _check(self, moment: Moment, index: int) -> None:
        """Look at a leaf; a StateError leaves what is known of it as it was."""
        try:
            problem = moment.check_leaf(index)
        except StateError:
            return
        key = ("leaf", str(index))
        if problem is None:
            self._known.pop(key, None)
        elif problem.where == ITS_FILE:
            self._known.pop(key, None)
            self._note(("files", problem.container), problem)
        else:
            self._note(key, problem, index)

    def _look_at_notary(self) -> None:
        """What the agent's notary has set aside, and has not taken since."""
        directory = get_directory(self._paths)
        if not os.path.exists(f"{directory}/notary.db"):
            return
        host = keys.compute_host_id(get_public_key(self._paths))
        found: dict[str, tuple[Problem, int]] = {}
        try:
            with Store(directory, None) as store:
                for row in store.iterate_aside():
                    run = store.get_run(host, RunName(row.container, row.run))
                    if run is not None and not run.held:
                        continue  # it has been taken since
                    found[str(row.number)] = _describe_aside(row), row.time_ms
        except (DocklockError, sqlite3.Error):
            return  # it cannot be read now
        self._clear("notary", keep=found.keys())
        for number, (problem, time_ms) in found.items():
            self._note(("notary", number), problem, since_ns=time_ms * 1_000_000)

    def _look_at_files(self, log: HostLog) -> None:
        for key in [one for one in self._known if one[0] == "files"]:
            if os.path.exists(get_store_path(self._paths, key[1])):
                del self._known[key]
        for one in find_missing_files(self._paths, log) if self._looks % SELDOM == 1 else ():
            self._note(("files", one.container), one)

    def _clear(self, who: str, keep: Collection[str] = ()) -> None:
        """Forget what is no longer true of what one of the checks has found."""
        for key in [one for one in self._known if one[0] == who and one[1] not in keep]:
            del self._known[key]

    def _note(self, key: Key, problem: Problem, leaf: int = -1, since_ns: int = 0) -> Verdict:
        now_ns = time.time_ns()
        old = self._known.get(key)
        since_ns = since_ns or (old.verdict.since_ns if old is not None else now_ns)
        verdict = Verdict(
            is_whole=False,
            where=problem.where,
            why=problem.why,
            container=problem.container,
            since_ns=since_ns,
            checked_ns=now_ns,
        )
        if old is not None or len(self._known) < FOUND_MAX:
            self._known[key] = Known(verdict, leaf)
        return verdict


def _describe_aside(row: AsideRow) -> Problem:
    where = f"receipt {row.first_index} of run {row.run}" if row.container else THE_LOG
    return Problem(row.container.hex(), where, f"{row.why} (set aside by the notary)")


class _Meter:
    """Tells how far a container's verification is, now and then."""

    def __init__(self, tell: Callable[[Progress], bool], done: int, total: int, name: str) -> None:
        self._ask, self._done, self._total, self._name = tell, done, total, name
        self._frames, self._told_ns = 0, time.monotonic_ns()

    def upon_frame(self) -> None:
        self._frames += 1
        if time.monotonic_ns() - self._told_ns >= TELL_NS:
            self.tell()

    def tell(self) -> None:
        self._told_ns = time.monotonic_ns()
        now = f"{self._name}: {self._frames} parts" if self._frames else self._name
        _tell(self._ask, Progress(self._done, self._total, now))


def _tell(tell: Callable[[Progress], bool], progress: Progress) -> None:
    if not tell(progress):
        raise StoppedError("the verification was stopped")
