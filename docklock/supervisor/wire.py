"""Packets between a front end and a supervisor, over SOCK_SEQPACKET unix sockets.

One packet: u8 kind, then at most 65,535 bytes. Kinds 0 to 2 are standard input, output and error
(an empty kind-0 packet closes standard input); kind 3 is one JSON object, with descriptors beside
it where the verb passes any. Only root can reach the socket (its directory is 0700).

Requests: {"verb": start | signal (signal) | wait (figures) | figures | counts | flush | attach |
resize (rows, columns) | listener (argv; one fd) | pause | unpause |
update (limits: fields of Resources; restart: a policy; policy: its word and digest)}.
Events:   {"event": created (pid) | started | exit (exit_code) | ok | figures (figures) |
counts (run, counts: op, what was done, how often) |
error (message, exit_code, why) | warning (message) |
full | room}. Between full and room a client sends no input.
"""

from __future__ import annotations

import os
import struct

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import socket
from docklock.json_text import encode_json, parse_json

if TYPE_CHECKING:
    from typing import Any

STDIN, STDOUT, STDERR, MESSAGE = range(4)
PAYLOAD_BYTES_MAX = 65_535
DESCRIPTORS_MAX = 4
_INT_BYTES = 4


class Packet(NamedTuple):
    """One received packet; `kind` is -1 when the peer has gone."""

    kind: int
    payload: bytes
    descriptors: tuple[int, ...] = ()

    def get_message(self) -> dict[str, Any]:
        """The JSON object of a kind-3 packet; ValueError when it is none."""
        value = parse_json(self.payload)
        if not isinstance(value, dict):
            raise ValueError("a message is a JSON object")
        return value


GONE = Packet(-1, b"")


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_data(channel: socket.socket, kind: int, payload: bytes) -> None:
    """Send one stdio packet; BlockingIOError when a non-blocking channel is full."""
    channel.send(bytes((kind,)) + payload, socket.MSG_NOSIGNAL)


def send_message(
    channel: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()
) -> None:
    """Send one JSON object, with descriptors if any."""
    data = bytes((MESSAGE,)) + encode_json(message).encode()
    ancillary = []
    if descriptors:
        rights = struct.pack(f"={len(descriptors)}i", *descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> Packet:
    """The next packet, GONE at the end; BlockingIOError when a non-blocking channel is empty."""
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX * _INT_BYTES)
    try:
        data, ancillary, _, _ = channel.recvmsg(
            1 + PAYLOAD_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return GONE
    found: list[int] = []
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found += struct.unpack(
                f"={len(rights) // _INT_BYTES}i", rights[: len(rights) // _INT_BYTES * _INT_BYTES]
            )
    if not data:  # also an empty packet, which none of ours is
        for descriptor in found:
            os.close(descriptor)
        return GONE
    return Packet(data[0], data[1:], tuple(found))
