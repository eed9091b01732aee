"""A witness's decisions, joined with its state and its keys: what it answers, and what it hears.

Not here: what may be cosigned (chainlite.witness), sockets (server.py), asking peers (gossip.py).
Invariants: a checkpoint is on disk before its cosignature is given; what was cosigned never
shrinks, and its times never go back; a peer's word is kept only under a cosignature that holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, fork, note, witness
from chainlite.errors import SpecError
from chainlite.witness import Answer, Refused, Seen
from docklock.witness.fork_files import list_forks
from docklock.witness.forks import keep_fork
from docklock.witness.store import Cosigned, Heard

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.checkpoint import Checkpoint
    from chainlite.fork import Fork
    from docklock.paths import Paths
    from docklock.witness.config import Settings
    from docklock.witness.key import Cosigner
    from docklock.witness.store import Store

NOTES_MAX = 64


class Door(NamedTuple):
    """What a witness tells the outside of itself: each is called with plain texts or notes."""

    alert: Callable[[str], None]
    upon_cosigned: Callable[[str, bytes], None]
    get_time_s: Callable[[], int]


class Witness:
    """One witness. `is_ready` is false while it must not cosign: it has not yet heard its peers."""

    def __init__(
        self, paths: Paths, store: Store, cosigner: Cosigner, settings: Settings, door: Door
    ) -> None:
        self._paths, self._store, self._cosigner, self._door = paths, store, cosigner, door
        self._settings = settings
        self.logs = {log.origin: log.keys for log in settings.logs}
        self._origins = {witness.compute_origin_hash(origin): origin for origin in self.logs}
        self._peer_keys = tuple(key for peer in settings.peers for key in peer.keys)
        self.is_ready = not settings.peers
        self.cosigned_count = 0
        self.refused: dict[int, int] = {}

    def add_checkpoint(self, body: bytes) -> Answer:
        """C2SP tlog-witness, add-checkpoint."""
        answer = self._add_checkpoint(body)
        if answer.status == witness.OK:
            self.cosigned_count += 1
        else:
            self.refused[answer.status] = self.refused.get(answer.status, 0) + 1
        return answer

    def _add_checkpoint(self, body: bytes) -> Answer:
        try:
            asked = witness.parse_submission(body, self.logs)
        except Refused as refused:
            return refused.answer
        if not self.is_ready:
            return Answer(witness.UNAVAILABLE, b"no peer has said yet what it heard of us\n")
        origin = asked.state.origin
        last = self._store.get(origin)
        refusal = witness.find_refusal(asked, Seen(last.size, last.root) if last else Seen())
        if refusal is not None:
            kept = witness.keep_lines(asked.note, self.logs[origin])
            self._look_for_fork(asked.state, kept)
            if last is not None and asked.old_size == last.size:
                self._keep(
                    fork.find_submitted_fork(
                        self._get_publics(origin), last.note, kept, asked.proof
                    )
                )
            return refusal
        now_s = max(self._door.get_time_s(), last.time if last else 0)
        kept = witness.keep_lines(asked.note, self.logs[origin])
        lines = self._cosigner.cosign(kept, now_s)
        self._store.put(origin, Cosigned(asked.state.size, asked.state.root, now_s, kept + lines))
        self._settle(origin)
        self._door.upon_cosigned(origin, kept + lines)
        return Answer(witness.OK, lines)

    def add_cosigned(self, data: bytes) -> Answer:
        """A checkpoint that witnesses have cosigned, from whoever has it: 200 if it is taken.

        403 where none of the witnesses is this one or its peer; 409 where it proves a fork.
        """
        try:
            state = witness.check_note(data, self.logs)
            peers = cosignature.get_cosignatures(data, self._peer_keys)
            ours = cosignature.get_cosignatures(data, self._cosigner.vkeys)
        except Refused as refused:
            return refused.answer
        if not peers and not ours:
            return Answer(witness.FORBIDDEN, b"not cosigned by a witness that is known here\n")
        known = (*self.logs[state.origin], *self._peer_keys, *self._cosigner.vkeys)
        kept = witness.keep_lines(data, known)
        is_forked = self._look_for_fork(state, kept)
        if ours:
            self._remember(state, kept, ours[0].time)
        for peer in peers:
            self._hear(state, peer.name, kept)
        if is_forked:
            return Answer(witness.CONFLICT, b"a fork: both checkpoints are kept as proof\n")
        return Answer(witness.OK, b"")

    def get_checkpoints(self, origin_hash: str) -> Answer:
        """All that is known of a log: what was cosigned here first, then what was heard."""
        origin = self._origins.get(origin_hash)
        if origin is None:
            return Answer(witness.NOT_FOUND, b"this log is not known here\n")
        return Answer(witness.OK, encode_notes(self.get_notes(origin)))

    def get_notes(self, origin: str) -> list[bytes]:
        """The same, as notes."""
        last = self._store.get(origin)
        heard = [one.note for one in self._store.get_heard(origin)]
        return [*([last.note] if last else []), *heard]

    def check_served(self, origin: str, served: bytes, read: Callable[[int, int], bytes]) -> bool:
        """Compare all that is known of a log with what it serves; whether all of it agrees.

        `read` gives the hashes of the tree under `served`. SpecError if it is not what it says.
        """
        state = checkpoint.parse_claim(served)
        if state.origin != origin or not witness.is_signed_by_log(
            note.parse_note(served), self.logs[origin]
        ):
            raise SpecError("what the log serves is not its checkpoint")
        self._look_for_fork(state, served)
        is_whole = True
        publics = self._get_publics(origin)
        for known in self.get_notes(origin):
            if checkpoint.parse_claim(known).size > state.size:
                is_whole = False
            elif found := fork.find_served_fork(publics, known, served, read):
                self._keep(found)
                is_whole = False
        if is_whole:
            for heard in self._store.get_heard(origin):
                self._store.hear(origin, heard._replace(is_settled=1))
        return is_whole

    def get_size(self, origin: str) -> int:
        """The size of a log that was cosigned last; 0 for none."""
        last = self._store.get(origin)
        return last.size if last else 0

    def get_unsettled(self) -> tuple[tuple[str, Heard], ...]:
        """What peers have cosigned and nothing here shows to be of the same history."""
        return self._store.get_unsettled()

    def describe(self) -> dict[str, int | dict[str, int]]:
        """Its numbers, for metrics."""
        return {
            "witness_logs": self._store.count_logs(),
            "witness_cosigned": self.cosigned_count,
            "witness_refused": {f'status="{k}"': v for k, v in sorted(self.refused.items())},
            "witness_unsettled": len(self._store.get_unsettled()),
            "witness_ready": int(self.is_ready),
            "forks": len(list_forks(self._paths)),
        }

    def _remember(self, state: Checkpoint, kept: bytes, time_s: int) -> None:
        """A checkpoint that both our keys have signed, and that our own disk may have forgotten."""
        last = self._store.get(state.origin)
        if last is not None and state.size <= last.size:
            return
        had = last.size if last else 0
        self._door.alert(
            f"this witness has cosigned {state.size} leaves of {state.origin} and remembers only "
            f"{had}: its disk is an old one; it goes on from what its peers have kept"
        )
        self._store.put(state.origin, Cosigned(state.size, state.root, time_s, kept))
        self._settle(state.origin)

    def _hear(self, state: Checkpoint, peer: str, kept: bytes) -> None:
        before = {one.peer: one for one in self._store.get_heard(state.origin)}.get(peer)
        past = self._store.get_past(state.origin, state.size)
        is_settled = int(past is not None and past[0] == state.root)
        if before is not None:
            is_same = (before.size, before.root) == (state.size, state.root)
            if before.size > state.size or (is_same and before.is_settled >= is_settled):
                return
        self._store.hear(state.origin, Heard(peer, state.size, state.root, kept, is_settled))

    def _settle(self, origin: str) -> None:
        """Of what peers had cosigned before us, see what is now the same, and what is a fork."""
        for heard in self._store.get_heard(origin):
            past = None if heard.is_settled else self._store.get_past(origin, heard.size)
            if past is None:
                continue
            if past[0] == heard.root:
                self._store.hear(origin, heard._replace(is_settled=1))
            else:
                self._keep(fork.make_fork(self._get_publics(origin), (past[1], heard.note)))

    def _look_for_fork(self, state: Checkpoint, data: bytes) -> bool:
        """Whether the log has signed another root of this size that is known here."""
        past = self._store.get_past(state.origin, state.size)
        known = [past[1]] if past is not None else []
        known += [one.note for one in self._store.get_heard(state.origin) if one.size == state.size]
        for other in known:
            found = fork.make_fork(self._get_publics(state.origin), (other, data))
            if found is not None:
                self._keep(found)
                return True
        return False

    def _keep(self, found: Fork | None) -> None:
        path = keep_fork(self._paths, found) if found is not None else ""
        if found is not None and path:
            sizes = [checkpoint.parse_claim(one).size for one in (found.first, found.second)]
            origin = checkpoint.parse_claim(found.first).origin
            self._door.alert(
                f"FORK: {origin} has signed two histories, of {sizes[0]} and {sizes[1]} leaves: "
                f"docklock verify {path}"
            )

    def _get_publics(self, origin: str) -> tuple[bytes, ...]:
        return tuple(key.public for key in self.logs[origin] if key.kind == note.ED25519)


def encode_notes(notes: list[bytes]) -> bytes:
    """Notes one after the other, each after a line `note SIZE`."""
    return b"".join(b"note %d\n%b" % (len(data), data) for data in notes[:NOTES_MAX])


def parse_notes(data: bytes) -> list[bytes]:
    """The notes of an answer; SpecError if it is not one."""
    found: list[bytes] = []
    while data:
        line, _, rest = data.partition(b"\n")
        word, _, digits = line.partition(b" ")
        size = int(digits) if digits.isdigit() and len(digits) < 9 else -1
        if word != b"note" or not 0 <= size <= len(rest) or len(found) >= NOTES_MAX:
            raise SpecError("want `note SIZE` before each note")
        found.append(rest[:size])
        data = rest[size:]
    return found
