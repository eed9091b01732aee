"""Through the command line: a request that is refused is on record, and its error is as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from docklock import client
from docklock.cli.denied import RECORDED
from docklock.cli.main import COMMANDS
from docklock.paths import get_paths
from docklock.supervisor.denials import DENIALS_MAX
from docklock.supervisor.wire import receive, send_message
from tests.e2e.conftest import Docklock
from tests.e2e.test_worker import of

WORDS = {"spec", "state", "kernel", "tamper", "system"}


def read_denied(dock: Docklock) -> list[dict[str, object]]:
    lines = dock("receipts", "--host", "--json", "--op", "denied").stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def ended(dock: Docklock) -> str:
    """The id of a container `ended` that has run."""
    dock("run", "--name", "ended", "busybox", "true")
    return str(dock.inspect("ended")["Id"])


@pytest.mark.parametrize(
    ("line", "code", "why", "is_about_it"),
    [
        ("exec ended true", 125, "state", True),
        ("kill ended", 1, "state", True),
        ("attach ended", 1, "state", True),
        ("exec nobody true", 125, "state", False),
        ("stop nobody", 1, "state", False),
        ("restart nobody", 1, "state", False),
        ("quarantine ended", 1, "state", True),
        ("quarantine --release ended", 1, "state", True),
        ("start nobody", 125, "state", False),
        ("rm nobody", 1, "state", False),
        ("run --pull never nothing:here true", 125, "state", False),
        ("run --memory lots busybox true", 125, "spec", False),
        ("create --name ended busybox true", 125, "state", False),
        ("run --policy /nowhere/secret.yaml busybox true", 125, "spec", False),
        ("rmi nothing:here", 1, "state", False),
        ("tag nothing:here x", 1, "state", False),
        ("save nothing:here", 1, "state", False),
        ("export nobody", 1, "state", False),
        ("rename ended ended", 1, "state", True),
        ("import /nowhere/secret.tar", 2, "spec", False),
        ("pull 127.0.0.1:1/nothing:here", 1, "state", False),
        ("load -i /nowhere/secret.tar", 2, "spec", False),
        ("evidence --redact secrets ended", 2, "spec", True),
        ("evidence nobody", 1, "state", False),
        ("keys revoke 99", 2, "spec", False),
    ],
)
def test_a_refused_request_is_a_leaf_of_names_and_numbers(
    dock: Docklock, ended: str, line: str, code: int, why: str, is_about_it: bool
) -> None:
    before = len(read_denied(dock))
    result = dock(*line.split(), code=code)
    assert "not on record" not in result.stderr
    (leaf,) = read_denied(dock)[before:]
    request = line.split()[0]
    assert leaf["labels"] == {"request": request, "why": why, "code": str(code)}
    assert leaf["container"] == (ended if is_about_it else "")
    assert "secret" not in json.dumps(leaf)


def test_each_container_of_one_command_has_its_leaf(dock: Docklock, ended: str) -> None:
    before = len(read_denied(dock))
    dock("kill", "ended", "nobody", code=1)
    assert [leaf["container"] for leaf in read_denied(dock)[before:]] == [ended, ""]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run --bogus busybox", 125),
        ("run --name", 125),
        ("run", 125),
        ("rm", 2),
        ("stop --time", 2),
        ("exec ended", 125),
        ("keys forget", 2),
        ("evidence", 2),
        ("frobnicate ended", 2),
        ("wait nobody", 1),
        ("inspect nobody", 1),
        ("logs nobody", 1),
        ("verify nobody", 1),
        ("run --rm busybox /no/such/program", 127),
        ("run --rm busybox /etc/passwd", 126),
    ],
)
def test_what_does_not_parse_or_changes_nothing_leaves_none(
    dock: Docklock, ended: str, line: str, code: int
) -> None:
    before = len(read_denied(dock))
    dock(*line.split(), code=code)
    assert read_denied(dock)[before:] == []


def test_a_program_that_is_not_there_is_no_denial_of_exec(dock: Docklock) -> None:
    dock("run", "-d", "--name", "up", "busybox", "sleep", "60")
    before = len(read_denied(dock))
    dock("exec", "up", "/no/such/program", code=127)
    assert read_denied(dock)[before:] == []
    dock("rm", "up", code=1)  # it runs
    (leaf,) = read_denied(dock)[before:]
    assert leaf["container"] == dock.inspect("up")["Id"]
    dock("rm", "-f", "up")


@pytest.mark.parametrize("options", [["-d"], []])
def test_a_start_that_the_kernel_refuses_is_one_leaf(dock: Docklock, options: list[str]) -> None:
    """Before there is a run, its guard says so; the front end does not say it again."""
    before = len(read_denied(dock))
    words = ["--name", "huge", "--pids-limit", "9999999999", "busybox", "true"]
    assert "pids.max" in dock("run", *options, *words, code=125).stderr
    (leaf,) = read_denied(dock)[before:]
    assert leaf["labels"] == {"request": "start", "why": "kernel", "code": "125"}
    assert leaf["container"] == dock.inspect("huge")["Id"]
    dock("rm", "huge")


def test_a_refusal_makes_neither_a_log_nor_a_key(tmp_path: Path) -> None:
    fresh = Docklock(tmp_path / "fresh")
    fresh("run", "--pull", "never", "nothing", code=125)
    fresh("kill", "nobody", code=1)
    assert not list(tmp_path.rglob("host.*"))
    fresh("keys", "init")
    fresh("kill", "nobody", code=1)
    assert not list(tmp_path.rglob("host.db"))


def test_a_refusal_that_cannot_be_recorded_is_said_and_hides_nothing(
    tmp_path: Path, busybox_tree: Path
) -> None:
    fresh = Docklock(tmp_path)
    fresh("import", str(busybox_tree), "busybox")
    os.rename(tmp_path / "host.db", tmp_path / "aside")
    os.mkdir(tmp_path / "host.db")
    error, note = fresh("kill", "nobody", code=1).stderr.splitlines()
    assert error == "docklock: nobody: No such container: nobody"
    assert note.startswith("docklock: the refusal is not on record: ")


def test_a_flood_of_refused_requests_is_bounded_and_counted(dock: Docklock) -> None:
    dock("run", "-d", "--name", "asked", "busybox", "sleep", "60")
    paths = get_paths(str(dock.root))
    with client.connect(paths, str(dock.inspect("asked")["Id"])) as channel:
        for verb in ["start", "resize", "/etc/secret"] + [7] * (DENIALS_MAX + 17):
            send_message(channel, {"verb": verb})
            assert receive(channel).get_message()["event"] == "error"
    dock("stop", "-t", "0", "asked")
    found = of(dock, "asked", "runtime.denied")
    labels = [receipt["labels"] for receipt in found]
    assert len(found) == DENIALS_MAX + 1
    assert labels[:4] == [
        {"request": "start", "why": "state"},
        {"request": "resize", "why": "malformed"},
        {"request": "unknown", "why": "malformed"},
        {"request": "unknown", "why": "malformed"},
    ]
    assert labels[-1] == {"count": "20"}
    assert {receipt["decision"] for receipt in found} == {"denied"}
    dock("verify", "asked")
    dock("rm", "asked")


def test_every_command_is_one_that_changes_something_or_one_that_shows() -> None:
    """A new command is in one of the two, or this fails."""
    shows = {
        "ps", "logs", "wait", "inspect", "images", "receipts", "verify", "prove", "policy", "info",
        "version", "stats", "top", "completion", "man",
        "events", "check",
        "notary",  # keeps a database of its own
        "log",  # the first checkpoint names the ML-DSA key: a leaf of its own kind
        "chain",  # a node has files of its own; that the host registers is on record as such
        "agent", "mend", "system",  # what they start or remove is on record as such
        "container prune", "image prune", "history", "diff",
        "demo",  # it has a root of its own
        "admin",  # another machine's server is asked
        "audit",  # another machine's server is asked, and a file written
        "bpci",  # a server has a directory of its own
        "sync",  # what a server was sent and acknowledged lies in a database of its own
        "witness",  # it cosigns others' logs; a fork that it finds is on record as such
    }  # fmt: skip
    assert set(COMMANDS) - RECORDED == shows
    assert RECORDED - set(COMMANDS) == {"delete"}  # docklock-runtime's
