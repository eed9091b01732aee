"""The process that verifies and keeps the bodies under one directory.

A process apart: verification is Python that would hold a node's event loop for a second at a time,
and a node must vote within milliseconds. It reads requests from its standard input and answers on
its standard output, in order, what has come meanwhile under one sync. It ends with its input. Not
here: the store (body_store), who asks (availability).
Invariants: nothing is answered before it is durable; what it cannot make durable ends it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

from chainlite.codec import Reader, encode_bytes, encode_text, encode_u8, encode_u32, encode_u64
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.hostkeys import KEYS_MAX
from chainlite.ledger.body_store import BodyStore, Held, Lost
from chainlite.ledger.offer import (
    KEY_LEAF_LIMIT_BYTES,
    OFFER_LIMIT_BYTES,
    Ack,
    decode_ack,
    encode_ack,
    encode_items,
    read_items,
)
from chainlite.note import NOTE_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.ledger.offer import Item

BATCH_MAX = 64
"""Requests that share one sync."""
REQUEST_LIMIT_BYTES = OFFER_LIMIT_BYTES + NOTE_LIMIT_BYTES + (1 << 20)
ANSWER_LIMIT_BYTES = 16 << 20
NICE = 5
"""Votes go first."""
OFFER, ITEMS, FORGET = 0, 1, 2
OK, HOST, LOST, READY = 0, 1, 2, 3
ERRORS: dict[int, type[SpecError | StateError | TamperError]] = {
    8: SpecError,
    9: StateError,
    10: TamperError,
}
TEXT_LIMIT = 1 << 16


class Answer(NamedTuple):
    """What became of a request: one of the kinds above, and what it says.

    OK and HOST have `ack` and `held`, LOST and errors have `text`.
    """

    kind: int
    ack: Ack | None = None
    held: Held | None = None
    text: str = ""


def encode_answer(answer: Answer) -> bytes:
    """Kind u8; then ack and what is held, or a text."""
    kind = encode_u8(answer.kind)
    if answer.ack is None or answer.held is None:
        return kind + encode_text(answer.text)
    held = answer.held
    parts = [kind, encode_bytes(encode_ack(answer.ack)), encode_bytes(held.note)]
    parts += (encode_u32(len(held.key_leaves)), *[encode_bytes(one) for one in held.key_leaves])
    return b"".join(parts)


def decode_answer(data: bytes) -> Answer:
    """The answer that these bytes are; SpecError for any other bytes."""
    reader = Reader(data, "answer of the keeper")
    kind = reader.read_u8()
    if kind not in (OK, HOST):
        text = reader.read_text(TEXT_LIMIT)
        reader.finish()
        return Answer(kind, text=text)
    ack, note = decode_ack(reader.read_bytes(1024)), reader.read_bytes(NOTE_LIMIT_BYTES)
    count = reader.read_u32(limit=KEYS_MAX)
    leaves = tuple([reader.read_bytes(KEY_LEAF_LIMIT_BYTES) for _ in range(count)])
    reader.finish()
    return Answer(kind, ack, Held(ack.size, ack.root, note, leaves))


def encode_offer_request(offer: bytes) -> bytes:
    """Take this offer."""
    return encode_u8(OFFER) + offer


def encode_items_request(host: bytes, start: int, items: Sequence[Item], note: bytes) -> bytes:
    """Take these items, which are the host's."""
    head = encode_u8(ITEMS) + host + encode_u64(start) + encode_bytes(note)
    return head + encode_items(items)


def encode_forget_request(host: bytes, before: int) -> bytes:
    """Remove what is before this leaf."""
    return encode_u8(FORGET) + host + encode_u64(before)


def frame(payload: bytes) -> bytes:
    """As it goes through a pipe."""
    return encode_bytes(payload)


def do_request(store: BodyStore, data: bytes) -> Answer:
    """Do what is asked, not yet durably."""
    try:
        if data[0] == OFFER:
            ack = store.take_unsynced(data[1:])
        else:
            reader = Reader(data[1:], "request to the keeper")
            host, place = reader.read_fixed(32), reader.read_u64()
            if data[0] == FORGET:
                reader.finish()
                store.forget(host, place)
                ack = Ack(host, *store.get_size_root(host), 0)
            else:
                note, items = reader.read_bytes(NOTE_LIMIT_BYTES), read_items(reader)
                reader.finish()
                ack = store.append_unsynced(host, place, items, note)
    except (SpecError, StateError, TamperError) as error:
        kind = next(number for number, one in ERRORS.items() if isinstance(error, one))
        return Answer(kind, text=str(error))
    return Answer(OK, ack, store.get_held(ack.host))


class _Pipe:
    """Framed requests from a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()

    def read(self) -> list[bytes]:
        """The next requests: at least one, and those that are there already; none at the end."""
        found: list[bytes] = []
        while len(found) < BATCH_MAX:
            request = self._take()
            if request is not None:
                found.append(request)
            elif found and not select.select([self._fd], [], [], 0)[0]:
                break
            else:
                data = os.read(self._fd, 1 << 20)
                if not data:
                    break
                self._data += data
        return found

    def _take(self) -> bytes | None:
        size = int.from_bytes(self._data[:4], "big")
        if len(self._data) < 4 or len(self._data) < 4 + size:
            return None
        request = bytes(self._data[4 : 4 + size])
        del self._data[: 4 + size]
        return request


def serve(store: BodyStore, input_fd: int, output_fd: int) -> None:
    """Say what is held, then answer requests until there are no more."""
    for host in store.reader.get_hosts():
        held = store.get_held(host)
        ack = Ack(host, held.size, held.root, 0)
        _write(output_fd, frame(encode_answer(Answer(HOST, ack, held))))
    for lost in store.lost:
        _write(output_fd, frame(encode_answer(Answer(LOST, text=describe_lost(lost)))))
    _write(output_fd, frame(encode_answer(Answer(READY))))
    pipe = _Pipe(input_fd)
    while requests := pipe.read():
        answers = [do_request(store, request) for request in requests]
        store.sync()
        _write(output_fd, b"".join([frame(encode_answer(answer)) for answer in answers]))


def describe_lost(lost: Lost) -> str:
    """A line about a damaged range."""
    end = "the end" if lost.end is None else f"leaf {lost.end - 1}"
    return f"host {lost.host.hex()[:16]}: leaf {lost.start} to {end}: {lost.why}"


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main() -> int:
    """The process's exit status; its argument is the directory."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the node ends its input
    try:
        with BodyStore(sys.argv[1]) as store:
            serve(store, sys.stdin.fileno(), sys.stdout.fileno())
    except (SpecError, StateError, TamperError) as error:
        print(f"docklock: bodies: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0  # who asked is gone
    return 0
