"""Socket addresses as people read them, from the bytes that a container gave to the kernel.

Source: ip(7), ipv6(7), unix(7), netlink(7), vsock(7).
"""

from __future__ import annotations

import struct

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK = 1, 2, 10, 16, 40


def format_sockaddr(data: bytes) -> str:
    """`127.0.0.1:80`, `[::1]:80`, `unix:/path`, `unix:@name`; else the family and the bytes."""
    family = int.from_bytes(data[:2], "little") if len(data) >= 2 else -1
    if family == AF_INET and len(data) >= 8:
        return f"{'.'.join(str(byte) for byte in data[4:8])}:{_port(data)}"
    if family == AF_INET6 and len(data) >= 24:
        from ipaddress import IPv6Address

        return f"[{IPv6Address(data[8:24])}]:{_port(data)}"
    if family == AF_UNIX:
        return f"unix:{_format_path(data[2:])}"
    if family == AF_NETLINK and len(data) >= 12:
        pid, groups = struct.unpack_from("<II", data, 4)
        return f"netlink:pid={pid},groups={groups:#x}"
    if family == AF_VSOCK and len(data) >= 12:
        port, cid = struct.unpack_from("<II", data, 4)
        return f"vsock:{cid}:{port}"
    return f"family {family}: {data.hex()}" if data else "(none)"


def _port(data: bytes) -> int:
    return int.from_bytes(data[2:4], "big")


def _format_path(path: bytes) -> str:
    """A name in the abstract namespace starts with NUL and may hold more of them."""
    if path[:1] == b"\0":
        return "@" + path[1:].decode(errors="backslashreplace")
    return path.partition(b"\0")[0].decode(errors="backslashreplace")
