"""A frame under its sender's signature, for carriers that do not say who sent it. Pure.

Not here: the carrier (zenoh). Invariants: what opens was signed by the node that it names, for this
network and this recipient (or for all), in the life of that node that it names; of one life and
priority a counter is accepted once, and only rising.
Layout: README.md of this room.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from chainlite import domains, keys
from chainlite.errors import PeerError
from chainlite.net import frames
from chainlite.net.frames import Frame
from chainlite.net.transport import PAYLOAD_BYTES_MAX, PeerId

if TYPE_CHECKING:
    from chainlite.keys import Signer

_HEAD = struct.Struct(">32s8s32sQ")
_SIGNED_AT = _HEAD.size + keys.SIGNATURE_BYTES
ENVELOPE_BYTES_MAX = _SIGNED_AT + frames.HEAD_BYTES + PAYLOAD_BYTES_MAX
TO_ALL = PeerId(bytes(32))


class Envelope(NamedTuple):
    """Who sends what to whom. `counter` rises, within the priority of the frame's channel."""

    sender: PeerId
    instance: bytes
    recipient: PeerId
    counter: int
    frame: Frame


def encode_unsigned(
    sender: PeerId, instance: bytes, recipient: PeerId, counter: int, frame: bytes
) -> bytes:
    """What `sign_envelope` takes."""
    return _HEAD.pack(sender, instance, recipient, counter) + frame


def get_recipient(unsigned: bytes) -> PeerId:
    """Whom it is for."""
    return PeerId(_HEAD.unpack_from(unsigned)[2])


def get_channel(unsigned: bytes) -> int:
    """What its frame is about."""
    channel: int = frames.HEAD.unpack_from(unsigned, _HEAD.size)[2]
    return channel


def sign_envelope(unsigned: bytes, network: bytes, key: Signer) -> bytes:
    """The bytes to send."""
    signature = keys.sign(key, domains.SIGN_ENVELOPE, network + unsigned)
    return unsigned[: _HEAD.size] + signature + unsigned[_HEAD.size :]


def get_sender(data: bytes) -> PeerId:
    """Who is said to have sent it: to look it up before anything is checked."""
    if not _SIGNED_AT < len(data) <= ENVELOPE_BYTES_MAX:
        raise PeerError(f"envelope: {len(data)} bytes")
    return PeerId(data[:32])


def open_envelope(data: bytes, network: bytes) -> Envelope:
    """The envelope of these bytes; PeerError if its sender has not signed it."""
    sender = get_sender(data)
    head = data[: _HEAD.size]
    signature, frame = data[_HEAD.size : _SIGNED_AT], data[_SIGNED_AT:]
    if not keys.is_signed(sender, domains.SIGN_ENVELOPE, network + head + frame, signature):
        raise PeerError("envelope: not signed by its sender")
    found = frames.FrameReader().feed(frame)
    if len(found) != 1 or frames.HEAD_BYTES + len(found[0].payload) != len(frame):
        raise PeerError("envelope: not one whole frame")
    _, instance, recipient, counter = _HEAD.unpack(head)
    return Envelope(sender, instance, PeerId(recipient), counter, found[0])
