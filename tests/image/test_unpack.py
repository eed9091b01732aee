"""A hostile layer touches nothing outside its directory, and a good one arrives whole."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.image.store import ImageStore
from docklock.image.unpack import Limits
from docklock.paths import Paths

DIR, SYM, LNK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHR, BLK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE

# In a chroot / is no mount point, and its propagation cannot be changed.
UNSHARED = ("unshare", "-m", "--propagation", "unchanged")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "..", "/../evil", "./..", "a/.."])
def test_dot_dot_in_a_name_is_refused(unpack: Any, archives: Any, name: str) -> None:
    with pytest.raises(SpecError, match=r"a\.tar: entry .*'\.\.' in the name"):
        unpack(archives.tar((archives.member(name), b"x")))


def test_absolute_names_land_inside(unpack: Any, archives: Any, tmp_path: Path) -> None:
    name = f"{tmp_path}/evil"
    root = unpack(archives.tar((archives.member(name), b"x")))
    assert not (tmp_path / "evil").exists()
    assert (root / name.lstrip("/")).read_bytes() == b"x"


def test_a_symbolic_link_as_parent_is_resolved_inside(
    unpack: Any, archives: Any, outside: Path
) -> None:
    """The classic: `l -> /somewhere`, then `l/evil`."""
    root = unpack(
        archives.tar(
            archives.member("up", SYM, linkname="../" * 30 + "in"),
            archives.member("in", DIR),
            (archives.member("up/one"), b"1"),
            archives.member("abs", SYM, linkname="/in"),
            (archives.member("abs/two"), b"2"),
        )
    )
    assert sorted(os.listdir(root / "in")) == ["one", "two"]


def test_an_absolute_link_starts_at_the_layer_s_root_however_deep_it_stands(
    unpack: Any, archives: Any
) -> None:
    root = unpack(
        archives.tar(
            archives.member("in", DIR),
            archives.member("d/e/l", SYM, linkname="/in"),
            archives.member("d/e/in", DIR),
            (archives.member("d/e/l/f"), b""),
        )
    )
    assert os.listdir(root / "in") == ["f"]
    assert os.listdir(root / "d/e/in") == []


def test_a_symbolic_link_to_outside_cannot_be_written_through(
    unpack: Any, archives: Any, outside: Path
) -> None:
    link = archives.member("l", SYM, linkname=str(outside))
    with pytest.raises(SpecError, match=r"entry l/file .*does not exist"):
        unpack(archives.tar(link, (archives.member("l/file"), b"evil")))


def test_a_symbolic_link_is_replaced_and_not_written_through(
    unpack: Any, archives: Any, outside: Path
) -> None:
    link = archives.member("l", SYM, linkname=str(outside / "file"))
    root = unpack(archives.tar(link, (archives.member("l", mode=0o777, uid=5), b"evil")))
    assert (root / "l").read_bytes() == b"evil"
    link = archives.member("l", SYM, linkname=str(outside))
    root = unpack(archives.tar(link, archives.member("l", DIR, mode=0o777, uid=5)))
    assert stat.S_ISDIR(os.lstat(root / "l").st_mode)


def test_symbolic_links_in_a_circle_are_refused(unpack: Any, archives: Any) -> None:
    with pytest.raises(SpecError, match="symbolic links in a row"):
        unpack(
            archives.tar(
                archives.member("a", SYM, linkname="b"),
                archives.member("b", SYM, linkname="a"),
                archives.member("a/x"),
            )
        )


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "none", "d", "", "h"])
def test_a_hard_link_names_a_file_of_the_layer(unpack: Any, archives: Any, target: str) -> None:
    with pytest.raises(SpecError, match=r"entry h .*(hard link to|'..' in the name|not exist)"):
        unpack(archives.tar(archives.member("d", DIR), archives.member("h", LNK, linkname=target)))


def test_a_hard_link_through_a_symbolic_link_stays_inside(
    unpack: Any, archives: Any, outside: Path
) -> None:
    link = archives.member("l", SYM, linkname=str(outside))
    with pytest.raises(SpecError, match="entry h"):
        unpack(archives.tar(link, archives.member("h", LNK, linkname="l/file")))
    root = unpack(
        archives.tar(
            archives.member("l", SYM, linkname=str(outside / "file")),
            archives.member("h", LNK, linkname="l"),
            (archives.member("h"), b"evil"),
        )
    )
    assert (root / "h").read_bytes() == b"evil"


def test_a_file_as_parent_is_refused(unpack: Any, archives: Any) -> None:
    with pytest.raises(SpecError, match=r"entry f/x .*not a directory"):
        unpack(archives.tar(archives.member("f"), archives.member("f/x")))


def test_a_whiteout_device_is_refused(unpack: Any, archives: Any) -> None:
    with pytest.raises(SpecError, match=r"entry w .*whiteout"):
        unpack(archives.tar(archives.member("w", CHR)))


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh...", ".wh.d/x"])
def test_a_whiteout_that_names_nothing_is_refused(unpack: Any, archives: Any, name: str) -> None:
    with pytest.raises(SpecError, match=r"whiteout that hides no name|cannot start with \.wh\."):
        unpack(archives.tar(archives.member(name)))


def test_overlayfs_s_own_attributes_are_not_taken(unpack: Any, archives: Any) -> None:
    """trusted.overlay.redirect would let a layer show a directory of another one."""
    headers = {
        f"SCHILY.xattr.{name}": "y"
        for name in ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque",
                     "security.selinux", "user.kept")
    }  # fmt: skip
    root = unpack(archives.tar(archives.member("d", DIR, pax_headers=headers)))
    assert os.listxattr(root / "d") == ["user.kept"]


def test_names_too_long_or_too_deep_are_refused(unpack: Any, archives: Any) -> None:
    for name in ("x" * 256, "d/" * 300 + "f", "y" * 200 + "/" + "z/" * 2000):
        with pytest.raises(SpecError, match=r"at most|more than"):
            unpack(archives.tar(archives.member(name)))


def test_depth_cannot_be_built_up_through_links(unpack: Any, archives: Any) -> None:
    """Each link shortens the name; the real depth is what counts, for rm -r has to walk it."""
    deep = "a/" * 200
    members = [archives.member(deep + "f")]
    for step in range(3):
        members.append(
            archives.member(f"l{step}", SYM, linkname=deep if not step else f"l{step - 1}/{deep}")
        )
        members.append(archives.member(f"l{step}/{deep}f"))
    with pytest.raises(SpecError, match="directories deep"):
        unpack(archives.tar(*members))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(bytes_max=99), "unpacks to over 99 bytes"),
        (Limits(entries_max=1), "more than 1 entr"),
    ],
)
def test_limits_stop_a_layer(unpack: Any, archives: Any, limits: Limits, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        unpack(archives.tar(archives.member("a"), (archives.member("b"), b"x" * 100)), limits)


def test_holes_count_as_bytes(unpack: Any, archives: Any) -> None:
    headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40), "GNU.sparse.name": "s"}
    with pytest.raises(SpecError, match="unpacks to over"):
        unpack(archives.tar((archives.member("x", pax_headers=headers), b"x")))


@pytest.mark.parametrize("text", ["0,2,1,1", "4,1,0,2", "0,3,9,0", "0,1", "0,3,", "0", "", "-1,3"])
def test_a_sparse_map_that_does_not_fit_is_refused(unpack: Any, archives: Any, text: str) -> None:
    headers = {"GNU.sparse.map": text, "GNU.sparse.size": "8", "GNU.sparse.name": "s"}
    with pytest.raises(SpecError, match="entry s .*sparse map"):
        unpack(archives.tar((archives.member("x", pax_headers=headers), b"xyz")))


def test_holes_are_holes_and_data_is_in_place(unpack: Any, archives: Any) -> None:
    headers = {"GNU.sparse.map": "1,2,6,1", "GNU.sparse.size": "8", "GNU.sparse.name": "s"}
    root = unpack(archives.tar((archives.member("x", pax_headers=headers), b"xyz")))
    assert (root / "s").read_bytes() == b"\0xy\0\0\0z\0"


def test_a_decompression_bomb_is_stopped(unpack: Any, archives: Any, monkeypatch: Any) -> None:
    import gzip

    monkeypatch.setattr("docklock.image.stream.RATIO_FREE_BYTES", 1 << 20)
    data = archives.tar((archives.member("zeros"), bytes(8 << 20)))
    with pytest.raises(SpecError, match="decompression bomb"):
        unpack(gzip.compress(data))


def test_metadata_arrives_whole(unpack: Any, archives: Any) -> None:
    times = {"mtime": "1234567890.123456789"}
    capability = b"\x01\0\0\x02\0\x04\0\0" + bytes(12)
    headers = times | {"SCHILY.xattr.user.x": "\xe9\n=", "SCHILY.xattr.security.capability":
                       capability.decode("latin-1")}  # fmt: skip
    root = unpack(
        archives.tar(
            archives.member("./", DIR, mode=0o1777, uid=7, gid=8, pax_headers=times),
            archives.member("d", DIR, mode=0o2750, uid=1, gid=2, pax_headers=times),
            (archives.member("d/f", mode=0o4711, uid=3, gid=70_000, pax_headers=headers), b"data"),
            archives.member("d/h", LNK, linkname="d/f"),
            archives.member("d/s", SYM, linkname="/nowhere", uid=9, pax_headers=times),
            archives.member("c", CHR, mode=0o666, devmajor=1, devminor=3, pax_headers=times),
            archives.member("b", BLK, mode=0o660, gid=6, devmajor=7, devminor=300),
            archives.member("p", FIFO, mode=0o622),
            (archives.member("new/parent/x"), b""),
        )
    )
    found = {path: os.lstat(root / path) for path in ("", "d", "d/f", "d/s", "c", "b", "p", "new")}
    modes = {path: stat.S_IMODE(info.st_mode) for path, info in found.items()}
    assert modes == {"": 0o1777, "d": 0o2750, "d/f": 0o4711, "d/s": 0o777, "c": 0o666, "b": 0o660,
                     "p": 0o622, "new": 0o755}  # fmt: skip
    assert [(found[path].st_uid, found[path].st_gid) for path in ("", "d", "d/f", "d/s")] == [
        (7, 8), (1, 2), (3, 70_000), (9, 0),
    ]  # fmt: skip
    assert {found[path].st_mtime_ns for path in ("", "d", "d/f", "d/s", "c")} == {
        1234567890123456789
    }
    assert found["c"].st_rdev == os.makedev(1, 3)
    assert found["b"].st_rdev == os.makedev(7, 300)
    assert found["d/f"].st_nlink == 2
    assert os.getxattr(root / "d/f", "user.x") == "\xe9\n=".encode()
    assert (root / "d/f").read_bytes() == b"data"


def test_capabilities_arrive_from_a_real_file(paths: Paths, tmp_path: Path) -> None:
    from docklock.image.imports import import_directory

    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "ping").write_bytes(b"#!")
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(tree / "ping", "security.capability", value)
    import_directory(paths, str(tree), None)
    layer = ImageStore(paths).resolve(ImageStore(paths).list_entries()[0].image_id).layers[0]
    assert os.getxattr(f"{layer}/ping", "security.capability") == value


def test_the_last_of_two_entries_wins_and_directories_merge(unpack: Any, archives: Any) -> None:
    root = unpack(
        archives.tar(
            (archives.member("f"), b"one"),
            (archives.member("f"), b"two"),
            archives.member("d", DIR),
            (archives.member("d/kept"), b""),
            archives.member("d", DIR, mode=0o700),
            archives.member("gone", DIR),
            (archives.member("gone/x"), b""),
            (archives.member("gone"), b"file"),
        )
    )
    assert (root / "f").read_bytes() == b"two"
    assert os.listdir(root / "d") == ["kept"]
    assert stat.S_IMODE(os.stat(root / "d").st_mode) == 0o700
    assert (root / "gone").read_bytes() == b"file"


def test_whiteouts_become_overlayfs_s(unpack: Any, archives: Any) -> None:
    root = unpack(
        archives.tar(
            archives.member(".wh.gone"),
            archives.member("o", DIR),
            archives.member("o/.wh..wh..opq"),
            archives.member(".wh..wh.plnk", DIR),
            archives.member(".wh..wh.plnk/1.2"),
            (archives.member("stays"), b"x"),
            archives.member(".wh.stays"),
            archives.member(".wh.again"),
            archives.member("again", DIR),
            archives.member(".wh.implied"),
            (archives.member("implied/x"), b""),
            archives.member("late", DIR),
            archives.member(".wh.late"),
        )
    )
    info = os.lstat(root / "gone")
    assert stat.S_ISCHR(info.st_mode)
    assert info.st_rdev == 0
    assert (root / "stays").read_bytes() == b"x"
    for name in ("o", "again", "implied", "late"):
        assert os.getxattr(root / name, "trusted.overlay.opaque") == b"y"
    assert not any(name.startswith(".wh.") for name in archives.tree(root))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is missing")
def test_stacked_layers_show_what_the_whiteouts_say(unpack: Any, archives: Any) -> None:
    """The kernel's own overlayfs reads the layers, in a private mount namespace."""
    member = archives.member
    lower = unpack(
        archives.tar(
            member("a"), member("o", DIR), member("o/old"), member("d", DIR), member("d/x"),
            member("d/y"), member("r", DIR), member("r/old"),
        )
    )  # fmt: skip
    upper = unpack(
        archives.tar(
            member(".wh.a"), member("o", DIR), member("o/.wh..wh..opq"), member("o/new"),
            member("d", DIR), member("d/.wh.x"), member(".wh.r"), member("r", DIR), member("r/new"),
        )
    )  # fmt: skip
    where = upper.parent / "merged"
    where.mkdir()
    script = 'mount -t overlay none -o "lowerdir=$1:$2" "$3" && cd "$3" && find . | LC_ALL=C sort'
    found = subprocess.run(
        [*UNSHARED, "sh", "-c", script, "sh", str(upper), str(lower), str(where)],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert found == [".", "./d", "./d/y", "./o", "./o/new", "./r", "./r/new"]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
def test_malformed_compression_is_a_spec_error(unpack: Any, archives: Any, kind: str) -> None:
    import bz2
    import gzip
    import lzma

    from backports import zstd

    def pack_zstd(data: bytes) -> bytes:
        return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})

    pack = {"gzip": gzip.compress, "zstd": pack_zstd, "xz": lzma.compress, "bz2": bz2.compress}
    whole = pack[kind](archives.tar((archives.member("f"), random.Random(1).randbytes(5000))))
    assert (unpack(whole) / "f").stat().st_size == 5000
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 1
    for data in (whole[:-9], whole[:20], bytes(spoilt), whole + b"trailing"):
        with pytest.raises(SpecError, match=r"a\.tar: "):
            unpack(data)


def test_members_one_after_the_other_are_one_archive(unpack: Any, archives: Any) -> None:
    """pigz, estargz and zstd:chunked write many members, and frames without data."""
    import gzip

    from backports import zstd

    data = archives.tar((archives.member("f"), b"x" * 5000))
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    for packed in (
        gzip.compress(data[:700]) + gzip.compress(b"") + gzip.compress(data[700:]) + bytes(9),
        skipped + zstd.compress(data[:700]) + skipped + zstd.compress(data[700:]) + skipped,
    ):
        assert (unpack(packed) / "f").read_bytes() == b"x" * 5000


@pytest.mark.parametrize(
    "data", [b"", b"x", b"x" * 1024, b"\x1f\x8b", b"BZh9", b"\x28\xb5\x2f\xfd"]
)
def test_what_is_no_archive_is_a_spec_error(unpack: Any, data: bytes) -> None:
    with pytest.raises(SpecError, match=r"a\.tar: "):
        unpack(data)
