"""The acts of a server as rows: sealed, each in its place, each over all before it.

Who edits the rows gains nothing: no act can be made, changed, moved or left out. The file `acts`
beside the store says how many there were, so that the last ones cannot be taken away either, nor
the rows be put back to what they were. They are read once, when the store is opened: what somebody
writes into the rows afterwards nobody asks for.
Not here: what acts mean (access), their bytes (act). Invariant: what is applied is durable.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci import at_rest
from chainlite.bpci.access import Access
from chainlite.bpci.act import DIGEST_BYTES, FIRST_DIGEST, compute_digest, decode_act, encode_act
from chainlite.bpci.at_rest import NO_PLACE, Label
from chainlite.bpci.rows import INTEGER_MAX
from chainlite.bpci.store import ActRow
from chainlite.codec import Reader, encode_u64
from chainlite.errors import DocklockError, StateError, TamperError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chainlite.bpci.act import Act
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Store

FILE = "acts"
STEP = 1024
FILE_LIMIT_BYTES = 256


class State(NamedTuple):
    """How many acts there are, and the digest of them."""

    size: int = 0
    digest: bytes = FIRST_DIGEST


class StagedActs(NamedTuple):
    """Acts of which the rows go into a commit, and where the log stands after it."""

    acts: tuple[Act, ...]
    rows: tuple[ActRow, ...]
    state: State


class ActLog:
    """The acts, and what they come to; `upon_commit` alone adds any."""

    def __init__(self, store: Store, key: ServerKey, published: str) -> None:
        """TamperError where the rows are not what was written, or fewer."""
        self._key, self._published = key, published
        self.access, self.state = Access(), State()
        seen = read_published(key, published)
        for row, act, state in read_acts(store, key):
            if state is None or act is None:
                raise TamperError(f"act {row.number}: it is not what was written")
            self.access.apply(act)
            self.state = state
            if seen is not None and state.size == seen.size:
                check_published(state, seen)
        if seen is not None and self.state.size < seen.size:
            check_published(self.state, seen)

    def stage(self, acts: Sequence[Act]) -> StagedActs:
        """The rows of acts; StateError where one does not follow from those before."""
        state, rows = self.state, list[ActRow]()
        for act in acts:
            try:
                self.access.check(act)
            except TamperError as error:
                raise StateError(str(error)) from None
            data = encode_act(act, state.digest)
            box = at_rest.seal(data, self._key.rest_key, at_rest.label_act(state.size))
            rows.append(ActRow(state.size, box))
            state = State(state.size + 1, compute_digest(data))
        return StagedActs(tuple(acts), tuple(rows), state)

    def upon_commit(self, staged: StagedActs) -> None:
        """What was staged is durable; `publish` says so afterwards."""
        for act in staged.acts:
            self.access.apply(act)
        self.state = staged.state

    def publish(self) -> None:
        """Say in the file how many there are, durably: half a file would not be believed.

        StateError: it cannot be written; it says less then, and everything holds.
        """
        data = encode_u64(self.state.size) + self.state.digest
        part = f"{self._published}.part"
        try:
            with open(part, "wb") as file:
                file.write(at_rest.seal(data, self._key.rest_key, _LABEL))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._published)
        except OSError as error:
            raise StateError(f"{self._published}: cannot be written: {error.strerror}") from None


_LABEL = Label(at_rest.ACTS, "", b"", NO_PLACE)


def seal_anew(store: Store, old: ServerKey, new: ServerKey) -> list[ActRow]:
    """All acts under a server's new key, for a store that goes on with it; those that are under it
    already stay. TamperError: one is under neither. The file has to go: it is the old key's."""
    found = list[ActRow]()
    while rows := store.read_acts(len(found), STEP):
        for row in rows:
            label = at_rest.label_act(row.number)
            try:
                data = at_rest.unseal(row.box, old.rest_key, label)
            except TamperError:
                at_rest.unseal(row.box, new.rest_key, label)
                found.append(row)
                continue
            found.append(row._replace(box=at_rest.seal(data, new.rest_key, label)))
    return found


def read_acts(store: Store, key: ServerKey) -> Iterator[tuple[ActRow, Act | None, State | None]]:
    """Each row, its act (None: its box does not open in its place) and the state after it (None: it
    does not follow from the one before)."""
    state: State | None = State()
    after = -(2**63)
    while rows := store.read_acts(after, STEP):
        for row in rows:
            try:
                if row.number < 0:
                    raise TamperError("there is no such act")
                data = at_rest.unseal(row.box, key.rest_key, at_rest.label_act(row.number))
                act, before = decode_act(data)
            except DocklockError:
                state = None
                yield row, None, None
                continue
            if state is not None and (row.number, before) == state:
                state = State(row.number + 1, compute_digest(data))
            else:
                state = None
            yield row, act, state
        after = rows[-1].number + 1
        if after > INTEGER_MAX:
            return


def read_published(key: ServerKey, path: str) -> State | None:
    """How far the file says that the acts went; None without one. TamperError: another's."""
    try:
        with open(path, "rb") as file:
            box = file.read(FILE_LIMIT_BYTES)
    except FileNotFoundError:
        return None
    try:
        reader = Reader(at_rest.unseal(box, key.rest_key, _LABEL), "acts")
        state = State(reader.read_u64(), reader.read_fixed(DIGEST_BYTES))
        reader.finish()
    except DocklockError:
        raise TamperError(f"{path}: not this server's") from None
    return state


def check_published(state: State, seen: State) -> None:
    """TamperError where acts are missing that the file knows, or are others."""
    if state.size < seen.size:
        raise TamperError(f"{seen.size} acts were written, and {state.size} are here")
    if state != seen:
        raise TamperError("the acts are others than were written")
