"""The tables of a server's SQLite file, as the statements that make them. Pure.

Not here: who carries them out (sqlite_store), what a row means (store). Invariant: what was once
shipped is never changed; what is new comes after it.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE tenants (name TEXT PRIMARY KEY, sealed_key BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE hosts (host BLOB PRIMARY KEY, tenant TEXT NOT NULL, enrolment BLOB NOT NULL,"
        " size INTEGER NOT NULL, receipts INTEGER NOT NULL, open_runs INTEGER NOT NULL,"
        " alerts INTEGER NOT NULL, progress BLOB NOT NULL, note BLOB NOT NULL,"
        " log_leaf INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE leaves (host BLOB NOT NULL, leaf_index INTEGER NOT NULL,"
        " kind INTEGER NOT NULL, container BLOB NOT NULL, data BLOB NOT NULL,"
        " hashes BLOB NOT NULL, PRIMARY KEY (host, leaf_index)) WITHOUT ROWID",
        "CREATE INDEX leaves_of_containers ON leaves (host, container, leaf_index)"
        " WHERE container <> x''",
        "CREATE TABLE segments (host BLOB NOT NULL, leaf_index INTEGER NOT NULL,"
        " container BLOB NOT NULL, run INTEGER NOT NULL, first_index INTEGER NOT NULL,"
        " event_count INTEGER NOT NULL, time_first INTEGER NOT NULL, time_last INTEGER NOT NULL,"
        " box BLOB NOT NULL, PRIMARY KEY (host, leaf_index))",
        "CREATE INDEX segments_of_runs ON segments (host, container, run, first_index)",
        "CREATE TABLE runs (host BLOB NOT NULL, container BLOB NOT NULL, state BLOB NOT NULL,"
        " PRIMARY KEY (host, container)) WITHOUT ROWID",
        "CREATE TABLE alerts (host BLOB NOT NULL, kind TEXT NOT NULL, leaf_index INTEGER NOT NULL,"
        " time_ms INTEGER NOT NULL, box BLOB NOT NULL, PRIMARY KEY (host, leaf_index, kind))",
        "CREATE TABLE log (id INTEGER PRIMARY KEY CHECK (id = 0), note BLOB NOT NULL)",
    ),
    (
        "CREATE TABLE acts (number INTEGER PRIMARY KEY, box BLOB NOT NULL)",
        "ALTER TABLE segments ADD COLUMN erased INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE alerts ADD COLUMN erased INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX segments_by_age ON segments (host, time_last) WHERE erased = 0",
        "ALTER TABLE hosts ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0",
        "UPDATE hosts SET stored_bytes ="
        " (SELECT ifnull(sum(length(data)), 0) FROM leaves WHERE leaves.host = hosts.host)"
        " + (SELECT ifnull(sum(length(box)), 0) FROM segments WHERE segments.host = hosts.host)"
        " + (SELECT ifnull(sum(length(box)), 0) FROM alerts WHERE alerts.host = hosts.host)",
    ),
    (
        # What is searched by, and no box: a range or a search reads no more than this.
        "DROP INDEX segments_of_runs",
        "CREATE INDEX segments_of_runs ON segments (host, container, run, first_index, event_count,"
        " time_first, time_last, leaf_index)",
        "CREATE INDEX segments_of_times ON segments (host, time_first, leaf_index, time_last,"
        " container, run, first_index, event_count)",
    ),
    (
        "CREATE TABLE logblocks (host BLOB NOT NULL, notary_key BLOB NOT NULL, app TEXT NOT NULL,"
        " height INTEGER NOT NULL, block BLOB NOT NULL, signature BLOB NOT NULL,"
        " leaves BLOB NOT NULL, PRIMARY KEY (host, notary_key, app, height)) WITHOUT ROWID",
        "CREATE TABLE notarised (host BLOB NOT NULL, notary_key BLOB NOT NULL, app TEXT NOT NULL,"
        " container BLOB NOT NULL, run INTEGER NOT NULL, leaf_index INTEGER NOT NULL,"
        " PRIMARY KEY (host, notary_key, app, container, run)) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE bundles (host BLOB NOT NULL, notary_key BLOB NOT NULL, app TEXT NOT NULL,"
        " start INTEGER NOT NULL, bundle BLOB NOT NULL, signature BLOB NOT NULL,"
        " PRIMARY KEY (host, notary_key, app, start)) WITHOUT ROWID",
    ),
)
"""The statements of each version of the schema after the one before; none is ever changed."""
