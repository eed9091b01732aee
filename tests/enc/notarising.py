"""A notary on a host of a test's own: real recorders and stores, a clock that the test sets."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from chainlite import keys, notarised, segment
from chainlite.report import Trust
from chainlite.verify import check_file
from docklock.evidence import keyring
from docklock.evidence.notarising import LocalSource
from docklock.evidence.notary_key import ensure_notary_key, get_notary_fingerprint
from docklock.notary import get_directory, write_export
from docklock.paths import Paths
from enc.notary.notary import Notary, Pass
from enc.notary.store import Store
from tests.chainlite.notary_samples import START

NOW_MS = (START + 600) * 1000


def notarise(
    paths: Paths,
    now_ms: int = NOW_MS,
    *,
    flush: bool = False,
    source: LocalSource | None = None,
) -> Pass:
    """One pass at this time."""
    host, key = keys.compute_host_id(keyring.get_public_key(paths)), ensure_notary_key(paths)
    source = source or LocalSource(paths)
    try:
        with Store(get_directory(paths), key.public) as store:
            return Notary(store, host, source, key).run_pass(now_ms, flush=flush)
    finally:
        source.end()


def open_db(paths: Paths) -> sqlite3.Connection:
    return sqlite3.connect(f"{get_directory(paths)}/notary.db")


def count_taken(paths: Paths) -> Counter[tuple[str, int, int]]:
    """How often each receipt is in a LogBlock: (container, run, index)."""
    counts: Counter[tuple[str, int, int]] = Counter()
    with Store(get_directory(paths), None) as store:
        for number, _, _ in store.get_chain_names():
            for _, body in store.iterate_blocks(number):
                size = notarised.logblock.SIGNED_HEADER_BYTES
                for at in range(0, len(body), size):
                    header = segment.decode_header(body[at : at + segment.HEADER_BYTES])
                    for index in range(header.event_count):
                        key = (header.container.hex(), header.run, header.first_index + index)
                        counts[key] += 1
    return counts


def get_held(paths: Paths) -> dict[tuple[str, int], str]:
    with Store(get_directory(paths), None) as store:
        return {
            (run.name.container.hex(), run.name.run): run.held
            for host in store.find_hosts()
            for run in store.get_runs(host, "held != ''")
        }


def get_aside(paths: Paths) -> list[tuple[str, int, int, str, int]]:
    """Container, run, receipt, why, and size of the evidence."""
    with Store(get_directory(paths), None) as store:
        return [
            (row.container.hex(), row.run, row.first_index, row.why, len(row.evidence))
            for row in store.iterate_aside()
        ]


def export(paths: Paths, app: str, file: Path) -> tuple[str, int]:
    """What a stranger with the two public keys says of an app's file."""
    write_export(paths, app, str(file))
    trust = Trust(keyring.get_fingerprint(paths), notary=get_notary_fingerprint(paths))
    with open(file, "rb") as opened:
        return check_file(opened.read, trust, as_json=False)
