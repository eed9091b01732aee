"""schemathesis over the served document: no 500, and nothing that the document does not say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chainlite.bpci import batch
from chainlite.bpci.actor import Role
from chainlite.bpci.handed import encode_handed
from chainlite.bpci.openapi import PATH
from tests.bpci import fuzz_hooks
from tests.bpci.attacked import Attacked
from tests.bpci.batches import make_data
from tests.bpci.handing import make_bundles, make_handed_data
from tests.bpci.test_served import NAME, TOP
from tests.conftest import FULL
from tests.evidence.recording import make_id

EXAMPLES = 1000 if FULL else 10
"""Of each address."""
NO_SCHEMA_SAYS = "positive_data_acceptance"
"""What a batch or a grant is."""
IS_SIGNED_AGAIN = "negative_data_rejection"
"""Calls from which schemathesis took the signature are signed before they go out."""
SETTINGS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 421, 422, 429, 431]
"""
CAGED = {
    Role.HOST: {
        ("POST", "/v1/receipts"), ("GET", "/v1/hosts/{host}"), ("POST", "/v1/logblocks"),
        ("POST", "/v1/poe/submit"),
    },
    Role.ADMIN: {
        ("GET", "/v1/members"), ("POST", "/v1/members/grants"), ("GET", "/v1/quota"),
        ("PUT", "/v1/quota"), ("GET", "/v1/retention"), ("PUT", "/v1/retention"),
        ("GET", "/v1/search"), ("GET", "/v1/alerts"), ("GET", "/v1/export"),
        ("GET", "/v1/audit/{app}/range"),
    },
}  # fmt: skip
"""What each role gets an answer from, among others, and nobody else."""


def run_schemathesis(
    attacked: Attacked, tmp_path: Path, seed: int, role: Role | None
) -> Counter[tuple[str, str, int]]:
    """How often each address answered each status; AssertionError with what schemathesis found."""
    status, _, document = attacked.process.ask("GET", PATH)
    assert status == 200
    unchecked = [NO_SCHEMA_SAYS, *([IS_SIGNED_AGAIN] if role else [])]
    (tmp_path / "openapi.json").write_bytes(document)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    phases = "examples,coverage,fuzzing" if FULL or role is Role.ADMIN else "examples,fuzzing"
    caller, own = attacked.caller, attacked.seed
    if role not in (None, Role.HOST):
        caller, own = attacked.let_in(role)
    batches = [attacked.data, make_data(attacked.paths, 0, 3)]
    bodies = {
        "/v1/receipts": [*batches, *map(batch.compress, batches)],
        "/v1/enrol": [attacked.grant],
        "/v1/logblocks": [make_handed_data(attacked.paths)],
        "/v1/poe/submit": [encode_handed(make_bundles(attacked.paths, hours=0))],
    }
    known = fuzz_hooks.Known(
        NAME, own.hex() if role else "", caller.keyid,
        attacked.caller.server.hex(),
        {path: [one.hex() for one in each] for path, each in bodies.items()},
        {"host": [attacked.host.hex()], "rest": ["entries/000.p/1", "0/000.p/2", "0/000"],
         "app": ["web", make_id(1)], "kind": ["receipt"], "leaf": ["3"]},
        [attacked.host.hex(), caller.keyid.partition(".")[0]],
    )  # fmt: skip
    fuzz_hooks.write_known(tmp_path / "known", known)
    seen = tmp_path / "seen"
    seen.touch()
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"),
            "--url", f"http://127.0.0.1:{attacked.port}", "--header", f"Host: {NAME}",
            "--phases", phases, "--max-examples", str(EXAMPLES),
            "--seed", str(seed), "--generation-database", "none", "--warnings", "off", "--no-color",
            "--exclude-checks", ",".join(unchecked),
        ],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.bpci.fuzz_hooks", "PYTHONPATH": str(TOP),
            fuzz_hooks.KNOWN: str(tmp_path / "known"), fuzz_hooks.SEEN: str(seen),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ") for line in seen.read_text().splitlines()]
    return Counter((method, path, int(status)) for method, path, status in lines)


@pytest.mark.parametrize("role", [None, Role.HOST, Role.ADMIN])
def test_whatever_is_asked_the_document_says_what_is_answered(
    tmp_path: Path, seed: int, role: Role | None
) -> None:
    with Attacked(tmp_path / "server", credits=1) as attacked:
        seen = run_schemathesis(attacked, tmp_path, seed, role)
        assert max(status for _, _, status in seen) < 500, seen
        good = {(method, path) for method, path, status in seen if status == 200}
        wanted = {("GET", "/checkpoint"), ("GET", "/tile/{rest}"), ("GET", PATH)}
        assert wanted | CAGED.get(role, set()) <= good, seen
        assert not good & set.union(*[CAGED[one] for one in CAGED if one is not role])
        attacked.check_well()
        attacked.check_whole()
