"""Takes one layer from a stream into staging: unpacked once, kept once as a blob, digests checked.

Every layer, from a directory, an archive or a registry, comes in here. Not here: what the
archive's entries do (unpack), how compression is undone (stream).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.document import encode_document, parse_document
from docklock.image.staging import Staging
from docklock.image.store import SIZE_MAX_BYTES
from docklock.image.stream import Readable, Tap, Unpacked
from docklock.image.tar import TarReader
from docklock.image.unpack import Limits, unpack_layer

ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
ZSTD_LEVEL = 1
LAYER_FILE = "layer.json"


class Layer(NamedTuple):
    """A layer that came in. `digest` and `blob_bytes` are the blob's, `diff_id` the tar's."""

    diff_id: str
    digest: str
    blob_bytes: int
    size_bytes: int


class Expected(NamedTuple):
    """What the documents around a layer say of it; an empty text was not said."""

    diff_id: str = ""
    digest: str = ""
    blob_bytes: int = -1


def take_layer(
    staging: Staging,
    stream: Readable,
    where: str,
    expected: Expected | None = None,
    limits: Limits | None = None,
) -> Layer:
    """Reads a layer to its end. With an expected digest the blob keeps its bytes as they came;
    else it is the tar again in zstd. SpecError if a digest or the size differs, or the tar is bad.
    """
    expected = expected or Expected()
    name = secrets.token_hex(8)
    blob_path, tree = f"{staging.path}/{name}", f"{staging.path}/{name}.tree"
    os.mkdir(tree, 0o700)
    os.mkdir(f"{tree}/fs", 0o755)
    os.chmod(f"{tree}/fs", 0o755)
    with open(blob_path, "wb") as blob_file:
        if expected.digest:
            packed = Tap(stream, blob_file.write)
            plain = Tap(Unpacked(packed, where))
        else:
            packed = Tap(stream)
            writer = _ZstdWriter(blob_file.fileno())
            plain = Tap(Unpacked(packed, where), writer.add)
        reader = TarReader(plain, where)
        contents = unpack_layer(reader, f"{tree}/fs", limits or Limits())
        plain.drain()
        packed.drain()
        if expected.digest:
            digest, blob_bytes = packed.digest, packed.size_bytes
        else:
            digest, blob_bytes = writer.finish()
    if not reader.is_ended and not expected.diff_id:
        raise SpecError(f"{where}: the archive is cut off: its end marker is missing")
    _check(where, "digest", expected.digest, digest)
    _check(where, "size", expected.blob_bytes if expected.blob_bytes >= 0 else "", blob_bytes)
    _check(where, "diff_id", expected.diff_id, plain.digest)
    layer = Layer(plain.digest, digest, blob_bytes, contents.size_bytes)
    os.rename(blob_path, staging.blob(digest))
    with open(f"{tree}/{LAYER_FILE}", "wb") as file:
        file.write(encode_document(layer._asdict()))
    if not os.path.isdir(staging.layer(plain.digest)):
        os.rename(tree, staging.layer(plain.digest))
    return layer


def find_layer(staging: Staging, diff_id: str, digest: str = "") -> Layer | None:
    """The layer if it is staged or stored already, with its blob (`digest`, if that is given)."""
    for directory, get_blob in (
        (staging.layer(diff_id), staging.blob),
        (staging.store.layer(diff_id), staging.store.blob),
    ):
        where = f"{directory}/{LAYER_FILE}"
        try:
            with open(where, "rb") as file:
                document = parse_document(file.read(), where)
        except FileNotFoundError:
            continue
        found = Layer(
            diff_id,
            document.required("digest").as_str(),
            document.required("blob_bytes").as_int(0, SIZE_MAX_BYTES),
            document.required("size_bytes").as_int(0, SIZE_MAX_BYTES),
        )
        if digest in ("", found.digest) and os.path.exists(get_blob(found.digest)):
            return found
    return None


class _ZstdWriter:
    """Writes a zstd frame to a descriptor and hashes what it wrote."""

    def __init__(self, file: int) -> None:
        from backports.zstd import CompressionParameter, ZstdCompressor

        options: dict[int, int] = {
            CompressionParameter.compression_level: ZSTD_LEVEL,
            CompressionParameter.checksum_flag: 1,
        }
        self._packer = ZstdCompressor(options=options)
        self._file = file
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def add(self, data: bytes) -> None:
        self._write(self._packer.compress(data))

    def finish(self) -> tuple[str, int]:
        self._write(self._packer.flush())
        return f"sha256:{self._hash.hexdigest()}", self._size_bytes

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size_bytes += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]


def _check(where: str, what: str, expected: str | int, found: str | int) -> None:
    if expected != "" and expected != found:
        raise SpecError(f"{where}: {what} is {found}, expected {expected}: the archive is spoilt")
