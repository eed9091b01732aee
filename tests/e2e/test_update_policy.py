"""Through the command line: a container's policy is changed for its next start, on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock import client
from docklock.paths import get_paths
from tests.e2e.conftest import Docklock
from tests.e2e.test_watch import read_leaves
from tests.e2e.test_worker import of

POLICY = """
name: {name}
default: {{action: allow}}
rules:
  - {{syscalls: [mkdirat, mkdir], action: {action}}}
"""
LOOP = "until mkdir /tmp/made; do sleep 0.02; done; sleep 60"


@pytest.fixture
def policies(tmp_path: Path) -> tuple[str, str]:
    """One that denies mkdir, and one that records it."""
    for name, action in (("closed", "deny"), ("open", "record")):
        (tmp_path / f"{name}.yaml").write_text(POLICY.format(name=name, action=action))
    return str(tmp_path / "closed.yaml"), str(tmp_path / "open.yaml")


def find_digests(dock: Docklock, name: str) -> list[str]:
    """The policy of each run, as its receipts have it."""
    return list(dict.fromkeys(str(one["policy"]) for one in dock.receipts(name)))


def read_policy(dock: Docklock, name: str) -> str:
    return str(dock.inspect(name)["Docklock"]["Policy"])  # type: ignore[index]


def test_it_holds_from_the_next_start_and_not_before(
    dock: Docklock, policies: tuple[str, str]
) -> None:
    closed, opened = policies
    dock("run", "-d", "--name", "web", "--policy", closed, "busybox", "sh", "-c", LOOP)
    dock.wait_for(lambda: of(dock, "web", "syscall.mkdir"))
    assert dock("update", "--policy", opened, "web").stdout == "web\n"
    assert read_policy(dock, "web") == opened
    dock("exec", "web", "mkdir", "/tmp/exec", code=1)  # it joins the run, which is as it was
    denied = of(dock, "web", "syscall.mkdir")
    assert {one["decision"] for one in denied} == {"denied"}
    dock("restart", "-t", "0", "web")
    dock.wait_for(
        lambda: any(one["decision"] == "allowed" for one in of(dock, "web", "syscall.mkdir"))
    )
    dock("exec", "web", "mkdir", "/tmp/exec")
    old, new = find_digests(dock, "web")
    assert read_leaves(dock, "web", "policy") == [{"old": old, "new": new}]
    assert read_leaves(dock, "web", "update") == []
    assert [one["labels"] for one in of(dock, "web", "runtime.update")] == [{"policy": new}]
    events = dock(
        "events", "--since", "1h", "--until", "0s", "--filter", "event=policy", "--format", "json"
    )
    (event,) = [json.loads(line) for line in events.stdout.splitlines()]
    assert (event["Type"], event["Actor"]["Attributes"]["new"]) == ("container", new)
    dock("verify", "web")
    dock("rm", "-f", "web")


def test_a_stopped_containers_policy_changes_with_other_things(
    dock: Docklock, policies: tuple[str, str]
) -> None:
    dock("create", "--name", "still", "--policy", policies[0], "busybox", "mkdir", "/made")
    dock(
        "update",
        "--policy",
        policies[1],
        "--restart",
        "on-failure:1",
        "--pids-limit",
        "30",
        "still",
    )
    assert read_leaves(dock, "still", "update") == [{"pids-limit": "30", "restart": "on-failure:1"}]
    dock("start", "-a", "still")
    (leaf,) = read_leaves(dock, "still", "policy")
    assert [leaf["new"]] == find_digests(dock, "still")
    assert len(leaf["old"]) == 64
    dock("rm", "still")


def test_a_file_that_is_edited_counts_for_later_runs_alone(
    dock: Docklock, policies: tuple[str, str]
) -> None:
    """What joins the run is under what the run began with, or is refused."""
    closed, opened = policies
    dock("run", "-d", "--name", "edited", "--policy", closed, "busybox", "sleep", "60")
    Path(closed).write_text(Path(opened).read_text())
    dock("exec", "edited", "mkdir", "/tmp/exec", code=1)
    Path(closed).write_text("name: [")
    dock("exec", "edited", "mkdir", "/tmp/exec", code=1)
    shutil.rmtree(dock.root / "policies/cache")
    error = dock("exec", "edited", "true", code=125).stderr
    assert "was changed and is not kept: docklock restart it first" in error
    dock("update", "--policy", opened, "edited")
    dock("restart", "-t", "0", "edited")
    dock("exec", "edited", "mkdir", "/tmp/exec")
    dock("rm", "-f", "edited")


def test_what_cannot_be_is_refused_and_changes_nothing(
    dock: Docklock, policies: tuple[str, str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(POLICY.format(name="wrong", action="sing"))
    dock("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "60")
    dock("create", "--name", "calm", "--policy", policies[0], "busybox", "true")
    for name, policy, text in (
        ("calm", str(wrong), "sing"),
        ("calm", "strikt", "no policy is called 'strikt'"),
        ("calm", "/nowhere/is.yaml", "cannot be read"),
        ("brief", "strict", "no later run would be under a policy"),
    ):
        before = read_policy(dock, name)
        assert text in dock("update", "--policy", policy, name, code=None).stderr
        assert read_policy(dock, name) == before
        assert read_leaves(dock, name, "policy") == []
    with client.connect(get_paths(str(dock.root)), str(dock.inspect("brief")["Id"])) as channel:
        for asked in ("strict", ["strict"], ["strict", "x" * 64], ["", "0" * 64], ["s", 7]):
            with pytest.raises(StateError, match="malformed request"):
                client.request(channel, {"verb": "update", "policy": asked})
    dock("rm", "-f", "brief", "calm")


def test_a_files_name_means_the_directory_it_was_said_in(
    dock: Docklock, policies: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(policies[1]).parent)
    dock("create", "--name", "here", "--policy", "open.yaml", "busybox", "true")
    assert read_policy(dock, "here") == policies[1]
    dock("update", "--policy", "closed.yaml", "here")
    assert read_policy(dock, "here") == policies[0]
    dock("rm", "here")
