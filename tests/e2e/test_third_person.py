"""Somebody else's machine, with public keys only: what a host's containers prove, and who vouched.

What is handed over is the host's log and evidence, no private key. Their own are the host's
enrolled public key and a policy that names the witnesses' keys and operators.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docklock.evidence.tiles import publish, read_log_keys
from docklock.paths import get_paths
from tests.e2e.conftest import Docklock
from tests.witness.witnesses import Running, make_policy, write_policy


class Third(NamedTuple):
    """The third person's docklock, and the options that name whom they trust."""

    dock: Docklock
    trust: tuple[str, ...]

    def report(self, code: int = 0) -> dict[str, Any]:
        text = self.dock("verify", "--all", "--json", *self.trust, code=code).stdout
        return dict(json.loads(text))


def hand_over(dock: Docklock, to: Path) -> None:
    """host.db, evidence/ and the public key, as an auditor gets them: consistent copies."""
    (to / "evidence").mkdir(parents=True)
    (to / "keys").mkdir()
    shutil.copy(dock.root / "keys/host.pub", to / "keys")
    for file in (dock.root / "host.db", *(dock.root / "evidence").glob("*.db")):
        with sqlite3.connect(file) as source:
            source.execute("VACUUM INTO ?", (str(to / file.relative_to(dock.root)),))
        source.close()


@pytest.fixture
def third(dock: Docklock, tmp_path: Path, no_leaks: None) -> Iterator[Third]:
    """Three containers were cosigned by two operators; a fourth ran after they were asked."""
    dock("run", "--name", "web", "busybox", "id")
    dock("run", "--name", "job", "busybox", "false", code=1)
    dock("rm", "web")
    dock("run", "-d", "--name", "db", "busybox", "sleep", "1000")
    paths = get_paths(str(dock.root))
    publish(paths)
    witnesses = [Running(tmp_path, f"w{number}.example") for number in (1, 2)]
    policy = write_policy(tmp_path / "policy.toml", make_policy(witnesses, need=2))
    try:
        for one in witnesses:
            one.configure([(read_log_keys(paths), "")], witnesses)
            one.start(wait=False)
        for one in witnesses:
            one.wait_for(lambda one=one: one.read_metric("witness_ready") == 1)
        dock("rm", "-f", "db")
        dock("witness", "ask", "--config", str(policy))
    finally:
        for one in witnesses:
            one.stop()
    dock("run", "--name", "late", "busybox", "true")
    hand_over(dock, tmp_path / "third")
    key = tmp_path / "host.pub"
    shutil.copy(dock.root / "keys/host.pub", key)
    theirs = Docklock(tmp_path / "third")
    yield Third(theirs, ("--host-key", str(key), "--witness-policy", str(policy)))
    dock("rm", "job", "late")


def test_it_says_what_is_proven_what_is_not_and_who_vouched(third: Third) -> None:
    assert not (third.dock.root / "keys/host.key").exists()
    found = third.report()
    assert found["ok"] and found["trusted"]
    by_name = {one["app"]: one for one in found["containers"]}
    assert set(by_name) == {"web", "job", "db", "late"}
    for name in ("web", "job", "db"):
        assert by_name[name]["anchored_to"], name
        operators = by_name[name]["policy"]["operators"]
        assert operators == ["operator-w1.example", "operator-w2.example"]
    assert by_name["late"]["runs"][0]["anchored_receipts"] == 0
    text = third.dock("verify", "--all", *third.trust).stdout
    assert "2 operators (operator-w1.example, operator-w2.example)" in text
    late = text.partition("(late)\n")[2]
    assert late.splitlines()[1].strip() == "not anchored: this host's word"


def test_a_file_that_is_not_handed_over_is_missed(third: Third) -> None:
    gone = sorted((third.dock.root / "evidence").glob("*.db"))[0]
    gone.unlink()
    found = third.report(code=3)
    assert not found["ok"]
    assert found["first_bad"]["container"] == gone.stem
    assert found["first_bad"]["why"] == "the container's evidence file is gone"


def test_another_hosts_key_is_not_this_hosts(third: Third, tmp_path: Path) -> None:
    other = Docklock(tmp_path / "other")
    other("keys", "init")
    key = str(other.root / "keys/host.pub")
    third.dock("verify", "--all", "--host-key", key, code=4)
