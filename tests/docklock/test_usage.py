"""The usage vector's parts that need no container."""

from __future__ import annotations

from docklock.supervisor.usage import parse_sent_bytes

DEVICES = b"""Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo: 9999 1 0 0 0 0 0 0 8888 1 0 0 0 0 0 0
  eth0:  500 2 0 0 0 0 0 0  700 3 0 0 0 0 0 0
veth:x1: 1 1 0 0 0 0 0 0 18446744073709551615 1 0 0 0 0 0 0
"""


def test_bytes_sent_are_those_of_all_interfaces_but_lo() -> None:
    lines = DEVICES.splitlines(keepends=True)
    assert parse_sent_bytes(b"".join(lines[:4])) == 700
    assert parse_sent_bytes(b"".join(lines[:3])) == 0
    assert parse_sent_bytes(b"") == 0
