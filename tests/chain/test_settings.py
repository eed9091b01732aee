"""node.toml: what it may say, written and read back; errors name file, line and key."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from chainlite.net.registration import Address
from docklock.chain.settings import NodeSettings, format_settings, parse_address, parse_settings


@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(),
        NodeSettings(Address("127.0.0.1", 1), Address("127.0.0.1", 1), "me"),
        NodeSettings(Address("0.0.0.0", 7), Address("v1.example", 65_535), "a.b-c"),
        NodeSettings(Address("::", 7), Address("::1", 8)),
        NodeSettings(None, None, "a", Address("h", 1), (Address("i", 2), Address("::2", 3))),
        NodeSettings(admit="anybody"),
        NodeSettings(begin="snapshot"),
    ],
)
def test_what_is_written_is_read_back(settings: NodeSettings) -> None:
    assert parse_settings(format_settings(settings).encode(), "f") == settings


def test_others_dial_where_it_listens_if_nothing_else_is_said() -> None:
    found = parse_settings(b'listen = "10.0.0.1:7"\n', "f")
    assert found.address == found.listen == Address("10.0.0.1", 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listen = "0.0.0.0:7"', "f: line 1: listen: nobody can dial 0.0.0.0: give an address"),
        ('\nlisten = "x"', "f: line 2: listen: want HOST:PORT"),
        ("listen = 3", "f: line 1: listen: want HOST:PORT"),
        ('operator = "a b"', "f: line 1: operator: want 1 to 64 plain characters"),
        ('address = "h:0"', "f: line 1: address: want HOST:PORT"),
        ('admit = "me"', "f: line 1: admit: want nobody or anybody"),
        ('begin = "state"', "f: line 1: begin: want blocks or snapshot"),
        ('introducers = "h:1"', "f: line 1: introducers: want at most 16 texts HOST:PORT"),
        ("port = 3", "f: line 1: port: unknown key; known are operator, listen, address"),
    ],
)
def test_errors_name_file_line_and_key(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_settings(text.encode(), "f")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "text", ["", ":", "h:", ":1", "h:65536", "h:-1", "h:1x", "a b:1", "h:\u0661"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="want HOST:PORT"):
        parse_address(text)
