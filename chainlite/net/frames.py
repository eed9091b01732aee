"""What stands on a connection: frames of one message each, and the greeting. Pure.

Not here: how bytes travel (connection, zenoh) and what payloads mean. Invariants: a frame has one
form; a reader holds at most one frame that is not whole, of at most PAYLOAD_BYTES_MAX, and says
after the first ten bytes of a frame whether it can be one.
Layout: README.md of this room.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from chainlite import codec, domains, keys
from chainlite.errors import PeerError, SpecError
from chainlite.net.registration import NETWORK_BYTES
from chainlite.net.transport import PAYLOAD_BYTES_MAX, Channel, PeerId

HEAD = struct.Struct(">IBBI")
HEAD_BYTES = HEAD.size
VERSION = 1
INSTANCE_BYTES = 8
REASON_BYTES_MAX = 256


class Kind(IntEnum):
    """What a frame is."""

    MESSAGE = 0
    REQUEST = 1
    ANSWER = 2
    REFUSAL = 3
    """The peer has no answer; the payload is its reason, a text."""
    PING = 4
    PONG = 5
    HELLO = 6
    WELCOME = 7


class Frame(NamedTuple):
    """`number` ties an answer to its request; it is 0 in every other frame."""

    kind: int
    channel: int
    number: int
    payload: bytes


class Greeting(NamedTuple):
    """The first frame in each direction: which network, who, and which of its lives."""

    network: bytes
    node: PeerId
    instance: bytes


_CHANNELS = frozenset(Channel)
_KINDS = frozenset(Kind)
_NUMBERED = frozenset((Kind.REQUEST, Kind.ANSWER, Kind.REFUSAL))
_BARE = frozenset((Kind.PING, Kind.PONG, Kind.WELCOME))


def encode_frame(kind: int, channel: int, number: int, payload: bytes) -> bytes:
    """The bytes of a frame; SpecError above PAYLOAD_BYTES_MAX."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise SpecError(f"a message of {len(payload)} bytes: at most {PAYLOAD_BYTES_MAX} are sent")
    return HEAD.pack(len(payload), kind, channel, number) + payload


PING = encode_frame(Kind.PING, Channel.CONTROL, 0, b"")
PONG = encode_frame(Kind.PONG, Channel.CONTROL, 0, b"")
WELCOME = encode_frame(Kind.WELCOME, Channel.CONTROL, 0, b"")


def encode_reply(channel: int, number: int, found: bytes | str) -> bytes:
    """The frame of an answer, or of the text that says why there is none."""
    if isinstance(found, str):
        return encode_refusal(channel, number, found)
    if len(found) > PAYLOAD_BYTES_MAX:
        return encode_refusal(channel, number, f"the answer has {len(found)} bytes")
    return encode_frame(Kind.ANSWER, channel, number, found)


def encode_refusal(channel: int, number: int, why: str) -> bytes:
    """The frame that tells a peer why it gets no answer."""
    reason = why.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()
    return encode_frame(Kind.REFUSAL, channel, number, reason)


def encode_greeting(greeting: Greeting) -> bytes:
    """The frame of it."""
    head = codec.encode_head(domains.GREETING, VERSION)
    return encode_frame(Kind.HELLO, Channel.CONTROL, 0, head + b"".join(greeting))


def decode_greeting(payload: bytes) -> Greeting:
    """The greeting of a HELLO's payload; PeerError if it is none."""
    try:
        r = codec.Reader(payload, "greeting")
        r.read_head(domains.GREETING, VERSION)
        node = (r.read_fixed(NETWORK_BYTES), PeerId(r.read_fixed(keys.PUBLIC_BYTES)))
        found = Greeting(*node, r.read_fixed(INSTANCE_BYTES))
        r.finish()
    except SpecError as error:
        raise PeerError(str(error)) from None
    return found


def check_head(size: int, kind: int, channel: int, number: int) -> None:
    """PeerError if no frame begins so."""
    if size > PAYLOAD_BYTES_MAX:
        raise PeerError(f"frame: {size} bytes, at most {PAYLOAD_BYTES_MAX}")
    if kind not in _KINDS or channel not in _CHANNELS:
        raise PeerError(f"frame: kind {kind} on channel {channel} is not known")
    if (number != 0) != (kind in _NUMBERED):
        raise PeerError(f"frame: number {number} in a frame of kind {kind}")
    if size and kind in _BARE:
        raise PeerError(f"frame: {size} bytes in a frame of kind {kind}")
    if kind == Kind.REFUSAL and size > REASON_BYTES_MAX:
        raise PeerError(f"frame: a reason of {size} bytes, at most {REASON_BYTES_MAX}")


class FrameReader:
    """Cuts what arrives into frames. After a PeerError the rest cannot be read: hang up."""

    __slots__ = ("_have", "_need", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = HEAD_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete, in order."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
        frames, at = list[Frame](), 0
        end = len(data)
        while end - at >= HEAD_BYTES:
            size, kind, channel, number = HEAD.unpack_from(data, at)
            check_head(size, kind, channel, number)
            after = at + HEAD_BYTES + size
            if after > end:
                self._need = HEAD_BYTES + size
                break
            frames.append(Frame(kind, channel, number, data[at + HEAD_BYTES : after]))
            at = after
        else:
            self._need = HEAD_BYTES
        self._have = end - at
        if self._have:
            self._parts.append(data[at:] if at else data)
        return frames
