"""docklock with other limits, so that a test need not wait for them or make so many.

Usage: python -m tests.bpci.served_otherwise JSON WORD...: the words are docklock's. JSON: names of
chainlite.bpci.listening and their values; `credits`: so many that none are used up; `files`: how
many descriptors the process may have.
"""

from __future__ import annotations

import json
import resource
import sys
from functools import partial

from chainlite.bpci import listening, serving
from chainlite.cage.prices import Tariff
from chainlite.cage.store import CageStore
from docklock.cli.main import main

RICH = Tariff(10**15, 10**12)


def change(said: dict[str, float]) -> None:
    if said.pop("credits", 0):
        vars(serving)["CageStore"] = partial(CageStore, tariff=RICH)
    if files := int(said.pop("files", 0)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for name, value in said.items():
        assert type(vars(listening)[name]) is type(value), name
        vars(listening)[name] = value


if __name__ == "__main__":
    change(json.loads(sys.argv.pop(1)))
    sys.exit(main())
