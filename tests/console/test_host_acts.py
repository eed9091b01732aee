"""An act is the command of its name: on record as that is, in its words, and never left behind."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError
from docklock.console.facts import Progress
from docklock.console.source import Acts, Source
from tests.e2e.conftest import CHECKOUT, Docklock
from tests.e2e.test_denied import read_denied
from tests.e2e.test_watch import read_leaves

QUICK = "trap 'exit 0' TERM; while true; do sleep 0.05; done"


def go_on(_: Progress) -> bool:
    return True


@pytest.fixture
def acts(source: Source) -> Acts:
    assert source.acts is not None
    return source.acts


def get_id(dock: Docklock, name: str) -> str:
    return str(dock.inspect(name)["Id"])


def get_status(dock: Docklock, name: str) -> str:
    return str(dock.inspect(name)["State"]["Status"])  # type: ignore[index]


def test_each_verb_is_its_command_and_on_record(dock: Docklock, acts: Acts) -> None:
    dock("create", "--name", "web", "busybox", "sh", "-c", QUICK)
    container = get_id(dock, "web")
    for verb, status in (
        ("start", "running"), ("pause", "paused"), ("unpause", "running"), ("restart", "running"),
        ("quarantine", "quarantined"), ("release", "running"),
        ("stop", "exited"), ("start", "running"), ("kill", "exited"),
    ):  # fmt: skip
        done = acts.act(verb, container, go_on)
        assert done.is_done, done.text
        assert container in done.text
        dock.wait_for(lambda status=status: get_status(dock, "web") == status)
    assert len(read_leaves(dock, "web", "pause")) == 2
    assert [one["signal"] for one in read_leaves(dock, "web", "signal")] == ["15", "15", "9"]
    assert len(read_leaves(dock, "web", "start")) == 3
    done = acts.act("rm", container, go_on)
    assert done.is_done, done.text
    assert "web" not in dock("ps", "-a").stdout


def test_what_is_refused_says_why_and_is_on_record(dock: Docklock, acts: Acts) -> None:
    dock("create", "--name", "still", "busybox", "true")
    container, before = get_id(dock, "still"), len(read_denied(dock))
    done = acts.act("pause", container, go_on)
    assert (done.is_done, "is not running" in done.text) == (False, True)
    assert [leaf["labels"]["request"] for leaf in read_denied(dock)[before:]] == ["pause"]  # type: ignore[index]
    with pytest.raises(SpecError, match="one of start"):
        acts.act("exec", container, go_on)
    assert not acts.act("rm", "no such", go_on).is_done
    dock("rm", "still")


def test_an_act_that_is_given_up_ends_with_its_processes(dock: Docklock, acts: Acts) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; while true; do sleep 0.1; done",
    )
    container = get_id(dock, "deaf")
    began = time.monotonic()
    asked: list[Progress] = []

    def tell(progress: Progress) -> bool:
        asked.append(progress)
        return not read_leaves(dock, "deaf", "signal")

    done = acts.act("stop", container, tell)
    assert (done.is_done, done.text) == (False, "given up")
    assert time.monotonic() - began < 9
    assert asked[0].now == "stop"
    assert find_commands(container) == []
    assert get_status(dock, "deaf") == "running"
    dock("rm", "-f", "deaf")


def test_an_act_ends_with_the_process_that_began_it(dock: Docklock) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "held",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; while true; do sleep 0.1; done",
    )
    container = get_id(dock, "held")
    program = (
        "from docklock.console.door import open_source\n"
        f"source = open_source(['--root', {str(dock.root)!r}])\n"
        f"source.acts.act('stop', {container!r}, lambda _: True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=dock.environment,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
    )
    dock.wait_for(lambda: read_leaves(dock, "held", "signal"))
    assert len(find_commands(container)) == 2
    process.kill()
    process.wait()
    dock.wait_for(lambda: find_commands(container) == [])
    dock("rm", "-f", "held")


def find_commands(container: str) -> list[int]:
    """Processes of ours that name the container on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if container.encode() in words and b"python" in words:
            found.append(int(process.name))
    return found


def test_the_evidence_file_is_written_and_replaces_only_its_kind(
    dock: Docklock, acts: Acts, tmp_path: Path
) -> None:
    dock("run", "--name", "told", "busybox", "true")
    container, path = get_id(dock, "told"), tmp_path / "told.evidence"
    for _ in range(2):
        done = acts.write_evidence(container, str(path))
        assert done.is_done, done.text
        assert str(path) in done.text
    dock("verify", str(path))
    other = tmp_path / "other"
    other.write_text("mine\n")
    for place in (other, tmp_path):
        with pytest.raises(StateError, match="no evidence file"):
            acts.write_evidence(container, str(place))
    assert other.read_text() == "mine\n"
    assert not acts.write_evidence(container, str(tmp_path / "no/such/place")).is_done
    dock("rm", "told")


def test_a_shell_is_a_program_for_this_terminal(dock: Docklock, acts: Acts) -> None:
    dock("run", "-d", "--name", "shell", "busybox", "sleep", "60")
    pid, fd = pty.fork()
    if not pid:
        argv = acts.get_shell(get_id(dock, "shell"))
        os.execve(argv[0], argv, dock.environment)
    os.write(fd, b"echo $((6*7)); exit 5\n")
    output = b""
    while b"42" not in output:
        output += os.read(fd, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(fd)
    dock("rm", "-f", "shell")
