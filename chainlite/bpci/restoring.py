"""A server whose log is behind what it has published gets it back, and signs nothing until then.

It has lost its disk, or was put back: a backup, or a key alone, is all there is. Hosts show what it
signed and hand over bodies and places; the log is filled leaf by leaf in the order that it had,
each piece under a checkpoint that it had then. It is whole again once its size and root are those
of the newest checkpoint that anyone has shown, and everybody has shown theirs who can be expected
to. Then, in one commit, what is held beyond what the log says joins it, and the server goes on.
Not here: which leaves they were (refilling), who calls (refill_app), files (backup).
Invariants: nothing is signed while it is on; what is written is at any time a log that this server
has signed; it is on before anything could be signed, and stays on over kills: the mark is a file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, merkle, tlogproof
from chainlite.bpci.acknowledgement import (
    Held,
    decode_acknowledgement,
    decode_held,
    encode_held,
    verify_acknowledgement,
)
from chainlite.bpci.actor import Role
from chainlite.bpci.grant import check_grant
from chainlite.bpci.group import Group
from chainlite.bpci.handover import EVERYTHING
from chainlite.bpci.own_log import OWNER
from chainlite.bpci.refilling import Claims, search_leaves
from chainlite.bpci.rows import make_reader
from chainlite.bpci.store import Changes, Host, StoreDamage
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.keys import compute_host_id
from chainlite.ledger.body_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chainlite.bpci.answer import Answer, Request
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.handover import Places, Shown
    from chainlite.bpci.intake import Intake

MARK = "restoring"
MARK_LIMIT_BYTES = 1 << 20
NOT_LOGGED = -1
"""Where the log says what is held of a host, while that is not known."""
RUN_MAX = 1 << 16
"""Leaves that are filled in under one commit."""
TARGETS_MAX = 8
"""Checkpoints that are tried before leaves are guessed."""
NOTES_MAX = 4096
HOSTS_STEP = 256
WAITS_SHOWN_MAX = 8
ALL = "all"
FORKED = object()


class Mark(NamedTuple):
    """What an operator has said of a restore: who is not waited for (ALL: nobody is), and how many
    hosts have to have shown themselves at least."""

    without: frozenset[str] = frozenset()
    hosts: int = 0


class Status(NamedTuple):
    """How far a restore is: leaves of the log out of those that were published, whom it waits for
    and what keeps it. `is_on` is False where there is none."""

    is_on: bool
    size: int = 0
    goal: int = 0
    waits: tuple[str, ...] = ()
    why: str = ""

    def tell(self) -> str:
        """In one line."""
        parts = [f"restoring: {self.size} of {self.goal} leaves of the log"]
        if self.waits:
            shown = ", ".join(one[:16] for one in self.waits[:WAITS_SHOWN_MAX])
            parts.append(f"{len(self.waits)} hosts have not shown what they have: {shown}")
        return "; ".join([*parts, self.why] if self.why else parts)


def encode_mark(mark: Mark) -> bytes:
    """Lines: `hosts N`, `without HOST`."""
    lines = [f"hosts {mark.hosts}", *[f"without {one}" for one in sorted(mark.without)]]
    return "".join([f"{line}\n" for line in lines]).encode()


def read_mark(directory: str) -> Mark | None:
    """What the mark says; None where there is none. SpecError for what is no mark."""
    path = f"{directory}/{MARK}"
    try:
        with open(path, "rb") as file:
            lines = file.read(MARK_LIMIT_BYTES).decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return None
    without, hosts = set[str](), 0
    for line in lines:
        word, _, value = line.partition(" ")
        if word == "without":
            without.add(value)
        elif word == "hosts" and value.isdigit() and value.isascii():
            hosts = int(value)
        else:
            raise SpecError(f"{path}: not a mark of a restore: {line!r}")
    return Mark(frozenset(without), hosts)


def write_mark(directory: str, mark: Mark) -> None:
    """Durably."""
    path = f"{directory}/{MARK}"
    with open(f"{path}.part", "wb") as file:
        file.write(encode_mark(mark))
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)
    sync_directory(directory)


class Restore:
    """The restore of one server: on or not. For the one writer."""

    def __init__(self, intake: Intake, key: ServerKey, directory: str) -> None:
        self._intake, self._key, self._directory = intake, key, directory
        self._claims = Claims()
        self._notes: dict[int, tuple[bytes, bytes]] = {}
        self._heard: set[bytes] = set()
        self._hosts: dict[bytes, None] = {}
        self._mark, self._why = Mark(), ""
        self._failed: object = None
        self.is_on = False
        mark = read_mark(directory)
        if mark is not None or intake.log.is_behind:
            self._begin(mark)
        self.status = self._make_status()

    def _begin(self, mark: Mark | None) -> None:
        if mark is None:
            write_mark(self._directory, Mark())
        self.is_on = True
        self._mark = mark or Mark()
        log = self._intake.log
        if log.is_behind:
            self._notes[log.goal.size] = log.goal.root, log.read_published()
        self._hosts = dict.fromkeys(row.host for row in self._iterate_hosts())

    def _iterate_hosts(self) -> Iterator[Host]:
        after = b""
        while rows := self._intake.store.read_hosts(after, HOSTS_STEP):
            yield from rows
            after = rows[-1].host

    def take_shown(self, shown: Shown) -> None:
        """What a host has of this server's words; also that it was enrolled, if it is not known.

        SpecError, TamperError: it has none. It begins a restore where that is called
        for.
        """
        notes = [shown.note] if shown.note else []
        host = b""
        if shown.acknowledgement:
            host = decode_acknowledgement(shown.acknowledgement).held.host
            made = verify_acknowledgement(shown.acknowledgement, self._key.log_keys, host)
            notes.append(tlogproof.parse_log_proof(made.proof).note)
        self._take_notes(notes)
        if self.is_on and shown.grant and (not host or host not in self._hosts):
            self._enrol(shown.grant, host)
        self.go_on()

    def _enrol(self, data: bytes, host: bytes) -> None:
        """A host that was enrolled, as its acknowledgement says, or may be now (empty)."""
        now_ms = 0 if host else self._intake.get_now_ms()  # a grant was used in its time
        try:
            grant = check_grant(data, self._key.pair.public, now_ms)
        except PeerError as error:
            raise SpecError(str(error)) from None
        found = compute_host_id(grant.public)
        if host not in (b"", found) or grant.role is not Role.HOST:
            raise SpecError("grant: is of another host")
        try:
            self._enrol_again(grant.tenant, found, grant.public)
        except (PeerError, StateError) as error:
            raise SpecError(str(error)) from None
        self._hosts[found] = None

    def _enrol_again(self, tenant: str, host: bytes, public: bytes) -> None:
        """Where the log said so is not known yet."""
        intake = self._intake
        intake.ensure_tenant(tenant)
        known = intake.find(host)
        intake.check_enrolment(tenant, host, known)
        if known is None:
            group = Group()
            group.hosts[host] = intake.make_host(tenant, host, public)
            intake.tally.add(tenant, hosts=1)
            intake.commit(group)

    def take_bodies(self, request: Request) -> Answer:
        """A batch is verified and kept as ever, and nothing is signed."""
        assert self.is_on
        group = Group()
        answer, _ = self._intake.judge(group, request)
        self._intake.commit(group)
        self.go_on()
        return answer

    def take_places(self, host: bytes, said: Places) -> None:
        """Where a host, which has shown what it has, says that its leaves were."""
        self._take_notes(said.notes)
        known = self._intake.find(host)
        if not self.is_on or known is None:
            return
        size, first = known.row.size, self._intake.log.state.size
        if not self._is_excluded(host):
            held = [one for one in said.places if one.size <= size]  # its bodies are here
            self._claims.add(first, host, held, said.until)
            self._claims.put_unsure(host, tuple([one for one in said.unsure if one <= size]))
        if said.until == EVERYTHING and all(one.size <= size for one in said.places):
            self._heard.add(host)
        self.go_on()

    def _take_notes(self, notes: Sequence[bytes]) -> None:
        """Checkpoints that this server has signed; what is newer than all that is known is kept."""
        log = self._intake.log
        for note in notes:
            state = cosignature.check_checkpoint(note, self._key.log_keys)
            if state.size <= log.state.size:
                if log.compute_root(state.size) != state.root:
                    self._say_forked(state)
                continue
            before = self._notes.get(state.size)
            if before is not None and before[0] != state.root:
                self._say_forked(state)
                continue
            if state.size > log.goal.size:
                log.upon_shown(note)
            if not self.is_on:
                self._begin(None)
            if len(self._notes) < NOTES_MAX or state.size == log.goal.size:
                self._notes[state.size] = state.root, note

    def _say_forked(self, state: checkpoint.Checkpoint) -> None:
        """Two histories are under this server's signature: no third one is to come."""
        if not self.is_on:
            self._begin(None)
        self._why = (
            f"this server's key has signed two histories of {state.size} leaves: it forked, and "
            "can only begin a new log (bpci restore --abandon-log)"
        )
        self._failed = FORKED

    def go_on(self) -> None:
        """Fill in what can be, and end the restore where all is there."""
        if self.is_on and self._failed is not FORKED:
            mark = read_mark(self._directory)
            if mark is not None and mark != self._mark:
                self._take_mark(mark)
            while self._fill():
                pass
            self._end_if_whole()
        self.status = self._make_status()

    def _take_mark(self, mark: Mark) -> None:
        self._mark = mark
        for host in self._hosts:
            if self._is_excluded(host) and ALL not in mark.without:
                self._claims.drop_host(host)

    def _is_excluded(self, host: bytes) -> bool:
        """The operator does not wait for it, or it was revoked, so that it cannot come."""
        return host.hex() in self._mark.without or host in self._intake.access.revoked_hosts

    def _find_waits(self) -> tuple[str, ...]:
        if ALL in self._mark.without:
            return ()
        return tuple(
            [one.hex() for one in self._hosts if one not in self._heard
             and not self._is_excluded(one)]
        )  # fmt: skip

    def _fill(self) -> bool:
        """Fill in up to one more checkpoint; whether that was possible."""
        first = self._intake.log.state.size
        sizes = sorted(size for size in self._notes if size > first)
        if not sizes:
            self._why = ""
            return False
        reach = min(self._claims.get_reach(first), first + RUN_MAX)
        for size in [one for one in reversed(sizes) if one <= reach][:TARGETS_MAX]:
            leaves = self._search(first, size, is_wide=False)
            if leaves is not None:
                return self._keep(leaves, size)
        size = sizes[0]
        self._why = f"leaf {reach} is not known"
        tried = (first, size, self._claims.changes, len(self._heard), self._mark)
        if tried == self._failed or size > first + RUN_MAX or not self._is_covered(size):
            return False
        self._failed = tried
        leaves = self._search(first, size, is_wide=True)
        if leaves is not None:
            return self._keep(leaves, size)
        self._why = (
            f"leaf {reach} is in no host's list" if reach < size else
            f"what hosts say of leaves {first} to {size - 1} is not what this server has signed"
        )  # fmt: skip
        return False

    def _is_covered(self, size: int) -> bool:
        """Whether all hosts have said all that they know of the leaves up to there."""
        is_enough = ALL in self._mark.without or len(self._heard) >= self._mark.hosts
        return is_enough and all(
            self._claims.get_until(host) >= size or self._is_excluded(host)
            or ALL in self._mark.without for host in self._hosts
        )  # fmt: skip

    def _search(self, first: int, size: int, *, is_wide: bool) -> tuple[Held, ...] | None:
        """The leaves that lead to the checkpoint of this size: as hosts say, or as may be."""
        log, claims = self._intake.log, self._claims
        rows = self._list_rows() if is_wide else []
        hosts = [(row.host, self._get_logged(row), row.size) for row in rows]
        goal = checkpoint.Checkpoint(self._key.origin, size, self._notes[size][0])

        def choose(leaf_index: int, chosen: Sequence[Held]) -> Iterator[Held]:
            said = list(claims.choose(leaf_index, self._make_held))
            yield from said if is_wide else said[:1]
            if is_wide and not said:
                yield from claims.guess(leaf_index, chosen, hosts, self._make_held)

        return search_leaves(first, log.frontier, goal, choose)

    def _list_rows(self) -> list[Host]:
        return [row for row in self._iterate_hosts() if not self._is_excluded(row.host)]

    def _make_held(self, host: bytes, size: int) -> Held:
        read = make_reader(self._intake.store, host, {})
        return Held(host, size, merkle.compute_tree_root(size, read))

    def _get_logged(self, row: Host) -> int:
        """How much the log says is held; NOT_LOGGED where it says nothing."""
        if row.log_leaf == NOT_LOGGED:
            return NOT_LOGGED
        found = self._intake.store.read_leaves(OWNER, row.log_leaf, 1)
        if not found:
            raise StoreDamage(f"leaf {row.log_leaf} of the server's log is missing")
        return decode_held(found[0].data).size

    def _keep(self, leaves: tuple[Held, ...], size: int) -> bool:
        """These leaves are in the log, under the checkpoint of this size, with one commit."""
        intake, log = self._intake, self._intake.log
        first = log.state.size
        staged = log.stage_again([encode_held(one) for one in leaves], self._notes[size][1])
        rows = dict[bytes, Host]()
        for index, held in enumerate(leaves, first):
            known = intake.find(held.host)
            assert known is not None, "its root was computed"
            row = rows.get(held.host, known.row)
            rows[held.host] = row._replace(log_leaf=index, root=held.root)
        try:
            intake.store.commit(
                Changes(hosts=list(rows.values()), leaves=staged.rows, note=staged.note)
            )
        finally:
            intake.forget(rows)
        log.upon_commit(staged)
        self._claims.drop_below(size)
        passed = [one for one in self._notes if one <= size]
        for one in passed:
            root, _ = self._notes.pop(one)
            if log.compute_root(one) != root:
                self._say_forked(log.state._replace(size=one))
                return False
        return True

    def _end_if_whole(self) -> None:
        log = self._intake.log
        is_enough = len(self._heard) >= self._mark.hosts or ALL in self._mark.without
        if self._failed is FORKED or log.is_behind or self._find_waits() or not is_enough:
            return
        if not log.goal.size and not self._hosts and not self._mark.without:
            return  # nobody has said anything yet
        if log.state != log.goal:
            self._say_forked(log.goal)
            return
        self.log_rest()
        os.unlink(f"{self._directory}/{MARK}")
        sync_directory(self._directory)
        self.is_on = False
        self._claims, self._notes = Claims(), {}
        self._heard.clear()

    def log_rest(self) -> None:
        """What is held, and the log does not say so, joins it: all that was published is there."""
        rest = [row.host for row in self._iterate_hosts() if self._get_logged(row) != row.size]
        group = Group()
        for host in rest:
            known = self._intake.find(host)
            assert known is not None, "it is in the store"
            group.hosts[host] = known
            size = known.row.size
            root = known.progress.root if size else merkle.EMPTY_ROOT
            group.held.append(Held(host, size, root))
        self._intake.commit(group)

    def _make_status(self) -> Status:
        log = self._intake.log
        if not self.is_on:
            return Status(is_on=False)
        waits, why = self._find_waits(), self._why
        if not why and len(self._heard) < self._mark.hosts:
            why = f"{len(self._heard)} of {self._mark.hosts} hosts have shown what they have"
        return Status(True, log.state.size, log.goal.size, waits, why)
