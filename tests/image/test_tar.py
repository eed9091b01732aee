"""The tar reader agrees with tarfile and GNU tar on what is well formed, and refuses the rest."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.image.tar import BLOCK_BYTES, TarEntry, TarReader
from docklock.image.tarwrite import END, encode_header, encode_padding


def read_all(data: bytes) -> list[tuple[TarEntry, bytes]]:
    """Every entry with its data, taken through a pipe-like file in one piece."""
    found = []
    reader = TarReader(io.BytesIO(data), "a.tar")
    for entry in reader:
        with os.fdopen(os.memfd_create("data"), "w+b") as file:
            reader.copy_to(file.fileno(), entry.size_bytes)
            file.seek(0)
            found.append((entry, file.read()))
    return found


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=150)


@seed(2)
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            NAMES, st.binary(max_size=1500), st.integers(0, 1 << 31), st.integers(0, 1 << 40)
        ),
        max_size=5,
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_tarfile_writes_reads_the_same(
    members: list[tuple[str, bytes, int, int]], form: int
) -> None:
    file = io.BytesIO()
    expected = []
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data, uid, mtime in members:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = len(data), uid, mtime
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                continue  # ustar cannot say it
            # A name that ends in a slash is a directory in every format, and has no data.
            if not name.endswith("/"):
                expected.append((name.encode(), data, uid, mtime * 10**9))
    if any(name.endswith("/") for name, *_ in members):
        return
    found = [(entry.name, data, entry.uid, entry.mtime_ns) for entry, data in read_all(
        file.getvalue()
    )]  # fmt: skip
    assert found == expected


@seed(3)
@settings(max_examples=150, deadline=None)
@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name),
    st.binary(max_size=300).filter(lambda link: b"\0" not in link),
    st.integers(-(1 << 60), 1 << 60),
    st.integers(0, 1 << 32),
    st.dictionaries(
        st.binary(min_size=1, max_size=9).filter(lambda key: b"=" not in key and b"\0" not in key),
        st.binary(max_size=200),
    ),
)
def test_what_we_write_reads_the_same(
    name: bytes, link: bytes, mtime_ns: int, uid: int, xattrs: dict[bytes, bytes]
) -> None:
    entry = TarEntry(
        name, "symlink", 0o4755, uid, uid, mtime_ns, 0, link, xattrs=tuple(sorted(xattrs.items()))
    )
    found = read_all(encode_header(entry) + END)[0][0]
    assert found._replace(xattrs=tuple(sorted(found.xattrs))) == entry


def test_tarfile_reads_what_we_write() -> None:
    data = b"x" * 700
    entry = TarEntry(b"d/" + b"n" * 200, "file", 0o644, 5, 1 << 30, 1_500_000_000, 700)
    blocks = encode_header(entry) + data + encode_padding(700) + END
    with tarfile.open(fileobj=io.BytesIO(blocks)) as archive:
        info = archive.getmembers()[0]
        assert (info.name.encode(), info.uid, info.gid, info.mtime) == (
            entry.name, 5, 1 << 30, 1.5,
        )  # fmt: skip
        assert archive.extractfile(info).read() == data  # type: ignore[union-attr]


@pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar is missing")
@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_gnu_tar_s_sparse_files_read_the_same(tmp_path: Path, version: str) -> None:
    with open(tmp_path / "holes", "wb") as file:
        for index in range(60):
            file.seek(index * 65536)
            file.write(b"%04d" % index * 1000)
        file.truncate(5_000_000)
    form = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    packed = tmp_path / "a.tar"
    subprocess.run(
        ["tar", "-C", str(tmp_path), "--sparse", *form, "-cf", str(packed), "holes"], check=True
    )
    ((entry, data),) = read_all(packed.read_bytes())
    assert entry.sparse is not None, "tar found no holes on this file system"
    rebuilt = bytearray(entry.sparse.size_bytes)
    for offset, length in entry.sparse.segments:
        rebuilt[offset : offset + length], data = data[:length], data[length:]
    assert bytes(rebuilt) == (tmp_path / "holes").read_bytes()
    assert entry.name == b"holes"


def test_every_cut_is_refused_or_lacks_the_end_marker(archives: Any) -> None:
    whole = archives.tar(
        (archives.member("a"), b"1" * 600), (archives.member("n" * 200), b"2" * 10)
    )
    entries = len(read_all(whole))
    for size in range(0, len(whole.rstrip(b"\0")), 100):
        reader = TarReader(io.BytesIO(whole[:size]), "a.tar")
        try:
            found = list(reader)
        except SpecError:
            continue
        assert not reader.is_ended
        assert len(found) <= entries


def spoil(data: bytes, at: int, new: bytes, *, is_summed: bool = True) -> bytes:
    """Changes a header field of the first block and puts the checksum right again."""
    block = bytearray(data[:BLOCK_BYTES])
    block[at : at + len(new)] = new
    if is_summed:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[BLOCK_BYTES:]


@pytest.mark.parametrize(
    ("at", "new", "reason"),
    [
        (124, b"9999999999\0", "size in a header is no number"),
        (124, b"\xff" * 12, "size in a header is out of range"),
        (124, b"\x80" + b"\x7f" * 11, "size in a header is out of range"),
        (100, b"0o7", "mode in a header is no number"),
        (108, b"-1", "uid in a header is no number"),
        (156, b"M", "type b'M' is not supported"),
        (156, b"V", "is not supported"),
        (156, b"x", "malformed pax header"),
        (156, b"S", "sparse map names 0 bytes"),
    ],
)
def test_a_spoilt_field_is_refused_with_its_name(
    archives: Any, at: int, new: bytes, reason: str
) -> None:
    data = archives.tar((archives.member("file"), b"1" * 600))
    with pytest.raises(SpecError, match=reason):
        read_all(spoil(data, at, new))


def test_a_spoilt_checksum_in_the_middle_is_not_taken_for_the_end(archives: Any) -> None:
    data = archives.tar(archives.member("first"), archives.member("second"))
    middle = data[:BLOCK_BYTES] + spoil(data[BLOCK_BYTES:], 0, b"X", is_summed=False)
    with pytest.raises(SpecError, match=r"a\.tar: entry first .*wrong checksum"):
        read_all(middle)


def test_data_after_the_end_is_refused(archives: Any) -> None:
    with pytest.raises(SpecError, match="data after the end"):
        read_all(archives.tar(archives.member("a")) + b"x")


@pytest.mark.parametrize(
    "records",
    [b"5 a=b", b"99 path=x\n", b"x path=y\n", b"8 path=\n\n", b"0 a=b\n", b"6 ab\n\n", b" 6 a=b\n",
     b"1" * 20 + b" a=b\n", b"12 size=abc\n", b"13 mtime=1e5\n", b"14 path=a\0b/c\n"],
)  # fmt: skip
def test_malformed_pax_records_are_refused(records: bytes) -> None:
    header = TarEntry(b"pax", "file", 0, 0, 0, 0, len(records))
    block = spoil(encode_header(header), 156, b"x")
    entry = encode_header(TarEntry(b"f", "file", 0, 0, 0, 0, 0))
    with pytest.raises(SpecError, match=r"pax header|NUL"):
        read_all(block + records + encode_padding(len(records)) + entry + END)


def test_an_extension_header_without_bounds_is_refused() -> None:
    header = spoil(encode_header(TarEntry(b"pax", "file", 0, 0, 0, 0, 1 << 21)), 156, b"x")
    with pytest.raises(SpecError, match="an extension header of 2097152 bytes"):
        read_all(header + bytes(1 << 21))
    long = spoil(encode_header(TarEntry(b"l", "file", 0, 0, 0, 0, 2)), 156, b"L") + b"a\0"
    with pytest.raises(SpecError, match="extension headers in a row"):
        read_all((long + bytes(510)) * 40)


def test_random_damage_is_read_or_refused_and_nothing_else(archives: Any) -> None:
    """500 archives with up to eight bytes changed, inserted or dropped."""
    dice = random.Random(20261122)
    whole = archives.tar(
        (archives.member("a", pax_headers={"SCHILY.xattr.user.x": "y"}), b"1" * 600),
        archives.member("l", tarfile.SYMTYPE, linkname="x" * 150),
        archives.member("d", tarfile.DIRTYPE),
    )
    refused = named = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            at = dice.randrange(len(data))
            data[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
        try:
            read_all(bytes(data))
        except SpecError as error:
            refused += 1
            named += "a.tar: " in str(error)
    assert refused > 300
    assert named == refused
