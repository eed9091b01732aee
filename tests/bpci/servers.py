"""A server of a test's own in a directory: its key, its store, its intake."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from chainlite import keys
from chainlite.bpci.acknowledgement import Acknowledgement, verify_acknowledgement
from chainlite.bpci.at_rest import ServerKey
from chainlite.bpci.audit import Damage, audit
from chainlite.bpci.intake import Answer, Intake, Request
from chainlite.bpci.own_log import PUBLISHED
from chainlite.bpci.sqlite_store import SqliteStore
from docklock.evidence import keyring
from docklock.paths import Paths
from tests.bpci.batches import make_data

KEY = ServerKey(b"\x33" * 32)
NOW_MS = 1_795_000_000_000 + 10**12
"""Well after whatever a recorder writes here."""


class Server:
    def __init__(self, directory: Path, now_ms: int = NOW_MS) -> None:
        self.directory = directory
        self.store = SqliteStore(str(directory), is_writer=True)
        try:
            published = str(directory / PUBLISHED)
            self.intake = Intake(self.store, KEY, published, lambda: now_ms)
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def enrol(self, paths: Paths, tenant: str = "acme") -> bytes:
        """The host's id."""
        if self.store.find_tenant(tenant) is None:
            self.intake.add_tenant(tenant)
        key = keyring.ensure_host_key(paths)
        host = keys.compute_host_id(key.enrolled)
        assert check(self.intake.enrol(tenant, key.enrolled), host).held.size == 0
        return host

    def take(self, host: bytes, *batches: bytes) -> list[Answer]:
        return self.intake.take([Request(host, data) for data in batches])

    def sync(self, paths: Paths, host: bytes, end: int | None = None) -> Answer:
        """One batch from where the server stands."""
        row = self.store.find_host(host)
        assert row is not None
        return self.take(host, make_data(paths, row.size, end))[0]

    def get_size(self, host: bytes) -> int:
        row = self.store.find_host(host)
        assert row is not None
        return row.size

    def audit(self) -> list[Damage]:
        return list(audit(self.store, KEY))


def check(data: bytes, host: bytes) -> Acknowledgement:
    return verify_acknowledgement(data, KEY.log_keys, host)
