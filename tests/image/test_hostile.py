"""Random archives: hostile ones reach nothing outside, good ones arrive as with GNU tar."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from chainlite.errors import SpecError

HOSTILE = {False: 300, True: 20_000}
"""How many archives, in ./test --full the second."""
GOOD = {False: 40, True: 2_000}
KINDS = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symbolic": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
}
STEMS = ("n", "long" * 30, "\u00e9")
# None with the set-group-id bit: GNU tar gives it to some below that do not ask for it.
DIRECTORY_MODES = (0o755, 0o700, 0o1777, 0o555)
MODES = (0o755, 0o644, 0o600, 0o4755, 0o2755, 0o1777, 0o000)


def damage(data: bytes, dice: random.Random) -> bytes:
    """Bytes of it changed, cut off, or given twice."""
    spoilt = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
    at = dice.randrange(len(spoilt))
    return bytes(dice.choice([spoilt, spoilt, spoilt[:at], spoilt + spoilt[at & ~511 :]]))


def test_hostile_archives_never_reach_outside(
    unpack: Any, archives: Any, outside: Path, full: bool, seed: int
) -> None:
    """Names and links aim at each other and at outside; a third of them is damaged, too."""
    dice = random.Random(seed)
    up = "../" * 12
    words = ["a", "b", "a/b", "b/a", "a/b/c", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "./", "/a", "c"]
    names = [*words * 3, f"{up}{outside}/file", f"{outside}/new", "a/../../b", "x" * 300]
    aims = [*words, str(outside), f"{outside}/file", f"{up}{outside}", "..", ".", "/"]
    kinds = [*KINDS.values(), tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE]
    made = refused = 0
    for number in range(HOSTILE[full]):
        members = [
            (archives.member(dice.choice(names), dice.choice(kinds), linkname=dice.choice(aims),
                             mode=0o777, uid=4), b"")
            for _ in range(dice.randint(1, 12))
        ]  # fmt: skip
        data = archives.tar(*members)
        try:
            root = unpack(data if number % 3 else damage(data, dice))
        except SpecError as error:
            assert str(error).startswith("a.tar: "), error
            refused += 1
        else:
            made += 1
            shutil.rmtree(root.parent)
    assert min(made, refused) > HOSTILE[full] // 20


class Seen(NamedTuple):
    """One path of a tree; `same` is the first path of the same file.

    Of a directory no time: GNU tar keeps it only while nothing in it is replaced (test_unpack.py
    holds ours).
    """

    mode: int
    owner: tuple[int, int]
    mtime_s: int
    what: bytes
    same: str


def list_seen(root: Path) -> dict[str, Seen]:
    """All of a tree by path below it."""
    first: dict[int, str] = {}
    seen = {}
    for path in sorted(root.rglob("*")):
        name, state = str(path.relative_to(root)), path.lstat()
        what = b""
        if stat.S_ISREG(state.st_mode):
            what = path.read_bytes()
        elif stat.S_ISLNK(state.st_mode):
            what = os.readlink(path).encode()
        elif stat.S_ISCHR(state.st_mode):
            what = str(state.st_rdev).encode()
        same = name if stat.S_ISDIR(state.st_mode) else first.setdefault(state.st_ino, name)
        owner = state.st_uid, state.st_gid
        mtime_s = 0 if stat.S_ISDIR(state.st_mode) else int(state.st_mtime)
        seen[name] = Seen(state.st_mode, owner, mtime_s, what, same)
    return seen


def make_good(archives: Any, dice: random.Random) -> bytes:
    """An archive that asks for nothing odd: parents first or not at all, links to what is there."""
    directories: list[str] = [""]
    files: list[str] = []
    members = []
    for number in range(dice.randint(1, 30)):
        again = dice.random() < 0.1
        parent = dice.choice(directories)
        name = f"{parent}{dice.choice(STEMS)}{number}"
        kind = dice.choice([*KINDS])
        if kind == "hard" and not files:
            kind = "file"
        aim = dice.choice(files) if kind == "hard" else dice.choice(["nowhere", "/etc/passwd", "."])
        if again and files and kind in ("file", "symbolic"):
            name = dice.choice(files)  # the last of two wins
            files.remove(name)
        data = dice.randbytes(dice.choice([0, 1, 511, 512, 5000])) if kind == "file" else b""
        info = archives.member(
            name, KINDS[kind], linkname=aim if kind in ("hard", "symbolic") else "",
            mode=dice.choice(DIRECTORY_MODES if kind == "directory" else MODES),
            uid=dice.choice([0, 1000, 1 << 22]), gid=dice.randrange(3),
            mtime=dice.choice([0, 1, 1_700_000_000, 1 << 33]), devmajor=1, devminor=3,
        )  # fmt: skip
        members.append((info, data))
        if kind == "directory":
            directories.append(f"{name}/")
        elif kind == "file":
            files.append(name)
    result = archives.tar(*members)
    assert isinstance(result, bytes)
    return result


def extract(data: bytes, into: Path) -> Path:
    """As GNU tar unpacks it for root."""
    into.mkdir()
    subprocess.run(
        ["tar", "-xp", "--numeric-owner", "--same-owner", "--warning=no-timestamp", "-C", into],
        input=data, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    return into


def test_good_archives_arrive_as_gnu_tar_unpacks_them(
    unpack: Any, archives: Any, tmp_path: Path, full: bool, seed: int
) -> None:
    dice = random.Random(seed)
    for number in range(GOOD[full]):
        data = make_good(archives, dice)
        ours = unpack(data)
        theirs = extract(data, tmp_path / "theirs")
        assert list_seen(ours) == list_seen(theirs), f"archive {number} of seed {seed}"
        shutil.rmtree(theirs)
        shutil.rmtree(ours.parent)


def test_the_comparison_sees_what_differs(archives: Any, tmp_path: Path) -> None:
    """The two sides are read alike: a tree with one bit changed is another one."""
    data = make_good(archives, random.Random(1))
    one, two = (extract(data, tmp_path / name) for name in ("one", "two"))
    assert list_seen(one) == list_seen(two)
    file = next(path for path in sorted(two.rglob("*")) if path.is_file())
    file.chmod(file.stat().st_mode ^ 1)
    assert list_seen(one) != list_seen(two)
