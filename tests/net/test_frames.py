"""Frames and greetings: one form each, whatever the pieces they come in; garbage is refused."""

from __future__ import annotations

import itertools
import random

import pytest

from chainlite.errors import PeerError
from chainlite.net import frames
from chainlite.net.frames import HEAD, Frame, FrameReader, Greeting, Kind
from chainlite.net.transport import PAYLOAD_BYTES_MAX, Channel, PeerId

FUZZED, FUZZED_SLICE = 100_000, 10_000


def make_frame(rng: random.Random) -> Frame:
    kind = rng.choice(list(Kind))
    size = rng.choice((0, 1, 9, 10, 11, 200, 256, 5000))
    number = rng.randrange(1, 2**32) if kind in frames._NUMBERED else 0
    if kind in frames._BARE:
        size = 0
    if kind == Kind.REFUSAL:
        size = min(size, frames.REASON_BYTES_MAX)
    return Frame(kind, rng.choice(list(Channel)), number, rng.randbytes(size))


def encode(frame: Frame) -> bytes:
    return frames.encode_frame(*frame)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    at = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(12))), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(at) if b > a]


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in reader.feed(piece)]


def test_frames_survive_any_cutting(seed: int) -> None:
    rng = random.Random(seed)
    reader = FrameReader()
    for _ in range(300):
        sent = [make_frame(rng) for _ in range(rng.randrange(1, 8))]
        data = b"".join(encode(frame) for frame in sent)
        assert read_all(reader, cut(data, rng)) == sent


def test_fuzzed_frames_are_read_as_what_they_encode_to_or_refused(seed: int, full: bool) -> None:
    """Whatever is accepted has that one form: nothing is left out, added or read twice."""
    rng, refused = random.Random(seed), 0
    count = FUZZED if full else FUZZED_SLICE
    for _ in range(count):
        data = bytearray(encode(make_frame(rng)) + encode(make_frame(rng)))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(min(len(data), 24))] ^= 1 << rng.randrange(8)
        reader, found = FrameReader(), list[Frame]()
        try:
            for piece in cut(bytes(data), rng):
                found += reader.feed(piece)
        except PeerError:
            refused += 1
        whole = b"".join(encode(frame) for frame in found)
        assert bytes(data).startswith(whole)
    assert count // 4 < refused < count


def test_a_frame_that_cannot_be_is_refused_by_its_first_ten_bytes() -> None:
    for head in (
        HEAD.pack(PAYLOAD_BYTES_MAX + 1, Kind.MESSAGE, Channel.BODIES, 0),
        HEAD.pack(5, 8, Channel.BODIES, 0),
        HEAD.pack(5, Kind.MESSAGE, max(Channel) + 1, 0),
        HEAD.pack(5, Kind.MESSAGE, Channel.BODIES, 1),
        HEAD.pack(5, Kind.ANSWER, Channel.BODIES, 0),
        HEAD.pack(5, Kind.PONG, Channel.CONTROL, 0),
        HEAD.pack(frames.REASON_BYTES_MAX + 1, Kind.REFUSAL, Channel.SYNC, 1),
    ):
        reader = FrameReader()
        assert reader.feed(head[:9]) == []
        with pytest.raises(PeerError):
            reader.feed(head[9:])


def test_the_largest_frame_is_read_in_small_pieces() -> None:
    payload = random.Random(1).randbytes(PAYLOAD_BYTES_MAX)
    data = frames.encode_frame(Kind.MESSAGE, Channel.BODIES, 0, payload)
    reader = FrameReader()
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    assert read_all(reader, pieces) == [Frame(Kind.MESSAGE, Channel.BODIES, 0, payload)]


def test_a_greeting_has_one_form(seed: int) -> None:
    greeting = Greeting(bytes(32), PeerId(bytes(range(32))), b"12345678")
    frame = FrameReader().feed(frames.encode_greeting(greeting))[0]
    assert frame.kind == Kind.HELLO
    assert frames.decode_greeting(frame.payload) == greeting
    rng = random.Random(seed)
    for size in range(len(frame.payload)):
        with pytest.raises(PeerError):
            frames.decode_greeting(frame.payload[:size])
    with pytest.raises(PeerError):
        frames.decode_greeting(frame.payload + b"x")
    for _ in range(200):
        data = bytearray(frame.payload)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            found = frames.decode_greeting(bytes(data))
        except PeerError:
            continue
        assert frames.encode_greeting(found)[frames.HEAD_BYTES :] == bytes(data)


def test_a_long_reason_is_cut_between_characters() -> None:
    data = frames.encode_refusal(Channel.SYNC, 1, "\u00fc" * 200 + "x")
    frame = FrameReader().feed(data)[0]
    assert frame.payload.decode() == "\u00fc" * 128
    odd = FrameReader().feed(frames.encode_refusal(Channel.SYNC, 1, "x" + "\u00fc" * 200))[0]
    assert odd.payload.decode() == "x" + "\u00fc" * 127
