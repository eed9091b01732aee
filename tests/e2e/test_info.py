"""docklock info: facts of this host, also before its first container."""

from __future__ import annotations

import json
import os
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
