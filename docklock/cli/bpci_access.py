"""`docklock bpci grant|members|revoke|quota|retention`: who may do what at a server.

What changes anything is handed to the process that serves the directory, if one does.
Not here: what it does (chainlite/bpci/office). Exit codes: 0; 1 there is nobody of that name; 2
it does not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError, StateError
from docklock.cli.options import Command, UsageError, flag, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from chainlite.bpci.access import Access
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.orders import Order
    from chainlite.bpci.sqlite_store import SqliteStore

GRANT_HOURS_DEFAULT = 24
GRANT_HOURS_MAX = 24 * 365
NO_LIMIT = "none"
HOSTS_STEP = 256
FORMAT = text("--format", help="json: one object", metavar="json")
GRANT = Command(
    "bpci grant",
    "[OPTIONS] DIRECTORY KEY FILE",
    "Write the server's word that a host or a member may enrol, for POST /v1/enrol.",
    (
        text("--tenant", help="whose it is", metavar="NAME"),
        text("--role", help="host (if not given), reader, auditor or admin", metavar="ROLE"),
        text("--hours", help=f"for how long ({GRANT_HOURS_DEFAULT})", metavar="N"),
    ),
    examples=("docklock bpci grant --tenant acme --role host /srv/bpci host-key host.grant",),
)
MEMBERS = Command(
    "bpci members",
    "[OPTIONS] DIRECTORY",
    "List members and hosts, who let them in and who was revoked.",
    (text("--tenant", help="of this one only", metavar="NAME"), FORMAT),
    examples=("docklock bpci members --tenant acme /srv/bpci",),
)
REVOKE = Command(
    "bpci revoke",
    "DIRECTORY KEY|HOST",
    "Refuse what a member or a host signs from now on; what it has sent stays.",
    (FORMAT,),
    examples=("docklock bpci revoke /srv/bpci 2dcd7284bae38c2b",),
)
QUOTA = Command(
    "bpci quota",
    "[OPTIONS] DIRECTORY TENANT",
    "Show what a tenant may have and has; set what is named.",
    (
        text("--receipts-per-day", help="from midnight to midnight UTC", metavar=f"N|{NO_LIMIT}"),
        text("--bytes", help="that are stored", metavar=f"N|{NO_LIMIT}"),
        text("--hosts", help="that are enrolled", metavar=f"N|{NO_LIMIT}"),
        FORMAT,
    ),
    examples=("docklock bpci quota --receipts-per-day 1000000 /srv/bpci acme",),
)
RETENTION = Command(
    "bpci retention",
    "[OPTIONS] DIRECTORY TENANT",
    "Show for how long a tenant's bodies are kept and what was erased; set it, or erase now.",
    (
        text("--days", help="erase what is older", metavar=f"N|{NO_LIMIT}"),
        flag("--force", help="also fewer days than hosts keep what was acknowledged"),
        flag("--run", help="erase now what is due"),
        FORMAT,
    ),
    examples=("docklock bpci retention --days 90 /srv/bpci acme",),
)


def grant(values: dict[str, Any], words: list[str]) -> int:
    """`docklock bpci grant`."""
    from chainlite import keys
    from chainlite.bpci.actor import Role
    from chainlite.bpci.grant import Grant, sign_grant
    from chainlite.bpci.serving import get_now_ms, load_server_key

    directory, public_key, path = words
    if not values["tenant"]:
        raise SpecError("docklock bpci grant: name the tenant with --tenant")
    hours = read_hours(values["hours"])
    roles = {one.value: one for one in Role}
    role = roles.get(values["role"] or Role.HOST.value)
    if role is None:
        raise SpecError(f"docklock bpci grant: --role takes {', '.join(roles)}")
    _, public = keys.parse_verifier(public_key, "KEY")
    expires_ms = get_now_ms() + hours * 3_600_000
    key = load_server_key(directory).pair
    return write_grant(path, sign_grant(Grant(values["tenant"], public, expires_ms, role), key))


def read_hours(word: str | None) -> int:
    """For how long a grant is good."""
    hours = word or str(GRANT_HOURS_DEFAULT)
    if not hours.isdigit() or not 0 < int(hours) <= GRANT_HOURS_MAX:
        raise SpecError(f"--hours takes 1 to {GRANT_HOURS_MAX}")
    return int(hours)


def write_grant(path: str, data: bytes) -> int:
    """To a file that is not there yet."""
    try:
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        raise SpecError(f"{path}: cannot write it: {error.strerror}") from None
    return 0


def show_members(values: dict[str, Any], words: list[str]) -> int:
    """`docklock bpci members`."""
    from chainlite.bpci.listing import list_members, show_host

    wanted = values["tenant"] or ""
    with _open(words[0]) as store:
        access = _load_access(words[0], store)
        found = list_members(access, wanted)
        for row in _read_hosts(store):
            if not wanted or row.tenant == wanted:
                found.append(show_host(row, access))
    if is_json(values, "members"):
        return print_json({"members": found})
    return print_members(found)


def print_members(found: list[dict[str, object]]) -> int:
    """A line each."""
    from chainlite.report import escape, format_time

    for one in found:
        since, gone = one.get("since_ms"), one["revoked_ms"]
        told = f"revoked {format_time(int(str(gone)) // 1000)}" if gone is not None else ""
        if not told and since is not None:
            told = f"since {format_time(int(str(since)) // 1000)}"
        by = f" by {str(one['by'])[:16]}" if one.get("by") else ""
        print(f"{one['role']:<8} {one['name']} {escape(str(one['tenant']))}  {told}{by}".rstrip())
    return 0


def revoke(values: dict[str, Any], words: list[str]) -> int:
    """`docklock bpci revoke`."""
    from chainlite.bpci.orders import Revoke

    directory, word = words
    done = _ask(directory, Revoke(_find_name(directory, word)))
    if is_json(values, "revoke"):
        return print_json(done)
    print(f"{done['role']} {done['name']} is revoked")
    return 0


def rule_quota(values: dict[str, Any], words: list[str]) -> int:
    """`docklock bpci quota`."""
    from chainlite.bpci.listing import show_quota
    from chainlite.bpci.orders import SetQuota
    from chainlite.bpci.serving import get_now_ms
    from chainlite.bpci.tally import Tally

    directory, tenant = words
    changes = read_limits(values)
    if changes:
        shown = _ask(directory, SetQuota(_check_tenant(tenant), changes))
    else:
        with _open(directory) as store:
            access = _load_access(directory, store)
            shown = show_quota(tenant, access, Tally(store, access), get_now_ms())
    if is_json(values, "quota"):
        return print_json(shown)
    return print_quota(shown)


def print_quota(shown: dict[str, object]) -> int:
    """A line for each limit, and for each alert."""
    from chainlite.bpci.quota import NAMES

    for name in NAMES:
        row: Any = shown[name]
        limit = "no limit" if row["limit"] is None else f"of {row['limit']}"
        admins = "" if row["by_admin"] is None else f" (the admin's: {row['by_admin']})"
        print(f"{name.replace('_', ' '):<17} {row['used']} {limit}{admins}")
    alerts: Any = shown["alerts"]
    for one in alerts:
        _print_alert(one)
    return 0


def read_limits(values: dict[str, Any]) -> dict[str, int]:
    """The limits that are named."""
    from chainlite.bpci.quota import NAMES, UNLIMITED

    return {
        name: _read_number(values[name], name, UNLIMITED)
        for name in NAMES
        if values[name] is not None
    }


def _print_alert(one: dict[str, str]) -> None:
    from chainlite.report import format_time

    name, when = one["quota"].replace("_", " "), format_time(int(one["time_ms"]) // 1000)
    print(f"alert: {name} were used up, host {one['host'][:16]}, {when}")


def rule_retention(values: dict[str, Any], words: list[str]) -> int:
    """`docklock bpci retention`."""
    from chainlite.bpci.listing import show_retention
    from chainlite.bpci.orders import Erase, SetRetention

    directory, tenant = words
    if values["days"] is not None:
        days = read_days(values["days"])
        _ask(directory, SetRetention(_check_tenant(tenant), days, values["force"]))
    damaged = 0
    if values["run"]:
        done: Any = _ask(directory, Erase(_check_tenant(tenant)))
        damaged = sum(one["damaged"] for one in done["erased"])
    with _open(directory) as store:
        shown: Any = show_retention(tenant, _load_access(directory, store))
    if is_json(values, "retention"):
        print_json(shown)
    else:
        print_retention(shown)
    if damaged:
        raise StateError(f"{damaged} rows do not open: see docklock bpci audit")
    return 0


def read_days(word: str) -> int:
    """Of a rule; 0: for ever."""
    days = _read_number(word, "days", 0)
    if days == 0 and word != NO_LIMIT:
        raise SpecError(f"--days takes 1 or more, or {NO_LIMIT}")
    return days


def print_retention(shown: Any) -> int:
    """The rule, and what it has erased."""
    from chainlite.report import format_time

    print(f"kept for {shown['days']} days" if shown["days"] else "kept for ever")
    last = shown["erased"]
    if last is not None:
        when, before = (format_time(int(last[one]) // 1000) for one in ("time_ms", "before_ms"))
        state = "erased" if last["is_done"] else "erasing since"
        what = f"{last['segments']} segments and the batches of {last['alerts']} alerts"
        print(f"{state} {when}: {what} from before {before}, by a rule of {last['days']} days")
    return 0


def _read_number(word: str, name: str, none: int) -> int:
    if word == NO_LIMIT:
        return none
    if not word.isdigit() or not word.isascii() or len(word) > 18:
        option = name.replace("_", "-")
        raise SpecError(f"--{option} takes a number, or {NO_LIMIT}")
    return int(word)


def _check_tenant(name: str) -> str:
    from chainlite.bpci.grant import check_tenant

    check_tenant(name)
    return name


def _find_name(directory: str, word: str) -> bytes:
    """The id of a member or host: as it is, of its first key, or of any key that a member had."""
    from chainlite.keys import parse_fingerprint, parse_verifier

    name = bytes.fromhex(parse_fingerprint(word, "KEY|HOST"))
    if "+" in word:
        _, public = parse_verifier(word, "KEY")
        with _open(directory) as store:
            for one in _load_access(directory, store).members.values():
                if public in one.publics:
                    return one.member
    return name


def _read_hosts(store: SqliteStore) -> Iterator[Any]:
    after = b""
    while rows := store.read_hosts(after, HOSTS_STEP):
        yield from rows
        after = rows[-1].host


def _open(directory: str) -> AbstractContextManager[SqliteStore]:
    from chainlite.bpci.sqlite_store import SqliteStore

    return SqliteStore(directory, is_writer=False)


def _load_key(directory: str) -> ServerKey:
    from chainlite.bpci.serving import load_server_key

    return load_server_key(directory)


def _load_access(directory: str, store: SqliteStore) -> Access:
    from chainlite.bpci.act_log import FILE, ActLog

    return ActLog(store, _load_key(directory), f"{directory}/{FILE}").access


def _ask(directory: str, order: Order) -> dict[str, object]:
    from chainlite.bpci.ordering import order_directory
    from chainlite.bpci.serving import get_now_ms

    return order_directory(directory, _load_key(directory), order, get_now_ms)


def is_json(values: dict[str, Any], verb: str) -> bool:
    """Whether JSON is asked for."""
    if values["format"] not in (None, "json", "text"):
        raise UsageError(f"docklock bpci {verb}: --format takes json or text")
    return bool(values["format"] == "json")


def print_json(found: dict[str, object]) -> int:
    """One object."""
    from docklock.json_text import encode_json

    print(encode_json(found))
    return 0
