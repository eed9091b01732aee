"""node.toml: where a node listens, how others reach it, who runs it. Pure.

Errors name file, line and key. Not here: reading and writing the file (registering), what is signed
of it (chainlite.net.registration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import SpecError
from chainlite.ledger.operations import OPERATOR_LIMIT, is_operator
from chainlite.net.registration import Address, is_host
from chainlite.quorum_file import Wrong, locate
from chainlite.toml_lines import parse_document

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_BYTES_MAX = 65_536
OPERATOR_DEFAULT = "unnamed"
NOBODY, ANYBODY = "nobody", "anybody"
BLOCKS, SNAPSHOT = "blocks", "snapshot"
INTRODUCERS_MAX = 16
ANYWHERE = ("0.0.0.0", "::")
"""Addresses to listen on that nobody can dial."""


class NodeSettings(NamedTuple):
    """`listen` is where the node listens, None for one that only dials; `address` where it is
    dialled, as others write it. `operator` is who runs it.

    `introduce` is where it serves newcomers, `introducers` whom it asks itself; `admit` is whom it
    lets in beside those that the chain names and those that are listed here. `begin` is with what
    a store begins that has nothing above the genesis.
    """

    listen: Address | None = None
    address: Address | None = None
    operator: str = OPERATOR_DEFAULT
    introduce: Address | None = None
    introducers: tuple[Address, ...] = ()
    admit: str = NOBODY
    begin: str = BLOCKS


def parse_settings(data: bytes, file: str) -> NodeSettings:
    """The settings of a file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    found: dict[str, Any] = {}
    try:
        for key, value in document.items():
            if key not in READERS:
                raise Wrong(f"unknown key; known are {', '.join(READERS)}", key)
            try:
                found[key] = READERS[key](value)
            except SpecError as error:
                raise Wrong(str(error), key) from None
        return complete(NodeSettings(**found))
    except Wrong as why:
        raise locate(why, document, text, file, "") from None


def complete(settings: NodeSettings) -> NodeSettings:
    """The settings with the address that others dial; Wrong if it cannot follow."""
    listen = settings.listen
    if listen is None or settings.address is not None:
        return settings
    if listen.host in ANYWHERE:
        raise Wrong(f"nobody can dial {listen.host}: give an address too", "listen")
    return settings._replace(address=listen)


def format_settings(settings: NodeSettings) -> str:
    """The file of these settings; `parse_settings` reads the same back."""
    lines = [f'operator = "{settings.operator}"']
    for key in ("listen", "address", "introduce"):
        address = getattr(settings, key)
        if address is not None:
            lines.append(f'{key} = "{format_address(address)}"')
    if settings.introducers:
        texts = [f'"{format_address(address)}"' for address in settings.introducers]
        lines.append(f"introducers = [{', '.join(texts)}]")
    if settings.admit != NOBODY:
        lines.append(f'admit = "{settings.admit}"')
    if settings.begin != BLOCKS:
        lines.append(f'begin = "{settings.begin}"')
    return "\n".join(lines) + "\n"


def parse_address(text: str) -> Address:
    """The address of HOST:PORT or [IPV6]:PORT; SpecError if it is none."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_host(host) or not port.isdigit() or not port.isascii() or not 0 < int(port) < 65536:
        raise SpecError("want HOST:PORT")
    return Address(host, int(port))


def format_address(address: Address) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return (
        f"[{address.host}]:{address.port}"
        if ":" in address.host
        else ":".join((address.host, str(address.port)))
    )


def _read_address(value: object) -> Address:
    return parse_address(value if isinstance(value, str) else "")


def _read_addresses(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list | tuple) or len(value) > INTRODUCERS_MAX:
        raise SpecError(f"want at most {INTRODUCERS_MAX} texts HOST:PORT")
    return tuple([_read_address(one) for one in value])


def _read_admit(value: object) -> str:
    if value not in (NOBODY, ANYBODY):
        raise SpecError(f"want {NOBODY} or {ANYBODY}")
    return str(value)


def _read_begin(value: object) -> str:
    if value not in (BLOCKS, SNAPSHOT):
        raise SpecError(f"want {BLOCKS} or {SNAPSHOT}")
    return str(value)


def _read_operator(value: object) -> str:
    if not isinstance(value, str) or not is_operator(value):
        raise SpecError(f"want 1 to {OPERATOR_LIMIT} plain characters, no spaces")
    return value


READERS: dict[str, Callable[[object], object]] = {
    "operator": _read_operator,
    "listen": _read_address,
    "address": _read_address,
    "introduce": _read_address,
    "introducers": _read_addresses,
    "admit": _read_admit,
    "begin": _read_begin,
}
