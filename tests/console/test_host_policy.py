"""A refused call is found with the rule that did it, opened by one more rule, and leaves receipts.

With real containers: what is proposed is what the container runs under after its next start.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.console.facts import Denial
from docklock.console.host_policy import HostPolicy
from docklock.evidence import refused
from docklock.evidence.container_store import get_store_path
from docklock.paths import get_paths
from tests.e2e.conftest import Docklock
from tests.e2e.test_watch import read_leaves
from tests.e2e.test_worker import of
from tests.evidence.recording import append_durably, begin, make_id, make_paths

NO_PEERS = """name: no-peers
extends: strict
rules:
  # Nobody is talked to.
  - {syscalls: [connect], action: deny}
"""
ASK = "while true; do nc -w 1 127.0.0.1 9; sleep 0.05; done"


@pytest.fixture
def desk(dock: Docklock) -> HostPolicy:
    return HostPolicy(get_paths(str(dock.root)))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "no-peers.yaml"
    path.write_text(NO_PEERS)
    return path


def find(desk: HostPolicy, dock: Docklock, name: str, op: str) -> Denial:
    """The one denial of a call."""
    container = str(dock.inspect(name)["Id"])
    found: list[Denial] = []

    def look() -> bool:
        found[:] = [one for one in desk.read_denials(container) if one.op == op]
        return bool(found)

    dock.wait_for(look)
    (one,) = found
    return one


def test_a_denied_connect_is_found_opened_and_on_record(
    dock: Docklock, desk: HostPolicy, policy: Path
) -> None:
    """The whole way: denied, understood, proposed, applied, restarted, let through, verified."""
    dock("run", "-d", "--name", "web", "--policy", str(policy), "busybox", "sh", "-c", ASK)
    denial = find(desk, dock, "web", "syscall.connect")
    assert (denial.container_name, denial.errno, denial.unproposable) == ("web", "EPERM", "")
    assert denial.rule == "no-peers.yaml:5: deny EPERM"
    assert denial.policy == str(policy)
    assert denial.times >= 1
    assert denial.first_ns <= denial.last_ns <= time.time_ns()
    assert ("sockaddr", "127.0.0.1:9") in denial.example.values
    proposal = desk.propose(denial)
    container = str(dock.inspect("web")["Id"])
    assert proposal.path == f"{dock.root}/policies/web-{container[:12]}.yaml"
    assert proposal.effects == ("newly allowed: connect: deny EPERM -> record",)
    assert proposal.is_looser
    assert "docklock restart web" in proposal.note
    added = [line[1:] for line in proposal.diff if line.startswith("+") and line[:3] != "+++"]
    assert proposal.diff[0] == "--- /dev/null"
    assert added[-2:] == ["  - syscalls: [connect]", "    action: record"]
    assert not os.path.exists(proposal.path)
    done = desk.apply(proposal)
    assert done.is_done, done.text
    assert Path(proposal.path).read_text().splitlines() == added
    assert policy.read_text() == NO_PEERS
    assert of(dock, "web", "syscall.connect")[-1]["decision"] == "denied"  # the run is as it was
    dock("restart", "-t", "0", "web")
    dock.wait_for(lambda: of(dock, "web", "syscall.connect")[-1]["decision"] == "allowed")
    assert "refused" in dock("logs", "web").stdout + dock("logs", "web").stderr
    old, new = dict.fromkeys(str(one["policy"]) for one in dock.receipts("web"))
    assert read_leaves(dock, "web", "policy") == [{"old": old, "new": new}]
    dock("verify", "web")
    dock("verify", "--all")
    again = find(desk, dock, "web", "syscall.connect")
    assert "lets it through by now" in again.unproposable
    with pytest.raises(StateError, match="lets it through"):
        desk.propose(again)
    with pytest.raises(StateError, match="not known any more"):
        desk.apply(proposal)
    dock("rm", "-f", "web")


def test_the_files_that_docklock_made_are_edited_and_keep_what_is_in_them(
    dock: Docklock, desk: HostPolicy, policy: Path
) -> None:
    with policy.open("a") as file:
        file.write("  - {syscalls: [mkdir, mkdirat], action: deny, errno: EACCES}\n")
    words = "nc -w 1 127.0.0.1 9; unshare -m true; mkdir /made"
    dock("create", "--name", "two", "--policy", str(policy), "busybox", "sh", "-c", words)
    dock("start", "-a", "two", code=1)
    first = desk.propose(find(desk, dock, "two", "syscall.connect"))
    assert desk.apply(first).is_done
    with open(first.path, "a", encoding="utf-8") as file:
        file.write("  # by hand\n  - {syscalls: [chroot], action: hold}\n")
    by_hand = Path(first.path).read_text()
    dock("create", "--name", "other", "--policy", first.path, "busybox", "true")
    denied = find(desk, dock, "two", "syscall.unshare")
    assert "docklock run --cap-add SYS_ADMIN" in denied.unproposable
    second = desk.propose(find(desk, dock, "two", "syscall.mkdir"))
    assert second.path == first.path
    assert second.note.endswith("; also for other")
    added = [line[1:] for line in second.diff if line.startswith("+") and line[:3] != "+++"]
    assert added == ["  - syscalls: [mkdir]", "    action: record"]
    assert not [line for line in second.diff if line.startswith("-") and line[:3] != "---"]
    assert desk.apply(second).is_done
    assert Path(first.path).read_text().replace("\n".join((*added, "")), "", 1) == by_hand
    dock("start", "-a", "two")
    assert of(dock, "two", "syscall.mkdir")[-1]["decision"] == "allowed"
    dock("verify", "two")
    dock("rm", "-f", "two", "other")


def test_a_proposal_is_for_what_was_shown_or_for_nothing(
    dock: Docklock, desk: HostPolicy, policy: Path
) -> None:
    dock(
        "run", "--name", "races", "--policy", str(policy), "busybox", "nc", "127.0.0.1", "9", code=1
    )
    denial = find(desk, dock, "races", "syscall.connect")
    proposal = desk.propose(denial)
    dock("update", "--policy", "strict", "races")
    with pytest.raises(StateError, match="changed since it was proposed"):
        desk.apply(proposal)
    dock("update", "--policy", str(policy), "races")
    Path(proposal.path).write_text("name: x\nextends: strict\n")
    with pytest.raises(StateError, match="changed since it was proposed"):
        desk.apply(proposal)
    other = desk.propose(find(desk, dock, "races", "syscall.connect"))
    assert other.path == proposal.path.replace(".yaml", "-2.yaml")  # nobody's file is written over
    policy.write_text("name: [")
    done = desk.apply(other)  # the command refuses it
    assert not done.is_done
    assert not os.path.exists(other.path)
    with pytest.raises(StateError, match="that is no longer known"):
        HostPolicy(get_paths(str(dock.root))).propose(denial)
    dock("rm", "races")


def test_what_no_policy_of_a_container_can_change_is_said(
    dock: Docklock, desk: HostPolicy, policy: Path
) -> None:
    words = ["--policy", str(policy), "busybox", "nc", "127.0.0.1", "9"]
    dock("run", "--name", "gone", *words, code=1)
    dock(
        "run", "-d", "--rm", "--name", "brief", "--policy", str(policy), "busybox", "sh", "-c", ASK
    )
    assert "run it with --policy" in find(desk, dock, "brief", "syscall.connect").unproposable
    dock("rm", "-f", "brief")
    dock("rm", "gone")
    found = {one.container_name: one for one in desk.read_denials()}
    assert "was removed" in found["gone"].unproposable
    assert "was removed" in found["brief"].unproposable


def test_a_look_reads_each_segment_once_and_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound of 40 segments, so that it is met."""
    monkeypatch.setattr(refused, "SEGMENTS_MAX", 40)
    paths, far_ns = make_paths(tmp_path), 10_000_000_000
    recorder = begin(paths, make_id())
    for number in range(48):
        append_durably(recorder, number)
    calls = refused.RefusedCalls(paths, make_id())
    assert not calls.look(0)  # there is no time: nothing is read, and it is to be asked again
    assert calls.look(time.monotonic_ns() + far_ns)
    assert (calls.counted.receipts, calls.counted.is_all) == (40, False)
    assert sum(one.times for one in calls.counted.refused) == 20
    for number in range(48, 52):
        append_durably(recorder, number)
    recorder.close(0)
    assert calls.look(time.monotonic_ns() + far_ns)
    assert calls.counted.receipts == 40
    newest = max(calls.counted.refused, key=lambda one: one.last_ns)
    assert newest.example.receipt.args[0] == 51
    db = sqlite3.connect(get_store_path(paths, make_id()))
    with db:
        db.execute("UPDATE segments SET body = x''")  # would be seen if it were read again
    db.close()
    assert calls.look(time.monotonic_ns() + far_ns)
    assert sum(one.times for one in calls.counted.refused) == 20
