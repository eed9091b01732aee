"""Whether what a server answers is true of this host's log, and goes with what it said before.

Not here: the bytes of an acknowledgement and its proof (chainlite.bpci.acknowledgement), what is
kept (sent), proof from the server's tiles that its log only grows (auditing). Invariants: nothing
counts that the server's key has not signed; what it has signed and cannot be true is a Contradicted
with the words themselves, never only an error. A server may hold less than it once did: it lost its
disk, or is restored from a backup; then it may not speak of more than it held under a log that is
smaller than it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, fork, tlogproof
from chainlite.bpci.acknowledgement import verify_acknowledgement
from chainlite.errors import PeerError, SpecError, TamperError
from docklock.outbox.sent import Seen

if TYPE_CHECKING:
    from chainlite.fork import Fork
    from docklock.evidence.host_log import HostLog
    from docklock.outbox.sent import Sent
    from docklock.outbox.settings import Server


class Contradicted(TamperError):
    """A server has signed what cannot be true. `answer` is that, `other` what it contradicts.

    `proven` is the fork of the server's own log where the two prove one to anybody.
    """

    def __init__(self, why: str, answer: bytes, other: bytes, proven: Fork | None = None) -> None:
        super().__init__(why)
        self.answer, self.other, self.proven = answer, other, proven


class Checked(NamedTuple):
    """What a server holds of this host's log, and the state of its own log that says so."""

    size: int
    root: bytes
    seen: Seen


def check_answer(data: bytes, server: Server, log: HostLog, sent: Sent) -> Checked:
    """What the answer says. PeerError: the server has not said it. Contradicted: it has."""
    name = server.name
    try:
        made = verify_acknowledgement(data, server.keys, log.read_host())
        seen_note = tlogproof.parse_log_proof(made.proof).note
    except SpecError as error:
        raise PeerError(f"{name}: {error}") from None
    except TamperError as error:
        raise Contradicted(f"{name}: {error}", data, log.get_note()) from None
    held, size = made.held, log.get_size()
    if held.size > size:
        raise Contradicted(
            f"{name} holds {held.size} leaves of this host's log, which has {size}: the log was "
            "cut or restored, or another has the host's key",
            data, log.get_note(),
        )  # fmt: skip
    if log.compute_root(held.size) != held.root:
        raise Contradicted(
            f"{name} holds another history of the first {held.size} leaves of this host's log",
            data, log.get_note(),
        )  # fmt: skip
    state = checkpoint.parse_claim(seen_note)
    seen = Seen(state.size, state.root, seen_note)
    check_seen(seen, server, sent)
    last, most = sent.get_last_checkpoint(server.origin), sent.get_standing(server.origin).most
    if last is not None and seen.size < last.size and held.size > most:
        raise Contradicted(
            f"{name} speaks of {held.size} leaves, which it did not hold before, under a log of "
            f"{seen.size} leaves, and that had {last.size}",
            data, last.note,
        )  # fmt: skip
    return Checked(held.size, held.root, seen)


def check_seen(seen: Seen, server: Server, sent: Sent) -> None:
    """A state of the server's log beside the one of that size that was seen before, if one was."""
    before = sent.find_checkpoint(server.origin, seen.size)
    if before is not None and before.root != seen.root:
        publics = (server.keys[0].public,)
        proven = fork.make_fork(publics, (before.note, seen.note))
        raise Contradicted(
            f"{server.name} has signed two histories of its log, both of {seen.size} leaves",
            seen.note, before.note, proven,
        )  # fmt: skip
