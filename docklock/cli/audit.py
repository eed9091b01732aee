"""`docklock audit key|enrol|rotate|search|range|export|alerts`: read hosts' evidence at a server.

Not here: calls (docklock.auditor), the server's own commands (`docklock bpci`). What comes is the
server's signed answer to this call; a range or an export proves itself besides, and is verified
before it has its name. Exit codes: 0; 1 the server is away, or refuses; 2 it cannot be asked so;
3 the answer is not the server's, or does not hold; of `range` and `export` 4 as of `verify`: whole,
but of a host's key that was not named.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError
from docklock.cli import options
from docklock.cli.calling import CA_FILE, CALL, SERVER, SERVER_KEY, open_calls, read_server
from docklock.cli.options import Command, UsageError, check_count, listed, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.export_frames import Scope
    from chainlite.note import VerifierKey
    from docklock.auditor.calls import ServerCalls
    from docklock.paths import Paths

CALLS_MAX = 10_000
"""Of one search, or list of alerts."""
HOST = text("--host", help="of this host only, by its id", metavar="ID")
CONTAINER = text("--container", help="of this container only, by its id", metavar="ID")
SINCE = text("--from", help="from this time on: 10m, RFC 3339 or Unix time", metavar="TIME")
UNTIL = text("--to", help="up to this time", metavar="TIME")
OUTPUT = text("-o", "--output", help="the file to write", metavar="FILE")
HOST_KEY = listed("--host-key", help="a host that must have signed, as with verify",
                  metavar="FILE|FINGERPRINT")  # fmt: skip
_SERVER = "--server https://bpci.example.org --server-key server.keys"
_ASK = f"{_SERVER} --key auditor.key"
COMMANDS = {
    "key": Command("audit key", "FILE", "Make a member's key, or show its public half.",
        examples=("docklock audit key auditor.key",),
    ),
    "enrol": Command(
        "audit enrol", "[OPTIONS] GRANT",
        "Enrol a key at a server, with the file that `docklock bpci grant` has written there.",
        (SERVER, SERVER_KEY, CA_FILE),
        examples=(f"docklock audit enrol {_SERVER} auditor.grant",),
    ),
    "rotate": Command(
        "audit rotate", "[OPTIONS] NEW-KEY",
        "Change the member's key: the old one signs a new one, which is made in this file.",
        CALL,
        examples=(f"docklock audit rotate {_ASK} next.key",),
    ),
    "search": Command(
        "audit search", "[OPTIONS]",
        "Find receipts. What is found is not proven: `range` proves it.",
        (
            *CALL, HOST, CONTAINER, SINCE, UNTIL,
            text("--run", help="of the container: from this run on", metavar="N"),
            text("--first", help="of the container: from this receipt of the run on", metavar="N"),
            text("--syscall", help="of this name", metavar="NAME"),
            text("--path", help="with this path, or with * at its end one that begins so",
                 metavar="PATH"),
            text("--limit", help="at most so many (100)", metavar="N"),
        ),
        examples=(f"docklock audit search {_ASK} --syscall mount --from 24h",),
    ),
    "range": Command(
        "audit range", "[OPTIONS] CONTAINER",
        "Write a container's receipts (by its name or id) with all proofs to a file.",
        (
            *CALL, HOST, SINCE, UNTIL, HOST_KEY, OUTPUT,
            text("--run", help="of this run only", metavar="N"),
            text("--first", help="from this receipt on", metavar="N"),
            text("--last", help="up to this receipt", metavar="N"),
        ),
        examples=(f"docklock audit range {_ASK} -o web.range web",),
    ),
    "export": Command(
        "audit export", "[OPTIONS]",
        "Write all of a tenant's receipts with all proofs to a file, or those that are named.",
        (
            *CALL, HOST, CONTAINER, SINCE, UNTIL, HOST_KEY, OUTPUT,
            text("--app", help="of containers of this name", metavar="NAME"),
        ),
        examples=(f"docklock audit export {_ASK} --app web -o web.export",),
    ),
    "alerts": Command(
        "audit alerts", "[OPTIONS]",
        "List what is wrong with hosts: forks, gaps, silence.",
        (
            *CALL, HOST,
            text("--lag", help="also hosts that were silent for so long (3600)",
                 metavar="SECONDS"),
            text("--proofs", help="write each fork's file there, for verify", metavar="DIRECTORY"),
        ),
        examples=(f"docklock audit alerts {_ASK} --proofs forks",),
    ),
}  # fmt: skip
COUNTS = {"key": 1, "enrol": 1, "rotate": 1, "range": 1}
SEARCH_HEADERS = ["TIME", "HOST", "CONTAINER", "RECEIPT", "OP", "DECISION", "VALUES"]
ALERT_HEADERS = ["TIME", "HOST", "KIND", "LEAF", "WHY"]
ID_SHOWN = 12


def run_audit(argv: list[str], _: Paths) -> int:
    """`docklock audit VERB`."""
    verb = options.choose_verb("audit", COMMANDS, argv)
    values, words = options.parse(COMMANDS[verb], argv[1:])
    check_count(COMMANDS[verb], words, COUNTS.get(verb, 0), COUNTS.get(verb, 0))
    if values.get("format") not in (None, "json", "text"):
        raise UsageError(f"docklock audit {verb}: --format takes json or text")
    if verb == "key":
        return _make_key(words[0])
    if verb == "enrol":
        return _enrol(values, words[0])
    if verb == "rotate":
        return _rotate(values, words[0])
    run = {"search": _search, "range": _fetch, "export": _fetch, "alerts": _list_alerts}[verb]
    return run(verb, values, words)


def _make_key(path: str) -> int:
    import os

    from docklock.auditor.key import make_key, show_key

    print(show_key(path) if os.path.exists(path) else make_key(path))
    return 0


def _enrol(values: dict[str, Any], path: str) -> int:
    from chainlite.bpci.grant import GRANT_LIMIT_BYTES
    from docklock.auditor.calls import ServerCalls
    from docklock.chain.directory import read_bounded

    grant = read_bounded(path, GRANT_LIMIT_BYTES)
    url, log_keys = read_server(values, "audit enrol")

    async def run() -> None:
        async with ServerCalls(url, log_keys, None, values["ca_file"] or "") as calls:
            await calls.enrol(grant)

    asyncio.run(run())
    print(f"enrolled at {url}")
    return 0


def _rotate(values: dict[str, Any], path: str) -> int:
    """The new key is made once: a call whose answer was lost is made again with it."""
    import os

    from chainlite.bpci.grant import sign_next_key
    from chainlite.keys import compute_host_id
    from docklock.auditor.key import load_key, make_key, read_enrolled, show_key

    async def run() -> None:
        async with open_calls(values, "audit rotate") as calls:
            enrolled = read_enrolled(values["key"])
            if not os.path.exists(path):
                make_key(path, enrolled)
            if read_enrolled(path) != enrolled:
                raise SpecError(f"{path}: the key of another member")
            old, new = load_key(values["key"]), load_key(path)
            data = sign_next_key(compute_host_id(enrolled), old, new)
            await calls.send("POST", "/v1/members/key", data, "application/octet-stream")

    asyncio.run(run())
    print(show_key(path))
    return 0


def _make_query(values: dict[str, Any], *names: str) -> dict[str, str]:
    """The named options as a query; times as Unix ns."""
    from docklock.cli.receipts import parse_since

    now_ns, query = time.time_ns(), dict[str, str]()
    for name in names:
        text = values[name]
        if text and name in ("from", "to"):
            text = str(parse_since(text, now_ns, f"--{name}"))
        if text:
            query[name] = text
    return query


def _fetch(verb: str, values: dict[str, Any], words: list[str]) -> int:
    """Write the file, and say what `verify` says of it."""
    from urllib.parse import quote

    from chainlite.bpci.asking import narrow_export, narrow_range
    from chainlite.export_frames import Scope
    from chainlite.verify import check_file
    from docklock.auditor.exports import fetch_export
    from docklock.evidence.export import write_whole

    _, log_keys = read_server(values, f"audit {verb}")
    trust = _read_trust(values, log_keys)
    if not values["output"]:
        raise UsageError(f"docklock audit {verb}: name the file to write with -o")
    scope: Scope = Scope(log_keys[0].public, log_keys[1].public, "")
    if verb == "range":
        query = _make_query(values, "host", "run", "first", "last", "from", "to")
        path = f"/v1/audit/{quote(words[0], safe='')}/range"
        scope = narrow_range(scope, words[0], query)
    else:
        query = _make_query(values, "host", "container", "app", "from", "to")
        path = "/v1/export"
        scope = narrow_export(scope, query)

    async def run() -> int:
        async with open_calls(values, f"audit {verb}") as calls:
            with write_whole(values["output"]) as file:
                return await fetch_export(calls, path, query, scope, file)

    asyncio.run(run())
    with open(values["output"], "rb") as file:
        said, code = check_file(file.read, trust, as_json=values["format"] == "json")
    sys.stdout.write(said)
    return code


def _read_trust(values: dict[str, Any], log_keys: tuple[VerifierKey, ...]) -> Any:
    import argparse

    from chainlite.trust import add_trust_options, read_trust

    parser = argparse.ArgumentParser()
    add_trust_options(parser)
    words = [word for one in values["host_key"] for word in ("--host-key", one)]
    return read_trust(parser.parse_args(words))._replace(log_keys=log_keys)


async def _ask_all(
    calls: ServerCalls, path: str, query: Mapping[str, str], name: str, most: int
) -> dict[str, Any]:
    """The answers of as many calls as it takes, as one."""
    whole: dict[str, Any] = {}
    asked = dict(query)
    for _ in range(CALLS_MAX):
        answer = json.loads((await calls.get(path, asked)).body)
        for key, value in answer.items():
            if isinstance(value, list):
                whole[key] = whole.get(key, []) + value
            elif isinstance(value, int) and not isinstance(value, bool):
                whole[key] = whole.get(key, 0) + value
            else:
                whole[key] = value
        if not answer["cursor"] or len(whole[name]) >= most:
            break
        asked["cursor"] = answer["cursor"]
        if "limit" in asked:
            asked["limit"] = str(min(int(asked["limit"]), most - len(whole[name])))
    return whole


def _search(verb: str, values: dict[str, Any], _: list[str]) -> int:
    from chainlite.bpci.asking import LIMIT_DEFAULT, LIMIT_MAX, SEARCH_NAMES, parse_search

    most = values["limit"] or str(LIMIT_DEFAULT)
    if not most.isdigit() or not int(most):
        raise UsageError("docklock audit search: --limit takes a number from 1 on")
    query = _make_query(values, *sorted(SEARCH_NAMES - {"cursor", "limit"}))
    query["limit"] = str(min(int(most), LIMIT_MAX))
    parse_search(query)

    async def run() -> dict[str, Any]:
        async with open_calls(values, f"audit {verb}") as calls:
            return await _ask_all(calls, "/v1/search", query, "receipts", int(most))

    found = asyncio.run(run())
    if values["format"] == "json":
        print(json.dumps(found))
        return 0
    sys.stdout.write(render_search(found))
    return 0


def render_search(found: Mapping[str, Any]) -> str:
    """What was found, and how much it is worth."""
    from docklock.cli.receipts import escape, format_time
    from docklock.image.listing import show_table

    rows = []
    for one in found["receipts"]:
        shown = one["receipt"]
        told = [
            f"{name}={escape(None if value is None else value.encode())}"
            for name, value in one.get("values", {}).items()
        ]
        rows.append([
            format_time(int(shown["time"])), one["host"][:ID_SHOWN],
            f"{escape(shown['app'].encode())} ({shown['container'][:ID_SHOWN]})",
            f"{shown['run']}:{shown['index']}", escape(shown["op"].encode()), shown["decision"],
            " ".join(told),
        ])  # fmt: skip
    lines = [show_table(SEARCH_HEADERS, rows)]
    for one in found["damaged"]:
        lines.append(f"not read: {escape(one['why'].encode())}\n")
    if found["erased_segments"]:
        lines.append(f"{found['erased_segments']} segments were erased by retention\n")
    lines.append("not proven: `docklock audit range CONTAINER --run RUN --first N --last N`\n")
    if found["cursor"]:
        lines.append("there may be more: narrow the search, or raise --limit\n")
    return "".join(lines)


def _list_alerts(verb: str, values: dict[str, Any], _: list[str]) -> int:
    query = _make_query(values, "host")
    if values["lag"]:
        query["lag_s"] = values["lag"]

    async def run() -> tuple[dict[str, Any], list[str]]:
        async with open_calls(values, f"audit {verb}") as calls:
            found = await _ask_all(calls, "/v1/alerts", query, "alerts", sys.maxsize)
            return found, await _write_proofs(calls, found["alerts"], values["proofs"] or "")

    found, written = asyncio.run(run())
    if values["format"] == "json":
        print(json.dumps({"alerts": found["alerts"], "proofs": written}))
        return 0
    sys.stdout.write(render_alerts(found["alerts"]))
    for path in written:
        print(f"{path}: docklock verify {path}")
    return 0


async def _write_proofs(
    calls: ServerCalls, alerts: list[dict[str, Any]], directory: str
) -> list[str]:
    """The files of all forks that are proven; their names."""
    import os

    from chainlite.fork import check_fork
    from docklock.evidence.export import write_whole

    written: list[str] = []
    if not directory:
        return written
    os.makedirs(directory, exist_ok=True)
    for one in alerts:
        if not one["proof"]:
            continue
        said = await calls.get(one["proof"], {})
        forked = check_fork(said.body)
        path = f"{directory}/{forked.host}-{forked.first.size}-{forked.second.size}.fork"
        with write_whole(path) as file:
            file.write(said.body)
        written.append(path)
    return written


def render_alerts(alerts: list[dict[str, Any]]) -> str:
    """A line for each."""
    from chainlite.report import escape, format_time
    from docklock.image.listing import show_table

    rows = [
        [format_time(int(one["time_ms"]) // 1000), one["host"][:ID_SHOWN], escape(one["kind"]),
         one["leaf_index"], escape(one["why"]) + (" (proven)" if one["proof"] else "")]
        for one in alerts
    ]  # fmt: skip
    return show_table(ALERT_HEADERS, rows) if rows else "nothing is wrong\n"
