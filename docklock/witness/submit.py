"""Show a log's checkpoint to witnesses, whoever's log it is, and take what they cosign.

Not here: the host's log (ask), a chain's (docklock.chain.witnessing), what is kept of the answers.
Invariants: a cosignature that does not hold is worth nothing; what a witness refuses because it has
seen another history of this log is a fork, kept as proof, and TamperError.
Source: C2SP tlog-witness, add-checkpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from chainlite import checkpoint, cosignature, fork, witness
from chainlite.errors import SpecError, TamperError
from docklock.witness.client import PeerError
from docklock.witness.forks import keep_fork
from docklock.witness.witness import parse_notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chainlite.checkpoint import Checkpoint
    from chainlite.fork import Fork
    from chainlite.quorum import Member
    from docklock.paths import Paths
    from docklock.witness.client import Client

TRIES_MAX = 3
"""A witness that knows another size is asked again; another process may have asked meanwhile."""


class ShownLog(Protocol):
    """A log as a witness is to be shown it: one checkpoint, its keys, and proofs."""

    @property
    def note(self) -> bytes:
        """The checkpoint that is to be cosigned."""

    @property
    def state(self) -> Checkpoint:
        """What it says."""

    @property
    def publics(self) -> tuple[bytes, ...]:
        """The Ed25519 keys of the log."""

    @property
    def records(self) -> tuple[bytes, ...]:
        """The leaves of a host's later keys, for the proof of a fork."""

    def is_signed(self, note: bytes) -> bool:
        """Whether it is a checkpoint of this log that the log's keys have signed."""

    def find_size(self, member: Member) -> int:
        """The newest size that this witness is known here to have cosigned; 0 for none."""

    def tell_behind(self, who: str, size: int) -> str:
        """What it means that somebody has seen a larger size; PeerError where that is no wrong."""

    async def compute_root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""

    async def get_consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The proof that the checkpoint goes on from the first `old_size` leaves."""


async def submit_to_all(
    paths: Paths, log: ShownLog, asked: Sequence[tuple[Member, Client]]
) -> list[bytes | PeerError]:
    """The note as each has cosigned it, or why it has not. TamperError for another history."""
    asking = [_ask(paths, log, member, client) for member, client in asked]
    answers = await asyncio.gather(*asking)
    tampered = [answer for answer in answers if isinstance(answer, TamperError)]
    if tampered:
        raise tampered[0]
    return [answer for answer in answers if not isinstance(answer, TamperError)]


async def tell_all(clients: Iterable[Client], merged: bytes) -> None:
    """Send all witnesses what all of them have cosigned."""
    await asyncio.gather(*[_tell(client, merged) for client in clients])


async def find_problem(paths: Paths, log: ShownLog, notes: Iterable[bytes], who: str) -> str:
    """Why what somebody else holds of this log does not go with it, or "". A fork is kept.

    Notes that this log's keys have not signed are passed over: they say nothing of it.
    """
    for note in notes:
        if not log.is_signed(note):
            continue
        seen = checkpoint.parse_claim(note)
        found = await _find_fork(log, seen, note)
        if found is not None:
            keep_fork(paths, found)
            return (
                f"{who} has seen another history of {seen.size} leaves: a fork, kept as proof "
                f"in {paths.state}/forks"
            )
        if seen.size > log.state.size:
            return log.tell_behind(who, seen.size)
    return ""


async def _find_fork(log: ShownLog, seen: Checkpoint, note: bytes) -> Fork | None:
    if not 0 < seen.size <= log.state.size:
        return None
    root, proof = await log.compute_root(seen.size), tuple[bytes, ...]()
    if root == seen.root:
        return None
    if seen.size < log.state.size:
        proof = await log.get_consistency(seen.size)
    return fork.make_fork(log.publics, (note, log.note), root, proof, log.records)


async def _ask(
    paths: Paths, log: ShownLog, member: Member, client: Client
) -> bytes | PeerError | TamperError:
    """The note as one witness has cosigned it, or why it has not."""
    try:
        return await _submit(paths, log, member, client)
    except (PeerError, TamperError) as error:
        return error


async def _submit(paths: Paths, log: ShownLog, member: Member, client: Client) -> bytes:
    old_size = log.find_size(member)
    for _ in range(TRIES_MAX):
        got = await client.post("/add-checkpoint", await _make_request(log, old_size))
        if got.status == witness.OK:
            return _take(log, member, got.body)
        if got.status not in (witness.CONFLICT, witness.UNPROCESSABLE):
            why = got.body[:200].decode(errors="replace").strip()
            raise PeerError(f"{member.name}: refused ({got.status}): {why}")
        known = _parse_size(got.body) if got.status == witness.CONFLICT else old_size
        if known < 0:
            raise PeerError(f"{member.name}: its answer has no size")
        if known == old_size or known > log.state.size:
            await _compare(paths, log, member, client)
            raise PeerError(f"{member.name}: refused ({got.status}), and shows no reason")
        old_size = known
    raise PeerError(f"{member.name}: knew another size each time")


async def _make_request(log: ShownLog, old_size: int) -> bytes:
    """The request to a witness that knows the first `old_size` leaves."""
    proof: tuple[bytes, ...] = ()
    if 0 < old_size < log.state.size:
        proof = await log.get_consistency(old_size)
    return witness.encode_request(old_size, proof, log.note)


async def _compare(paths: Paths, log: ShownLog, member: Member, client: Client) -> None:
    """TamperError if what the witness holds of this log does not go with it."""
    path = f"/checkpoints/{witness.compute_origin_hash(log.state.origin)}"
    got = await client.get(path)
    notes = _read_notes(got.body) if got.status == witness.OK else []
    problem = await find_problem(paths, log, notes, member.name)
    if problem:
        raise TamperError(problem)


async def _tell(client: Client, merged: bytes) -> None:
    try:
        await client.post("/add-cosigned", merged)
    except PeerError:
        return  # its peers tell it


def _take(log: ShownLog, member: Member, lines: bytes) -> bytes:
    """The note with the witness's lines, if they hold."""
    try:
        merged = log.note + lines
        if cosignature.get_cosignatures(merged, member.keys):
            return witness.keep_lines(merged, member.keys)
    except SpecError as error:
        raise PeerError(f"{member.name}: its lines do not read: {error}") from None
    raise PeerError(f"{member.name}: what it signed does not hold under the keys that are named")


def _read_notes(data: bytes) -> list[bytes]:
    try:
        return parse_notes(data)
    except SpecError:
        return []


def _parse_size(body: bytes) -> int:
    digits = body.removesuffix(b"\n")
    is_number = digits.isdigit() and len(digits) <= checkpoint.SIZE_DIGITS_MAX
    return int(digits) if is_number else -1
