"""`docklock demo pipeline` as people type it: proofs that stand alone, and nothing of it stays."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainlite.tlogproof import parse_log_proof
from docklock.demo.place import PREFIX, hold_place
from tests.e2e.conftest import CHECKOUT, Docklock

DEMO = ("demo", "pipeline")
PROOFS = ("receipts.evidence", "logblocks", "receipt.final", "bpci.tlog-proof")
LIMIT_S = 120.0
STAGES = ["receipts", "logblock", "final", "acknowledgement"]


def find_processes(top: Path) -> list[str]:
    """Processes that were started in a directory below `top`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{top}/{PREFIX}".encode() in words:
            found.append(f"{process.name} {words!r}")
    return found


class Demo:
    """Demos of a test's own, whose directories are below `top`."""

    def __init__(self, top: Path) -> None:
        self.top, self.dock = top, Docklock(top / "unused")
        self.environment = self.dock.environment | {"TMPDIR": str(top)}

    def __call__(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.dock.argv(*DEMO, *words), env=self.environment | more, cwd=CHECKOUT,
            capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.dock.argv(*DEMO), env=self.environment, cwd=CHECKOUT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def left(self) -> list[Path]:
        return list(self.top.glob(f"{PREFIX}*"))

    def has(self, name: str) -> Callable[[], bool]:
        """Whether a file of a demo's is there: so far it has come."""
        return lambda: any((path / name).exists() for path in self.left())


@pytest.fixture
def demo(tmp_path: Path, need_root: None) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.dock.wait_for(lambda: not find_processes(tmp_path), 30.0)


def verify_elsewhere(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A command line that was printed, on a root where nothing is."""
    words = shlex.split(line)
    assert words[:2] == ["docklock", "verify"]
    return Docklock(tmp_path / "auditor")(*words[1:], code=None)


def test_each_stage_is_proven_by_a_file_that_stands_alone(demo: Demo, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    shown = json.loads(demo("--keep", str(keep), "--format", "json").stdout)
    assert [stage["stage"] for stage in shown["stages"]] == STAGES
    assert demo.left() == [] and find_processes(tmp_path) == []
    receipts, block, final, held = [stage["found"] for stage in shown["stages"]]
    assert (receipts["op"], receipts["decision"]) == ("syscall.mount", "denied")
    assert len(final["sealed_by"]) >= 3 and final["validators"] == 4
    # A run that was not cut in two by a slow disk is one segment, and its path is empty.
    assert bool(block["path"]) is (block["segments"] > 1)
    assert final["leaf_index"] < held["held_size"]
    holds = f"that {held['held_size']} leaves of host {held['host']}"
    assert holds in shown["stages"][3]["said"]
    lines = (keep / "commands").read_text().splitlines()
    assert lines == [stage["check"] for stage in shown["stages"]]
    for line, name in zip(lines, PROOFS, strict=True):
        assert verify_elsewhere(line, tmp_path).returncode == 0
        path = keep / name
        data = bytearray(path.read_bytes())
        if name == PROOFS[-1]:  # the last bytes are a key's that nobody named
            data[data.index(parse_log_proof(bytes(data)).note[:40]) + 5] ^= 1
        else:
            data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert verify_elsewhere(line, tmp_path).returncode in (2, 3), name


def test_people_are_shown_proof_and_command_of_each_stage(demo: Demo) -> None:
    said = demo().stdout
    assert "uid=0" in said
    for number, name in enumerate(PROOFS, 1):
        assert f"\n{number}. " in said and f"/proofs/{name} (" in said
        assert f"check  docklock verify {demo.top}/{PREFIX}" in said
    assert demo.left() == []


@pytest.mark.parametrize("reached", ["server.log", "agent.log", "rootfs"])
def test_after_a_kill_nothing_runs_on_and_the_next_removes_the_rest(
    demo: Demo, reached: str
) -> None:
    process = demo.start()
    demo.dock.wait_for(demo.has(reached), 60.0)
    process.kill()
    process.wait()
    demo.dock.wait_for(lambda: not find_processes(demo.top), 30.0)
    [left] = demo.left()
    with_root, tempdir = dict(os.environ), demo.top
    program = (
        "from docklock.demo.place import hold_place\n"
        "with hold_place() as place: print(place.path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=with_root | demo.environment, cwd=CHECKOUT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).parent == tempdir and done.stdout.strip() != str(left)
    assert demo.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_removes_all(demo: Demo, number: int) -> None:
    process = demo.start()
    demo.dock.wait_for(demo.has("agent.log"), 60.0)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert demo.left() == [] and find_processes(demo.top) == []


def test_a_signal_that_python_drops_is_told_at_the_next_stage() -> None:
    program = (
        "import signal\n"
        "from docklock.cli.demo import Ending\n"
        "class Dropping:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
        "ending = Ending()\n"
        "ending.check()\n"
        "Dropping()\n"
        "print('goes on')\n"
        "try: ending.check()\n"
        "except KeyboardInterrupt: print('ends')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True)
    assert done.stdout.split() == [b"goes", b"on", b"ends"] and b"ignored in" in done.stderr


def test_one_that_runs_is_not_taken_for_a_left_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = tmp_path / f"{PREFIX}open"
    other.mkdir(mode=0o755)
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    with hold_place() as first, hold_place() as second:
        assert os.path.isdir(first.path) and os.path.isdir(second.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}link", f"{PREFIX}open"]


def fill(path: Path) -> None:
    """Take all room that is left on its disk."""
    try:
        with open(path, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        assert error.errno == errno.ENOSPC


def test_a_full_disk_is_told_of_and_nothing_stays(demo: Demo, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "none", str(disk)], check=True)
    try:
        (disk / "rest").write_bytes(bytes(5 << 20))
        small = Demo(disk)
        process = subprocess.Popen(
            small.dock.argv(*DEMO), env=small.environment, cwd=CHECKOUT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        small.dock.wait_for(small.has("server.log"), 60.0)
        fill(disk / "fill")
        _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1 and "no space left" in said.lower()
        assert small.left() == []
        done = small(code=1)
        assert "make room, or set TMPDIR" in done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_is_missing_is_named(demo: Demo, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "uvicorn.py").write_text("raise ImportError('not here')\n")
    done = demo(code=1, PYTHONPATH=f"{bare}:{CHECKOUT}")
    assert "pip install 'docklock[server]'" in done.stderr
    assert demo.left() == []


def test_a_directory_that_is_used_is_refused(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    assert "is not empty" in demo("--keep", str(tmp_path / "used"), code=2).stderr
    assert os.listdir(tmp_path / "used") == ["file"]
