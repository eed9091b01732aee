"""The network interfaces of another process's network namespace: set all down, and up again.

A socket that is opened in a namespace stays in it: the calling thread enters, opens one and leaves;
all else goes through the socket. What the kernel forgets with a link (its routes, and the permanent
addresses of IPv6) is read before, as messages, and handed back as it was.
Not here: who is cut off (docklock.supervisor.steering). Addresses of IPv4 and the connected routes
the kernel itself brings back; what routers have announced is announced again.
Source: rtnetlink(7), netlink(7), netdevice(7); linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import struct

from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.bare import socket
from docklock.errors import KernelError
from docklock.kernel.process import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from typing import Self

LINKS_MAX = 1024
ROUTES_MAX = 10_000  # and addresses
ANSWER_BYTES = 65_536
ANSWERS_MAX = 10_000  # messages' packets of one dump
WAIT_S = 5  # for an answer, which the kernel gives at once

_AF_NETLINK, _NETLINK_ROUTE = 16, 0
_AF_INET6 = 10
_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _GETLINK, _SETLINK = 20, 22, 24, 26, 18, 19
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _EXCLUSIVE, _DUMP, _CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_HEAD = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, lengths, tos, table, protocol, scope, type
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")
_IFLA_NAME, _RTA_GATEWAY, _RTA_VIA, _RTA_MULTIPATH = 3, 5, 18, 9
_TABLE_LOCAL, _CLONED, _SCOPE_LINK, _PERMANENT = 255, 0x200, 253, 0x80
_BROUGHT_BACK = (1, 2, 9)  # routes by a redirect, the kernel, a router's announcement
_HELD = (errno.EEXIST,)


class Link(NamedTuple):
    """An interface by the kernel's number for it; `name` is a container's choice."""

    number: int
    name: bytes
    is_up: bool
    is_loopback: bool


class Cut(NamedTuple):
    """What was set down, and what the kernel forgot with it: messages, in order."""

    links: tuple[Link, ...]
    addresses: tuple[bytes, ...]
    routes: tuple[bytes, ...]


class Restored(NamedTuple):
    """How many links are up again, and how many routes and addresses could not be put back."""

    links: int
    lost: int


def cut_links(pidfd: int) -> Cut:
    """Set every interface but the loopback down. KernelError, and they are as they were."""
    step = "cut the container's network"
    with _open(pidfd, step) as door:
        links = tuple(one for one in door.list_links() if one.is_up and not one.is_loopback)
        addresses = door.list_addresses({one.number for one in links})
        cut = Cut(links, addresses, door.list_routes())
        try:
            for link in links:
                door.set_link(link.number, is_up=False)
        except KernelError:
            door.restore(cut)
            raise
    return cut


def restore_links(pidfd: int, cut: Cut) -> Restored:
    """Set up what was up, if it is there still, and hand back addresses and routes."""
    with _open(pidfd, "bring the container's network back") as door:
        return door.restore(cut)


def list_links(pidfd: int) -> tuple[Link, ...]:
    """All interfaces of the process's namespace."""
    with _open(pidfd, "list the container's interfaces") as door:
        return door.list_links()


class _Door:
    """A socket in the namespace."""

    def __init__(self, channel: socket.socket, step: str) -> None:
        self._channel, self._step, self._sequence = channel, step, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def list_links(self) -> tuple[Link, ...]:
        found = []
        for body in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0), LINKS_MAX):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            name = _read_attributes(body, _LINK.size).get(_IFLA_NAME, b"").rstrip(b"\0")
            found.append(Link(index, name, bool(flags & _IFF_UP), bool(flags & _IFF_LOOPBACK)))
        return tuple(found)

    def list_addresses(self, links: set[int]) -> tuple[bytes, ...]:
        """Those of IPv6 that somebody has set and that go down with their link."""
        found = []
        for body in self._dump(_GETADDR, _ADDRESS.pack(_AF_INET6, 0, 0, 0, 0), ROUTES_MAX):
            family, _, flags, scope, index = _ADDRESS.unpack_from(body)
            is_set = flags & _PERMANENT and scope != _SCOPE_LINK
            if family == _AF_INET6 and is_set and index in links:
                found.append(body)
        return tuple(found)

    def list_routes(self) -> tuple[bytes, ...]:
        """Those that the kernel does not bring back; the ones through a gateway last."""
        found = []
        for body in self._dump(_GETROUTE, _ROUTE.pack(*[0] * 9), ROUTES_MAX):
            family, _, _, _, table, protocol, _, _, flags = _ROUTE.unpack_from(body)
            is_ip = family in (socket.AF_INET, _AF_INET6)
            if is_ip and table != _TABLE_LOCAL and not flags & _CLONED:
                found += [body] if protocol not in _BROUGHT_BACK else []
        return tuple(sorted(found, key=_has_gateway))

    def set_link(self, index: int, *, is_up: bool) -> None:
        body = _LINK.pack(0, 0, index, _IFF_UP * is_up, _IFF_UP)
        self._ask(_SETLINK, _ACK, body, 1)

    def restore(self, cut: Cut) -> Restored:
        there = {(one.number, one.name) for one in self.list_links()}
        raised = [one for one in cut.links if (one.number, one.name) in there]
        for link in raised:
            self.set_link(link.number, is_up=True)
        lost = 0
        for kind, bodies in ((_NEWADDR, cut.addresses), (_NEWROUTE, cut.routes)):
            for body in bodies:
                lost += not self._hand_back(kind, body)
        return Restored(len(raised), lost)

    def _hand_back(self, kind: int, body: bytes) -> bool:
        try:
            self._ask(kind, _ACK | _CREATE | _EXCLUSIVE, body, 1)
        except KernelError as error:
            return error.errno in _HELD
        return True

    def _dump(self, kind: int, body: bytes, most: int) -> list[bytes]:
        return self._ask(kind, _DUMP, body, most)

    def _ask(self, kind: int, flags: int, body: bytes, most: int) -> list[bytes]:
        """The bodies of the answer to one request; KernelError if it is refused."""
        self._sequence += 1
        size = _HEAD.size + len(body)
        head = _HEAD.pack(size, kind, _REQUEST | flags, self._sequence, 0)
        found: list[bytes] = []
        try:
            self._channel.send(head + body)
            for _ in range(ANSWERS_MAX):
                if self._take(self._channel.recv(ANSWER_BYTES), found):
                    return found
                if len(found) > most:
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        except OSError as error:
            number = error.errno or errno.ETIMEDOUT
            raise KernelError(number, "rtnetlink", self._step) from None

    def _take(self, data: bytes, found: list[bytes]) -> bool:
        """Add the bodies of a packet; True after the last one."""
        at = 0
        while at + _HEAD.size <= len(data):
            size, kind, _, sequence, _ = _HEAD.unpack_from(data, at)
            if size < _HEAD.size:
                return True
            body = data[at + _HEAD.size : at + size]
            at += (size + 3) & ~3
            if sequence != self._sequence:
                continue
            if kind == _DONE:
                return True
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", body)
                if number:
                    raise OSError(-number, os.strerror(-number))
                return True
            found.append(body)
        return False


def _open(pidfd: int, step: str) -> _Door:
    """Enter the namespace, open a socket, leave. The calling thread alone is there meanwhile."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(pidfd, CLONE_NEWNET, step)
        try:
            channel = socket.socket(
                _AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE
            )
        finally:
            setns(own, CLONE_NEWNET, "come back from the container's network")
    finally:
        os.close(own)
    channel.settimeout(WAIT_S)
    return _Door(channel, step)


def _read_attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = body[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _has_gateway(route: bytes) -> bool:
    attributes = _read_attributes(route, _ROUTE.size)
    return any(kind in attributes for kind in (_RTA_GATEWAY, _RTA_VIA, _RTA_MULTIPATH))
