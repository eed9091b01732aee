"""Anti-entropy: nodes tell each other how far they have each log, and fetch what they miss.

What was sent while a node was away is not lost to it: it asks. Not here: sending (gossiping),
storing and the bodies' verification (OriginStore). Pure but for the store that it reads.
Invariants: nothing is taken but what a checkpoint signed by the log's own key vouches for, by a
proof, leaf by leaf in order; so nothing is taken twice, and nobody but the log can make us store
anything. A log that shows two histories is proven a forker, and the first one is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from chainlite import checkpoint, fork, merkle
from chainlite.errors import PeerError, SpecError, StateError
from chainlite.net import tidings
from chainlite.net.origins import Held, Item, compute_root_after, get_reader
from chainlite.net.tidings import HELD, SEEN, Entry, Range, Want
from chainlite.net.transport import PeerId
from chainlite.sha2 import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chainlite.checkpoint import Checkpoint
    from chainlite.net.origins import OriginStore

ORIGINS_MAX = 4096
WANTS_MAX = 32
WANTS_PER_PEER_MAX = 8
SEEN_MAX = 8
"""Checkpoints of one log, beyond what is here, that wait to be compared."""
FORKS_MAX = 16
"""Of one log, that are told."""
KNOWN_NOTES_MAX = 4096
"""Checkpoints whose signatures have been checked, so that they are checked once."""
TILE = tidings.ITEMS_MAX


class Tell(NamedTuple):
    """Send a message to a peer, or to all."""

    peer: PeerId | None
    payload: bytes


class Ask(NamedTuple):
    """Request a range; its answer goes to `upon_range`, its failure to `upon_unanswered`."""

    peer: PeerId
    want: Want


class Append(NamedTuple):
    """Have the store keep these; then `upon_appended`, or `upon_spoilt` where a body was wrong."""

    peer: PeerId
    origin: str
    start: int
    items: tuple[Item, ...]
    note: bytes


class ForkSeen(NamedTuple):
    """Two histories of one log; `data` convicts it (chainlite.fork)."""

    origin: str
    data: bytes


class Blame(NamedTuple):
    """A peer broke a rule."""

    peer: PeerId
    why: str


Effect: TypeAlias = Tell | Ask | Append | ForkSeen | Blame


class Note(NamedTuple):
    """A checkpoint and the bytes that it was read from."""

    claim: Checkpoint
    data: bytes


@dataclass(slots=True)
class _Peer:
    notes: dict[str, Note] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)
    """Logs that it did not serve when it was last asked."""
    in_flight: int = 0


@dataclass(slots=True)
class _Log:
    held: Held
    target: Note | None = None
    """The checkpoint that is being fetched up to."""
    is_based: bool = False
    """The target is proven to go on from the checkpoint that is held."""
    asked: Ask | None = None
    is_appending: bool = False
    part: bytearray = field(default_factory=bytearray)
    part_of: PeerId | None = None
    """The beginning of a long body, and who gave it: one peer answers for all of it."""
    seen: dict[bytes, Note] = field(default_factory=dict)
    forks: set[bytes] = field(default_factory=set)
    """Roots that are of another history."""


class Gossip:
    """One node's side of it."""

    def __init__(self, store: OriginStore) -> None:
        self._store = store
        self._logs: dict[str, _Log] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._waiting: dict[str, None] = {}
        self._in_flight = 0
        self._turn = 0
        self._known: dict[bytes, Note] = {}
        self.taken = 0
        """Leaves that were taken from peers."""
        for origin in store.get_origins():
            self._get_log(origin)

    def upon_peer(self, peer: PeerId) -> list[Effect]:
        """A peer is up: tell it all that is held."""
        self._peers[peer] = _Peer()
        return list(self._tell_all(peer))

    def upon_gone(self, peer: PeerId) -> list[Effect]:
        """A peer is gone; what it was asked for ends by `upon_unanswered`."""
        self._peers.pop(peer, None)
        return []

    def upon_local(self, origin: str) -> list[Effect]:
        """A log has grown here, by this node's own doing."""
        log = self._get_log(origin)
        log.held = self._store.get_held(origin)
        self._drop_reached(log)
        return [*self._tell_held(log), *self._compare_waiting(log), *self._ask_on(origin)]

    def upon_cosigned(self, note: bytes) -> list[Effect]:
        """This node has cosigned a checkpoint: all are to see it."""
        return [Tell(None, tidings.encode_vector([Entry(SEEN, note)]))]

    def upon_tick(self) -> list[Effect]:
        """Now and then: tell one peer all that is held, and ask again who did not answer."""
        for one in self._peers.values():
            one.unusable.clear()
        effects = list[Effect]()
        if self._peers:
            self._turn = (self._turn + 1) % len(self._peers)
            effects += self._tell_all(list(self._peers)[self._turn])
        return effects + self._ask_on(*self._logs)

    def upon_vector(self, peer: PeerId, data: bytes) -> list[Effect]:
        """A peer tells checkpoints. What comes before one that is none counts."""
        effects, touched = list[Effect](), list[str]()
        one = self._peers.get(peer)
        if one is None:
            return []
        try:
            for entry in tidings.decode_vector(data):
                note = self._read_note(entry.note)
                if note is None:
                    continue
                origin = note.claim.origin
                log = self._get_log(origin)
                effects += self._compare(log, note, is_seen=entry.state == SEEN)
                if entry.state == HELD:
                    one.notes[origin] = note
                    one.unusable.discard(origin)
                    touched.append(origin)
                    effects += self._tell_behind(peer, log, note)
        except PeerError as error:
            effects.append(Blame(peer, str(error)))
        return effects + self._ask_on(*touched)

    def upon_want(self, data: bytes) -> bytes:
        """The answer to a peer's request; StateError where that much is not here."""
        want = tidings.decode_want(data)
        held = self._store.get_held(want.origin)
        if want.size > held.size:
            raise StateError(f"{want.origin}: {held.size} leaves are here, not {want.size}")
        read = get_reader(self._store, want.origin)
        end = min(want.size, (want.start // TILE + 1) * TILE)
        items = self._store.read(want.origin, want.start, end, tidings.PART_BYTES_MAX)
        total = len(items[-1].body)
        if want.offset or len(items[0].body) > tidings.PART_BYTES_MAX:
            leaf, body = items[0]
            total = len(body)
            if want.offset >= total:
                raise PeerError(f"want: offset {want.offset} in a body of {total} bytes")
            items = [Item(leaf, body[want.offset : want.offset + tidings.PART_BYTES_MAX])]
        base_root, base_proof = bytes(merkle.HASH_BYTES), tuple[bytes, ...]()
        if want.base:
            base_root = merkle.compute_tree_root(want.base, read)
            base_proof = merkle.compute_consistency(want.base, want.size, read)
        end_proof = merkle.compute_consistency(want.start + len(items), want.size, read)
        return tidings.encode_range(Range(tuple(items), total, base_root, base_proof, end_proof))

    def upon_range(self, ask: Ask, data: bytes) -> list[Effect]:
        """The answer to an Ask. What does not hold is a misdeed, and is asked of others."""
        log = self._release(ask)
        if log is None or log.target is None:
            return self._ask_on(ask.want.origin)
        try:
            effects = self._take(log, ask, tidings.decode_range(data))
        except PeerError as error:
            self._set_unusable(ask.peer, ask.want.origin)
            log.part.clear()
            effects = [Blame(ask.peer, str(error))]
        return effects + self._ask_on(ask.want.origin)

    def upon_unanswered(self, ask: Ask) -> list[Effect]:
        """A request got no answer: another peer is asked; this one again after the next tick."""
        self._release(ask)
        self._set_unusable(ask.peer, ask.want.origin)
        return self._ask_on(ask.want.origin)

    def upon_appended(self, append: Append) -> list[Effect]:
        """The store has kept what an Append had."""
        log = self._get_log(append.origin)
        log.is_appending = False
        log.held = self._store.get_held(append.origin)
        self.taken += len(append.items)
        if not append.note:
            return self._ask_on(append.origin)
        self._drop_reached(log)
        told = [*self._tell_held(log), *self._compare_waiting(log)]
        return told + self._ask_on(append.origin)

    def upon_spoilt(self, append: Append, why: str) -> list[Effect]:
        """The store has refused what an Append had: a body is not what its leaf commits to."""
        self._get_log(append.origin).is_appending = False
        self._set_unusable(append.peer, append.origin)
        return [Blame(append.peer, why), *self._ask_on(append.origin)]

    def upon_unkept(self, append: Append) -> list[Effect]:
        """The store cannot take an Append now, and nobody is to blame: again after a tick."""
        log = self._get_log(append.origin)
        log.is_appending = False
        log.held = self._store.get_held(append.origin)
        self._set_unusable(append.peer, append.origin)
        return []

    def is_idle(self) -> bool:
        """Whether nothing is being fetched."""
        return not self._in_flight and not any(log.is_appending for log in self._logs.values())

    def _get_log(self, origin: str) -> _Log:
        log = self._logs.get(origin)
        if log is None:
            log = self._logs[origin] = _Log(self._store.get_held(origin))
        return log

    def _read_note(self, data: bytes) -> Note | None:
        """A checkpoint that its log has signed; None of a log that is not to be kept."""
        digest = sha256(data).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        try:
            origin = checkpoint.parse_claim(data).origin
            publics = self._store.get_keys(origin).publics
            is_new = origin not in self._logs
            if not publics or (is_new and len(self._logs) >= ORIGINS_MAX):
                return None
            claim = checkpoint.parse_checkpoint(data, *publics)
        except SpecError as error:
            raise PeerError(str(error)) from None
        while len(self._known) >= KNOWN_NOTES_MAX:
            del self._known[next(iter(self._known))]
        note = self._known[digest] = Note(claim, data)
        return note

    def _tell_all(self, peer: PeerId) -> Iterator[Effect]:
        page, size = list[Entry](), 0
        for log in self._logs.values():
            note = log.held.note
            if not note:
                continue
            if len(page) == tidings.ENTRIES_MAX or size + len(note) > tidings.VECTOR_BYTES_MAX:
                yield Tell(peer, tidings.encode_vector(page))
                page, size = [], 0
            page.append(Entry(HELD, note))
            size += len(note)
        if page:
            yield Tell(peer, tidings.encode_vector(page))

    def _tell_held(self, log: _Log) -> Iterator[Effect]:
        if log.held.note:
            yield Tell(None, tidings.encode_vector([Entry(HELD, log.held.note)]))

    def _tell_behind(self, peer: PeerId, log: _Log, theirs: Note) -> Iterator[Effect]:
        """Who tells less than is held here may have come after this was told."""
        mine = self._read_note(log.held.note) if log.held.note else None
        if mine is not None and theirs.claim.size < mine.claim.size:
            yield Tell(peer, tidings.encode_vector([Entry(HELD, log.held.note)]))

    def _drop_reached(self, log: _Log) -> None:
        if log.target is not None and log.held.size >= log.target.claim.size:
            log.target, log.is_based = None, False
            log.part.clear()

    def _ask_on(self, *origins: str) -> list[Effect]:
        """Ask for what these logs and those that wait are behind in, within the limits."""
        self._waiting.update(dict.fromkeys(origins))
        effects = list[Effect]()
        for origin in list(self._waiting):
            if self._in_flight >= WANTS_MAX or not self._has_room():
                break
            log = self._logs.get(origin)
            is_free = log is not None and log.asked is None and not log.is_appending
            ask = self._choose(origin, log) if log is not None and is_free else None
            if ask is None and is_free and self._is_behind(origin):
                continue  # its peers have enough to do
            del self._waiting[origin]
            if ask is not None and log is not None:
                log.asked = ask
                self._in_flight += 1
                self._peers[ask.peer].in_flight += 1
                effects.append(ask)
        return effects

    def _has_room(self) -> bool:
        return any(one.in_flight < WANTS_PER_PEER_MAX for one in self._peers.values())

    def _is_behind(self, origin: str) -> bool:
        return any(True for _ in self._get_candidates(origin, self._get_log(origin)))

    def _get_candidates(self, origin: str, log: _Log) -> Iterator[tuple[PeerId, Note]]:
        """Who has more of a log than is here, and of the same history as far as is known."""
        for peer, one in self._peers.items():
            note = one.notes.get(origin)
            if note is None or origin in one.unusable or note.claim.size <= log.held.size:
                continue
            if note.claim.root not in log.forks:
                yield peer, note

    def _choose(self, origin: str, log: _Log) -> Ask | None:
        candidates = list(self._get_candidates(origin, log))
        if not candidates:
            return None
        longest = max((note for _, note in candidates), key=lambda note: note.claim.size)
        if log.target is None or longest.claim.size < log.target.claim.size:
            log.target, log.is_based = longest, not log.held.note
            log.part.clear()
        size = log.target.claim.size
        able = [
            (self._peers[peer].in_flight, peer)
            for peer, note in candidates
            if note.claim.size >= size and self._peers[peer].in_flight < WANTS_PER_PEER_MAX
        ]
        if not able:
            return None
        chosen = min(able)[1]
        if log.part and log.part_of in [peer for _, peer in able]:
            assert log.part_of is not None
            chosen = log.part_of
        elif log.part:
            log.part.clear()
        base = 0 if log.is_based else checkpoint.parse_claim(log.held.note).size
        return Ask(chosen, Want(origin, size, log.held.size, base, len(log.part)))

    def _release(self, ask: Ask) -> _Log | None:
        """Count a request as ended; its log, where that still waits for it."""
        self._in_flight -= 1
        one = self._peers.get(ask.peer)
        if one is not None and one.in_flight:
            one.in_flight -= 1
        log = self._logs[ask.want.origin]
        if log.asked is not ask:
            return None
        log.asked = None
        is_current = (
            log.target is not None
            and ask.want.size == log.target.claim.size
            and ask.want.start == log.held.size
        )
        return log if is_current else None

    def _set_unusable(self, peer: PeerId, origin: str) -> None:
        one = self._peers.get(peer)
        if one is not None:
            one.unusable.add(origin)

    def _take(self, log: _Log, ask: Ask, found: Range) -> list[Effect]:
        """Verify a range; what is to be done with it. PeerError if it does not hold."""
        want, target = ask.want, log.target
        assert target is not None
        end = want.start + len(found.items)
        if want.base:
            forked = self._check_base(log, want, found)
            if forked:
                return forked
        read = get_reader(self._store, want.origin)
        hashes = [merkle.compute_leaf_hash(item.leaf) for item in found.items]
        root = compute_root_after(want.start, hashes, read)
        if not merkle.is_consistent(end, want.size, found.end_proof, root, target.claim.root):
            raise PeerError("range: its leaves are not those of the log's checkpoint")
        items = self._join(log, want, found)
        if not items:
            log.part_of = ask.peer
            return []
        log.is_appending = True
        note = target.data if end == want.size else b""
        return [Append(ask.peer, want.origin, want.start, items, note)]

    def _check_base(self, log: _Log, want: Want, found: Range) -> list[Effect]:
        """Whether the target goes on from what is held; else the fork that this proves."""
        assert log.target is not None
        mine = merkle.compute_tree_root(want.base, get_reader(self._store, want.origin))
        root = log.target.claim.root
        if not merkle.is_consistent(want.base, want.size, found.base_proof, found.base_root, root):
            raise PeerError("range: its proof does not lead to the log's checkpoint")
        if found.base_root == mine:
            log.is_based = True
            return []
        note, log.target = log.target, None
        return self._convict(log, note, log.held.note, found.base_root, found.base_proof)

    @staticmethod
    def _join(log: _Log, want: Want, found: Range) -> tuple[Item, ...]:
        """The items with whole bodies; nothing while the rest of a long one is to be fetched."""
        leaf, body = found.items[-1]
        if want.offset + len(body) == found.total and not (want.offset and len(found.items) > 1):
            joined = bytes(log.part) + body if want.offset else body
            log.part.clear()
            return (*found.items[:-1], Item(leaf, joined))
        if len(found.items) > 1 or not body or want.offset + len(body) > found.total:
            raise PeerError("range: a body is not as long as it says")
        log.part += body
        return ()

    def _compare_waiting(self, log: _Log) -> list[Effect]:
        """Hold what others told of a log against what is here now."""
        if not log.held.note:
            return []
        origin = checkpoint.parse_claim(log.held.note).origin
        waiting = [(note, True) for note in log.seen.values()]
        waiting += [
            (one.notes[origin], False) for one in self._peers.values() if origin in one.notes
        ]
        log.seen.clear()
        effects = list[Effect]()
        for note, is_seen in waiting:
            effects += self._compare(log, note, is_seen=is_seen)
        return effects

    def _compare(self, log: _Log, note: Note, *, is_seen: bool) -> list[Effect]:
        """The fork that a checkpoint shows beside what is here, or beside another one."""
        claim = note.claim
        if not claim.size or claim.root in log.forks:
            return []
        reached = checkpoint.parse_claim(log.held.note).size if log.held.note else 0
        if claim.size <= reached:
            read = get_reader(self._store, claim.origin)
            mine = merkle.compute_tree_root(claim.size, read)
            if mine == claim.root:
                return []
            proof = tuple[bytes, ...]()
            if claim.size < reached:
                proof = merkle.compute_consistency(claim.size, reached, read)
            return self._convict(log, note, log.held.note, mine, proof)
        effects = list[Effect]()
        for other in self._get_others(log, claim):
            if other.claim.root not in log.forks:
                effects += self._convict(log, note, other.data, b"", ())
        if is_seen and not effects and len(log.seen) < SEEN_MAX:
            log.seen[claim.root] = note
        return effects

    def _get_others(self, log: _Log, claim: Checkpoint) -> Iterable[Note]:
        """What is known of the same size and another root."""
        notes = [*log.seen.values(), *([log.target] if log.target else [])]
        notes += [one.notes[claim.origin] for one in self._peers.values()
                  if claim.origin in one.notes]  # fmt: skip
        for other in notes:
            if other.claim.size == claim.size and other.claim.root != claim.root:
                return [other]
        return []

    def _convict(
        self, log: _Log, note: Note, ours: bytes, old_root: bytes, proof: tuple[bytes, ...]
    ) -> list[Effect]:
        """Tell of a fork; the history of `note` is not followed."""
        origin = note.claim.origin
        known = self._store.get_keys(origin)
        found = fork.make_fork(known.publics, (note.data, ours), old_root, proof, known.records)
        if found is None or len(log.forks) >= FORKS_MAX:
            return []
        log.forks.add(note.claim.root)
        return [ForkSeen(origin, fork.encode_fork(found))]
