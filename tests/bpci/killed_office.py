"""Lets in, revokes, rules, takes and erases until it kills itself; says each once it is done.

`killed_office.py ROOT SERVER HOST POINT SEED`, with the top of the repository on PYTHONPATH.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from chainlite.bpci import retention
from chainlite.bpci.actor import Role
from chainlite.bpci.orders import Revoke, SetQuota, SetRetention
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.keys import compute_host_id
from docklock.paths import get_paths
from tests.bpci.joined import admit, make_office, make_pair
from tests.bpci.killed_intake import die_at
from tests.bpci.servers import NOW_MS, Server
from tests.ledger.offered import get_size

KEYS = range(1, 30)


def main(root: str, directory: str, host: bytes, point: int, seed: int) -> None:
    paths, rng = get_paths(root), random.Random(seed)
    retention.STEP = 1
    with Server(Path(directory)) as server:
        office = make_office(server)
        office.set_retention(SetRetention("acme", 30), NOW_MS)
        die_at(point, (SqliteStore, "purge"), (os, "fsync"))
        limit = office.access.get_quota("acme").bytes % 2**63
        while True:
            done = rng.choice(("in", "out", "quota", "erased"))
            number = rng.choice(KEYS)
            name = compute_host_id(make_pair(number).public)
            if done == "quota":
                number = limit = (limit + 1) % 2**40 + 10**9
                office.set_quota(SetQuota("acme", {"bytes": limit}), NOW_MS)
            elif done == "erased":
                end = server.get_size(host)
                if end < get_size(paths):
                    server.sync(paths, host, end + 1)
                number = server.get_size(host)
                assert [one.damaged for one in office.erase("acme", NOW_MS)][-1] == 0
            elif done == "out" and name in office.access.members:
                office.revoke(Revoke(name), NOW_MS)
            elif done == "in" and name not in office.access.members:
                admit(server, number, Role.READER)
            else:
                continue
            print(done, number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), *map(int, sys.argv[4:]))
