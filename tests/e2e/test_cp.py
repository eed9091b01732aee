"""Through the command line: cp by Docker's rules, and no hostile container leads it out."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainlite.errors import DocklockError, StateError
from docklock.cli.cp import run_cp
from docklock.image.tree import open_regular
from docklock.paths import Paths, get_paths
from tests.e2e.conftest import CHECKOUT, Docklock, find_leaks
from tests.e2e.test_denied import read_denied
from tests.e2e.test_watch import read_leaves

IN, OUT = {"direction": "in"}, {"direction": "out"}


@pytest.fixture(params=["running", "stopped"])
def box(dock: Docklock, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A container `box` with a volume at /vol, running or not."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/kept").write_text("kept")
    script = (
        "test -e /ready && exec sleep 600; mkdir -p /d/sub /empty;"
        "echo one > /d/one; echo two > /d/sub/two; ln -s one /d/link;"
        "ln -s /d /to-d; echo top > /top; chmod 750 /d/sub; chown 7:8 /d/one; chmod 4755 /d/one;"
        "touch -d '2001-02-03 04:05:06' /d/one; mknod /d/pipe p; touch /ready; sleep 600"
    )
    volume = ["-v", f"{tmp_path / 'volume'}:/vol"]
    dock("run", "-d", "--name", "box", *volume, "busybox", "sh", "-c", script)
    dock.wait_for(lambda: dock("exec", "box", "test", "-e", "/ready", code=None).returncode == 0)
    if request.param == "stopped":
        dock("stop", "-t", "0", "box")
    yield "box"
    dock("rm", "-f", "box")


@pytest.fixture
def look(dock: Docklock, box: str) -> Callable[[str], str]:
    """What a shell in the container prints; a stopped one is started for it."""

    def run(line: str) -> str:
        if dock.inspect(box)["State"]["Status"] != "running":  # type: ignore[index]
            dock("start", box)
        return dock("exec", box, "sh", "-c", line).stdout

    return run


def list_tree(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


ALL = ["link", "one", "pipe", "sub", "sub/two"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("/d", "new", {"new": ALL}),  # a directory that is not there becomes the copy
        ("/d/", "new/", {"new": ALL}),
        ("/d/.", "new", {"new": ALL}),
        ("/d", "old", {"old": ["d", *(f"d/{name}" for name in ALL)]}),  # one that is takes it
        ("/d/.", "old", {"old": ALL}),  # or its contents
        ("d/sub/..", "old/", {"old": ["d", *(f"d/{name}" for name in ALL)]}),
        ("/top", "new", {"new": None}),
        ("/top", "old", {"old": ["top"]}),
        ("/top", "old/.", {"old": ["top"]}),
        ("/top", "file", {"file": None}),
        ("/to-d", "old", {"old": ["to-d"]}),  # a link is copied itself
        ("/to-d/", "old", {"old": ["to-d", *(f"to-d/{name}" for name in ALL)]}),
        ("/to-d/one", "new", {"new": None}),  # links on the way are followed
        ("/vol", "old", {"old": ["vol", "vol/kept"]}),
        ("/vol/kept", "new", {"new": None}),
    ],
)
def test_out_goes_by_dockers_rules(
    dock: Docklock, box: str, tmp_path: Path, source: str, target: str, expected: dict[str, object]
) -> None:
    place = tmp_path / "host"
    (place / "old").mkdir(parents=True)
    (place / "file").write_text("before")
    dock("cp", f"{box}:{source}", f"{place}/{target}")
    for name, names in expected.items():
        if names is None:
            assert (place / name).read_text() in ("top\n", "one\n", "kept")
        else:
            assert list_tree(place / name) == sorted(names)  # type: ignore[call-overload]
    assert read_leaves(dock, box, "cp") == [OUT]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("tree", "/new", "a b/c"),
        ("tree/.", "/new", "a b/c"),
        ("tree", "/empty", "tree/a tree/b/c"),
        ("tree/.", "/empty", "a b/c"),
        ("tree/", "/empty/", "tree/a tree/b/c"),
        ("tree/a", "/new", ""),
        ("tree/a", "/empty", "a"),
        ("tree/a", "empty/renamed", "renamed"),
        ("tree", "/to-d", "link one pipe sub/two tree/a tree/b/c"),
        ("tree/a", "/vol", "a kept"),
    ],
)
def test_in_goes_by_dockers_rules(
    dock: Docklock, box: str, look: Callable[[str], str], tmp_path: Path,
    source: str, target: str, expected: str,
) -> None:  # fmt: skip
    (tmp_path / "tree/b").mkdir(parents=True)
    (tmp_path / "tree/a").write_text("A")
    (tmp_path / "tree/b/c").write_text("C")
    os.chown(tmp_path / "tree/a", 1000, 1000)
    suffix = "/." if source.endswith("/.") else "/" if source.endswith("/") else ""
    dock("cp", f"{tmp_path / source}{suffix}", f"{box}:{target}")
    if not expected:
        assert look(f"cat {target}") == "A"
        return
    top = os.path.dirname(target) if expected == "renamed" else target
    found = look(f"cd {top}/ && find . -not -type d | sort").split()
    assert found == [f"./{name}" for name in expected.split()]
    assert look(f"find {top}/ -name a -user 1000") == ""
    assert read_leaves(dock, box, "cp") == [IN]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("box:/nothing", "{}/new"), "/nothing: no such file or directory"),
        (("box:/top/", "{}/new"), "/top: not a directory"),
        (("box:/top", "{}/new/"), "new: no such directory"),
        (("box:/d", "{}/file"), "cannot copy a directory to a file"),
        (("box:/top", "{}/file/"), "file: not a directory"),
        (("{}/file", "box:/d/sub/none/x"), "/d/sub/none: No such file or directory"),
        (("{}/file", "box:/d/one/x"), "/d/one: Not a directory"),
        (("{}/file", "box:/new/"), "/new: no such directory"),
        (("{}/nothing", "box:/new"), "nothing: no such file or directory"),
        (("{}/tree/.", "box:/d"), 'cannot overwrite non-directory "/d/one" with directory'),
        (("{}/tree2/.", "box:/d"), 'cannot overwrite directory "/d/sub" with non-directory'),
    ],
)
def test_what_cannot_be_is_refused(
    dock: Docklock, box: str, tmp_path: Path, words: tuple[str, str], text: str
) -> None:
    (tmp_path / "file").write_text("before")
    (tmp_path / "tree/one").mkdir(parents=True)
    (tmp_path / "tree2").mkdir()
    (tmp_path / "tree2/sub").write_text("")
    before = len(read_denied(dock))
    source, target = (word.replace("{}", str(tmp_path)) for word in words)
    assert text in dock("cp", source, target, code=1).stderr
    (leaf,) = read_denied(dock)[before:]
    assert leaf["labels"] == {"request": "cp", "why": "state", "code": "1"}
    assert (tmp_path / "file").read_text() == "before"


def test_command_lines_that_make_no_sense(dock: Docklock, tmp_path: Path) -> None:
    before = len(read_denied(dock))
    for words in (("a:/x", "b:/y"), ("/x", "/y"), ("./a:/x", "-"), (":x", "y"), ("a:", "y")):
        dock("cp", *words, code=2)
    assert read_denied(dock)[before:] == []
    assert "No such container" in dock("cp", "nobody:/x", "y", code=1).stderr


def test_owners_modes_and_times(dock: Docklock, box: str, tmp_path: Path) -> None:
    """What comes out is the caller's and has no rights; with -a it is as it was."""
    dock("cp", f"{box}:/d", f"{tmp_path}/plain")
    dock("cp", "-a", f"{box}:/d", f"{tmp_path}/exact")
    plain, exact = (os.stat(tmp_path / name / "one") for name in ("plain", "exact"))
    assert (plain.st_uid, plain.st_gid, stat.S_IMODE(plain.st_mode)) == (0, 0, 0o755)
    assert (exact.st_uid, exact.st_gid, stat.S_IMODE(exact.st_mode)) == (7, 8, 0o4755)
    assert plain.st_mtime == exact.st_mtime == 981_173_106
    assert stat.S_IMODE(os.stat(tmp_path / "plain/sub").st_mode) == 0o750
    assert os.readlink(tmp_path / "plain/link") == "one"
    assert stat.S_ISFIFO(os.stat(tmp_path / "plain/pipe").st_mode)
    dock("cp", "-L", f"{box}:/d/link", f"{tmp_path}/followed")
    assert (tmp_path / "followed").read_text() == "one\n"


def test_a_device_does_not_come_out(dock: Docklock, tmp_path: Path) -> None:
    """A container may make nodes that it cannot open; on the host others could."""
    script = "mkdir /d; mknod -m 666 /d/disk b 254 0; echo in > /d/file; touch /ready; sleep 60"
    dock("run", "-d", "--name", "dev", "busybox", "sh", "-c", script)
    dock.wait_for(lambda: dock("exec", "dev", "test", "-e", "/ready", code=None).returncode == 0)
    assert "disk is a device: left out" in dock("cp", "dev:/d", f"{tmp_path}/d").stderr
    assert list_tree(tmp_path / "d") == ["file"]
    dock("cp", "-a", "dev:/d", f"{tmp_path}/all")
    assert stat.S_ISBLK(os.lstat(tmp_path / "all/disk").st_mode)
    dock("rm", "-f", "dev")


def test_tar_streams(dock: Docklock, box: str, look: Callable[[str], str]) -> None:
    raw = subprocess.run(
        dock.argv("cp", f"{box}:/d", "-"), env=dock.environment, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert sorted(tar.getnames()) == sorted(["d", *(f"d/{name}" for name in ALL)])
        member = tar.getmember("d/one")
        assert (member.uid, member.mode, member.mtime) == (7, 0o4755, 981_173_106)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in ("x", "to-d/through", "deep/er/y"):
            member = tarfile.TarInfo(name)
            member.size, member.uid = 3, 1000
            tar.addfile(member, io.BytesIO(b"tar"))
    subprocess.run(
        dock.argv("cp", "-", f"{box}:/"), env=dock.environment, input=made.getvalue(), check=True
    )
    assert look("cat /x /d/through /deep/er/y") == "tar" * 3
    assert look("find /x -user 0") == "/x\n"
    assert dock("cp", "-", f"{box}:/nowhere", code=1).stderr.endswith("no such directory\n")
    dock("cp", "-", f"{box}:/", stdin="this is no tar" * 99, code=2)


def test_a_read_only_root_takes_nothing(dock: Docklock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    dock("run", "-d", "--name", "ro", "--read-only", "busybox", "sleep", "60")
    assert "Read-only file system" in dock("cp", f"{tmp_path}/file", "ro:/", code=1).stderr
    dock("stop", "-t", "0", "ro")
    assert "Read-only file system" in dock("cp", f"{tmp_path}/file", "ro:/", code=1).stderr
    dock("cp", "ro:/etc/passwd", f"{tmp_path}/passwd")
    dock("rm", "ro")


def test_a_stopped_container_is_held_meanwhile(dock: Docklock, tmp_path: Path) -> None:
    """A copy that waits for its input: nobody starts it; a killed copy leaves no trace of a run."""
    dock("create", "--name", "held", "busybox", "true")
    process = subprocess.Popen(
        dock.argv("cp", "-", "held:/"), env=dock.environment, stdin=subprocess.PIPE
    )
    dock.wait_for(lambda: os.listdir(dock.root / "live"))
    assert "is held by another command" in dock("start", "held", code=125).stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    assert dock("ps", "-a").stderr == ""
    assert dock.inspect("held")["State"]["Status"] == "created"  # type: ignore[index]
    assert os.listdir(dock.root / "live") == []
    dock("start", "held")
    assert dock("wait", "held").stdout == "0\n"
    dock("rm", "held")
    assert find_leaks(dock.root) == []


SWAP = """
mkdir -p /a/real/dir /a/out; echo inside > /a/real/dir/file
ln -s {outside} /absolute; ln -s ../../../../../../..{outside} /relative
ln -s {outside}/secret /secret; touch /ready
while true; do
  ln -s {outside} /a/l; mv -T /a/l /a/x; rm -f /a/x
  mv /a/real /a/x; mv /a/x /a/real
  mv /a/real/dir /a/out/dir; mv /a/out/dir /a/real/dir
  rm -f /a/real/dir/file; ln -s {outside}/secret /a/real/dir/file
  rm -f /a/real/dir/file; mknod /a/real/dir/file c 1 8
  rm -f /a/real/dir/file; mknod /a/real/dir/file p
  rm -f /a/real/dir/file; echo inside > /a/real/dir/file
done
"""
HOSTILE_S = 6.0


def test_a_hostile_container_leads_nothing_out(dock: Docklock, tmp_path: Path) -> None:
    """It has links that lead out, and swaps directories, links, devices and pipes under our feet:
    nothing of the host is read or written, and nothing hangs."""
    outside, paths = tmp_path / "outside", get_paths(str(dock.root))
    (outside / "dir").mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (outside / "dir/file").write_text("secret")
    (tmp_path / "in/dir").mkdir(parents=True)
    (tmp_path / "in/dir/file").write_text("ours")
    before = describe(outside)
    dock("run", "-d", "--name", "evil", "busybox", "sh", "-c", SWAP.format(outside=outside))
    dock.wait_for(lambda: dock("exec", "evil", "test", "-e", "/ready", code=None).returncode == 0)
    links = ("/absolute/dir", "/relative/dir", "/absolute/dir/file", "/relative/.", "/secret")
    swapped = ("/a/x/dir", "/a/x/secret", "/a/real", "/a/real/dir/file")
    end, tries = time.monotonic() + HOSTILE_S, 0
    signal.alarm(60)
    while time.monotonic() < end or not tries:
        for name in (*links, *swapped):
            target = tmp_path / "out"
            copy(paths, "-L", f"evil:{name}", str(target))
            # A link that came out as a link leads where the test itself must not follow it.
            for found in [target, *target.rglob("*")] if not target.is_symlink() else []:
                if found.is_file() and not found.is_symlink():
                    assert "secret" not in found.read_text()
            subprocess.run(["rm", "-rf", str(target)], check=True)
            copy(paths, f"{tmp_path}/in/.", f"evil:{name}")
            copy(paths, f"{tmp_path}/in/dir/file", f"evil:{name}")
        tries += 1
    signal.alarm(0)
    assert describe(outside) == before
    assert dock.inspect("evil")["State"]["Status"] == "running"  # type: ignore[index]
    dock("rm", "-f", "evil")


def describe(top: Path) -> dict[Path, tuple[int, ...]]:
    """All of a tree that a write would change; ctime also tells of owner and mode."""
    found = {path: os.lstat(path) for path in [top, *top.rglob("*")]}
    return {path: (one.st_ino, one.st_size, one.st_ctime_ns) for path, one in found.items()}


def copy(paths: Paths, *words: str) -> None:
    """cp in this process, which is faster than a command; it may be refused."""
    try:
        run_cp(list(words), paths)
    except (DocklockError, OSError):
        pass


def test_a_stopped_containers_root_is_unmounted_before_it_is_let_go(dock: Docklock) -> None:
    """In a process of its own: it leaves this mount namespace."""
    dock("create", "--name", "laid", "busybox", "true")
    container_id = str(dock.inspect("laid")["Id"])
    program = (
        "import os, sys\nfrom docklock.copy.root import ContainerRoot\n"
        "from docklock.paths import get_paths\n"
        f"with ContainerRoot(get_paths({str(dock.root)!r}), {container_id!r}) as root:\n"
        "    print(sorted(os.listdir(f'/proc/self/fd/{root}'))[0])\n"
        "    held = open('/proc/self/mountinfo').read()\n"
        f"print({container_id!r} in held, {container_id!r} in open('/proc/self/mountinfo').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, text=True, capture_output=True
    )
    assert done.stdout == "bin\nTrue False\n", done.stderr
    dock("rm", "laid")


def test_only_a_regular_file_is_ever_opened(tmp_path: Path) -> None:
    """A pipe in a file's place would hang a reader, and a device's driver would see it."""
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/etc/passwd", tmp_path / "link")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for name in (b"pipe", b"link"):
            with pytest.raises(StateError, match="replaced while it was read"):
                open_regular(directory, name)
    finally:
        os.close(directory)
