"""Hosts of a test's own and passes over their logs to servers of a test's own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from chainlite import bundle
from docklock.evidence import container_store, keyring
from docklock.evidence.export import open_container
from docklock.evidence.host_log import HostLog
from docklock.outbox.door import HttpDoor
from docklock.outbox.sending import Outbox, Outcome
from docklock.outbox.sent import CONTRADICTED, Sent, Standing
from docklock.outbox.signing import HostCalls
from docklock.paths import Paths
from tests.evidence.recording import ROOT
from tests.ledger.offered import make_host
from tests.outbox.servers import BooksServer


def get_host(paths: Paths) -> bytes:
    return keyring.ensure_host_key(paths).host


def make_outbox(paths: Paths, *servers: BooksServer) -> Outbox:
    """As the command line makes it: calls are signed."""
    calls = HostCalls(paths)
    settings = [server.settings for server in servers]
    return Outbox(paths, settings, lambda server: HttpDoor(server, calls))


def run_passes(paths: Paths, *servers: BooksServer) -> list[Outcome]:
    """One pass to each, by a process that has just begun."""
    outbox = make_outbox(paths, *servers)

    async def run() -> list[Outcome]:
        try:
            return await asyncio.gather(*[outbox.run_pass(one) for one in outbox.servers])
        finally:
            outbox.close()

    return asyncio.run(run())


def run_pass(paths: Paths, server: BooksServer) -> Outcome:
    [outcome] = run_passes(paths, server)
    return outcome


def run_until_all(paths: Paths, server: BooksServer, *, may_fail: bool = False) -> None:
    """Pass after pass, each by a process of its own, until the server has all."""
    for _ in range(200):
        outcome = run_pass(paths, server)
        assert may_fail or outcome.error is None
        assert outcome.standing.size <= server.books.get_size(get_host(paths))
        assert outcome.standing.state != CONTRADICTED
        if not outcome.is_due:
            break
    check_alike(paths, server)
    assert get_standing(paths, server).size == len(server.books.items[get_host(paths)])


def make_synced(tmp_path: Path, server: BooksServer) -> Paths:
    """A host whose server has all."""
    paths = make_host(tmp_path)
    assert run_pass(paths, server).error is None
    return paths


def get_standing(paths: Paths, server: BooksServer) -> Standing:
    with Sent(paths) as sent:
        return sent.get_standing(server.books.origin)


def check_alike(paths: Paths, server: BooksServer) -> None:
    """The server holds each leaf of the host's log, and each segment with all that is stored."""
    host = get_host(paths)
    with HostLog(paths, None) as log:
        leaves = log.read_leaves(0, log.get_size())
        containers = {run.container for run in log.get_runs()}
    assert tuple(item.leaf for item in server.books.items[host]) == leaves
    stored = {}
    for container in containers:
        with open_container(paths, container) as db:
            if db is None:
                continue
            for row in db.execute(
                "SELECT header, signature, secret, leaf_tags, body FROM segments"
            ).fetchall():
                stored[row[0]] = bundle.StoredSegment(*row)
    assert server.books.get_stored(host) == stored
    assert container_store.SCHEMA_VERSION == 3


def write_config(path: Path, *servers: BooksServer) -> str:
    tables = [
        f'[[server]]\nname = "{one.name}"\nurl = "{one.url}"\nkeys = {json.dumps(one.vkeys)}\n'
        for one in servers
    ]
    path.write_text("\n".join(tables))
    return str(path)


def start_sync(paths: Paths, *words: str) -> subprocess.Popen[str]:
    """`docklock sync WORDS` as a process."""
    program = "from docklock.cli.main import main; main()"
    argv = [sys.executable, "-c", program, "--root", paths.state, "sync", *words]
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def run_sync(paths: Paths, *words: str) -> tuple[int, str, str]:
    """Its exit code, and what it said."""
    process = start_sync(paths, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
