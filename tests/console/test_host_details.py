"""One container of a host in full: how it was made, what is in it, what it met of its policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock.console import host_files
from docklock.console.facts import UNKNOWN, Connection, Details, FileChange
from docklock.console.host_files import find_changes
from docklock.console.source import Source
from docklock.plan import Overlay
from tests.e2e.conftest import Docklock

POLICY = """
name: mixed
default: {action: allow}
rules:
  - {syscalls: [mkdir, mkdirat], action: deny, errno: EACCES}
  - syscalls: [bind]
    action: record
    when: {args: [{index: 0, op: "==", value: 99}]}
  - {syscalls: [bind, execve], action: record}
  - {syscalls: [symlink, symlinkat], action: closed, errno: EDOM}
"""
SCRIPT = """
for i in 1 2 3; do mkdir /new; done
echo x >/etc/passwd; rm /bin/wc; echo hello >/tmp/hello
nc -l -p 8080 & nc -l -p 8081 &
exec sleep 1000
"""


@pytest.fixture(scope="module")
def container(dock: Docklock, tmp_path_factory: pytest.TempPathFactory) -> str:
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    dock(
        "run", "-d", "--name", "full", "--memory", "64m", "--pids-limit", "30", "--read-only=false",
        "--label", "app=shop", "-e", "SECRET=word", "-v", f"{policy.parent}:/data:ro",
        "--restart", "no", "--policy", str(policy), "busybox", "sh", "-c", SCRIPT,
    )  # fmt: skip
    return str(dock.inspect("full")["Id"])


def check_rules(details: Details) -> None:
    assert [(rule.action, rule.hits, rule.line) for rule in details.rules] == [
        ("deny EACCES", 3, 5),
        ("record", UNKNOWN, 6),  # bind: by this rule or by the next
        ("record", UNKNOWN, 9),
        ("closed EDOM", UNKNOWN, 10),
        ("allow", UNKNOWN, 3),
    ]
    assert details.rules[0].text == "mkdir, mkdirat"
    assert details.rules[1].text.startswith("bind when {args: [{index: 0")


def test_all_about_a_running_one_is_told(dock: Docklock, source: Source, container: str) -> None:
    def is_listening() -> bool:
        return len(source.containers.read_details(container).processes) == 3

    dock.wait_for(is_listening)
    dock("pause", "full")
    dock("unpause", "full")
    details = source.containers.read_details(container)
    assert details.trouble == ""
    assert details.row.name == "full"
    assert details.command == ("sh", "-c", SCRIPT)
    settings = dict(details.settings)
    assert settings["memory"].startswith("67.1")
    assert settings["processes at most"] == "30"
    assert settings["label app"] == "shop"
    assert settings["mount /data"].endswith(" (ro)")
    assert settings["policy digest"] == dock.receipts("full")[0]["policy"]
    assert "word" not in str(details), "an environment may hold secrets"
    check_rules(details)
    assert Path(details.policy_path).read_text() == POLICY

    commands = {one.command: one for one in details.processes}
    assert commands["sleep 1000"].pid == int(settings["first process"])
    assert commands["sleep 1000"].user == "root"
    assert sum(word.startswith("nc -l") for word in commands) == 2
    assert details.interfaces == (("lo", 0, 0),)


def test_changed_files_and_sockets_are_told(
    dock: Docklock, source: Source, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docklock.console.host_details.SOCKETS_APART_NS", 0)
    monkeypatch.setattr("docklock.console.host_details.FILES_APART_NS", 0)
    ends = {f"*:{port}" for port in (8080, 8081)}
    dock.wait_for(
        lambda: (
            ends
            == {
                one.local
                for one in source.containers.read_details(container).connections
                if one.state == "listening"
            }
        )
    )
    details = source.containers.read_details(container)
    listening = next(one for one in details.connections if one.local == "*:8080")
    assert listening._replace(protocol="tcp") == Connection("tcp", "*:8080", "*:0", "listening")
    changes = {change.path: change for change in details.files}
    assert changes["/bin/wc"] == FileChange("D", "/bin/wc")
    assert changes["/tmp/hello"] == FileChange("A", "/tmp/hello", 6)
    assert changes["/etc/passwd"] == FileChange("C", "/etc/passwd", 2)
    assert (changes["/etc"].kind, changes["/bin"].kind) == ("C", "C")
    assert not {"/dev", "/proc", "/data", "/etc/hostname", "/new"} & changes.keys()
    assert details.more == ()

    monkeypatch.setattr("docklock.console.host_details.FILES_MAX", 2)
    monkeypatch.setattr("docklock.console.host_details.CONNECTIONS_MAX", 1)
    cut = source.containers.read_details(container)
    assert len(cut.files) <= 2
    assert len(cut.connections) == 1
    assert {name: count > 0 for name, count in cut.more} == {"files": True, "connections": True}


def test_one_that_ends_while_it_is_shown_says_what_is_left(
    dock: Docklock, source: Source, container: str
) -> None:
    assert source.containers.read_details(container).row.status == "running"
    dock("kill", "full")
    dock("wait", "full")
    details = source.containers.read_details(container)
    assert (details.row.status, details.row.exit_code, details.trouble) == ("exited", 137, "")
    assert (details.processes, details.connections, details.interfaces) == ((), (), ())
    check_rules(details)  # now from its receipts
    log = dock.root / "containers" / container / "container.log"
    log.unlink(missing_ok=True)
    assert source.containers.read_log(container, 10) == ()
    os.rename(details.policy_path, f"{details.policy_path}.away")
    gone = source.containers.read_details(container)
    assert "policy.yaml" in gone.trouble
    assert (gone.rules, gone.files) == ((), details.files)
    dock("rm", "full")
    with pytest.raises(StateError, match="No such container"):
        source.containers.read_details(container)


def test_a_walk_through_changes_is_bounded_and_follows_no_link(
    tmp_path: Path, need_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper, below, above = tmp_path / "upper", tmp_path / "below", tmp_path / "above"
    outside = tmp_path / "outside"
    for directory in (upper / "kept", upper / "fresh", below / "kept", below / "fresh", above):
        directory.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").touch()
    (upper / "link").symlink_to(outside)
    (below / "trap").symlink_to(outside)
    (upper / "trap").mkdir()
    for path in ("trap/secret", "kept/old", "kept/new", "fresh/old", "hidden"):
        (upper / path).touch()
    for path in ("kept/old", "fresh/old", "hidden"):
        (below / path).touch()
    os.setxattr(upper / "fresh", "trusted.overlay.opaque", b"y")
    os.mknod(above / "hidden", 0o020000)
    found = find_changes(Overlay((str(above), str(below)), str(upper), ""), (), 100)
    assert {change.path: change.kind for change in found.changes} == {
        "/fresh": "C",
        "/fresh/old": "A",  # nothing of the image shows there
        "/hidden": "A",  # a layer of the image had removed it
        "/kept": "C",
        "/kept/new": "A",
        "/kept/old": "C",
        "/link": "A",
        "/trap": "C",
        "/trap/secret": "A",  # the image's link leads out of it
    }
    monkeypatch.setattr(host_files, "ENTRIES_MAX", 5)
    cut = find_changes(Overlay((str(above), str(below)), str(upper), ""), (), 100)
    assert len(cut.changes) == 5
    assert cut.more == -1, "nobody knows how many more"
