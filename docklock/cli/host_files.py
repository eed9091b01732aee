"""What --add-host and --dns* write into a container's /etc/hosts and /etc/resolv.conf.

Loaded when one is given. Not here: the files as they are without (run.py).
Source: docker/cli opts/hosts.go, moby libnetwork/resolvconf; resolv.conf(5).
"""

from __future__ import annotations

from ipaddress import ip_address

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

DNS_OPTIONS = ("dns", "dns_search", "dns_option")
NO_SEARCH = "."


def is_dns_asked(values: dict[str, Any]) -> bool:
    """Whether there is to be a resolv.conf of the container's own."""
    return any(values[key] for key in DNS_OPTIONS)


def check_names(values: dict[str, Any]) -> None:
    """SpecError for what cannot be written."""
    for word in values["add_host"]:
        _parse_host(word)
    for word in values["dns"]:
        if not _is_address(word):
            raise SpecError(f"--dns {word}: {word} is not an ip address")
    for key in DNS_OPTIONS[1:]:
        for word in values[key]:
            if not word or any(letter.isspace() for letter in word):
                raise SpecError(f"--{key.replace('_', '-')} {word!r}: give one word")


def add_names(files: dict[str, str], values: dict[str, Any], host_resolv: str) -> dict[str, str]:
    """The files with what is asked for; `host_resolv` gives what is not."""
    found = dict(files)
    lines = [f"{address}\t{name}\n" for name, address in map(_parse_host, values["add_host"])]
    found["hosts"] += "".join(lines)
    if is_dns_asked(values):
        found["resolv.conf"] = _build_resolv(values, host_resolv)
    return found


def _build_resolv(values: dict[str, Any], host_resolv: str) -> str:
    """Each kind of line is what was asked for, or else the host's; `.` is no search."""
    host: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in host_resolv.splitlines():
        words = line.split()
        if not words or words[0] not in host:
            continue
        if words[0] == "nameserver":
            host["nameserver"] += words[1:2]
        else:
            host[words[0]] = words[1:]
    search = values["dns_search"] or host["search"]
    options = values["dns_option"] or host["options"]
    lines = [f"nameserver {address}" for address in values["dns"] or host["nameserver"]]
    if search and search != [NO_SEARCH]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)


def _parse_host(word: str) -> tuple[str, str]:
    """(name, address) of NAME:IP or NAME=IP."""
    name, mark, address = word.partition("=" if "=" in word else ":")
    address = address.removeprefix("[").removesuffix("]")
    if not name or not mark or any(letter.isspace() for letter in name):
        raise SpecError(f"--add-host {word}: bad format for add-host; give NAME:IP")
    if address == "host-gateway":
        raise SpecError(
            f"--add-host {word}: docklock has no network with a gateway yet; with"
            " --network host the host is 127.0.0.1"
        )
    if not _is_address(address):
        raise SpecError(f"--add-host {word}: invalid IP address in add-host: {address!r}")
    return name, address


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True
