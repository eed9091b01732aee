"""`docklock admin members|grant|revoke|quota|retention`: a tenant's admin at a server.

As `docklock bpci` does for the operator, over HTTP and for one tenant. Not here: calls
(docklock.auditor), what the server does with them (chainlite/bpci/members). Exit codes: 0; 1 the
server is away, or refuses; 2 it cannot be asked so; 3 the answer is not the server's.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chainlite.errors import TamperError
from docklock.cli import bpci_access, options
from docklock.cli.calling import CALL, open_calls
from docklock.cli.options import Command, check_count

if TYPE_CHECKING:
    from docklock.paths import Paths

PAGES_MAX = 10_000
JSON = "application/json"
_LIMITS = bpci_access.QUOTA.options[:3]
_ROLE, _HOURS = bpci_access.GRANT.options[1:3]
_DAYS = bpci_access.RETENTION.options[0]
_ASK = "--server https://bpci.example.org --server-key server.keys --key admin.key"
COMMANDS = {
    "members": Command(
        "admin members", "[OPTIONS]", bpci_access.MEMBERS.summary, CALL,
        examples=(f"docklock admin members {_ASK}",),
    ),
    "grant": Command(
        "admin grant", "[OPTIONS] KEY FILE",
        "Have the server's word that a host or a member may enrol for this tenant.",
        (*CALL, _ROLE, _HOURS),
        examples=(f"docklock admin grant {_ASK} --role reader reader-key reader.grant",),
    ),
    "revoke": Command("admin revoke", "[OPTIONS] KEY|HOST", bpci_access.REVOKE.summary, CALL,
        examples=(f"docklock admin revoke {_ASK} 2dcd7284bae38c2b",),
    ),
    "quota": Command(
        "admin quota", "[OPTIONS]",
        "Show what the tenant may have and has; set less than the operator allows.",
        (*CALL, *_LIMITS),
        examples=(f"docklock admin quota {_ASK} --hosts 20",),
    ),
    "retention": Command(
        "admin retention", "[OPTIONS]",
        "Show for how long the tenant's bodies are kept and what was erased; set it.",
        (*CALL, _DAYS),
        examples=(f"docklock admin retention {_ASK} --days 90",),
    ),
}  # fmt: skip
COUNTS = {"grant": 2, "revoke": 1}


def run_admin(argv: list[str], _: Paths) -> int:
    """`docklock admin VERB`."""
    verb = options.choose_verb("admin", COMMANDS, argv)
    values, words = options.parse(COMMANDS[verb], argv[1:])
    check_count(COMMANDS[verb], words, COUNTS.get(verb, 0), COUNTS.get(verb, 0))
    as_json = bpci_access.is_json(values, verb)
    if verb == "grant":
        return _grant(values, *words)
    shown = {"members": _list, "revoke": _revoke, "quota": _rule_quota, "retention": _rule}[verb](
        values, words
    )
    if as_json:
        return bpci_access.print_json(shown)
    if verb == "members":
        return bpci_access.print_members([*shown["members"], *shown["hosts"]])
    if verb == "quota":
        return bpci_access.print_quota(shown)
    if verb == "retention":
        return bpci_access.print_retention(shown)
    print(f"{shown['role']} {shown['name']} is revoked")
    return 0


def _list(values: dict[str, Any], _: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"members": [], "hosts": []}
    after = ""
    for _page in range(PAGES_MAX):
        path = f"/v1/members?after={quote(after)}" if after else "/v1/members"
        shown = _ask(values, "members", "GET", path)
        found["members"], after = shown["members"], shown["next"]
        found["hosts"] += shown["hosts"]
        if not after:
            break
    return found


def _grant(values: dict[str, Any], key: str, path: str) -> int:
    role, hours = values["role"] or "host", bpci_access.read_hours(values["hours"])
    fields = {"role": role, "key": key.strip(), "hours": hours}
    return bpci_access.write_grant(
        path, _send(values, "grant", "POST", "/v1/members/grants", fields)
    )


def _revoke(values: dict[str, Any], words: list[str]) -> dict[str, Any]:
    from chainlite.keys import parse_fingerprint

    name = {"name": parse_fingerprint(words[0], "KEY|HOST")}
    return _ask(values, "revoke", "POST", "/v1/members/revocations", name)


def _rule_quota(values: dict[str, Any], _: list[str]) -> dict[str, Any]:
    from chainlite.bpci.orders import show_limit

    changes = {name: show_limit(one) for name, one in bpci_access.read_limits(values).items()}
    return _ask(values, "quota", "PUT" if changes else "GET", "/v1/quota", changes)


def _rule(values: dict[str, Any], _: list[str]) -> dict[str, Any]:
    if values["days"] is None:
        return _ask(values, "retention", "GET", "/v1/retention")
    days = bpci_access.read_days(values["days"]) or None
    return _ask(values, "retention", "PUT", "/v1/retention", {"days": days})


def _ask(
    values: dict[str, Any], verb: str, method: str, path: str, fields: object = None
) -> dict[str, Any]:
    """The object that the server answers with."""
    try:
        found: dict[str, Any] = json.loads(_send(values, verb, method, path, fields))
    except ValueError:
        raise TamperError(f"{values['server']}: its answer is not JSON") from None
    return found


def _send(values: dict[str, Any], verb: str, method: str, path: str, fields: object) -> bytes:
    async def run() -> bytes:
        async with open_calls(values, f"admin {verb}") as calls:
            if method == "GET":
                return (await calls.get(path, {})).body
            return (await calls.send(method, path, json.dumps(fields).encode(), JSON)).body

    return asyncio.run(run())
