"""docklock logs and --log-driver: files that are shifted while they are read, and where else to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND_LIMIT_S, WAIT_LIMIT_S, Docklock
from tests.e2e.test_denied import read_denied

SMALL = ("--log-opt", "max-size=1k", "--log-opt", "max-file=3")
WAITS = "while ! test -e /w/go; do sleep 0.05; done"
# A journal, and a container that writes to it; prints what the journal got.
JOURNAL = """
import json, os, socket, subprocess, sys
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
words = [sys.executable, "-m", "docklock.cli.main", "run", "--log-driver", "journald"]
rest = ["--name", sys.argv[1], "busybox", "sh", "-c", "echo out; echo err >&2"]
none = subprocess.run([*words, *rest], capture_output=True, text=True)
journal.bind("/run/systemd/journal/socket")
done = subprocess.run([*words, "--log-opt", "tag={{.Name}}", *rest], capture_output=True, text=True)
journal.setblocking(False)
found = [sorted(journal.recv(65536).decode().splitlines()) for _ in range(2)]
said = [[one.returncode, one.stdout, one.stderr] for one in (none, done)]
print(json.dumps([said, found]))
"""
# A device that a vendor's file names, and a container that has it.
DEVICE = """
import json, os, subprocess, sys
os.makedirs("/run/cdi")
node = {"path": "/dev/vendor0", "hostPath": "/dev/null", "permissions": "rw"}
mount = {"hostPath": sys.argv[1], "containerPath": "/vendor", "options": ["ro", "bind"]}
edits = {"env": ["VENDOR=yes"], "deviceNodes": [node], "mounts": [mount]}
device = {"name": "0", "containerEdits": edits}
spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "devices": [device]}
with open("/run/cdi/vendor.json", "w") as file:
    json.dump(spec, file)
words = [sys.executable, "-m", "docklock.cli.main", "run", "--rm"]
program = "echo $VENDOR; echo x > /dev/vendor0 && cat /vendor; touch /vendor"
for options in (["--device", "vendor.com/gpu=0"], ["--gpus", "all"], ["--gpus", "2"]):
    line = [*words, *options, "busybox", "sh", "-c", program]
    done = subprocess.run(line, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


def run_apart(dock: Docklock, program: str, *words: str) -> list[object]:
    """A program in a mount namespace whose /run is empty; what it prints, as JSON a line."""
    line = 'mount -t tmpfs none /run && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line, "sh", sys.executable, "-c", program, *words],
        env=dock.environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(text) for text in done.stdout.splitlines()]


def log_files(dock: Docklock, name: str) -> dict[str, int]:
    directory = dock.root / "containers" / str(dock.inspect(name)["Id"])
    return {path.name: path.stat().st_size for path in directory.glob("container.log*")}


def test_files_are_bounded_and_logs_shows_all_that_is_kept(dock: Docklock) -> None:
    out = dock("run", "--name", "small", *SMALL, "busybox", "seq", "1", "300").stdout
    assert out.split() == [str(number) for number in range(1, 301)]
    files = log_files(dock, "small")
    assert sorted(files) == ["container.log", "container.log.1", "container.log.2"]
    assert max(files.values()) <= 1024
    kept = dock("logs", "small").stdout.split()
    assert kept == [str(number) for number in range(301 - len(kept), 301)]
    assert 20 < len(kept) < 60
    assert dock("logs", "-n", "30", "small").stdout.split() == kept[-30:]
    host = dock.inspect("small")["HostConfig"]
    assert isinstance(host, dict)
    assert host["LogConfig"] == {
        "Type": "json-file", "Config": {"max-size": "1k", "max-file": "3"},
    }  # fmt: skip
    dock("start", "-a", "small")  # goes on in the same files
    assert log_files(dock, "small").keys() == files.keys()
    dock("rm", "small")


def test_what_is_followed_goes_on_behind_shifted_files(dock: Docklock, tmp_path: Path) -> None:
    words = f"seq 1 12; {WAITS}; seq 13 24; rm /w/go; {WAITS}; seq 25 36; seq 37 42 >&2"
    volume = ("-v", f"{tmp_path}:/w")
    dock("run", "-d", "--name", "told", *SMALL, *volume, "busybox", "sh", "-c", words)
    process = dock.start("logs", "-f", "told")
    assert process.stdout is not None
    for first, last in ((1, 12), (13, 24), (25, 36)):
        lines = [process.stdout.readline().strip() for _ in range(first, last + 1)]
        assert lines == [str(number) for number in range(first, last + 1)]
        if last < 36:
            dock.wait_for(lambda: not (tmp_path / "go").exists())
            (tmp_path / "go").touch()
    out, err = process.communicate(timeout=WAIT_LIMIT_S)
    assert out == ""
    assert err.split() == [str(number) for number in range(37, 43)]
    assert process.returncode == 0
    assert len(log_files(dock, "told")) == 3
    dock("rm", "-f", "told")


def test_until_ends_what_is_followed(dock: Docklock) -> None:
    dock("run", "-d", "--name", "up", "busybox", "sh", "-c", "echo one; sleep 60")
    dock.wait_for(lambda: dock("logs", "up").stdout == "one\n")
    assert dock("logs", "-f", "--until=-1s", "up").stdout == "one\n"
    assert dock("logs", "--since=-1s", "up").stdout == ""
    assert dock("logs", "--since=1h", "up").stdout == "one\n"
    assert dock("logs", "--until=1h", "up").stdout == ""
    assert dock("ps", "-q", "--filter", "name=up").stdout
    dock("rm", "-f", "up")


def test_no_log_is_kept_where_none_is_wanted(dock: Docklock) -> None:
    words = ("--log-driver", "none", "busybox", "echo", "seen")
    assert dock("run", "--name", "quiet", *words).stdout == "seen\n"
    assert log_files(dock, "quiet") == {}
    assert "does not support reading" in dock("logs", "quiet", code=1).stderr
    assert dock.inspect("quiet")["LogPath"] == ""
    dock("rm", "quiet")


def test_each_line_carries_what_is_asked_for(dock: Docklock) -> None:
    options = ("--log-opt", "tag={{.Name}}", "--log-opt", "labels=tier", "-l", "tier=front")
    dock("run", "--name", "tagged", *options, "busybox", "echo", "x")
    assert dock("logs", "--details", "tagged").stdout == "tag=tagged,tier=front x\n"
    assert dock("logs", "tagged").stdout == "x\n"
    dock("rm", "tagged")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--log-driver", "syslog"), "sends no output elsewhere"),
        (("--log-opt", "max-sise=1m"), "unknown log opt 'max-sise'"),
    ],
)
def test_a_refused_driver_leaves_no_container_and_is_on_record(
    dock: Docklock, words: tuple[str, ...], why: str
) -> None:
    before = len(read_denied(dock))
    assert why in dock("run", "--name", "never", *words, "busybox", "true", code=125).stderr
    assert "No such" in dock("inspect", "never", code=1).stderr
    assert len(read_denied(dock)) == before + 1


def test_journald_gets_each_line_and_logs_shows_them(dock: Docklock) -> None:
    ((said, found),) = run_apart(dock, JOURNAL, "sent")  # type: ignore[misc]
    none, done = said
    assert none[0] == 125
    assert "journald is not enabled on this host" in none[2]
    assert done == [0, "out\n", "err\n"]
    texts = [" ".join(entry) for entry in found]
    container = str(dock.inspect("sent")["Id"])
    for text in texts:
        for field in (f"CONTAINER_ID_FULL={container}", "CONTAINER_NAME=sent",
                      "CONTAINER_TAG=sent", "SYSLOG_IDENTIFIER=sent"):  # fmt: skip
            assert field in text
    assert {("MESSAGE=out" in text, "PRIORITY=6" in text) for text in texts} == {
        (True, True), (False, False),
    }  # fmt: skip
    assert dock("logs", "sent").stdout == "out\n"
    dock("verify", "sent")
    dock("rm", "sent")


def test_a_vendors_device_is_had_by_name_and_as_gpu(dock: Docklock, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.write_text("lib\n")
    *had, lacking = run_apart(dock, DEVICE, str(library))
    for code, out, err in had:  # type: ignore[misc]
        assert out == "yes\nlib\n"
        assert "Read-only file system" in err
        assert code == 1
    assert lacking[0] == 125  # type: ignore[index]
    assert "vendor.com/gpu has 1 numbered devices" in lacking[2]  # type: ignore[index]
