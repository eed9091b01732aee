"""The host's side: submit its log's checkpoint to the configured witnesses, keep what they cosign.

What is asked for is published first: a witness may read the log's tiles. Kept is a checkpoint that
meets the policy, with every member's lines; later runs name the newest. Then all members are sent
it, so that each holds what the others signed: a witness that is restored from an old disk is told
by them. Not here: what a policy is (chainlite.quorum), when to ask (docklock.agent).
Invariants: a cosignature that does not hold is worth nothing; what a witness refuses because it has
seen another history of this log is a fork, kept as proof, and TamperError.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, fork, quorum, witness
from chainlite.errors import SpecError, StateError, TamperError
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key
from docklock.evidence.tiles import publish
from docklock.witness.client import Client, PeerError
from docklock.witness.forks import keep_fork
from docklock.witness.witness import parse_notes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainlite.checkpoint import Checkpoint
    from chainlite.fork import Fork
    from chainlite.quorum import Member, Quorum, Standing
    from docklock.paths import Paths

TRIES_MAX = 3
"""A witness that knows another size is asked again; another process may have asked meanwhile."""
NOTES_LOOKED_AT = 16


class Asked(NamedTuple):
    """What came of it: the size asked for, who cosigned, and what each other witness said.

    `submit_ms` is from the first request to the last answer; `took_ms` from the publication of the
    checkpoint until it was kept.
    """

    size: int
    standing: Standing
    problems: tuple[str, ...]
    submit_ms: float
    took_ms: float


class OwnLog:
    """This host's log as a witness is to be shown it: one checkpoint, its keys, and proofs."""

    def __init__(self, log: HostLog, enrolled: bytes, note: bytes = b"") -> None:
        """`note` is the checkpoint that is asked for; without it, the log's of now."""
        self._log = log
        with log.read():
            self.note = note or log.get_note()
            self.keys = log.read_keys(enrolled)
            self._records = tuple(leaf for index, leaf in log.get_key_leaves() if index)
            self.cosigned = log.get_cosigned_notes(NOTES_LOOKED_AT)
        self.state = checkpoint.parse_checkpoint(self.note, *self.keys.publics)

    def make_request(self, old_size: int) -> bytes:
        """The request to a witness that knows the first `old_size` leaves."""
        proof: tuple[bytes, ...] = ()
        if 0 < old_size < self.state.size:
            proof = self._log.get_consistency(old_size, self.state.size)
        return witness.encode_request(old_size, proof, self.note)

    def find_size(self, member: Member) -> int:
        """The newest size that this witness is known here to have cosigned; 0 for none."""
        for note in self.cosigned:
            if cosignature.get_cosignatures(note, member.keys):
                return checkpoint.parse_claim(note).size
        return 0

    def find_problem(self, paths: Paths, notes: Iterable[bytes], who: str) -> str:
        """Why what somebody else holds of this log does not go with it, or "". A fork is kept.

        Notes that this host's keys have not signed are passed over: they say nothing of it.
        """
        for note in notes:
            try:
                seen = checkpoint.parse_checkpoint(note, *self.keys.publics)
            except SpecError:
                continue
            if seen.origin != self.state.origin:
                continue
            found = self._find_fork(seen, note)
            if found is not None:
                keep_fork(paths, found)
                return (
                    f"{who} has seen another history of {seen.size} leaves: a fork, kept as proof "
                    f"in {paths.state}/forks"
                )
            if seen.size > self.state.size:
                return (
                    f"{who} has seen {seen.size} leaves and the log has {self.state.size}: "
                    "it was rolled back, or restored from a snapshot"
                )
        return ""

    def _find_fork(self, seen: Checkpoint, note: bytes) -> Fork | None:
        if not 0 < seen.size <= self.state.size:
            return None
        root, proof = self._log.compute_root(seen.size), tuple[bytes, ...]()
        if root == seen.root:
            return None
        if seen.size < self.state.size:
            proof = self._log.get_consistency(seen.size, self.state.size)
        notes = (note, self.note)
        return fork.make_fork(self.keys.publics, notes, root, proof, self._records)


async def ask_witnesses(paths: Paths, policy: Quorum) -> Asked:
    """Have the log's checkpoint cosigned, and keep it if the policy is met.

    StateError where there is no log or no witness to ask; TamperError where one has seen another
    history, or more of it than there is.
    """
    members = [member for member in policy.members if member.url]
    if not members:
        raise StateError("no witness in the policy has a url: nobody can be asked")
    began = time.perf_counter()
    note = publish(paths)
    with HostLog(paths, None) as log:
        own = OwnLog(log, get_public_key(paths), note)
        clients = [Client(member.url) for member in members]
        try:
            asking = [
                _ask(paths, own, member, client)
                for member, client in zip(members, clients, strict=True)
            ]
            submitted = time.perf_counter()
            answers = await asyncio.gather(*asking)
            answered = time.perf_counter()
            tampered = [answer for answer in answers if isinstance(answer, TamperError)]
            if tampered:
                raise tampered[0]
            notes = [answer for answer in answers if isinstance(answer, bytes)]
            merged = witness.merge_lines(own.note, notes)
            merged = witness.merge_lines(merged, [n for n in own.cosigned if _is_of(n, own)])
            merged = witness.merge_lines(merged, notes)
            standing = quorum.judge_quorum(
                policy, cosignature.get_cosignatures(merged, policy.keys)
            )
            if standing.is_met:
                store_cosigned(paths, merged)
            kept = time.perf_counter()
            await asyncio.gather(*[_tell(client, merged) for client in clients if notes])
        finally:
            for client in clients:
                client.close()
    problems = tuple(str(answer) for answer in answers if isinstance(answer, PeerError))
    times_ms = (1000 * (answered - submitted), 1000 * (kept - began))
    return Asked(own.state.size, standing, problems, *times_ms)


async def _ask(
    paths: Paths, own: OwnLog, member: Member, client: Client
) -> bytes | PeerError | TamperError:
    """The note as one witness has cosigned it, or why it has not."""
    try:
        return await _submit(paths, own, member, client)
    except (PeerError, TamperError) as error:
        return error


async def _submit(paths: Paths, own: OwnLog, member: Member, client: Client) -> bytes:
    old_size = own.find_size(member)
    for _ in range(TRIES_MAX):
        got = await client.post("/add-checkpoint", own.make_request(old_size))
        if got.status == witness.OK:
            return _take(own, member, got.body)
        if got.status not in (witness.CONFLICT, witness.UNPROCESSABLE):
            why = got.body[:200].decode(errors="replace").strip()
            raise PeerError(f"{member.name}: refused ({got.status}): {why}")
        known = _parse_size(got.body) if got.status == witness.CONFLICT else old_size
        if known < 0:
            raise PeerError(f"{member.name}: its answer has no size")
        if known == old_size or known > own.state.size:
            await _compare(paths, own, member, client)
            raise PeerError(f"{member.name}: refused ({got.status}), and shows no reason")
        old_size = known
    raise PeerError(f"{member.name}: knew another size each time")


async def _compare(paths: Paths, own: OwnLog, member: Member, client: Client) -> None:
    """TamperError if what the witness holds of this log does not go with it."""
    path = f"/checkpoints/{witness.compute_origin_hash(own.state.origin)}"
    got = await client.get(path)
    notes = _read_notes(got.body) if got.status == witness.OK else []
    problem = own.find_problem(paths, notes, member.name)
    if problem:
        raise TamperError(problem)


async def _tell(client: Client, merged: bytes) -> None:
    try:
        await client.post("/add-cosigned", merged)
    except PeerError:
        return  # its peers tell it


def _take(own: OwnLog, member: Member, lines: bytes) -> bytes:
    """The note with the witness's lines, if they hold."""
    try:
        merged = own.note + lines
        if cosignature.get_cosignatures(merged, member.keys):
            return witness.keep_lines(merged, member.keys)
    except SpecError as error:
        raise PeerError(f"{member.name}: its lines do not read: {error}") from None
    raise PeerError(f"{member.name}: what it signed does not hold under the keys of the policy")


def _is_of(note: bytes, own: OwnLog) -> bool:
    return checkpoint.parse_claim(note) == own.state


def _read_notes(data: bytes) -> list[bytes]:
    try:
        return parse_notes(data)
    except SpecError:
        return []


def _parse_size(body: bytes) -> int:
    digits = body.removesuffix(b"\n")
    is_number = digits.isdigit() and len(digits) <= checkpoint.SIZE_DIGITS_MAX
    return int(digits) if is_number else -1
