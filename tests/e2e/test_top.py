"""Through the command line: docklock top names a container's processes, and starts the UI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import CHECKOUT, Docklock

HEADS = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]


def test_top_names_every_process_in_dockers_columns(dock: Docklock) -> None:
    words = ["sh", "-c", "sleep 61 & sleep 62; :", "\x1b[31mred\u202e"]
    dock("run", "-d", "--name", "two", "-u", "1000", "busybox", *words)
    pid = str(dock.inspect("two")["State"]["Pid"])  # type: ignore[index]
    dock.wait_for(lambda: "sleep 62\n" in dock("top", "two").stdout)
    head, *rows = [line.split(maxsplit=7) for line in dock("top", "two").stdout.splitlines()]
    assert head == HEADS
    assert rows[0][1] == pid
    assert [row[2] for row in rows[1:]] == [pid, pid]
    assert {row[7] for row in rows[1:]} == {"sleep 61", "sleep 62"}
    assert all(int(row[3]) < 100 and row[6] < "00:00:10" and row[5] == "?" for row in rows)
    assert rows[0][7].startswith("sh -c sleep 61 & sleep 62; : ")
    assert "\x1b" not in rows[0][7]
    assert "\u202e" not in rows[0][7]
    check_ps_options(dock, pid)
    shown = map(json.loads, dock("top", "two", "--format", "json").stdout.splitlines())
    assert [(row["PID"], row["CMD"]) for row in shown] == [(row[1], row[7]) for row in rows]
    dock("pause", "two")
    assert len(dock("top", "two").stdout.splitlines()) == 4
    dock("stop", "-t", "0", "two")
    error = dock("top", "two", code=1).stderr
    assert error.endswith(f"Container {dock.inspect('two')['Id']} is not running\n")
    assert "No such container" in dock("top", "nobody", code=1).stderr
    dock("rm", "two")


def check_ps_options(dock: Docklock, pid: str) -> None:
    """Those of two's three processes, whatever of ps's is asked for."""
    for words, heads in ((("-o", "pid,comm"), "PID COMMAND"), (("aux",), "USER PID %CPU"),
                         (("-eo", "ppid,pid,args"), "PPID PID COMMAND")):  # fmt: skip
        head, *rows = dock("top", "two", *words).stdout.splitlines()
        assert " ".join(head.split()).startswith(heads)
        assert len(rows) == 3 and pid in rows[0].split()
        assert "\x1b" not in "".join(rows) and "\u202e" not in "".join(rows)
    assert "no PID" in dock("top", "two", "-o", "comm", code=2).stderr
    assert "ps --nonsense" in dock("top", "two", "--nonsense", code=2).stderr


def test_a_terminal_of_its_own_is_named(dock: Docklock) -> None:
    dock("run", "-dt", "--name", "tty", "busybox", "sleep", "60")
    assert dock("top", "tty").stdout.splitlines()[1].split()[5].startswith("pts/")
    dock("rm", "-f", "tty")


def test_without_a_container_it_becomes_the_ui_of_this_root(tmp_path: Path) -> None:
    """With a tui of the test's own beside a copy of docklock: what it is given is what it prints.

    One that lies in the current directory is never run: that may be anybody's.
    """
    home, here = tmp_path / "home", tmp_path / "here"
    for place, text in ((home, "print('ours', *sys.argv[1:])"), (here, "print('theirs')")):
        (place / "tui").mkdir(parents=True)
        (place / "tui/__init__.py").touch()
        roots = "print(os.environ['DOCKLOCK_ROOT'], os.environ['DOCKLOCK_RUNROOT'])"
        (place / "tui/__main__.py").write_text(f"import os, sys\n{text}\n{roots}\n")
    for room in ("docklock", "chainlite"):
        (home / room).symlink_to(CHECKOUT / room)
    found = _top(home, here, "--root", "/r/oot", "top", "--bpci", "https://b", "--key", "k")
    assert (found.returncode, found.stdout) == (
        0,
        "ours --bpci https://b --key k\n/r/oot /r/oot/run\n",
    )
    assert "ours\n" in _top(home, here, "top").stdout


def test_without_textual_it_says_what_to_install(tmp_path: Path) -> None:
    """An interpreter without site-packages, as a host that has docklock's core alone."""
    found = _top(CHECKOUT, tmp_path, "top", options=("-S",))
    assert found.returncode == 1
    assert "needs the Python package textual" in found.stderr
    assert "pip install 'docklock[tui]'" in found.stderr
    assert "--replay" in _top(CHECKOUT, tmp_path, "top", "--help", options=("-S",)).stdout


def _top(
    home: Path, directory: Path, *words: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(home)!r}); sys.argv[0] = 'docklock';"
    program += "from docklock.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-P", *options, "-c", program, *words],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
        timeout=30,
    )
