"""Addresses of connect, as the receipts show them, against the kernel's own layouts."""

from __future__ import annotations

import socket
import struct

import pytest

from docklock.cli.addresses import format_sockaddr


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            struct.pack("=H", 2) + b"\x01\xbb" + socket.inet_aton("10.0.0.7") + bytes(8),
            "10.0.0.7:443",
        ),
        (
            struct.pack("=H", 10)
            + b"\x00\x50"
            + bytes(4)
            + socket.inet_pton(socket.AF_INET6, "fe80::1")
            + bytes(4),
            "[fe80::1]:80",
        ),
        (struct.pack("=H", 1) + b"/run/x.sock\0rest", "unix:/run/x.sock"),
        (struct.pack("=H", 1) + b"\0hidden", "unix:@hidden"),
        (struct.pack("=HHII", 16, 0, 7, 1), "netlink:pid=7,groups=0x1"),
        (struct.pack("=HHII", 40, 0, 22, 2), "vsock:2:22"),
        (b"", "(none)"),
        (b"\x02", "family -1: 02"),
        (struct.pack("=H", 2) + b"\x01", "family 2: 020001"),
    ],
)
def test_every_family_reads_as_people_write_it(data: bytes, text: str) -> None:
    assert format_sockaddr(data) == text
