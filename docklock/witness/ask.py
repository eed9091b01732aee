"""The host's side: submit its log's checkpoint to the configured witnesses, keep what they cosign.

What is asked for is published first: a witness may read the log's tiles. Kept is a checkpoint that
meets the policy, with every member's lines; later runs name the newest. Then all members are sent
it, so that each holds what the others signed: a witness that is restored from an old disk is told
by them. Not here: the exchange with one witness, and forks (submit); what a policy is
(chainlite.quorum), when to ask (docklock.agent).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, quorum, witness
from chainlite.errors import SpecError, StateError
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import get_public_key
from docklock.evidence.tiles import publish
from docklock.witness.client import Client, PeerError
from docklock.witness.submit import submit_to_all, tell_all

if TYPE_CHECKING:
    from chainlite.quorum import Member, Quorum, Standing
    from docklock.paths import Paths

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
            self.publics = log.read_keys(enrolled).publics
            self.records = tuple(leaf for index, leaf in log.get_key_leaves() if index)
            self.cosigned = log.get_cosigned_notes(NOTES_LOOKED_AT)
        self.state = checkpoint.parse_checkpoint(self.note, *self.publics)

    def is_signed(self, note: bytes) -> bool:
        """Whether it is a checkpoint of this log that this host's keys have signed."""
        try:
            return checkpoint.parse_checkpoint(note, *self.publics).origin == self.state.origin
        except SpecError:
            return False

    def find_size(self, member: Member) -> int:
        """The newest size that this witness is known here to have cosigned; 0 for none."""
        for note in self.cosigned:
            if cosignature.get_cosignatures(note, member.keys):
                return checkpoint.parse_claim(note).size
        return 0

    def tell_behind(self, who: str, size: int) -> str:
        """Nobody else makes this log grow."""
        return (
            f"{who} has seen {size} leaves and the log has {self.state.size}: "
            "it was rolled back, or restored from a snapshot"
        )

    async def compute_root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return self._log.compute_root(size)

    async def get_consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The proof that the checkpoint goes on from the first `old_size` leaves."""
        return self._log.get_consistency(old_size, self.state.size)


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
            submitted = time.perf_counter()
            answers = await submit_to_all(paths, own, tuple(zip(members, clients, strict=True)))
            answered = time.perf_counter()
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
            await tell_all(clients if notes else (), merged)
        finally:
            for client in clients:
                client.close()
    problems = tuple(str(answer) for answer in answers if isinstance(answer, PeerError))
    times_ms = (1000 * (answered - submitted), 1000 * (kept - began))
    return Asked(own.state.size, standing, problems, *times_ms)


def _is_of(note: bytes, own: OwnLog) -> bool:
    return checkpoint.parse_claim(note) == own.state
