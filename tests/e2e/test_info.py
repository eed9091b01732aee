"""docklock info: facts of this host, also before its first container."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.e2e.conftest import Docklock


def test_a_fresh_host_has_no_key_and_that_is_no_error(need_root: None, tmp_path: Path) -> None:
    dock = Docklock(tmp_path / "fresh")
    assert "host key: none yet" in dock("info").stdout
    dock("keys", "init")
    facts = json.loads(dock("info", "--format", "json").stdout)
    assert (
        facts["host_key"]
        == json.loads(dock("keys", "show", "--format", "json").stdout)["fingerprint"]
    )
    assert facts["kernel"] == os.uname().release


def test_nobody_reads_and_that_is_no_error(need_root: None, tmp_path: Path) -> None:
    """As of a program that SIGPIPE ended: 141, and not a word."""
    dock = Docklock(tmp_path / "fresh")
    for words in (("--help",), ("info",), ("ps", "-a"), ("system", "df")):
        reads, writes = os.pipe()
        os.close(reads)
        done = subprocess.run(
            dock.argv(*words), env=dock.environment, stdout=writes, stderr=subprocess.PIPE
        )
        os.close(writes)
        assert (done.returncode, done.stderr) == (141, b""), words
