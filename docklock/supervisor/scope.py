"""A systemd scope for a guard or a spawner, so that stopping whoever started it does not end it.

One D-Bus call, StartTransientUnit, on the manager's own socket, which root may use and which is
there without a message bus. The call is written before the container is made and its answer read
whenever it comes: nothing waits for systemd. Where systemd does not run, or refuses, the run goes
on in its creator's cgroup. Only where cgroup v2 is the one hierarchy: there the container's
processes are in a cgroup of docklock's, and guard and worker all that a scope must hold.
Not here: the container's cgroup (docklock/cgroup), what a scope's stop does (main.py).
Source: D-Bus specification, "Message Protocol" and "Authentication"; org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import struct

from chainlite.lean import TYPE_CHECKING
from docklock.bare import partial, socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.supervisor.loop import Loop

    Value = str | int | tuple[int, ...] | tuple[str, ...]

MANAGER_SOCKET = "/run/systemd/private"
UNIFIED_MARK = "/sys/fs/cgroup/cgroup.controllers"
READ_BYTES = 65_536
ANSWER_BYTES_MAX = 1 << 20  # other units' signals come in between
# systemd.kill(5) and systemd.unit(5): stopped after the agent, which would start it again.
STOPS_AFTER = "docklock.service"
_METHOD_CALL, _METHOD_RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _DESTINATION, _SIGNATURE = 1, 2, 3, 6, 8
_AUTHENTICATE = b"\0AUTH EXTERNAL %s\r\nBEGIN\r\n" % b"0".hex().encode()


class Scope:
    """A call that was sent. The connection must stay open until it is answered."""

    def __init__(self, channel: socket.socket, name: str, pids: tuple[int, ...]) -> None:
        self._channel, self._name, self._pids = channel, name, pids
        self._unread = b""
        self._is_second = False

    def watch(self, loop: Loop) -> None:
        """Read the answer in `loop`, and close."""
        loop.watch(self._channel.fileno(), lambda _mask: self._read(loop))

    def _read(self, loop: Loop) -> None:
        try:
            data = self._channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._unread += data
        answer, rest = find_answer(self._unread)
        if b"UnitExists" in answer and not self._is_second:
            # The scope of a guard that was killed a moment ago: systemd has not let go of it yet.
            self._is_second, self._unread = True, b"\r\n" + rest
            unit = f"docklock-{self._name}-{os.getpid()}.scope"
            self._channel.send(encode_call(unit, self._name, self._pids, serial=2))
        elif answer or not data or len(self._unread) > ANSWER_BYTES_MAX:
            loop.unwatch(self._channel.fileno())
            self._channel.close()


def ask_for_scope(name: str, pids: tuple[int, ...]) -> Scope | None:
    """Have systemd put `pids` into `docklock-NAME.scope`; None where it cannot be asked.

    NAME is a container's id, for its guard and worker, or the spawner's.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        channel.connect(MANAGER_SOCKET)
        if not os.path.exists(UNIFIED_MARK):
            raise FileNotFoundError(UNIFIED_MARK)
        call = encode_call(f"docklock-{name}.scope", name, pids)
        channel.send(_AUTHENTICATE + call)
    except OSError:
        channel.close()
        return None
    return Scope(channel, name, pids)


def find_answer(data: bytes) -> tuple[bytes, bytes]:
    """The first whole return or error in what the manager sent, and what follows; else empty.

    Signals to everyone come on the same connection.
    """
    _, _, rest = data.partition(b"\r\n")
    while len(rest) >= 16:
        order = "<" if rest[:1] == b"l" else ">"
        body_bytes, _, fields_bytes = struct.unpack_from(f"{order}III", rest, 4)
        size = 16 + (fields_bytes + 7) // 8 * 8 + body_bytes
        if len(rest) < size:
            break
        if rest[1] in (_METHOD_RETURN, _ERROR):
            return rest[:size], rest[size:]
        rest = rest[size:]
    return b"", b""


def encode_call(unit: str, name: str, pids: tuple[int, ...], serial: int = 1) -> bytes:
    """StartTransientUnit(name, mode, properties a(sv), units beside it a(sa(sv))), as bytes."""
    properties = (
        ("Description", "s", f"Docklock supervisor {name[:12]}"),
        ("PIDs", "au", pids),
        ("CollectMode", "s", "inactive-or-failed"),
        ("Before", "as", (STOPS_AFTER,)),
    )
    body = _Writer()
    body.string(unit)
    body.string("fail")
    body.array(8, *(partial(body.property, *row) for row in properties))
    body.array(8)
    fields = (
        (_PATH, "o", "/org/freedesktop/systemd1"),
        (_INTERFACE, "s", "org.freedesktop.systemd1.Manager"),
        (_MEMBER, "s", "StartTransientUnit"),
        (_DESTINATION, "s", "org.freedesktop.systemd1"),
        (_SIGNATURE, "g", "ssa(sv)a(sa(sv))"),
    )
    head = _Writer()
    head.data += struct.pack("<cBBBII", b"l", _METHOD_CALL, 0, 1, len(body.data), serial)
    head.array(8, *(partial(head.field, *row) for row in fields))
    head.align(8)
    return bytes(head.data + body.data)


class _Writer:
    """D-Bus's wire format, little-endian: the few types that the call has."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def number(self, value: int) -> None:
        self.align(4)
        self.data += struct.pack("<I", value)

    def string(self, text: str) -> None:
        encoded = text.encode()
        self.number(len(encoded))
        self.data += encoded + b"\0"

    def signature(self, text: str) -> None:
        self.data += bytes((len(text),)) + text.encode() + b"\0"

    def array(self, alignment: int, *writes: Callable[[], None]) -> None:
        """Its length does not count the padding before the first element."""
        self.number(0)
        at = len(self.data) - 4
        self.align(alignment)
        begin = len(self.data)
        for write in writes:
            write()
        struct.pack_into("<I", self.data, at, len(self.data) - begin)

    def property(self, name: str, kind: str, value: Value) -> None:
        self.align(8)
        self.string(name)
        self.signature(kind)
        self.value(value)

    def field(self, number: int, kind: str, text: str) -> None:
        self.align(8)
        self.data.append(number)
        self.signature(kind)
        if kind == "g":
            self.signature(text)
        else:
            self.string(text)

    def value(self, value: Value) -> None:
        if isinstance(value, str):
            self.string(value)
        elif isinstance(value, int):
            self.number(value)
        else:
            self.array(4, *(partial(self.value, item) for item in value))
